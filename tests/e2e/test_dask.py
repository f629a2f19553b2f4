"""Distributed RDataFrame and coffea on workers of Dask, pods of the session and others: they read, write and join.

What runs stands in docs/user.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import uproot

from testbed import analysis, asking, cluster, installation
from testbed.layout import CHECKOUT
from testbed.sessions import LABEL, Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left, new_dataset, output
from tests.e2e.test_session_library import files_of
from volatile_rse.api.names import lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.people]

CHAPTER = (CHECKOUT / "docs" / "user.md").read_text().split("### With Dask\n", 1)[1].split("\n## ", 1)[0]
PROGRAM = """
import ROOT

ROOT.gROOT.SetBatch(True)
""" + "\n".join(re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)).replace(
    "client.register_plugin", "client.wait_for_workers(2, timeout=120)\nclient.register_plugin"
)
ENDED = """
print("workers", sorted(client.run(lambda: __import__("os").environ["VRSE_CONFIG"]).values()))
print("pairs", masses.sum())
client.shutdown()
"""
UNPACK = "cd /tmp; python3 -m zipfile -e /files/*.whl lib; export PYTHONPATH=/tmp/lib"
DASK = f"{analysis.PYTHON} -m dask"


def pod(session: Session, name: str, script: str, *, mounted: bool) -> dict[str, Any]:
    """Describe a pod: one of the session, with its label and its objects, or one without either."""
    label = {LABEL: session.name} if mounted else {}
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    volumes: dict[str, dict[str, Any]] = {"tmp": {"emptyDir": {}}, "files": {"configMap": {"name": "programs"}}}
    places = {"tmp": "/tmp", "files": "/files"}  # noqa: S108 - of that pod alone
    if mounted:
        volumes["vrse"] = {"configMap": {"name": f"{session.name}-vrse"}}
        volumes["token"] = {"secret": {"secretName": f"{session.name}-vrse", "defaultMode": 0o444}}
        places |= {"vrse": "/etc/vrse", "token": "/etc/vrse-secret"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": session.namespace, "labels": {"dask": name, **label}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10960,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": analysis.image(),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["bash", "-ec", f"{UNPACK}\n{script}"],
                    "securityContext": closed,
                    "volumeMounts": [{"name": key, "mountPath": path} for key, path in places.items()],
                }
            ],
            "volumes": [{"name": key, **volume} for key, volume in volumes.items()],
        },
    }


def dask_cluster(session: Session) -> list[dict[str, Any]]:
    """Describe a scheduler and two workers, of which one has nothing of the session mounted."""
    worker = f"{DASK} worker tcp://scheduler:8786 --no-dashboard --nthreads 1 --memory-limit 0 --death-timeout 120"
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "scheduler", "namespace": session.namespace},
            "spec": {"selector": {"dask": "scheduler"}, "ports": [{"port": 8786}]},
        },
        pod(session, "scheduler", f"exec {DASK} scheduler --no-dashboard --port 8786", mounted=False),
        pod(session, "worker-1", f"export VRSE_CONFIG=/etc/vrse\nexec {worker}", mounted=True),
        pod(session, "worker-2", f"exec {worker}", mounted=False),
    ]


def phase(session: Session, name: str) -> str:
    return cluster.kubectl("-n", session.namespace, "get", "pod", name, "-o", "jsonpath={.status.phase}")


def test_rdataframe_and_coffea_on_workers_of_the_session(session: Session, tmp_path: Path) -> None:
    dataset = new_dataset()
    programs = files_of("programs", session.namespace, tmp_path / "wheel")
    data: Any = programs["data"]
    programs["data"] = data | {"program.py": PROGRAM + ENDED}
    session.request(inputs=[NANO | {"name": "dimuon"}], outputs=[output(dataset) | {"path": "histograms/**"}])
    client = pod(session, "client", f"exec {analysis.PYTHON} /files/program.py", mounted=True)
    installation.apply([programs, *dask_cluster(session), client])
    wait_for("the client has ended", lambda: phase(session, "client") in ("Succeeded", "Failed"), 480)
    log = cluster.kubectl("-n", session.namespace, "logs", "client")
    assert phase(session, "client") == "Succeeded", log
    (workers,) = re.findall(r"^workers (.*)", log, re.MULTILINE)
    assert re.fullmatch(r"\['/etc/vrse', '/tmp/vrse-carried-.*/config'\]", workers)
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
