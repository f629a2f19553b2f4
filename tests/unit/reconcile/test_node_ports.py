"""The NodePorts of a cluster come to their end: counted, warned of before, told, and gone on from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse import __main__ as operator
from volatile_rse.adapters.fake_cluster import FakeEvent
from volatile_rse.domain.node_ports import NodePorts
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.usage import node_ports_of
from volatile_rse.telemetry.metrics import Metrics

ENDED = {"session": {"endedAt": "2026-01-01T00:00:00Z"}}
CLOSED = ENDED | {"closedAt": "2026-01-01T01:00:00Z"}
GREEDY = Ref("Service", "alice", "greedy")


def record(status: Any = None, *, exposure: Any = None) -> dict[str, Any]:
    spec = {"classSnapshot": {"exposure": exposure or {"publicHost": "b", "method": "NodePort"}}}
    return {"metadata": {"name": "vrse-x", "labels": {}}, "spec": spec, "status": status or {}}


@pytest.mark.parametrize(
    ("records", "buffers", "over"),
    [
        ([], 0, 0),
        ([record()], 1, 0),
        ([record(), record(ENDED)], 2, 1),
        ([record(CLOSED), record(ENDED | {"freedAt": "2026-01-01T00:30:00Z"})], 1, 1),
        ([record(exposure={"publicHost": "b"})], 1, 0),
        ([record(exposure={"publicHost": "b", "method": "Given"})], 0, 0),
        # What cannot be read may have some.
        ([record(exposure=["odd"]), {"metadata": {"name": "vrse-y"}, "spec": "odd", "status": 7}], 2, 0),
    ],
)
def test_a_buffer_has_its_ports_until_it_is_closed(records: list[dict[str, Any]], buffers: int, over: int) -> None:
    assert node_ports_of(records, 2768) == NodePorts(2768, buffers, over)


def fill(small: Small, left: int) -> None:
    """Have a Service of somebody else with all ports but so many."""
    small.cluster.node_ports = range(30000, 30010)
    taken = [{"name": f"p{number}", "port": number} for number in range(1, 11 - left)]
    metadata = {"namespace": GREEDY.namespace, "name": GREEDY.name}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "NodePort", "ports": taken}}
    small.cluster.create(body)


@pytest.mark.parametrize("left", [0, 1])
def test_a_buffer_that_gets_no_ports_says_so_and_goes_on_when_there_are_some(left: int) -> None:
    small = Small()
    fill(small, left)
    small.request()
    small.until(lambda: "range is full" in small.message)
    for type_ in ("StorageReady", "Ready", "Usable"):
        condition = small.condition(type_)
        assert (condition["status"], condition["reason"]) == ("False", "NodePortsExhausted")
        assert "500 Internal error occurred: failed to allocate a nodePort: range is full" in condition["message"]
        assert "ADMIN must act: Wait, or make room" in condition["message"]
    assert small.condition("Stalled")["status"] == "False"
    assert not small.cluster.list("Service", "bufs")
    assert not small.catalogue.has_rse(small.rse), "no RSE without an address"
    small.cluster.delete(GREEDY, (small.cluster.get(GREEDY) or {})["metadata"]["uid"])
    small.until(small.has_session)
    small.delete()
    small.until(small.is_closed)


def test_ports_are_free_again_once_a_buffer_is_drained() -> None:
    small = Small(inputs=0)
    fill(small, 2)
    for _ in range(3):
        small.request()
        small.until(small.has_session)
        small.delete()
        small.until(lambda: small.is_gone and small.is_closed())
        small.renew()
    assert {body["metadata"]["name"] for body in small.cluster.list("Service")} == {GREEDY.name}


def warnings(small: Small) -> list[FakeEvent]:
    return [event for event in small.cluster.events if event.reason == "NodePortsLow"]


def test_the_sweep_counts_them_and_warns_once_on_every_class() -> None:
    metrics, small = Metrics(), Small(inputs=0)
    small.telemetry = metrics
    small.settings = replace(small.settings, node_ports=2)
    small.request()
    service = Service(small.world(), threads=0)

    def counted() -> tuple[float | None, float | None]:
        read = metrics.registry.get_sample_value
        return read("volatile_rse_node_ports"), read("volatile_rse_node_ports_limit")

    service.sweep()
    assert (counted(), warnings(small)) == ((0, 2), [])
    small.until(small.has_session)
    for _ in range(3):
        service.sweep()
    assert counted() == (2, 2)
    (event,) = warnings(small)
    assert (event.about, event.type_) == (Ref("VolatileRSEClass", None, "standard"), "Warning")
    assert "0 ports are left, for 0 more buffers" in event.message
    small.delete()
    small.until(small.is_closed)
    service.sweep()
    assert (counted(), len(warnings(small))) == ((0, 2), 1)
    small.renew()
    small.request()
    small.until(small.has_session)
    service.sweep()
    assert len(warnings(small)) == 2, "it was otherwise meanwhile"


def test_a_warning_is_not_repeated_by_each_buffer_that_comes_and_goes() -> None:
    small = Small(inputs=0)
    small.settings = replace(small.settings, node_ports=100)
    small.request()
    service, told = Service(small.world(), threads=0), []
    for buffers in (44, 46, 44, 46, 43, 46, 42, 46):
        service._count_ports([record()] * buffers)
        told.append(len(warnings(small)))
    assert told == [0, 1, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("said", ["", "many", "-1", "2768.0", "\uff12\uff17"])
def test_a_number_of_ports_that_is_none_is_told(said: str) -> None:
    with pytest.raises(SystemExit, match=r"VOLATILE_RSE_NODE_PORTS .* no number .*ADMIN must act"):
        operator._node_ports(said)
    assert operator._node_ports("100") == 100
