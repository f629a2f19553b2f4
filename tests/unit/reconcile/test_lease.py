from __future__ import annotations

from typing import get_args

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Piece
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile import lease
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.lease import DURATION, SILENCE, Lease, LeaseLostError, guarded, is_destructive


class Processes:
    """Processes of one instance, and their common time."""

    def __init__(self) -> None:
        self.small = Small(inputs=0)
        self.seconds = 0.0
        self.ended: list[str] = []

    def lease(self, holder: str) -> Lease:
        return Lease(
            self.small.cluster, self.small.settings, holder, lambda: self.ended.append(holder), lambda: self.seconds
        )


@pytest.fixture
def processes() -> Processes:
    return Processes()


def test_one_process_works_until_it_is_silent_for_too_long(processes: Processes) -> None:
    first, second = processes.lease("first"), processes.lease("second")
    assert first.acquire()
    for _ in range(3):
        processes.seconds += DURATION - 1
        assert first.acquire()
        assert not second.acquire()
    processes.seconds += DURATION + 1
    assert second.acquire()
    assert not first.acquire()


def test_the_next_container_of_the_same_pod_goes_on_at_once(processes: Processes) -> None:
    assert processes.lease("pod").acquire()
    assert processes.lease("pod").acquire()


def test_a_paused_process_destroys_nothing_after_it_woke(processes: Processes) -> None:
    small, paused = processes.small, processes.lease("paused")
    assert paused.acquire()
    small.request()
    small.until(small.has_session)
    small.delete()
    seen: list[do.Effect] = []

    def decided_then_paused(*args: object) -> None:
        # The plan is made; here the process stands still, and another one takes over.
        seen.append(args[3])  # type: ignore[arg-type]
        if is_destructive(seen[-1]):
            processes.seconds += DURATION + 1
        guarded(execute, paused.check)(*args)  # type: ignore[arg-type]

    small.apply = decided_then_paused
    with pytest.raises(LeaseLostError):
        small.until(small.is_closed)
    assert is_destructive(seen[-1])
    assert seen[-1] not in small.applied
    assert processes.ended == ["paused"]
    assert small.catalogue.has_rse(small.rse)


def test_a_paused_process_makes_nothing_after_it_woke(processes: Processes) -> None:
    """What it made would be left behind: another process may have closed the record meanwhile."""
    small, paused = processes.small, processes.lease("paused")
    assert paused.acquire()
    small.request()
    decided: list[do.Effect] = []

    def decided_then_paused(*args: object) -> None:
        decided.append(args[3])  # type: ignore[arg-type]
        if isinstance(decided[-1], do.EnsureLedger):
            processes.seconds += DURATION + 1
        guarded(execute, paused.check, paused.awake)(*args)  # type: ignore[arg-type]

    small.apply = decided_then_paused
    with pytest.raises(LeaseLostError):
        small.until(small.has_session)
    assert isinstance(decided[-1], do.EnsureLedger)
    assert processes.ended == ["paused"]
    assert not small.catalogue.ledger_exists(small.ledger)


def test_who_was_replaced_is_told_by_the_server_even_if_its_clock_stood_still(processes: Processes) -> None:
    first, second = processes.lease("first"), processes.lease("second")
    assert first.acquire()
    first.check()
    second.acquire()
    processes.seconds += DURATION + 1
    assert second.acquire()
    processes.seconds = 0
    with pytest.raises(LeaseLostError):
        first.check()
    assert processes.ended == ["first"]


def test_a_server_that_is_down_is_borne_as_long_as_the_lease_lives(processes: Processes) -> None:
    lease = processes.lease("pod")
    assert lease.acquire()
    processes.small.cluster.down = True
    processes.seconds += DURATION - 1
    lease.renew()
    with pytest.raises(UnreachableError):
        lease.check()
    assert processes.ended == []
    processes.seconds += 2
    with pytest.raises(LeaseLostError):
        lease.renew()
    assert processes.ended == ["pod"]


def test_a_lease_that_was_given_back_is_free(processes: Processes) -> None:
    first = processes.lease("first")
    first.wait()
    first.release()
    assert processes.lease("second").acquire()


def test_a_lease_that_somebody_has_emptied_is_free_and_a_fault_of_ours_loses_it_in_time(processes: Processes) -> None:
    cluster = processes.small.cluster
    lease = processes.lease("first")
    cluster.create({"apiVersion": "v1", "kind": "Lease", "metadata": {"namespace": "ops", "name": lease.ref.name}})
    lease.saw(cluster.get(lease.ref) or {})
    with pytest.raises(LeaseLostError):
        lease.check()
    assert lease.acquire()
    lease.check()
    cluster.get = lambda _ref: {"metadata": {}}  # type: ignore[method-assign,assignment]
    lease.renew()
    processes.seconds += DURATION + 1
    with pytest.raises(LeaseLostError):
        lease.renew()
    assert processes.ended == ["first", "first"]


def test_what_frees_a_volume_is_destructive_and_what_keeps_it_is_not() -> None:
    assert is_destructive(do.RetainVolume("volume", retain=False))
    assert not is_destructive(do.RetainVolume("volume", retain=True))
    assert is_destructive(do.DropPiece(Piece.POD, "uid"))


def test_every_effect_is_either_destructive_or_known_to_be_harmless() -> None:
    harmless = {
        do.HoldRequest, do.HoldUsed, do.CreateRecord, do.MakePiece, do.MakeDrain, do.IssueSession, do.SendManifest,
        do.Copy, do.EnsureLedger, do.EnsureRse, do.Register, do.EnsureDataset, do.Attach, do.EnsureRule,
        # Written only upon the record as it was when they were decided on.
        do.SetPublic, do.Remember, do.ExtendRecord,
        # What is called so is never another.
        do.FreezeAdded,
        # Nothing rests on it.
        do.TellSession,
        # Each undoes the other.
        do.Suspend, do.Resume,
        # It depends on what it is told, and keeps what there is.
        do.RetainVolume, do.ClaimVolume, do.HoldPod,
    }  # fmt: skip
    assert set(get_args(do.Effect)) - harmless == set(lease._DESTRUCTIVE)
    assert not harmless & set(lease._DESTRUCTIVE)


def test_only_own_renewals_that_succeed_are_awaited_by_the_watch(processes: Processes) -> None:
    first, second = processes.lease("first"), processes.lease("second")
    first.wait()
    processes.seconds += SILENCE
    assert first.is_watched(), "nothing was renewed meanwhile"
    processes.small.cluster.down = True
    with pytest.raises(LeaseLostError):
        first.renew()
    assert first.is_watched(), "nothing could be renewed meanwhile"
    processes.small.cluster.down = False
    first.renew()
    second.saw(processes.small.cluster.get(first.ref) or {})
    assert not first.is_watched()
    first.saw({"spec": {"holderIdentity": "second"}})
    assert first.unseen() == SILENCE
    first.saw(processes.small.cluster.get(first.ref) or {})
    assert first.is_watched()
    assert first.unseen() == 0
