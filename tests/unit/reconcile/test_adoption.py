"""RSEs whose cluster is lost are taken over by an explicit act alone, and only if they are what the admin says."""

from __future__ import annotations

from contextlib import suppress
from itertools import count, groupby

import pytest

from tests.unit.reconcile.judge import ends_well, judge
from tests.unit.reconcile.scenarios import FILES, comes_and_goes
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_cluster import play_controllers
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import RECORD, record_name
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import LedgerOwner
from volatile_rse.domain.facts import Facts
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.adoption import Adoption, adopt
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.holding import is_held, release_unused
from volatile_rse.reconcile.orphans import OBJECTS, orphans_of
from volatile_rse.reconcile.world import World

USED = (Ref("VolatileRSEClass", None, "standard"), Ref("RucioConnection", None, "rucio"))


class ClusterLost(BaseException):
    """It takes the operator along: nothing may catch this."""


def with_session() -> Small:
    small = Small()
    small.request()
    small.until(small.has_session)
    return small


def lost_after(writes: int) -> tuple[Small, str]:
    """Have a session whose cluster is lost with one of the operator's single writes to Rucio."""
    small = Small()
    small.catalogue.die_after(writes, ClusterLost())
    with suppress(ClusterLost):
        comes_and_goes(small)
    return small, small.lose_cluster()


def told(small: Small, instance: str) -> str:
    """Give what is listed of the one RSE that an instance has left."""
    (orphan,) = orphans_of(small.world(), Connections(small.world()), instance)
    assert orphan.record_id == small.record_id
    return orphan.what.rpartition("; ")[2]


def judged(small: Small) -> None:
    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        judge(small, effect)
        execute(world, connections, facts, effect)

    small.apply = apply


def refusal(small: Small, instance: str, reason: Reason = Reason.FOREIGN_OBJECT) -> str:
    before = len(small.catalogue.journal), len(small.cluster.journal)
    with pytest.raises(RefusedError) as refused:
        small.adopt(instance)
    assert refused.value.reason is reason
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


def test_what_this_operator_itself_has_left_is_not_taken_in_anothers_name() -> None:
    small, lost = lost_after(3)
    small.catalogue.die_after(1, ClusterLost())
    with suppress(ClusterLost):
        small.adopt(lost)
    assert f"belongs to {small.settings.instance!r}, not to 'test.another'" in refusal(small, "test.another")
    small.adopt(small.settings.instance)
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
    small.catalogue.die_after(1, ClusterLost())
    with pytest.raises(ClusterLost):
        small.adopt(lost)
    assert not small.record
    assert told(small, small.settings.instance) == f"RSE {small.rse}"
    small.adopt(lost)
    small.until(small.is_closed)
    ends_well(small)


def test_the_second_to_take_it_over_is_refused() -> None:
    small = with_session()
    lost = small.lose_cluster()
    small.adopt(lost)
    small.lose_cluster()
    assert "belongs to" in refusal(small, lost)


def test_who_took_it_over_may_be_lost_as_well() -> None:
    small = with_session()
    first = small.lose_cluster()
    for lost in (first, small.settings.instance):
        small.adopt(lost)
        small.lose_cluster()
    second = small.catalogue.ledgers_of("vrse", small.record_id)[small.ledger]
    small.adopt(second.instance)
    assert small.record["spec"]["adoptedFrom"] == first, "the RSE bears for good the mark of who made it"
    small.until(small.is_closed)
    ends_well(small)


def test_what_is_not_what_the_admin_says_is_left_alone() -> None:
    small = with_session()
    assert "is no orphan" in refusal(small, small.settings.instance)
    lost = small.lose_cluster()
    assert f"belongs to {lost!r}, not to 'test.another'" in refusal(small, "test.another")
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


def test_whatever_write_was_the_last_one_it_is_listed_and_brought_to_its_end() -> None:
    """Every moment of the making and of the removal, by the catalogue's own writes."""
    seen: list[str] = []
    discards = 0
    for writes in count(1):
        small, lost = lost_after(writes)
        if small.catalogue.awaits_death:
            break
        try:
            seen.append(told(small, lost).replace(small.rse, "X"))
            discards += ended(small, lost)
        except BaseException as error:
            error.add_note(f"write {writes} was the last one, and it was told: {seen[-1:]}")
            raise
    absent, half, whole = "no RSE X", "RSE X, half made or half removed", "RSE X"
    assert [kind for kind, _ in groupby(seen)] == [absent, half, whole, half, absent]
    assert 0 < discards < len(seen)


