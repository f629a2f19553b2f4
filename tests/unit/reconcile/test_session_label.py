"""A session's pods are those that carry its label, also of sessions that an earlier version knew by a selector."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile import small_world
from tests.unit.reconcile.small_world import Small
from tests.unit.reconcile.test_session_pods import JOB, conclude, wait, with_job
from volatile_rse.api.volatilerse import LONGEST_NAME, SESSION_LABEL
from volatile_rse.builders.objects import record_name
from volatile_rse.domain import planning
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.service import Service

POD = Ref("Pod", "alice", "job")
SELECTOR = {"matchLabels": {"analysis": "dimuon"}}
"""What an earlier version had in ``spec.session.podSelector``."""
LONG = "n" * (LONGEST_NAME + 1)


def pod(small: Small, labels: Mapping[str, str], namespace: str = "alice") -> None:
    metadata = {"namespace": namespace, "name": "job", "labels": labels}
    spec = {"restartPolicy": "Never", "containers": [{"name": "analysis"}], **small_world.given("run")}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def relabel(small: Small, **labels: str | None) -> None:
    small.cluster.merge(POD, {"metadata": {"labels": {"analysis": "dimuon", **labels}}})


def upgrade(small: Small) -> None:
    """Have a session that an earlier version has stored, also where its kinds are still in force, and let it go on."""
    ref = Ref("RSERecord", None, record_name(small.record_id))
    (claim,) = small.record["spec"]["claims"]
    claim["request"]["session"]["podSelector"] = SELECTOR
    small.cluster.merge(ref, {"spec": {"claims": [claim]}})
    small.cluster.merge(small_world.REQUEST, {"spec": {"session": {"podSelector": SELECTOR}}})
    small.forget()


def long_named(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a record of a VolatileRSE whose name an earlier version took."""
    monkeypatch.setattr(small_world, "REQUEST", Ref("VolatileRSE", "alice", LONG))
    small.request()
    with monkeypatch.context() as earlier:
        earlier.setattr(planning, "problem_of_name", lambda _: None)
        small.until(lambda: small.record)


@pytest.mark.parametrize(
    "labels", [{}, {"analysis": "run"}, {SESSION_LABEL: "another"}, {SESSION_LABEL: ""}, {"session": "run"}]
)
def test_a_pod_without_the_label_is_none_of_the_session_and_the_label_is_told(labels: Mapping[str, str]) -> None:
    small = Small(inputs=0)
    small.request(session={"startTimeout": "20s", "endWarning": "5s"})
    small.until(small.has_session)
    pod(small, labels)
    small.until(lambda: small.condition("SessionActive")["reason"] == "WaitingForSession")
    waited = f"pod of namespace alice with the label {SESSION_LABEL}=run"
    assert small.condition("SessionActive")["message"] == f"No {waited} has come yet, and no lease was taken."
    small.until(lambda: small.condition("SessionActive")["reason"] == "SessionEnding")
    assert f"no {waited} and no lease has come" in small.condition("SessionActive")["message"]
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"
    assert f"(NobodyCame: no {waited} and no lease came)" in small.condition("SessionActive")["message"]


def test_a_pod_of_another_namespace_is_none_of_the_session() -> None:
    small = Small(inputs=0)
    small.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bob"}})
    small.request(session={"startTimeout": "3s"})
    small.until(small.has_session)
    pod(small, {SESSION_LABEL: "run"}, "bob")
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"


def test_a_pod_with_the_label_alone_is_none_of_the_session() -> None:
    """It has no token: a session would live by a pod that can neither read nor write."""
    small = Small(inputs=0)
    small.request(session={"startTimeout": "3s"})
    small.until(small.has_session)
    metadata = {"namespace": "alice", "name": "bare", "labels": {SESSION_LABEL: "run"}}
    spec = {"nodeName": "n", "containers": [{"name": "analysis"}]}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"


def test_a_running_session_of_an_earlier_version_ends_by_its_grace_and_its_outputs_are_kept() -> None:
    small = Small()
    small.request(session={"endGrace": "20s"})
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    upgrade(small)
    relabel(small, **{SESSION_LABEL: None})
    small.until(lambda: small.condition("SessionActive")["status"] == "False")
    said = f"No pod of namespace alice with the label {SESSION_LABEL}=run runs, and no lease holds; the grace of the"
    assert small.condition("SessionActive")["message"] == f"{said} session has begun."
    assert not small.truth["session"].get("endedAt")
    small.until(small.is_closed, 120)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.is_kept("kept/a")
    small.delete()
    small.until(lambda: small.is_gone)
    assert small.leftovers() == []


def test_a_running_session_of_an_earlier_version_whose_pods_were_labelled_before_goes_on() -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    upgrade(small)
    relabel(small)
    for _ in range(5):
        small.step()
    assert small.condition("SessionActive")["reason"] == "SessionRunning"
    small.end_pod()
    small.until(small.is_closed, 120)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.is_kept("kept/a")


def test_pods_that_are_labelled_within_the_grace_are_the_session_again() -> None:
    small = Small()
    small.request(session={"endGrace": "1h"})
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    upgrade(small)
    relabel(small, **{SESSION_LABEL: None})
    small.until(lambda: small.truth["session"].get("lastSeenAt"))
    relabel(small, **{SESSION_LABEL: "run"})
    small.until(lambda: small.condition("SessionActive")["status"] == "True")
    assert not small.truth["session"].get("lastSeenAt")


