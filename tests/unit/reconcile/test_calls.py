"""What one session asks of Rucio, and how often the operator looks at what does not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sized
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.fake_cluster import Write
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.gather import glimpse, look_closely
from volatile_rse.reconcile.reconciler import Reconciler

_REQUESTS = {
    # Of the real adapter for one call of the port, where it is not one; a thousand files fit into each. Doors of sites
    # are known for a minute from the choice of the destination on, so that names of copies and hosts cost nothing.
    "sources": 2, "destinations": 2, "rooms": 3, "ensure_rse": 8, "hide": 2, "delete_rse": 11,
    "pfns": 0, "read_pfns": 0,
}  # fmt: skip
_DAYS = {"ttl": "2d"}
_DAEMONS = {"rse", "replicas", "ledger_exists"}
"""What is asked again and again while Rucio's own daemons are awaited, for as long as these take."""


def counting(small: Small) -> Counter[str]:
    """Count the requests to Rucio, by what they are for; those that wait for its daemons are left out."""
    calls: Counter[str] = Counter()
    catalogue = small.catalogue

    class Counted:
        def __getattr__(self, name: str) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                phase = small.truth.get("phase")
                answer = getattr(catalogue, name)(*args, **kwargs)
                if not (name == "unsafe" and not args[0]) and not (phase == "Draining" and name in _DAEMONS):
                    calls[name] += _requests(name, answer, *args)
                return answer

            return call

    world = small.world

    def counted() -> Any:
        made = world()
        object.__setattr__(made, "connect", lambda _login: Counted())
        return made

    small.world = counted  # type: ignore[method-assign]
    return calls


def _requests(name: str, answer: object, *args: Any) -> int:
    if name in {"locked_by", "rse"} and answer is not None:
        # A rule that is there is compared with its dataset, and an RSE with its attributes.
        return 2
    lists = [len(arg) for arg in args if isinstance(arg, Sized) and not isinstance(arg, str)]
    return _REQUESTS.get(name, 1) * -(-max(lists, default=1) // 1000)


@pytest.mark.parametrize("files", [6, 500, 2000])
def test_a_session_costs_some_forty_calls_and_one_for_each_hundred_files(files: int) -> None:
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
    deregistered = sum(calls.pop(name) for name in ("allow_deletion", "delete_rse", "expire_ledger"))
    assert deregistered <= 15
    assert sum(calls.values()) <= 42 + files / 100, calls


def test_what_was_published_and_is_safe_is_asked_for_ever_less() -> None:
    small = Small(inputs=1)
    calls = counting(small)
    small.publish_and_keep("kept/a", session=_DAYS)
    for _ in range(10):
        small.step()
    calls.clear()
    for _ in range(8 * 60):
        small.clock.turn(timedelta(minutes=1))
        small.step()
    assert not small.truth["session"].get("endedAt")
    assert 0 < sum(calls.values()) <= 8 * 4, calls


def test_what_is_remembered_counts_no_longer_where_something_is_destroyed() -> None:
    small = Small(inputs=1)
    small.request()
    small.until(small.has_session)
    world = small.world()
    connections = Connections(world)

    def seen() -> Any:
        facts = look_closely(world, connections, glimpse(world, small.record_id, None))
        return facts.rse if facts.replicas is None and small.truth["phase"] == "Serving" else facts.replicas

    assert seen() is not None
    small.catalogue.down = True
    assert seen() is not None, "a session that needs nothing of Rucio now is not blocked"
    small.delete()
    small.catalogue.down = False
    small.until(lambda: small.truth.get("phase") == "Hiding")
    small.until(seen)
    assert small.truth.get("phase") == "Hiding"
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


def writes_of(small: Small) -> list[Write]:
    """Give what the operator has written for the session: people's deeds, the kubelet's and shared objects aside."""
    kinds = {
        "VolatileRSEClass",
        "RucioConnection",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Deployment",
        "Namespace",
    }
    return [
        write
        for write in small.cluster.journal
        if write.ref.kind not in kinds
        and not write.ref.name.startswith("drain-")
        and write.ref.namespace != "ops"
        and not (write.verb == "create" and write.ref == REQUEST)
        and not (write.verb == "delete" and write.ref == REQUEST)
        and not (write.verb == "merge" and write.ref.kind == "Pod")
        and write.ref.name != "job"
    ]


def test_a_session_writes_what_counts_and_no_more() -> None:
    small = Small(inputs=0)
    small.use_memory()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.write("kept/a", "kept/b")
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.end_pod()
    small.until(small.is_closed)
    small.delete()
    small.until(lambda: small.is_gone)
    assert len(writes_of(small)) <= 32, writes_of(small)
    assert len(small.cluster.events) <= 5, small.cluster.events


def test_a_session_that_leaves_nothing_takes_twenty_five_writes_with_its_events() -> None:
    small = Small(inputs=0)
    small.use_memory()
    small.request()
    small.until(small.has_session)
    for _ in range(15):
        small.step()
    small.delete()
    small.until(lambda: small.is_gone and small.is_closed())
    assert len(writes_of(small)) + len(small.cluster.events) <= 25, writes_of(small)


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
