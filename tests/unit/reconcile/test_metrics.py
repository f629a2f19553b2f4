from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.service import Service
from volatile_rse.telemetry.metrics import Metrics


def test_a_session_is_told_from_its_request_to_its_end() -> None:
    metrics = Metrics(clock=lambda: 123.0)
    small = Small(telemetry=metrics)
    small.begin()
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    Service(small.world(), threads=0).sweep()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"volatile_rse_{name}", labels)

    of = {"class": small.record["spec"]["className"]}
    assert value("ready_seconds_count", **of) == 1
    assert value("safe_seconds_count", **of) == 1
    assert (value("safe_seconds_sum", **of) or 0) > 0
    assert value("effects_total", effect="Fence", result="done") == 1
    assert value("records", stage="Closed") == 1
    assert value("records", stage="Serving") == 0
    assert value("connection_reachable", connection="rucio") == 1
    assert value("sweep_timestamp_seconds") == 123


def test_calls_to_the_catalogue_are_counted_by_method_and_result() -> None:
    metrics, catalogue = Metrics(), FakeCatalogue()
    measured = metrics.measured(catalogue)
    measured.ping()
    catalogue.down = True
    with pytest.raises(UnreachableError):
        measured.ping()
    for result in ("done", "unreachable"):
        labels = {"method": "ping", "result": result}
        assert metrics.registry.get_sample_value("volatile_rse_catalogue_call_seconds_count", labels) == 1


READY: list[tuple[object, float]] = [
    ({"conditions": [{"type": "Ready", "status": "True"}]}, 1),
    ({"conditions": [{"type": "Ready", "status": "False"}, {"type": "SitesUsable", "status": "True"}]}, 0),
    ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, 0),
    # Nobody has looked yet, or somebody has written what is no status.
    ({}, 0),
    ("odd", 0),
]


@pytest.mark.parametrize(("status", "ready"), READY)
def test_a_class_is_told_as_its_status_says_until_it_is_deleted(status: object, ready: float) -> None:
    metrics = Metrics()
    small = Small(telemetry=metrics)
    small.begin()
    (name,) = (body["metadata"]["name"] for body in small.cluster.list("VolatileRSEClass"))
    ref = Ref("VolatileRSEClass", None, name)
    small.cluster.merge(ref, {"status": status}, subresource="status")
    service = Service(small.world(), threads=0)

    def told() -> float | None:
        return metrics.registry.get_sample_value("volatile_rse_class_ready", {"class": name})

    service.sweep()
    assert told() == ready
    small.cluster.merge(ref, {"metadata": {"deletionTimestamp": "2026-12-01T00:00:00Z"}})
    service.sweep()
    assert told() is None