def test_a_job_that_an_earlier_version_has_seen_is_awaited_without_the_label() -> None:
    small = with_job()
    upgrade(small)
    relabel(small, **{SESSION_LABEL: None})
    wait(small, 6)
    assert not small.truth["session"].get("endedAt")
    assert f"Job {JOB.name}" in small.condition("SessionActive")["message"]
    small.cluster.finish(POD)
    conclude(small, "Complete")
    small.until(small.is_closed, 120)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.is_kept("kept/a")


def test_a_request_of_an_earlier_version_that_has_no_record_yet_is_served_by_the_label() -> None:
    small = Small(inputs=0)
    small.request(session={"podSelector": SELECTOR, "endGrace": "1s"})
    small.until(small.has_session)
    (claim,) = small.record["spec"]["claims"]
    assert "podSelector" not in claim["request"]["session"]
    small.start_pod()
    small.until(lambda: small.condition("SessionActive")["status"] == "True")
    small.end_pod()
    small.until(small.is_closed)


@pytest.mark.parametrize("name", [LONG, "n" * 248, f"a.{'b' * LONGEST_NAME}"])
def test_a_name_that_is_no_value_of_a_label_is_told_and_nothing_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_world, "REQUEST", Ref("VolatileRSE", "alice", name))
    small = Small(inputs=0)
    small.request()
    small.step()
    for type_, status in (("Stalled", "True"), ("Ready", "False")):
        told = small.condition(type_)
        assert (told["status"], told["reason"]) == (status, "InvalidSpec")
        assert f"metadata.name: '{name}' is no value of a label" in told["message"]
        assert SESSION_LABEL in told["message"]
        assert "create another VolatileRSE. USER must act" in told["message"]
    assert not small.record
    small.delete()
    small.step()
    assert small.is_gone


@pytest.mark.parametrize("name", ["n" * LONGEST_NAME, f"a.{'b' * (LONGEST_NAME - 2)}", "0"])
def test_a_name_that_is_a_value_of_a_label_is_served(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_world, "REQUEST", Ref("VolatileRSE", "alice", name))
    small = Small(inputs=0)
    small.begin()
    small.until(lambda: small.condition("SessionActive")["status"] == "True")
    small.end_pod()
    small.until(small.is_closed)


def test_a_buffer_of_such_a_name_that_nobody_has_used_says_so_and_ends_by_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Small()
    long_named(small, monkeypatch)
    small.step()
    assert not small.truth["session"].get("readyAt")
    for _ in range(2):
        told = small.condition("SessionActive")
        assert (told["status"], told["reason"]) == ("False", "InvalidSpec")
        assert f"'{LONG}' is no value of a label" in told["message"]
        small.until(lambda: small.truth["session"].get("readyAt"))
    small.clock.turn(timedelta(hours=1))
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"
    small.delete()
    small.until(lambda: small.is_gone)
    assert small.leftovers() == []


def test_a_running_session_of_such_a_name_ends_and_its_outputs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    long_named(small, monkeypatch)
    small.until(small.has_session)
    # The earlier version has seen its pod, which has another label.
    pod(small, {"analysis": "dimuon"})
    at = small.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    ref = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(ref, {"status": {"session": {"startedAt": at}}}, subresource="status")
    small.write("kept/a")
    upgrade(small)
    small.until(small.is_closed, 120)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.is_kept("kept/a")
    small.delete()
    small.until(lambda: small.is_gone)
    assert small.leftovers() == []


def served() -> tuple[Small, Service]:
    small = Small(inputs=0)
    small.request()
    return small, Service(small.world(), threads=0)


def event(labels: Mapping[str, str] | None, namespace: str = "alice") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "job"} | ({} if labels is None else {"labels": labels})}


@pytest.mark.parametrize(
    ("labels", "namespace", "asked"),
    [
        ({SESSION_LABEL: "run"}, "alice", 1),
        ({SESSION_LABEL: "run", "a": "b"}, "alice", 1),
        ({SESSION_LABEL: "run"}, "bob", 0),
        ({SESSION_LABEL: "other"}, "alice", 0),
        ({SESSION_LABEL: ""}, "alice", 0),
        ({"session": "run"}, "alice", 0),
        ({}, "alice", 0),
        (None, "alice", 0),
    ],
)
def test_the_event_of_a_pod_leads_to_its_session_alone(
    labels: Mapping[str, str] | None, namespace: str, asked: int
) -> None:
    small, service = served()
    for name in ("run", "second"):
        uid = small.uid if name == "run" else "second"
        service.saw("VolatileRSE", {"metadata": {"namespace": "alice", "name": name, "uid": uid}})
        key = str(service._queue.take())
        service._queue.done(key)
    assert service._queue.due() == 0
    service.saw("Pod", event(labels, namespace))
    assert service._queue.due() == asked
    if asked:
        assert service._queue.take() == small.record_id


def test_the_last_event_of_a_request_hides_no_other_one_of_its_name() -> None:
    small, service = served()
    body = small.cluster.get(small_world.REQUEST) or {}
    before = {**body, "metadata": {**body["metadata"], "uid": "before"}}
    # Events of two objects come in any order.
    for seen in (before, body, before):
        service.saw("VolatileRSE", seen)
    while service._queue.due():
        service._queue.done(str(service._queue.take()))
    service.saw("Pod", event({SESSION_LABEL: "run"}))
    asked = {str(service._queue.take()) for _ in range(service._queue.due())}
    assert asked == {small.record_id, identify(small.settings.instance, "before").record_id}


def test_a_session_that_is_gone_is_forgotten() -> None:
    small, service = served()
    service.sweep()
    small.delete()
    service.sweep()
    while service._queue.due():
        service._queue.done(str(service._queue.take()))
    service.saw("Pod", event({SESSION_LABEL: "run"}))
    assert service._queue.due() == 0
    assert not service._records, "it would grow for ever"
