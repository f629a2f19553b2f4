"""A process that lives for months remembers what lives, and nothing else."""

from __future__ import annotations

import base64

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service


def test_a_buffer_that_is_gone_leaves_nothing_in_memory() -> None:
    small = Small()
    small.request()
    service = Service(small.world(), threads=0)
    small._reconciler = service._reconciler
    small.until(small.has_session)
    service.sweep()
    remembered = (service._reconciler._memories, service._reconciler._connections._memories, service._known)
    assert all(small.record_id in memory for memory in remembered)
    assert small.record_id in service._reconciler._connections._compared
    small.fail_copies(steps=3)
    small.delete()
    small.until(lambda: small.is_gone and small.is_closed())
    small.step()
    service.sweep()
    assert [len(memory) for memory in remembered] == [0, 0, 0]
    assert not service._reconciler._connections._compared


def test_clients_that_nobody_asks_for_go_and_others_stay() -> None:
    small = Small(inputs=0)
    small.request()
    connections = Connections(small.world())
    body = small.cluster.get(Ref("RucioConnection", None, "rucio")) or {}
    used, unused = (
        RucioConnectionSpec.model_validate(body["spec"] | {"server": f"https://{name}.example.org"}) for name in "ab"
    )
    servers = base64.b64encode(b"https://a.example.org https://b.example.org").decode()
    small.cluster.merge(Ref("Secret", "ops", "login"), {"data": {"server": servers}})
    client = connections.of(used, "rucio")
    connections.of(unused, "rucio")
    for _ in range(3):
        connections.of(used, "rucio")
        connections.keep(set())
    assert [login.connection for login, _ in connections._clients.values()] == [used]
    assert connections.of(used, "rucio") is client


def test_it_can_fail_for_ever() -> None:
    small = Small(inputs=0)
    small.request()
    reconciler = Reconciler(small.world())
    where = (REQUEST.namespace or "", REQUEST.name)
    small.cluster.down = True
    first = reconciler.visit(small.record_id, where)
    assert first is not None
    assert first < 3
    reconciler._memories[small.record_id].failures = 5000
    delay = reconciler.visit(small.record_id, where)
    assert delay is not None
    assert 40 < delay < 80
