"""What one session asks of Rucio, and how often the operator looks at what does not change."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.gather import gather
from volatile_rse.reconcile.reconciler import Reconciler

_REQUESTS = {
    # Of the real adapter for one call of the port, where it is more than one; a thousand files fit into each.
    "sources": 2, "destinations": 2, "quota_left": 2, "ensure_rse": 7, "hide": 2, "delete_rse": 11,
}  # fmt: skip
_DAEMONS = {"Draining"}
"""Stages that wait for Rucio's own daemons, for as long as these take."""


def counting(small: Small) -> Counter[str]:
    """Count the calls of the catalogue, until its daemons are awaited."""
    calls: Counter[str] = Counter()
    catalogue = small.catalogue

    class Counted:
        def __getattr__(self, name: str) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                counts = small.truth.get("phase") not in _DAEMONS
                answer = getattr(catalogue, name)(*args, **kwargs)
                if counts and not (name == "unsafe" and not args[0]):
                    # A rule that is there is compared with its dataset.
                    calls[name] += 2 if name == "locked_by" and answer else _REQUESTS.get(name, 1)
                return answer

            return call

    world = small.world

    def counted() -> Any:
        made = world()
        object.__setattr__(made, "connect", lambda _login: Counted())
        return made

    small.world = counted  # type: ignore[method-assign]
    return calls


def test_a_session_costs_forty_calls_and_one_for_each_hundred_files() -> None:
    files = 500
    small = Small(inputs=files // 2)
    small.request()
    calls = counting(small)
    small.until(small.has_session)
    small.start_pod()
    small.write(*(f"kept/{number}" for number in range(files // 2)))
    for _ in range(30):
        small.step()
    small.end_pod()
    small.until(small.is_closed)
    assert sum(calls.values()) <= 40 + files / 100, calls


def test_what_is_remembered_counts_no_longer_where_something_is_destroyed() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    world = small.world()
    connections = Connections(world)

    def seen() -> Any:
        facts = gather(world, connections, small.record_id, None)
        return facts.rse if facts.replicas is None and small.truth["phase"] == "Serving" else facts.replicas

    assert seen() is not None
    small.catalogue.down = True
    assert seen() is not None, "a session that needs nothing of Rucio now is not blocked"
    small.delete()
    small.catalogue.down = False
    small.until(lambda: small.truth.get("phase") == "Hiding")
    assert seen() == {}
    small.catalogue.down = True
    assert seen() is None


def test_what_does_not_change_is_looked_at_less_often() -> None:
    small = Small(inputs=1)
    small.request()
    reconciler = Reconciler(small.world())
    where = (REQUEST.namespace or "", REQUEST.name)
    waits = [reconciler.visit(small.record_id, where) or 0 for _ in range(12)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.5), "somebody waits for it"
    assert waits[-1] == pytest.approx(10)
    small.cluster.set_status(Ref("Pod", "bufs", f"vrse-{small.record_id}"), {"phase": "Pending"})
    assert reconciler.visit(small.record_id, where) == pytest.approx(10), "nothing that counts has changed"
    status = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}
    small.cluster.set_status(Ref("Pod", "bufs", f"vrse-{small.record_id}"), status)
    assert reconciler.visit(small.record_id, where) == pytest.approx(0.5)


def test_a_session_writes_what_counts_and_no_more() -> None:
    small = Small(inputs=2)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.write("kept/a", "kept/b")
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.end_pod()
    small.until(small.is_closed)
    ours = [write for write in small.cluster.journal if write.ref.kind in {"VolatileRSE", "RSERecord"}]
    # Its own objects are two for each of their kinds: made and removed.
    assert len(ours) <= 34, ours


def test_nothing_is_written_while_nothing_happens() -> None:
    small = Small(inputs=2)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    for _ in range(15):
        small.step()
    before = len(small.cluster.journal)
    for _ in range(300):
        small.step()
    assert len(small.cluster.journal) == before
