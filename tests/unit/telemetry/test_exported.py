"""What Prometheus reads: the text itself."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
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


def phases(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return {sample.labels["phase"]: sample.value for sample in samples if sample.name == "volatile_rse_buffers"}


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
        assert exported(metrics, f"{name}_count") == 1
        assert exported(metrics, f"{name}_bucket", le="600.0") == 1
        assert exported(metrics, f"{name}_bucket", le="1.0") == (exported(metrics, f"{name}_sum") <= 1)


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
    assert exported(metrics, "bytes_at_risk", session="running") == 13
    assert exported(metrics, "bytes_at_risk", session="ended") == 0
    small.fail_copies(steps=10_000)
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"), 100)
    small.delete()
    small.until(lambda: small.is_gone)
    service.sweep()
    assert phases(metrics) == {"Quarantined": 1}, "also without its VolatileRSE"
    assert exported(metrics, "bytes_at_risk", session="running") == 0
    assert exported(metrics, "bytes_at_risk", session="ended") == 13
    small.fail_copies(steps=0)
    small.until(small.is_closed, 120)
    service.sweep()
    assert phases(metrics) == {}
    assert exported(metrics, "bytes_at_risk", session="ended") == 0
