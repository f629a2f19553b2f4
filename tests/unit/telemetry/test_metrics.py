from __future__ import annotations

from tests.unit.reconcile.small_world import Small
from volatile_rse.builders.objects import record_name
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.queue import KeyedQueue
from volatile_rse.reconcile.service import Service
from volatile_rse.telemetry.metrics import Metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"volatile_rse_{name}", labels)


def test_writes_are_counted_and_reads_are_not() -> None:
    metrics, small = Metrics(), Small(inputs=0)
    cluster = metrics.counted(small.cluster)
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "ops", "name": "s"}}
    assert cluster.create(body)
    ref = Ref("Secret", "ops", "s")
    cluster.merge(ref, {"data": {}})
    found = cluster.get(ref)
    assert found is not None
    cluster.delete(ref, found["metadata"]["uid"])
    counts = {verb: value(metrics, "cluster_writes_total", verb=verb, kind="Secret") for verb in ("create", "merge")}
    assert counts == {"create": 1, "merge": 1}
    assert value(metrics, "cluster_writes_total", verb="delete", kind="Secret") == 1
    assert value(metrics, "cluster_writes_total", verb="get", kind="Secret") is None


def test_bytes_at_risk_are_those_of_all_records() -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    small.until(small.has_session)
    ref = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(ref, {"status": {"bytesAtRisk": 42}}, subresource="status")
    Service(small.world(), threads=0).sweep()
    claim = small.record["spec"]["claims"][0]
    whose = {"class": small.record["spec"]["className"], "namespace": claim["namespace"], "account": claim["account"]}
    assert value(metrics, "at_risk_bytes", **whose, session="running") == 42


def test_the_first_that_is_due_is_the_oldest() -> None:
    now = 0.0
    queue = KeyedQueue(lambda: now)
    assert queue.lateness() == 0
    queue.add("a", 5)
    queue.add("b")
    now = 3.0
    assert queue.lateness() == 3
    assert queue.take() == "b"
    assert queue.lateness() == 0


def test_the_process_is_measured() -> None:
    assert Metrics().registry.get_sample_value("process_resident_memory_bytes")
