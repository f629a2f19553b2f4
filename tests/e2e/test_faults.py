"""Whatever dies while a session runs or ends, what it wrote ends up safe, and nothing of the buffer remains."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from testbed import cluster, grid, installation, samples
from testbed.layout import CLIENT, DATABASE, NODE, RUCIO, SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import (
    NANO,
    WRITE,
    docker,
    end_of,
    finish,
    fresh_dataset,
    let_go,
    new_dataset,
    output,
    running,
)
from tests.e2e.outages import cut_off, frozen, operators, paused, process_of, stopped

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

WAITING = """
while ! xrdfs $ROOT_URL stat $OUTBOX/go >/dev/null 2>&1; do sleep 0.5; done
"""
long = pytest.mark.long


@pytest.fixture
def another(session: Session) -> Iterator[Session]:
    """Give a second session of the same namespace."""
    made = dataclasses.replace(session, name="another")
    yield made
    end_of(made)


def in_container(session: Session, container: str, script: str) -> None:
    pod = session.record()["metadata"]["name"]
    cluster.kubectl("-n", installation.BUFFERS, "exec", pod, "-c", container, "--", "sh", "-c", script)


def reason(session: Session, condition: str) -> str:
    return str(session.condition(condition).get("reason", ""))


def wait_for_stage(session: Session, *stages: str) -> None:
    wait_for(" or ".join(stages), lambda: session.phase() in stages, pause=0.05)


AFTER = ("Fencing", "Keeping", "Hiding", "Draining", "Closed")


@pytest.mark.parametrize(
    "outage",
    [stopped, pytest.param(paused, marks=long), pytest.param(cut_off, marks=long)],
    ids=lambda way: way.__name__,
)
def test_the_catalogue_fails_from_the_middle_of_the_session_to_after_its_end(
    session: Session, outage: Callable[[str], AbstractContextManager[None]]
) -> None:
    dataset = running(session)
    with outage(RUCIO):
        let_go(session)
        wait_for("the session has ended", lambda: session.record()["status"]["session"].get("endedAt"))
        wait_for("the outage is told", lambda: reason(session, "OutputsSafe") == "CatalogueUnreachable")
        assert "ADMIN must act" in session.condition("OutputsSafe")["message"]
        assert "safeAt" not in session.record()["status"]
    finish(session, dataset)


@pytest.mark.parametrize(
    "outage",
    [paused, pytest.param(stopped, marks=long), pytest.param(cut_off, marks=long)],
    ids=lambda way: way.__name__,
)
def test_the_session_reads_and_writes_while_the_catalogue_fails(
    session: Session, outage: Callable[[str], AbstractContextManager[None]]
) -> None:
    dataset = new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset)])
    session.job(
        f"{WAITING}\nurl=$(grep -o 'root://[^\"]*' /etc/vrse/inputs.jsonl | head -1)\nxrdcp $url /tmp/in\n{WRITE}"
    )
    wait_for("the session runs", lambda: session.is_true("SessionActive"))
    with outage(RUCIO):
        uid = session.record()["spec"]["claims"][0]["uid"]
        in_container(session, "agent", f"touch /data/ns/outbox/{uid}/go")
        wait_for("the Job has succeeded", session.succeeded)
    finish(session, dataset)


@pytest.mark.parametrize("container", [DATABASE, pytest.param(RUCIO, marks=long)])
def test_the_catalogue_is_killed_while_outputs_are_registered(session: Session, container: str) -> None:
    dataset = running(session)
    let_go(session)
    wait_for_stage(session, "Fencing", "Keeping")
    docker("kill", "-s", "KILL", container)
    time.sleep(1)
    docker("start", container)
    finish(session, dataset)


@pytest.mark.parametrize("outage", [stopped, pytest.param(cut_off, marks=long)], ids=lambda way: way.__name__)
def test_the_destination_fails_when_the_copies_begin(
    session: Session, outage: Callable[[str], AbstractContextManager[None]]
) -> None:
    dataset = running(session)
    with outage(SITES["SITE-B"]):
        let_go(session)
        wait_for("the failure is told", lambda: reason(session, "OutputsSafe") == "CopyFailed", 180)
        assert session.phase() == "Keeping"
    finish(session, dataset)


@pytest.fixture
def twice() -> Iterator[str]:
    """A dataset whose files are on both sites."""
    with fresh_dataset("twice", files=8, size=100_000) as (did, paths):
        docker("exec", CLIENT, "rucio", "upload", "--rse", "SITE-B", "--scope", samples.SCOPE, *paths)
        yield did


def test_a_source_fails_while_inputs_are_staged(session: Session, another: Session, twice: str) -> None:
    dataset, other = new_dataset(), new_dataset()
    with stopped(SITES["SITE-A"]):
        session.request(inputs=[{"name": "twice", "did": twice}], outputs=[output(dataset)])
        session.job(WRITE)
        another.request(inputs=[NANO], outputs=[output(other)])
        another.job(WRITE)
        wait_for("the other replica is taken", lambda: session.is_true("InputsStaged"))
        wait_for("the failure is told", lambda: reason(another, "InputsStaged") == "StagingFailed")
        assert "ADMIN must act" in another.condition("InputsStaged")["message"]
    finish(another, other)
    finish(session, dataset)


@pytest.mark.long
def test_the_credential_of_a_site_is_wrong_for_a_while(session: Session) -> None:
    good = dict.fromkeys(SITES.values(), grid.grid().tokens[grid.OPERATOR])

    def store(tokens: dict[str, str]) -> None:
        cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", session.namespace, "--ignore-not-found")
        installation.apply([installation.site_tokens(session.namespace, tokens)])

    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    credentials = {"secretName": session.namespace, "caConfigMap": "grid-ca"}
    installation.apply([installation.class_of(session.namespace, grants, siteCredentials=credentials)])
    dataset = new_dataset()
    try:
        store({SITES["SITE-A"]: good[SITES["SITE-A"]]})
        session.request(inputs=[NANO], outputs=[output(dataset)])
        # The class was tried before its Secret was there, and that it was not is remembered for seconds.
        wait_for(
            "it is told which is missing",
            lambda: SITES["SITE-B"] in session.condition("CredentialsValid").get("message", ""),
        )
        assert reason(session, "CredentialsValid") == "CredentialMissing"
        store({**good, SITES["SITE-B"]: "no-token"})
        session.job(WRITE)
        wait_for("the failure is told", lambda: reason(session, "OutputsSafe") == "CopyFailed")
        assert "403" in session.condition("OutputsSafe")["message"]
        store(good)
        finish(session, dataset)
    finally:
        cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", session.namespace, "--ignore-not-found")


def test_the_storage_pod_is_deleted_and_its_volume_comes_back(session: Session) -> None:
    dataset = running(session)
    pod = session.record()["metadata"]["name"]
    cluster.kubectl("-n", installation.BUFFERS, "delete", "pod", pod, "--grace-period=0", "--force")
    let_go(session)
    finish(session, dataset)


@long
def test_the_claim_of_the_volume_is_deleted(session: Session) -> None:
    dataset = running(session)
    name = session.record()["metadata"]["name"]
    cluster.kubectl("-n", installation.BUFFERS, "delete", "persistentvolumeclaim", name, "--wait=false")
    let_go(session)
    finish(session, dataset)


@long
def test_pod_and_claim_of_the_volume_are_deleted(session: Session) -> None:
    dataset = running(session)
    name = session.record()["metadata"]["name"]
    claim = ("-n", installation.BUFFERS, "get", "persistentvolumeclaim", name, "--ignore-not-found", "-o")
    volume = cluster.kubectl(*claim, "jsonpath={.spec.volumeName}")
    uid = cluster.kubectl(*claim, "jsonpath={.metadata.uid}")
    cluster.kubectl("-n", installation.BUFFERS, "delete", "persistentvolumeclaim", name, "--wait=false")
    cluster.kubectl("-n", installation.BUFFERS, "delete", "pod", name, "--grace-period=0", "--force")
    wait_for("another claim", lambda: cluster.kubectl(*claim, "jsonpath={.metadata.uid}") not in {"", uid})
    assert cluster.kubectl(*claim, "jsonpath={.spec.volumeName}") == volume
    let_go(session)
    finish(session, dataset)


@pytest.mark.parametrize("process", ["volatile_rse[.]agent$", "xrootd -c .*/open[.]cfg"])
@long
def test_a_process_of_the_storage_pod_is_killed(session: Session, process: str) -> None:
    dataset = running(session)
    # From the node: no process of a container can kill its first one.
    docker("exec", NODE, "pkill", "-KILL", "-f", process)
    let_go(session)
    finish(session, dataset)


@long
def test_an_xrootd_that_answers_nobody_is_started_anew(session: Session) -> None:
    dataset = running(session)
    pod = session.record()["metadata"]["name"]
    before = restarts_of(pod)
    docker("exec", NODE, "pkill", "-STOP", "-f", "xrootd -c .*/open[.]cfg")
    wait_for("its container is started again", lambda: restarts_of(pod) > before, 90)
    wait_for("it is told", lambda: "answered nobody: 1." in session.condition("StorageReady")["message"], 60)
    let_go(session)
    finish(session, dataset)


def restarts_of(pod: str) -> int:
    look = 'jsonpath={.status.containerStatuses[?(@.name=="xrootd")].restartCount}'
    return int(cluster.kubectl("-n", installation.BUFFERS, "get", "pod", pod, "-o", look))


@long
def test_a_session_comes_and_goes_while_the_operator_is_down(session: Session) -> None:
    dataset = running(session)
    with operators(0):
        let_go(session)
        wait_for("the Job has succeeded", session.succeeded)
    finish(session, dataset)


def leader() -> str:
    lease = json.loads(cluster.kubectl("-n", installation.NAMESPACE, "get", "lease", "volatile-rse", "-o", "json"))
    return str(lease["spec"].get("holderIdentity"))


def test_the_operator_stands_still_for_longer_than_its_lease(session: Session) -> None:
    dataset = running(session)
    first = leader()
    with operators(2):
        let_go(session)
        wait_for_stage(session, *AFTER)
        with frozen(process_of(first)):
            wait_for("another one takes over", lambda: leader() not in {first, "None"}, 60)
        ended = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}"
        look = ("-n", installation.NAMESPACE, "get", "pod", first, "-o", ended)
        # 3: it saw that it is not the one any more, and ended.
        wait_for("the first one ends", lambda: cluster.kubectl(*look) == "3", 30)
        finish(session, dataset)


@long
def test_the_node_restarts_while_one_session_runs_and_another_ends(session: Session, another: Session) -> None:
    patient = {"endGrace": "1m", "ttl": "30m"}
    dataset = running(session, retries=3, times=patient)
    other = running(another)
    let_go(another)
    wait_for_stage(another, *AFTER)
    pods = set(session.pods())
    docker("restart", "-t", "1", NODE)
    wait_for("the API server answers", answers, 180)
    finish(another, other, 400)
    # Its pod died with the node, and came again within its grace.
    wait_for("the Job's next pod has written", lambda: set(session.pods()) - pods and "written" in session.log(), 180)
    assert session.phase() == "Serving"
    let_go(session)
    finish(session, dataset)


def answers() -> bool:
    try:
        return bool(cluster.kubectl("get", "nodes"))
    except Exception:  # noqa: BLE001 (whatever it says while it starts)
        return False


@long
def test_the_namespace_of_the_session_is_deleted(session: Session) -> None:
    dataset = running(session)
    cluster.kubectl("delete", "namespace", session.namespace, "--wait=false")
    finish(session, dataset)
    wait_for(
        "the namespace is gone",
        lambda: not cluster.kubectl("get", "namespace", session.namespace, "--ignore-not-found"),
    )
