"""What a drained node, or whoever else evicts pods, does to buffers and to their sessions."""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.layout import CHECKOUT, NODE
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import finish, let_go, running

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

BUDGET = "Cannot evict pod as it would violate the pod's disruption budget"


@pytest.fixture
def uncordoned() -> Iterator[None]:
    """Have the only node take pods again, whatever a test does to it."""
    yield
    cluster.kubectl("uncordon", NODE)


def evict(namespace: str, pod: str, *, dry_run: bool = False) -> None:
    body: dict[str, Any] = {"apiVersion": "policy/v1", "kind": "Eviction"}
    body["metadata"] = {"name": pod, "namespace": namespace}
    body["deleteOptions"] = {"dryRun": ["All"]} if dry_run else {}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def storage_pod(session: Session) -> str:
    return str(session.record()["metadata"]["name"])


def uid_of(pod: str) -> str:
    where = ("-n", installation.BUFFERS, "get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
    return cluster.kubectl(*where)


def documented(start: str) -> str:
    """Give the commands of the page for admins, from the line that begins so to the end of their block."""
    page = (CHECKOUT / "docs" / "operations.md").read_text().split("### Draining a node\n")[1]
    lines = page[page.index(f"    {start}") :].splitlines()
    return "\n".join(itertools.takewhile(lambda line: not line or line.startswith("    "), lines))


def commands(block: str, folder: Path, record: str, timeout: str, **names: str) -> subprocess.Popen[str]:
    """Start commands of the page; a drain is limited to one buffer's pod, since the testbed has no other node."""
    known = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in names.items())
    script = "\n".join(line for line in block.splitlines() if not line.strip().startswith("export "))
    limits = f"--pod-selector=volatilerse.io/record={record} --timeout={timeout}"
    limited = f'if [ "$1" = drain ]; then set -- "$@" {limits}; fi'
    kubectl = shlex.join(map(str, cluster._kubectl()))
    wrapped = f'kubectl() {{ {limited}; {kubectl} "$@"; }}\n{known}\n{script}'
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(["bash", "-euc", wrapped], cwd=folder, **pipes)


@pytest.mark.usefixtures("uncordoned")
def test_a_drain_waits_for_what_is_nowhere_else_and_goes_on_when_it_is_safe(session: Session, tmp_path: Path) -> None:
    dataset = running(session)
    record_id, pod = session.record()["spec"]["recordId"], storage_pod(session)
    before = uid_of(pod)
    with pytest.raises(StepError, match=BUDGET):
        evict(installation.BUFFERS, pod)
    assert_the_operator_writes_one_label(pod)

    said, _ = (tried := commands(documented("export NODE="), tmp_path, record_id, "12s", NODE=NODE)).communicate()
    assert tried.returncode != 0, said
    assert BUDGET in said
    assert f"{pod} " in said.partition("RECORD ")[2], "it is listed as what holds the node"
    assert session.status()["expires"] in said
    assert uid_of(pod) == before
    # By hand nothing is gained.
    cluster.kubectl("-n", installation.BUFFERS, "label", "pod", pod, "volatilerse.io/at-risk-")
    wait_for("it is set again", lambda: "true" in label_of(pod), 90)

    waiting = commands(documented("kubectl cordon"), tmp_path, record_id, "240s", NODE=NODE)
    let_go(session)
    said, _ = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, said
    assert session.record()["status"]["safeAt"], "it was let go before its outputs were safe"
    cluster.kubectl("uncordon", NODE)
    finish(session, dataset)


def label_of(pod: str) -> str:
    where = ("-n", installation.BUFFERS, "get", "pod", pod, "--ignore-not-found")
    return cluster.kubectl(*where, "-o", r"jsonpath={.metadata.labels.volatilerse\.io/at-risk}")


def assert_the_operator_writes_one_label(pod: str) -> None:
    """Its account may patch pods by RBAC, as far as a policy lets it."""

    def change(body: dict[str, object]) -> None:
        what = ("-n", installation.BUFFERS, "patch", "pod", pod, "--type=merge", "-p", json.dumps(body))
        cluster.kubectl(*what, f"--as={installation.OPERATOR}", "--dry-run=server")

    refused: list[tuple[dict[str, object], str]] = [
        ({"spec": {"activeDeadlineSeconds": 1}}, "nothing of the spec of a pod"),
        ({"metadata": {"labels": {"volatilerse.io/record": "other"}}}, "and no other"),
        ({"metadata": {"labels": {"volatilerse.io/role": None}}}, "and no other"),
        ({"metadata": {"annotations": {"a": "b"}}}, "neither annotations nor finalizers nor owners"),
        ({"metadata": {"finalizers": ["a.example/b"]}}, "neither annotations nor finalizers nor owners"),
    ]
    for body, message in refused:
        with pytest.raises(StepError, match=message):
            change(body)
    change({"metadata": {"labels": {"volatilerse.io/at-risk": None}}})


def test_a_session_that_cannot_be_waited_for_is_ended_and_its_outputs_are_kept(
    session: Session, tmp_path: Path
) -> None:
    dataset = running(session)
    record_id, pod = session.record()["spec"]["recordId"], storage_pod(session)
    names = {"NAMESPACE": session.namespace, "NAME": session.name}
    asked = commands(documented("kubectl -n $NAMESPACE patch"), tmp_path, record_id, "1s", **names)
    assert asked.wait(60) == 0
    wait_for("its outputs are safe", lambda: session.record()["status"].get("safeAt"), 120)
    wait_for("it is let go", lambda: not label_of(pod), 30)
    finish(session, dataset)


def test_a_pod_that_is_deleted_all_the_same_comes_again_with_its_volume(session: Session, tmp_path: Path) -> None:
    dataset = running(session)
    record_id, pod = session.record()["spec"]["recordId"], storage_pod(session)
    before = uid_of(pod)
    gone = commands(documented("kubectl -n volatile-rse-buffers delete pod"), tmp_path, record_id, "1s", ID=record_id)
    assert gone.wait(60) == 0
    wait_for("another pod", lambda: uid_of(pod) not in {"", before}, 120)
    assert label_of(pod) == "true", "it is held from birth"
    wait_for("Usable again", lambda: session.is_true("Usable"), 120)
    let_go(session)
    finish(session, dataset)


def test_a_job_whose_only_pod_was_evicted_goes_on_in_the_same_session(session: Session) -> None:
    """Its end grace is 2 s, and the Job waits 10 s before it starts another pod."""
    dataset = running(session, retries=1)
    [pod] = [name.partition("/")[2] for name in session.pods()]
    evict(session.namespace, pod)
    wait_for("another pod", lambda: (now := session.pods()) and pod not in str(now), 60)
    wait_for("it has written", lambda: "written" in session.log(), 60)
    assert not session.record()["status"]["session"].get("endedAt")
    let_go(session)
    finish(session, dataset)
