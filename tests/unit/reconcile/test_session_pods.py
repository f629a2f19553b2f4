"""Which pods are the session, when one is over, and whether its Job may start another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small, given
from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.reading import read_session
from volatile_rse.reconcile.reconciler import Reconciler

POD, JOB = Ref("Pod", "alice", "job"), Ref("Job", "alice", "analysis")
READY = "2026-01-02T00:00:00Z"
BEFORE, AFTER = "2026-01-01T12:00:00Z", "2026-01-02T00:30:00Z"
NOW = datetime(2026, 1, 2, 1, tzinfo=UTC)
RUNNING: dict[str, Any] = {"running": {"startedAt": BEFORE}}
UNKNOWN = {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": None}}
ENDLESS = {"endGrace": "5m", "ttl": "2d", "startTimeout": "1h"}


def ended(at: str | None = AFTER, code: int = 0) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "finishedAt": at}}


def pod(
    *states: dict[str, Any],
    phase: str = "Running",
    policy: str = "Never",
    changed: str = BEFORE,
    annotations: dict[str, str] | None = None,
    **metadata: object,
) -> dict[str, Any]:
    """Describe a pod whose containers are called c0, c1, ... and whose conditions changed last at a time."""
    names = [f"c{number}" for number in range(len(states))]
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": changed}]
    statuses = [{"name": name, "state": state} for name, state in zip(names, states, strict=True)]
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "creationTimestamp": BEFORE, "annotations": annotations or {}, **metadata},
        "spec": {"nodeName": "n", "restartPolicy": policy, "containers": [{"name": name} for name in names or ["c0"]]},
        "status": {"phase": phase, "conditions": conditions, "containerStatuses": statuses},
    }


def seen(body: dict[str, Any]) -> tuple[bool, bool]:
    """Tell whether the session runs, and whether it has come and gone."""
    fact = read_session([body], (None, None), "uid", READY, NOW)
    return fact.running, fact.finished


NOBODY, RUNS, CAME = (False, False), (True, False), (False, True)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param(pod(ended(BEFORE), phase="Succeeded"), NOBODY, id="ended yesterday"),
        pytest.param(pod(ended(AFTER), phase="Succeeded"), CAME, id="ended today"),
        pytest.param(pod(UNKNOWN, phase="Failed"), NOBODY, id="evicted yesterday, when is not told"),
        pytest.param(pod(UNKNOWN, phase="Failed", changed=AFTER), CAME, id="evicted today, when is not told"),
        pytest.param(pod(phase="Failed"), NOBODY, id="refused by its node yesterday"),
        pytest.param(pod(phase="Failed", changed=AFTER), NOBODY, id="refused by its node today: it never ran"),
        pytest.param(pod({"waiting": {}}, phase="Failed", changed=AFTER), NOBODY, id="failed before it ran"),
        pytest.param(pod(RUNNING, phase="Failed"), NOBODY, id="its node was lost yesterday"),
        pytest.param(pod(RUNNING, phase="Failed", changed=AFTER), CAME, id="its node was lost today"),
        pytest.param(pod(ended(BEFORE), UNKNOWN, phase="Failed"), NOBODY, id="one end of two is known"),
        pytest.param(pod(ended(BEFORE), RUNNING), NOBODY, id="yesterday's sidecar runs on"),
    ],
)
def test_a_pod_that_ended_before_the_session_could_begin_is_none_of_it(
    body: dict[str, Any], what: tuple[bool, bool]
) -> None:
    assert seen(body) == what


SECOND = {"kubectl.kubernetes.io/default-container": "c1"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param(pod(ended(), RUNNING), CAME, id="the first container is the session"),
        pytest.param(pod(RUNNING, ended()), RUNS, id="a sidecar that ends is no end"),
        pytest.param(pod(RUNNING, ended(), annotations=SECOND), CAME, id="the annotation names another"),
        pytest.param(pod(ended(), RUNNING, annotations=SECOND), RUNS, id="the annotation's runs on"),
        pytest.param(
            pod(ended(), RUNNING, annotations={next(iter(SECOND)): "c7"}), CAME, id="the annotation names nothing"
        ),
        pytest.param(pod(ended(code=1), RUNNING), CAME, id="it failed for good"),
        pytest.param(pod(ended(code=1), RUNNING, policy="OnFailure"), RUNS, id="it will be started again"),
        pytest.param(pod(ended(), RUNNING, policy="OnFailure"), CAME, id="what succeeded is not started again"),
        pytest.param(pod(ended(), RUNNING, policy="Always"), RUNS, id="it is always started again"),
        pytest.param(
            pod(ended(), RUNNING, policy="Always", deletionTimestamp="2026-01-02T00:59:59Z"),
            CAME,
            id="not in a pod that goes",
        ),
        pytest.param(pod(RUNNING, RUNNING), RUNS, id="all run"),
        pytest.param(pod({"waiting": {}}, RUNNING), RUNS, id="it starts"),
        pytest.param({**pod(RUNNING), "status": {}}, RUNS, id="nothing is told yet"),
    ],
)
def test_a_pod_is_over_when_its_default_container_ended_for_good(body: dict[str, Any], what: tuple[bool, bool]) -> None:
    assert seen(body) == what


def test_a_container_that_has_rules_of_its_own_is_not_judged_by_the_pods() -> None:
    body = pod(ended(code=42), RUNNING)
    body["spec"]["containers"][0]["restartPolicyRules"] = [{"action": "Restart"}]
    assert seen(body) == RUNS
    body = pod(ended(code=1), RUNNING)
    body["spec"]["containers"][0]["restartPolicy"] = "OnFailure"
    assert seen(body) == RUNS


def with_job(**spec: object) -> Small:
    """Have a session whose pod is a Job's, and has failed."""
    small = Small(inputs=0)
    small.request(session=ENDLESS)
    small.until(small.has_session)
    metadata = {"namespace": JOB.namespace, "name": JOB.name}
    small.cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
    start(small)
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    return small