def ended(small: Small, lost: str) -> bool:
    """Take it over, and look at its end; tell whether somebody had to give up what was nowhere else."""
    small.adopt(lost)
    judged(small)
    small.until(lambda: small.is_closed() or "holds the last copy" in small.message)
    is_last_copy = not small.is_closed()
    if is_last_copy:
        replicas = small.catalogue.replicas(small.rse, small.ledger)
        assert set(replicas.values()) == {"T"}, "people are sent to what is lost, or files vanish from Rucio"
        small.given_up = FILES
        consent = {"discard": {"rse": small.rse, "requestedBy": "admin"}}
        small.patch(Ref("RSERecord", None, record_name(small.record_id)), **consent)
        small.until(small.is_closed)
    ends_well(small)
    assert orphans_of(small.world(), Connections(small.world()), lost) == ()
    return is_last_copy


def test_without_a_class_the_ledger_is_listed_all_the_same() -> None:
    small, lost = lost_after(1)
    ref = Ref("VolatileRSEClass", None, "standard")
    small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    assert told(small, lost).startswith(f"ledger {small.ledger} ")
    assert "does not exist" in refusal(small, lost, Reason.UNKNOWN_CLASS)


def test_a_class_whose_names_cannot_be_names_nothing() -> None:
    small, lost = lost_after(2)
    small.patch(Ref("VolatileRSEClass", None, "standard"), naming={"rse": "VRSE-{who}"})
    assert told(small, lost).startswith(f"ledger {small.ledger} ")
    assert "VRSE-{who}" in refusal(small, lost, Reason.NAMING_INVALID)


@pytest.mark.parametrize("owner", ["", "test.another"], ids=["permanent", "another operator's"])
def test_an_rse_that_is_not_what_its_ledger_says_is_left_alone(owner: str) -> None:
    small, lost = lost_after(1)
    if owner:
        small.catalogue.add_half_made(small.rse, owner)
    else:
        small.catalogue.add_permanent(small.rse, "se.example.org")
    refusal(small, lost)
    assert small.catalogue.has_rse(small.rse)


def test_an_rse_whose_ledger_is_gone_is_nobodys() -> None:
    small = with_session()
    lost = small.lose_cluster()
    small.catalogue.expire_ledger(small.ledger)
    small.catalogue.run_daemons()
    assert "exactly one must be" in refusal(small, lost)


def test_two_ledgers_of_one_record_are_for_a_person_to_look_at() -> None:
    small = with_session()
    lost = small.lose_cluster()
    another = type(small.ledger)("vrse", "another")
    small.catalogue.ensure_ledger(another, LedgerOwner(lost, small.record_id))
    what = refusal(small, lost)
    assert str(another) in what
    assert str(small.ledger) in what


def test_replicas_that_the_reaper_cannot_reach_are_told() -> None:
    small = with_session()
    lost = small.lose_cluster()
    small.catalogue.lose_doors(small.rse)
    assert "2 replicas are on it" in refusal(small, lost)


def test_class_and_connection_are_held_before_there_is_a_record() -> None:
    small = with_session()
    small.adopt(small.lose_cluster())
    for ref in USED:
        small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    assert all(is_held(small.cluster.get(ref) or {"metadata": {}}) for ref in USED), "it went before the sweep came"
    small.until(small.is_closed)
    release_unused(small.cluster, small.cluster.list("RSERecord"))
    assert not any(small.cluster.get(ref) for ref in USED)


@pytest.mark.parametrize("ref", USED, ids=lambda ref: ref.kind)
def test_nothing_is_adopted_by_what_cannot_be_read(ref: Ref) -> None:
    small = with_session()
    lost = small.lose_cluster()
    small.cluster.merge(ref, {"spec": {"colour": "blue"}})
    with pytest.raises(RefusedError, match=r"cannot be read: spec\.colour"):
        small.adopt(lost)


@pytest.mark.parametrize("ref", USED, ids=lambda ref: ref.kind)
def test_what_is_being_deleted_takes_nothing_over(ref: Ref) -> None:
    small = with_session()
    lost = small.lose_cluster()
    small.cluster.merge(ref, {"metadata": {"finalizers": ["example.org/theirs"]}})
    small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    with pytest.raises(RefusedError, match="being deleted"):
        small.adopt(lost)
    assert not small.record
    assert told(small, lost) == f"RSE {small.rse}", "it is not ours yet"
