"""Distributed RDataFrame and coffea on a real KubeCluster, whose pods have the session's label and nothing else of it.

What runs stands in docs/user.md. Beside its workers is one without the label, which has the session from the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uproot

from testbed import analysis, asking, cluster, installation
from testbed.layout import CHECKOUT
from testbed.sessions import LABEL, Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left, new_dataset, output
from volatile_rse.api.names import lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.people]

CHAPTER = (CHECKOUT / "docs" / "user.md").read_text().split("### With Dask\n", 1)[1].split("\n## ", 1)[0]
FOUND = "\n".join(re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL))
RIGHTS = CHECKOUT / "examples" / "dask" / "rights.yaml"
RESTRICTED = """
import copy
import ROOT

ROOT.gROOT.SetBatch(True)


def restrict(spec):
    for part in ("scheduler", "worker"):
        pod = spec["spec"][part]["spec"]
        pod["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}} | pod.get(
            "securityContext", {}
        )
        for container in pod["containers"]:
            container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""
"""What this namespace asks of all pods, whatever session they have."""
ANOTHER = """
unlabelled = copy.deepcopy(spec["spec"]["worker"]) | {"replicas": 1}
del unlabelled["metadata"]
cluster.add_worker_group("unlabelled", custom_spec=unlabelled)
client.wait_for_workers(3, timeout=240)
"""
ENDED = """
def told():
    import os

    return [os.environ.get(name, "none") for name in ("BEARER_TOKEN_FILE", "X509_CERT_DIR", "VRSE_CONFIG")]


for one in client.run(told).values():
    print("worker", *one)
print("pairs", masses.sum())
cluster.close()
"""


def program(session: Session) -> str:
    """Give what the page says, with this session's name and image."""
    text = RESTRICTED + FOUND + ENDED
    for said, done in (
        ("REGISTRY/analysis", analysis.image()),
        ('session": "dimuon"', f'session": "{session.name}"'),
        ('namespace="alice"', f'namespace="{session.namespace}"'),
        ("cluster = KubeCluster(", "restrict(spec)\ncluster = KubeCluster("),
        ("client.register_plugin", f"{ANOTHER}client.register_plugin"),
    ):
        assert text.count(said) == 1, said
        text = text.replace(said, done)
    return text


def client_of(session: Session) -> dict[str, Any]:
    """Describe the pod of the program: with the session's label, and nothing of it mounted by hand."""
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    restricted = {"runAsNonRoot": True, "runAsUser": 10960, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "main",
        "image": analysis.image(),
        "imagePullPolicy": "IfNotPresent",
        "command": [analysis.PYTHON, "/files/program.py"],
        # Its uid has no name in the image, and KubeCluster asks for one.
        "env": [{"name": "USER", "value": "analyst"}],
        "securityContext": closed,
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of that pod alone
            {"name": "files", "mountPath": "/files"},
        ],
    }
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": "dask",
        "terminationGracePeriodSeconds": 1,
        "securityContext": restricted,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "files", "configMap": {"name": "programs"}}],
    }
    metadata = {"name": "client", "namespace": session.namespace, "labels": {LABEL: session.name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture
def with_dask(session: Session) -> Iterator[Session]:
    """Give a session in a namespace with injection, and the operator of dask-kubernetes."""
    installation.enable(session.namespace, injected=True)
    cluster.kubectl("-n", session.namespace, "apply", "-f", str(RIGHTS))
    with analysis.dask_operator(session.namespace):
        yield session


def phase(session: Session) -> str:
    return cluster.kubectl("-n", session.namespace, "get", "pod", "client", "-o", "jsonpath={.status.phase}")


def test_rdataframe_and_coffea_on_a_kubecluster_by_the_label_alone(with_dask: Session, tmp_path: Path) -> None:
    session, dataset = with_dask, new_dataset()
    metadata = {"name": "programs", "namespace": session.namespace}
    data = {"program.py": program(session)}
    session.request(inputs=[NANO | {"name": "dimuon"}], outputs=[output(dataset) | {"path": "histograms/**"}])
    installation.apply(
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}, client_of(session)]
    )
    wait_for("the client has ended", lambda: phase(session) in ("Succeeded", "Failed"), 540)
    log = cluster.kubectl("-n", session.namespace, "logs", "client", "-c", "main")
    assert phase(session) == "Succeeded", log
    # The first may stand behind the frame of what KubeCluster shows.
    workers = sorted(re.findall(r"worker (/.*)", log))
    assert workers[:2] == ["/run/vrse/token /run/vrse/ca none"] * 2
    assert [bool(re.search(r" /tmp/vrse-carried-.*/config$", one)) for one in workers[2:]] == [True]
    # They end with the client's word: else the session would not.
    record = session.wait_closed(240)
    assert session.is_true("OutputsSafe")
    files = {file.name: file for file in asking.kept("user.alice", dataset, "SITE-B")}
    record_id = record["spec"]["recordId"]
    pairs, masses = (lfn_name(dataset, record_id, f"histograms/{name}.root".encode()) for name in ("pairs", "masses"))
    assert set(files) == {pairs, masses}
    with uproot.open({asking.download(files[pairs], tmp_path): "Events"}) as tree:
        assert 160_000 < tree.num_entries < 190_000
        assert len(set(tree["event"].array().tolist())) == tree.num_entries
    (filled,) = re.findall(r"^pairs (\d+)", log, re.MULTILINE)
    with uproot.open({asking.download(files[masses], tmp_path): "masses"}) as histogram:
        assert histogram.values().sum() == float(filled) > 100_000
    assert_nothing_left(record)