def start(small: Small, *containers: str, name: str = "job", job: str = JOB.name, uid: str = "") -> None:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "controller": True}
    owner["uid"] = uid or (small.cluster.get(Ref("Job", "alice", job)) or {})["metadata"]["uid"]
    metadata = {
        "namespace": "alice", "name": name, "labels": {SESSION_LABEL: REQUEST.name}, "ownerReferences": [owner],
    }  # fmt: skip
    names = [{"name": each} for each in containers or ("analysis",)]
    spec = {"restartPolicy": "Never", "containers": names, **given(REQUEST.name)}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def conclude(small: Small, type_: str) -> None:
    small.cluster.set_status(JOB, {"conditions": [{"type": type_, "status": "True"}]})


def wait(small: Small, minutes: int) -> None:
    small.step()
    small.clock.turn(timedelta(minutes=minutes))
    for _ in range(3):
        small.step()


def test_a_job_that_backs_off_for_longer_than_the_grace_goes_on_with_its_session() -> None:
    small = with_job()
    small.cluster.finish(POD, code=1)
    wait(small, 6)
    assert not small.truth["session"].get("endedAt")
    message = small.condition("SessionActive")["message"]
    assert "Job analysis" in message, "whoever waits for the end is told for what"
    small.until(lambda: small.message == "Waiting for Job analysis.")
    start(small, name="again")
    small.until(lambda: small.condition("SessionActive")["status"] == "True")
    small.cluster.finish(Ref("Pod", "alice", "again"))
    conclude(small, "Complete")
    wait(small, 6)
    assert small.truth["session"]["endReason"] == "PodsGone"
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("type_", ["Complete", "Failed"])
def test_a_job_that_is_over_keeps_no_session(type_: str) -> None:
    small = with_job()
    small.cluster.finish(POD, code=1)
    conclude(small, type_)
    wait(small, 4)
    assert not small.truth["session"].get("endedAt"), "its grace is five minutes"
    wait(small, 1)
    assert small.truth["session"]["endReason"] == "PodsGone"


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_job_that_is_gone_or_another_one_keeps_no_session(jobs: int) -> None:
    small = with_job()
    small.cluster.finish(POD, code=1)
    # As with --cascade=orphan, before the garbage collector has seen it: the pod stays.
    owners = (small.cluster.get(POD) or {})["metadata"]["ownerReferences"]
    small.cluster.merge(POD, {"metadata": {"ownerReferences": None}})
    small.cluster.delete(JOB, owners[0]["uid"])
    small.cluster.merge(POD, {"metadata": {"ownerReferences": owners}})
    for _ in range(jobs):
        metadata = {"namespace": JOB.namespace, "name": JOB.name}
        small.cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
    small.step()
    small.clock.turn(timedelta(minutes=5))
    small.visit()
    assert small.truth["session"]["endReason"] == "PodsGone"


def with_second_pod_outlived(completions: int) -> Small:
    """Give a session whose first pod has succeeded, and whose second one a sidecar keeps from ending."""
    small = with_job(completions=completions)
    small.cluster.finish(POD)
    small.cluster.set_status(JOB, {"succeeded": 1, "active": 1})
    start(small, "analysis", "proxy", name="second")
    small.until(lambda: small.condition("SessionActive")["status"] == "True")
    small.cluster.finish(Ref("Pod", "alice", "second"), "analysis")
    return small


def test_a_job_whose_last_pods_are_outlived_by_sidecars_is_awaited_by_nobody() -> None:
    small = with_second_pod_outlived(completions=2)
    wait(small, 5)
    assert small.truth["session"]["endReason"] == "PodsGone"


def test_a_sidecar_does_not_end_a_job_of_which_more_is_to_come() -> None:
    small = with_second_pod_outlived(completions=3)
    wait(small, 6)
    assert not small.truth["session"].get("endedAt")


