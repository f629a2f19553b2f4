"""A VolatileRSE that is over is deleted by itself where it asks for that, and never while anything is at risk."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.unit.reconcile.scenarios import FILES
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import record_name
from volatile_rse.builders.session import store_path
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.reconciler import Reconciler

STEPS = 60


def over(ttl: object = "30s", *paths: str, **spec: object) -> Small:
    """Have a session that is over, and wrote."""
    small = Small()
    small.request(**({} if ttl is None else {"ttlAfterFinished": ttl}), **spec)
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*(paths or FILES))
    small.end_pod()
    return small


def stays(small: Small) -> None:
    for _ in range(STEPS):
        small.step()
        assert not small.is_gone
    assert not [effect for effect in small.applied if isinstance(effect, do.DeleteRequest)]


def test_it_goes_when_its_time_is_over_and_its_record_remains() -> None:
    small = over()
    small.until(small.is_closed)
    assert not small.is_gone
    small.until(lambda: small.is_gone)
    assert timedelta(seconds=30) <= small.clock.now() - small.moment("safeAt") <= timedelta(seconds=33)
    assert small.truth["outcome"]["files"] == 2
    assert small.is_kept(*FILES)
    assert small.leftovers() == []


def test_however_short_the_time_it_stays_until_the_storage_is_freed() -> None:
    small = over("1s")
    small.until(lambda: small.is_gone)
    assert small.truth.get("freedAt")
    small.until(small.is_closed)
    assert small.is_kept(*FILES)


def test_unset_it_stays() -> None:
    small = over(None)
    small.until(small.is_closed)
    stays(small)


def test_it_is_looked_at_again_by_then() -> None:
    """No event comes, and a sweep only each minute."""
    small = over("12m")
    small.until(small.is_closed)
    due = (small.moment("safeAt") + timedelta(minutes=12) - small.clock.now()).total_seconds()
    wake = Reconciler(small.world()).visit(small.record_id, ("alice", REQUEST.name))
    assert wake == due


@pytest.mark.parametrize("wrong", [None, "soon", 7, "", "-3h"])
def test_what_is_no_duration_deletes_nothing(wrong: object) -> None:
    """As somebody has stored it past the API server's rules."""
    small = over("40s")
    small.until(small.is_closed)
    with small.cluster.unchecked(REQUEST) as body:
        body["spec"]["ttlAfterFinished"] = wrong
    stays(small)


def test_it_may_be_set_and_changed_when_all_is_over() -> None:
    small = over(None)
    small.until(small.is_closed)
    small.patch(REQUEST, ttlAfterFinished="1h")
    stays(small)
    small.patch(REQUEST, ttlAfterFinished="1s")
    small.until(lambda: small.is_gone, steps=3)


def test_taken_back_in_the_last_moment() -> None:
    """Before any event of that has come: it is decided upon what the API server says now."""
    small = over("40s")
    small.until(small.is_closed)
    small.clock.turn(timedelta(minutes=1))
    follow = small._follow

    def late(reconciler: Reconciler) -> None:
        follow(reconciler)
        small.patch(REQUEST, ttlAfterFinished=None)

    small._follow = late  # type: ignore[method-assign]
    small.visit()
    assert not small.is_gone


def test_outputs_in_quarantine_keep_it() -> None:
    small = over("1s", teardown={"deadline": "5s"})
    small.fail_copies(steps=STEPS * 3)
    small.until(lambda: small.truth.get("quarantinedAt"))
    stays(small)


def test_a_loss_that_nobody_has_acknowledged_keeps_it() -> None:
    small = over("1s")
    small.fail_copies(steps=8)
    small.until(lambda: any(did.name.startswith("out.") for did in small.catalogue.registered(small.ledger)))
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"))
    stays(small)
    assert "no discard has acknowledged that" in small.message


def discarded(small: Small) -> None:
    small.fail_copies(steps=STEPS * 3)
    small.until(lambda: small.truth["phase"] == "Keeping")
    small.given_up = FILES
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})


def nothing(_small: Small) -> None:
    pass


@pytest.mark.parametrize(
    ("happens", "outcome"), [(discarded, "discarded"), (nothing, "outcome")], ids=["discarded", "safe"]
)
def test_what_was_discarded_is_over_likewise(happens: Callable[[Small], None], outcome: str) -> None:
    small = over("20s")
    happens(small)
    small.until(lambda: small.is_gone, steps=200)
    assert small.truth[outcome]["files"] == 2


@pytest.mark.parametrize("why", ["NobodyCame", "InputsLate"])
def test_what_never_began_is_over_likewise(why: str) -> None:
    small = Small(inputs=1)
    late = {"name": "in", "did": "user.alice:in", "deadline": "5s", "onDeadline": "Fail"}
    if why == "InputsLate":
        small.unreadable = {store_path(Did("user.alice", "in.0")): "HTTP 503"}
        small.request(inputs=[late], ttlAfterFinished="20s")
    else:
        small.request(session={"startTimeout": "3s"}, ttlAfterFinished="20s")
    small.until(lambda: small.is_gone, steps=200)
    assert small.truth["session"]["endReason"] == why


def test_a_loss_that_nobody_has_acknowledged_is_not_deleted_with_it() -> None:
    small = over("1s")
    with small.cluster.unchecked(small_record(small)) as body:
        body["status"]["losses"] = [small.cluster.stamp()]
    small.until(lambda: small.truth.get("freedAt"))
    stays(small)


def test_an_output_that_took_nothing_is_told_and_not_deleted() -> None:
    small = over("1s", "other/a")
    small.until(small.is_closed)
    assert small.truth["outcome"]["empty"] == ["kept"]
    stays(small)


def test_a_deletion_that_is_refused_holds_no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    small = over("1s")
    delete = small.cluster.delete

    def refusing(ref: Ref, uid: str) -> object:
        if ref == REQUEST:
            raise RefusedError(Reason.CLUSTER_REFUSED, "The API server refused DELETE VolatileRSE: 403")
        return delete(ref, uid)

    monkeypatch.setattr(small.cluster, "delete", refusing)
    small.until(lambda: small.truth.get("closedAt"), 300)
    assert "403" in small.message
    monkeypatch.undo()
    small.until(lambda: small.is_gone)


def small_record(small: Small) -> Ref:
    return Ref("RSERecord", None, record_name(small.record_id))
