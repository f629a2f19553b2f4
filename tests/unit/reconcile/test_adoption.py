"""RSEs whose cluster is lost are taken over by an explicit act alone, and only if they are what the admin says."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.judge import ends_well
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_cluster import play_controllers
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import RECORD, record_name
from volatile_rse.domain.catalogue import LedgerOwner
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.adoption import Adoption, adopt
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.orphans import OBJECTS, orphans_of


def with_session() -> Small:
    small = Small()
    small.request()
    small.until(small.has_session)
    return small


def refusal(small: Small, instance: str) -> str:
    before = len(small.catalogue.journal), len(small.cluster.journal)
    with pytest.raises(RefusedError) as refused:
        small.adopt(instance)
    assert refused.value.reason is Reason.FOREIGN_OBJECT
    assert (len(small.catalogue.journal), len(small.cluster.journal)) == before
    return refused.value.what


def test_what_has_copies_elsewhere_ends_without_a_word() -> None:
    small = with_session()
    lost = small.lose_cluster()
    connections = Connections(small.world())
    assert orphans_of(small.world(), connections, small.settings.instance) == ()
    assert [orphan.record_id for orphan in orphans_of(small.world(), connections, lost)] == [small.record_id]
    small.adopt(lost)
    assert orphans_of(small.world(), connections, lost) == (), "two must not believe to have it"
    assert orphans_of(small.world(), connections, small.settings.instance) == ()
    old = small.record["spec"]["public"]
    small.until(lambda: small.truth.get("freedAt"))
    ports = {port["nodePort"] for port in small.cluster.list("Service", "bufs")[0]["spec"]["ports"]}
    assert ports == {old["rootPort"], old["davsPort"]}, "the reaper asks where the RSE says"
    small.until(small.is_closed)
    ends_well(small)


def test_a_session_of_the_same_name_is_another_one() -> None:
    small = with_session()
    adopted = small.record_id
    small.adopt(small.lose_cluster())
    small.request()
    assert small.record_id != adopted
    small.until(small.has_session)


def test_it_may_be_repeated_after_a_crash() -> None:
    small = with_session()
    lost = small.lose_cluster()
    ours = LedgerOwner(small.settings.instance, small.record_id)
    small.catalogue.take_ledger(small.ledger, LedgerOwner(lost, small.record_id), ours)
    small.adopt(lost)
    small.until(small.is_closed)


def test_the_second_to_take_it_over_is_refused() -> None:
    small = with_session()
    lost = small.lose_cluster()
    small.adopt(lost)
    small.lose_cluster()
    assert "belongs to" in refusal(small, lost)


def test_what_is_not_what_the_admin_says_is_left_alone() -> None:
    small = with_session()
    assert "is no orphan" in refusal(small, small.settings.instance)
    lost = small.lose_cluster()
    assert f"{lost!r} made it" in refusal(small, "test.another")
    small.record_id = "nobodys"
    assert "does not exist" in refusal(small, lost)


def test_a_buffer_that_is_still_here_is_not_given_up() -> None:
    small = with_session()
    ref = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(ref, {"metadata": {"finalizers": None}})
    small.cluster.delete(ref, small.record["metadata"]["uid"])
    assert "its buffer is still here" in refusal(small, small.settings.instance)


def test_the_volume_that_a_lost_record_left_is_nobodys_to_give_up() -> None:
    small = with_session()
    small.cluster.merge(Ref("VolatileRSE", "alice", "run"), {"metadata": {"finalizers": None}})
    small.cluster.delete(Ref("VolatileRSE", "alice", "run"), small.uid)
    ref = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(ref, {"metadata": {"finalizers": None}})
    small.cluster.delete(ref, small.record["metadata"]["uid"])
    for kind in OBJECTS:
        for body in small.cluster.list(kind, "bufs", {RECORD: small.record_id}):
            small.cluster.delete(Ref(kind, "bufs", body["metadata"]["name"]), body["metadata"]["uid"])
    play_controllers(small.cluster)
    small.adopt(small.settings.instance)
    small.until(small.is_closed)
    assert small.kept_volumes(), "what was written and not sealed went without a word"


def test_a_permanent_rse_cannot_be_taken() -> None:
    small = with_session()
    lost = small.lose_cluster()
    with pytest.raises(RefusedError, match="is no operator's"):
        adopt(small.world(), Connections(small.world()), Adoption("SITE-A", lost, "standard"))
