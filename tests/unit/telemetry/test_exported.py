"""What Prometheus reads: the text itself."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.api.schema import parse_quantity
from volatile_rse.ports.telemetry import Holding, Whose
from volatile_rse.reconcile.queue import KeyedQueue
from volatile_rse.reconcile.service import Service
from volatile_rse.telemetry.metrics import Metrics


def exported(metrics: Metrics, name: str, **labels: str) -> float:
    """Read one sample from the text."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    (found,) = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"volatile_rse_{name}" and sample.labels == labels
    ]
    return found


def samples(metrics: Metrics, name: str) -> list[Sample]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    found = [sample for family in families for sample in family.samples]
    return [sample for sample in found if sample.name == f"volatile_rse_{name}"]


def phases(metrics: Metrics) -> dict[str, float]:
    return {sample.labels["phase"]: sample.value for sample in samples(metrics, "buffers")}


def at_risk(metrics: Metrics, session: str) -> float:
    return sum(sample.value for sample in samples(metrics, "at_risk_bytes") if sample.labels["session"] == session)


def test_a_visit_has_a_duration_and_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, small = Metrics(), Small(inputs=0)
    small.telemetry = metrics
    small.request()
    service = Service(small.world(), threads=0)
    now, visit = [10.0], service._reconciler.visit

    def done(*args: Any) -> float | None:
        now[0] += 0.3
        return visit(*args)

    def failing(*_: object) -> float:
        now[0] += 2.0
        return 1 / 0

    monkeypatch.setattr("volatile_rse.reconcile.service.time.monotonic", lambda: now[0])
    for made in (done, failing):
        monkeypatch.setattr(service._reconciler, "visit", made)
        service._visit(small.record_id)
    monkeypatch.undo()
    for result, took in (("done", 0.3), ("failed", 2.0)):
        assert exported(metrics, "visit_seconds_count", result=result) == 1
        assert exported(metrics, "visit_seconds_sum", result=result) == pytest.approx(took)
    assert exported(metrics, "visit_seconds_bucket", result="done", le="0.25") == 0
    assert exported(metrics, "visit_seconds_bucket", result="done", le="0.5") == 1
    assert exported(metrics, "visit_seconds_bucket", result="failed", le="1.0") == 0


def test_a_quarantine_that_no_waiting_cures_is_one() -> None:
    metrics, small = Metrics(), Small(inputs=0)
    small.telemetry = metrics
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endedAt"))
    small.catalogue.ensure_dataset(OUT, "bob", "another")
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "Quarantined")
    assert (small.condition("Stalled")["status"], small.condition("Stalled")["reason"]) == ("True", "DatasetRefused")
    small.step()
    assert (small.cluster.get(REQUEST) or {})["status"]["phase"] == "Quarantined"
    Service(small.world(), threads=0).sweep()
    assert phases(metrics)["Quarantined"] == 1
    assert not phases(metrics).get("Stalled")


def test_the_age_of_the_queue_and_of_the_watches() -> None:
    metrics, small = Metrics(clock=lambda: 77.0), Small(inputs=0)
    small.telemetry = metrics
    small.request()
    now, unseen = 100.0, 3.0
    metrics.watched(lambda: unseen)
    service = Service(small.world(), threads=0)
    service._queue = KeyedQueue(lambda: now)
    service.sweep()
    now, unseen = 107.0, 12.5
    service.sweep()
    assert exported(metrics, "queue_age_seconds") == 7
    assert exported(metrics, "queue_due") == 1
    assert exported(metrics, "watch_age_seconds") == 12.5
    assert exported(metrics, "sweep_timestamp_seconds") == 77


def test_what_people_wait_for_is_in_their_buckets() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    for name in ("ready_seconds", "safe_seconds"):
        of = {"class": small.record["spec"]["className"]}
        assert exported(metrics, f"{name}_count", **of) == 1
        assert exported(metrics, f"{name}_bucket", **of, le="600.0") == 1
        assert exported(metrics, f"{name}_bucket", **of, le="1.0") == (exported(metrics, f"{name}_sum", **of) <= 1)


def test_buffers_by_phase_and_what_they_have_to_lose() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request(teardown={"deadline": "5s"})
    service = Service(small.world(), threads=0)
    service.sweep()
    assert phases(metrics) == {"Pending": 1}
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a", "kept/bc")
    small.until(lambda: (small.cluster.get(REQUEST) or {})["status"]["outputs"][0]["bytesAtRisk"])
    service.sweep()
    assert phases(metrics) == {"Active": 1}
    assert at_risk(metrics, "running") == 13
    assert at_risk(metrics, "ended") == 0
    small.fail_copies(steps=10_000)
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"), 100)
    small.delete()
    small.until(lambda: small.is_gone)
    service.sweep()
    assert phases(metrics) == {"Quarantined": 1}, "also without its VolatileRSE"
    assert at_risk(metrics, "running") == 0
    assert at_risk(metrics, "ended") == 13
    small.fail_copies(steps=0)
    small.until(small.is_closed, 120)
    service.sweep()
    assert phases(metrics) == {}
    assert at_risk(metrics, "ended") == 0


@pytest.mark.parametrize("phase", [[None], {"a": 1}, 7, "\ud800", "x" * 5000, "a\nb", ""], ids=ascii)
def test_a_phase_that_is_none_is_counted_as_none(phase: object) -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    with small.cluster.unchecked(REQUEST) as body:
        body["status"] = {"phase": phase}
    service = Service(small.world(), threads=0)
    service.sweep()
    assert phases(metrics) == {"Pending": 1}
    assert generate_latest(metrics.registry)


def test_who_holds_what_of_which_class() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    service = Service(small.world(), threads=0)
    small.until(small.has_session)
    service.sweep()
    claim, class_name = small.record["spec"]["claims"][0], small.record["spec"]["className"]
    whose = {"class": class_name, "namespace": claim["namespace"], "account": claim["account"]}
    assert exported(metrics, "capacity_bytes", **whose) == parse_quantity(small.record["spec"]["capacity"])
    assert exported(metrics, "at_risk_bytes", **whose, session="running") == 0
    assert [sample.labels for sample in samples(metrics, "buffers")] == [{"class": class_name, "phase": "Ready"}]
    small.delete()
    small.until(small.is_closed)
    service.sweep()
    assert not samples(metrics, "capacity_bytes")


def test_nobody_makes_series_by_asking_for_classes() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request(className="nowhere-17")
    small.step()
    Service(small.world(), threads=0).sweep()
    assert [sample.labels for sample in samples(metrics, "buffers")] == [{"class": "", "phase": "Stalled"}]


def test_of_many_owners_those_with_the_most_at_risk_have_series_and_no_byte_is_left_out() -> None:
    metrics = Metrics()
    holdings = {
        Whose("standard", f"user-{number}", "alice"): Holding(capacity=10, running=1, ended=number)
        for number in range(1000)
    }
    metrics.held(holdings)
    found = samples(metrics, "capacity_bytes")
    assert len(found) == 101
    assert sum(sample.value for sample in found) == 10_000
    assert at_risk(metrics, "ended") == sum(range(1000))
    assert at_risk(metrics, "running") == 1000
    assert exported(metrics, "capacity_bytes", **{"class": "", "namespace": "", "account": "(others)"}) == 9000
    for number, told in ((999, True), (900, True), (899, False)):
        assert any(sample.labels["namespace"] == f"user-{number}" for sample in found) is told
    metrics.held({})
    assert not samples(metrics, "capacity_bytes")
    assert not samples(metrics, "at_risk_bytes")
