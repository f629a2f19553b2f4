"""Objects that this operator cannot read: each concerns itself alone, and says so."""

from __future__ import annotations

import copy
import threading
from datetime import timedelta
from functools import reduce
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.builders.objects import record_name
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.uninstall import stakes_of
from volatile_rse.telemetry.metrics import Metrics

CLASS = Ref("VolatileRSEClass", None, "standard")
CONNECTION = Ref("RucioConnection", None, "rucio")


def with_outputs(**options: Any) -> Small:
    small = Small(inputs=0, **options)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    return small


def record_of(small: Small) -> Ref:
    return Ref("RSERecord", None, record_name(small.record_id))


def damage(small: Small, **status: object) -> None:
    small.cluster.merge(record_of(small), {"status": status}, subresource="status")


def test_what_a_newer_operator_has_written_into_a_status_is_left_as_it_is() -> None:
    small = with_outputs()
    newer = {"seenBy": "somebody"}
    damage(small, colour="blue", session=newer)
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    assert small.truth["colour"] == "blue"
    assert small.truth["session"]["seenBy"] == "somebody"
    assert small.truth["session"]["endReason"] == "PodsGone"


def test_a_value_that_only_a_newer_operator_knows_is_dropped_and_named() -> None:
    small = with_outputs()
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endedAt"))
    damage(small, session={"endReason": "Preempted"})
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    assert "endReason" not in small.truth["session"]
    assert small.truth["mended"][0].endswith(": status.session.endReason")
    assert [event.reason for event in small.cluster.events if event.about == record_of(small)] == ["RecordUnreadable"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classSnapshot", 7),
        ("connectionSnapshot", 7),
        ("claims", 7),
        ("classSnapshot.exposure.publicHost", ""),
        ("classSnapshot.exposure.publicHost", "x" * 300),
        ("classSnapshot.exposure.publicHost", "no host"),
        ("classSnapshot.naming.file", "\x00"),
        ("classSnapshot.naming.file", "{record}{output}/{path}\x00"),
        ("classSnapshot.naming.ledger", "{"),
        ("classSnapshot.naming.rse", "{0}"),
    ],
)
def test_a_record_whose_frozen_facts_cannot_be_read_is_told_and_destroys_nothing(field: str, value: object) -> None:
    small = with_outputs()
    *path, last = field.split(".")
    with small.cluster.unchecked(record_of(small)) as body:
        before = copy.deepcopy(body["spec"])
        reduce(lambda part, key: part.setdefault(key, {}), path, body["spec"])[last] = value
    small.end_pod()
    small.delete()
    for _ in range(5):
        small.step()
    assert not small.is_gone
    stalled = small.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RecordUnreadable")
    assert f"RSERecord {record_of(small).name} cannot be read: spec.{field}" in stalled["message"]
    assert small.condition("StorageReady")["status"] == "True", "what was seen before stays"
    assert small.message == stalled["message"]
    told = [event for event in small.cluster.events if event.about == record_of(small)]
    assert [(event.type_, event.reason) for event in told] == [("Warning", "RecordUnreadable")]
    with small.cluster.unchecked(record_of(small)) as body:
        body["spec"] = before
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_record_that_cannot_be_read_stops_no_other() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    small.step()
    small.delete()
    small.until(small.is_closed)
    body = small.record
    damaged = {**body, "metadata": {"name": "vrse-aaaaaaaaaa"}, "spec": {**body["spec"], "recordId": "aaaaaaaaaa"}}
    small.cluster.create(damaged)
    small.cluster.set_status(Ref("RSERecord", None, "vrse-aaaaaaaaaa"), {"bytesAtRisk": -1})
    small.clock.turn(timedelta(days=31))
    service = Service(small.world(), threads=0)
    service.sweep()
    assert not small.record, "the expired one was not removed"
    assert small.cluster.get(Ref("RSERecord", None, "vrse-aaaaaaaaaa"))
    assert metrics.registry.get_sample_value("volatile_rse_unreadable", {"kind": "RSERecord"}) == 1
    (stake,) = stakes_of(small.cluster, small.settings)
    assert (stake.record, stake.owner) == ("vrse-aaaaaaaaaa", "alice/run")


def test_another_operators_record_is_not_written_to() -> None:
    small = with_outputs()
    small.cluster.merge(record_of(small), {"spec": {"instance": "another"}})
    damage(small, steps={"sealed": 5})
    before = small.truth
    for _ in range(3):
        small.step()
    assert small.truth == before


def test_a_class_that_cannot_be_read_says_so_once_and_lets_requests_go() -> None:
    small = Small(inputs=0)
    small.cluster.merge(CLASS, {"spec": {"colour": "blue"}})
    small.request()
    service = Service(small.world(), threads=0)
    for _ in range(3):
        service.sweep()
        small.step()
    told = [event for event in small.cluster.events if event.about == CLASS]
    assert [event.reason for event in told] == ["ConfigurationInvalid"]
    assert "VolatileRSEClass standard cannot be read: spec.colour" in told[0].message
    stalled = small.condition("Stalled")
    assert stalled["reason"] == "ConfigurationInvalid"
    assert "ADMIN must act" in stalled["message"]
    small.delete()
    small.step()
    assert small.is_gone


def test_a_connection_that_cannot_be_read_says_so_and_stops_no_other() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    good = small.cluster.get(CONNECTION) or {}
    small.cluster.create({**good, "metadata": {"name": "zz"}})
    small.cluster.merge(CONNECTION, {"spec": {"colour": "blue"}})
    Service(small.world(), threads=0).sweep()
    status = {body["metadata"]["name"]: body["status"] for body in small.cluster.list("RucioConnection")}
    assert status["rucio"]["conditions"][0]["reason"] == "ConfigurationInvalid"
    assert "spec.colour" in status["rucio"]["message"]
    assert status["zz"]["reachable"] is True
    assert metrics.registry.get_sample_value("volatile_rse_unreadable", {"kind": "RucioConnection"}) == 1


def test_a_sweep_that_always_fails_is_no_health(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    waited = threading.Event()
    service = Service(small.world(), threads=0, interval=0.01)
    with monkeypatch.context() as patched:
        patched.setattr(small.cluster, "list", lambda *_args, **_kwargs: 1 / 0)
        service.start()
        try:
            for _ in range(500):
                if not service.healthy():
                    break
                waited.wait(0.01)
            assert not service.healthy()
            assert (metrics.registry.get_sample_value("volatile_rse_faults_total", {"where": "sweep"}) or 0) > 1
            patched.undo()
            for _ in range(500):
                if service.healthy():
                    break
                waited.wait(0.01)
            assert service.healthy(), "one failure must not stay"
        finally:
            assert service.stop()


def test_a_part_of_the_sweep_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    listed = small.cluster.list

    def failing(kind: str, *args: Any, **kwargs: Any) -> Any:
        if kind == "VolatileRSEClass":
            raise ValueError(kind)
        return listed(kind, *args, **kwargs)

    monkeypatch.setattr(small.cluster, "list", failing)
    Service(small.world(), threads=0).sweep()
    assert (small.cluster.get(CONNECTION) or {})["status"]["reachable"] is True
    assert metrics.registry.get_sample_value("volatile_rse_faults_total", {"where": "classes"}) == 1


def test_a_request_that_cannot_be_read_says_so() -> None:
    small = Small(inputs=0)
    small.request(colour="blue")
    Reconciler(small.world()).visit(small.record_id, (REQUEST.namespace or "", REQUEST.name))
    assert small.condition("Stalled")["reason"] == "InvalidSpec"
    assert "spec.colour" in small.condition("Stalled")["message"]
