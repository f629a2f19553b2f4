from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.scenarios import FILES
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.builders.objects import record_name
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.world import World


def _secret(small: Small) -> None:
    metadata = {"namespace": "alice", "name": "run-vrse"}
    small.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"own": "thing"}})


def test_a_secret_of_the_users_own_is_neither_changed_nor_deleted() -> None:
    small = Small()
    _secret(small)
    before = small.cluster.get(Ref("Secret", "alice", "run-vrse"))
    small.request()
    for _ in range(12):
        small.step()
    assert "run-vrse" in small.message
    small.delete()
    small.until(small.is_closed)
    assert small.cluster.get(Ref("Secret", "alice", "run-vrse")) == before


def test_a_secret_that_took_the_place_of_the_sessions_is_not_deleted() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    ref = Ref("Secret", "alice", "run-vrse")
    small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    _secret(small)
    small.delete()
    small.until(small.is_closed)
    assert small.cluster.get(ref) is not None


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_what_takes_their_place_between_look_and_deed_is_not_deleted(kind: str) -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    ref = Ref(kind, "alice", "run-vrse")

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if isinstance(effect, do.RevokeSession) and is_ours():
            small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
            metadata = {"namespace": "alice", "name": "run-vrse"}
            small.cluster.create({"apiVersion": "v1", "kind": kind, "metadata": metadata})
        execute(world, connections, facts, effect)

    def is_ours() -> bool:
        return "volatilerse.io/record" in ((small.cluster.get(ref) or {})["metadata"].get("labels") or {})

    assert is_ours()
    small.apply = apply
    small.delete()
    small.until(small.is_closed)
    assert small.cluster.get(ref) is not None
    assert not is_ours()


def test_a_record_of_another_instance_is_not_touched() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    small.cluster.merge(Ref("RSERecord", None, record_name(small.record_id)), {"spec": {"instance": "other"}})
    small.applied.clear()
    small.delete()
    for _ in range(5):
        small.step()
    assert small.applied == []


def test_a_fence_is_proven_by_a_write_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    small.end_pod()

    def can_write(_self: FakeEndpoints, *_args: Any) -> bool:
        return True

    with monkeypatch.context() as patch:
        patch.setattr(FakeEndpoints, "can_write", can_write)
        for _ in range(12):
            small.step()
        assert small.truth["phase"] == "Fencing"
        assert "can write" in small.message
    small.until(small.is_closed)
    assert small.is_kept(*FILES)
    assert small.cluster.get(REQUEST)
