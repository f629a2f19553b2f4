"""Whatever dies while a session runs or ends, what it wrote ends up safe, and nothing of the buffer remains."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from testbed import cluster, installation
from testbed.layout import DATABASE, NODE, RUCIO, SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, WRITE, assert_kept, assert_nothing_left, new_dataset, new_session, output

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

SIZES = [3893, 2000000]
WAITING = """
while ! xrdfs $ROOT_URL stat $OUTBOX/go >/dev/null 2>&1; do sleep 0.5; done
"""
READ = "xrdcp $(grep -o 'root://[^\"]*' /etc/vrse/inputs.jsonl | head -1) /tmp/in"


@pytest.fixture(scope="module", autouse=True)
def _operator() -> None:
    installation.up()


@pytest.fixture
def session(namespace: str) -> Iterator[Session]:
    yield from new_session(namespace)


def docker(*argv: str) -> None:
    subprocess.run(["docker", *argv], check=True, capture_output=True, timeout=60)


@pytest.fixture
def stopped() -> Iterator[Callable[[str], None]]:
    """Stop a container; it runs again afterwards, whatever happens."""
    names: list[str] = []

    def stop(name: str) -> None:
        names.append(name)
        docker("stop", "--time", "1", name)

    yield stop
    for name in names:
        docker("start", name)


def in_container(session: Session, container: str, script: str) -> None:
    pod = session.record()["metadata"]["name"]
    cluster.kubectl("-n", installation.BUFFERS, "exec", pod, "-c", container, "--", "sh", "-c", script)


def running(session: Session, script: str = WRITE) -> str:
    """Bring a session to the point at which it has written and still runs."""
    dataset = new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset)])
    session.job(f"{script}\necho written\nwhile [ ! -e /tmp/go ]; do sleep 0.2; done\n")
    wait_for("the Job has written", lambda: session.is_true("Usable") and "written" in session.log())
    return dataset


def let_go(session: Session) -> None:
    cluster.kubectl("-n", session.namespace, "exec", f"job/{session.name}", "--", "touch", "/tmp/go")  # noqa: S108


def finish(session: Session, dataset: str) -> None:
    record = session.wait_closed(240)
    assert_kept(dataset, record, SIZES)
    assert_nothing_left(record)


def test_the_catalogue_is_down_from_the_middle_of_the_session_to_after_its_end(
    session: Session, stopped: Callable[[str], None]
) -> None:
    dataset = running(session)
    stopped(RUCIO)
    let_go(session)
    wait_for("the session has ended", lambda: session.record()["status"]["session"].get("endedAt"))
    wait_for("the outage is told", lambda: session.condition("OutputsSafe")["reason"] == "CatalogueUnreachable")
    assert "ADMIN must act" in session.condition("OutputsSafe")["message"]
    assert "safeAt" not in session.record()["status"]
    docker("start", RUCIO)
    finish(session, dataset)


def test_the_session_reads_and_writes_while_the_catalogue_is_down(
    session: Session, stopped: Callable[[str], None]
) -> None:
    dataset = new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset)])
    session.job(
        f"{WAITING}\nurl=$(grep -o 'root://[^\"]*' /etc/vrse/inputs.jsonl | head -1)\nxrdcp $url /tmp/in\n{WRITE}"
    )
    wait_for("the session runs", lambda: session.is_true("SessionActive"))
    stopped(RUCIO)
    uid = session.record()["spec"]["claims"][0]["uid"]
    in_container(session, "agent", f"touch /data/ns/outbox/{uid}/go")
    wait_for("the Job has succeeded", session.succeeded)
    docker("start", RUCIO)
    finish(session, dataset)


def test_the_database_restarts_while_outputs_are_registered(session: Session) -> None:
    dataset = running(session)
    let_go(session)
    wait_for("the end", lambda: session.phase() not in {"", "Preparing", "Serving"}, pause=0.05)
    docker("restart", "--time", "1", DATABASE)
    finish(session, dataset)


def test_the_destination_is_down_when_the_copies_begin(session: Session, stopped: Callable[[str], None]) -> None:
    dataset = running(session)
    stopped(SITES["SITE-B"])
    let_go(session)
    wait_for("the failure is told", lambda: session.condition("OutputsSafe").get("reason") == "CopyFailed", 90)
    assert session.phase() == "Keeping"
    docker("start", SITES["SITE-B"])
    finish(session, dataset)


def test_the_storage_pod_is_deleted_and_its_volume_comes_back(session: Session) -> None:
    dataset = running(session)
    pod = session.record()["metadata"]["name"]
    cluster.kubectl("-n", installation.BUFFERS, "delete", "pod", pod, "--grace-period=0", "--force")
    let_go(session)
    finish(session, dataset)


@pytest.mark.parametrize("process", ["volatile_rse[.]agent$", "xrootd -c .*/open[.]cfg"])
def test_a_process_of_the_storage_pod_is_killed(session: Session, process: str) -> None:
    dataset = running(session)
    # From the node: no process of a container can kill its first one.
    docker("exec", NODE, "pkill", "-KILL", "-f", process)
    let_go(session)
    finish(session, dataset)


def test_a_session_comes_and_goes_while_the_operator_is_down(session: Session) -> None:
    dataset = running(session)
    deployment = ("-n", installation.NAMESPACE, "scale", "deployment/volatile-rse")
    cluster.kubectl(*deployment, "--replicas=0")
    try:
        let_go(session)
        wait_for("the Job has succeeded", session.succeeded)
    finally:
        cluster.kubectl(*deployment, "--replicas=1")
    finish(session, dataset)


def test_the_namespace_of_the_session_is_deleted(session: Session) -> None:
    dataset = running(session)
    cluster.kubectl("delete", "namespace", session.namespace, "--wait=false")
    finish(session, dataset)
    wait_for(
        "the namespace is gone",
        lambda: not cluster.kubectl("get", "namespace", session.namespace, "--ignore-not-found"),
    )