def test_a_job_that_cannot_be_read_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    small = with_job()
    small.cluster.finish(POD, code=1)
    get = small.cluster.get

    def refusing(ref: Ref) -> Any:
        if ref.kind == "Job":
            raise RefusedError(Reason.CLUSTER_REFUSED, "The API server refused GET Job alice/analysis: 403")
        return get(ref)

    monkeypatch.setattr(small.cluster, "get", refusing)
    wait(small, 6)
    assert not small.truth["session"].get("endedAt")
    small.until(lambda: "403" in small.message)
    small.patch(REQUEST, endRequested=True)
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_job_that_never_ends_is_bounded_by_the_ttl() -> None:
    small = with_job(suspend=True)
    small.cluster.finish(POD, code=1)
    wait(small, 60 * 48)
    assert small.truth["session"]["endReason"] == "TtlExpired"


def test_jobs_are_asked_for_only_when_the_end_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    small = with_job()
    asked: list[Ref] = []
    get = small.cluster.get
    monkeypatch.setattr(small.cluster, "get", lambda ref: asked.append(ref) or get(ref))  # type: ignore[func-returns-value]
    small.step()
    small.cluster.finish(POD, code=1)
    wait(small, 1)
    assert JOB not in asked
    wait(small, 5)
    assert JOB in asked


def test_the_end_of_a_job_is_not_looked_for_once_a_minute() -> None:
    small = with_job()
    reconciler = Reconciler(small.world())
    small.cluster.finish(POD, code=1)
    wait(small, 5)
    delays = [reconciler.visit(small.record_id, ("alice", "run")) for _ in range(8)]
    assert all(delay is not None and delay <= 10 for delay in delays)


def test_an_evicted_pod_of_yesterday_ends_no_session() -> None:
    small = Small(inputs=0)
    small.request(session=ENDLESS)
    small.start_pod()
    small.step()
    small.cluster.set_status(POD, {"phase": "Failed", "reason": "Evicted", "containerStatuses": []})
    small.clock.turn(timedelta(hours=12))
    small.until(small.has_session)
    wait(small, 30)
    assert not small.truth["session"].get("startedAt")
    assert not small.truth["session"].get("endedAt")


def drain(small: Small, ref: Ref = POD) -> None:
    """Take a pod away, as the drain of its node does: nothing of it is left."""
    body = small.cluster.get(ref)
    assert body is not None
    small.cluster.delete(ref, body["metadata"]["uid"])
    small.cluster.end_pods()
    assert small.cluster.get(ref) is None


def test_a_job_whose_only_pod_was_drained_goes_on_with_its_session() -> None:
    small = with_job()
    drain(small)
    small.forget()
    wait(small, 6)
    assert not small.truth["session"].get("endedAt")
    assert "Job analysis" in small.condition("SessionActive")["message"]
    start(small, name="again")
    small.until(lambda: small.condition("SessionActive")["status"] == "True")
    drain(small, Ref("Pod", "alice", "again"))
    conclude(small, "Complete")
    wait(small, 6)
    assert small.truth["session"]["endReason"] == "PodsGone"
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("what", ["Complete", "Failed", "gone", "another"])
def test_a_job_that_is_over_keeps_no_session_whose_pods_were_drained(what: str) -> None:
    small = with_job()
    drain(small)
    job = small.cluster.get(JOB) or {}
    if what in {"gone", "another"}:
        small.cluster.delete(JOB, job["metadata"]["uid"])
    else:
        conclude(small, what)
    if what == "another":
        small.cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {**job["metadata"]}, "spec": {}})
    wait(small, 5)
    assert small.truth["session"]["endReason"] == "PodsGone"


def test_of_many_jobs_the_latest_are_known_and_nothing_is_written_again_and_again() -> None:
    small = with_job()
    for number in range(20):
        name = f"analysis-{number:02}"
        metadata = {"namespace": "alice", "name": name}
        small.cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
        start(small, name=name, job=name)
    small.step()
    small.cluster.journal.clear()
    for _ in range(5):
        small.step()
    assert [write for write in small.cluster.journal if write.ref.kind == "RSERecord"] == []
    assert len(small.truth["session"]["jobs"]) == 16
    for number in range(20):
        drain(small, Ref("Pod", "alice", f"analysis-{number:02}"))
    drain(small)
    wait(small, 6)
    assert not small.truth["session"].get("endedAt")


@pytest.mark.parametrize(("job", "uid"), [("odd", "u" * 5000), ("..", "u"), (".", "u"), ("a/b", "u"), ("A", "u")])
def test_what_somebody_has_written_as_the_owner_of_a_pod_is_not_remembered_if_it_can_be_none(
    job: str, uid: str
) -> None:
    small = with_job()
    start(small, name="odd", job=job, uid=uid)
    small.step()
    assert [job["name"] for job in small.truth["session"]["jobs"]] == [JOB.name]
