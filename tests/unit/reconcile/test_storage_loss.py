from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.reconcile.small_world import REQUEST, Killed, Small
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import name_of, record_name
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Facts, Piece
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.gather import reports
from volatile_rse.reconcile.reading import uid_of
from volatile_rse.reconcile.world import World


def running() -> Small:
    small = Small()
    small.begin()
    small.write("kept/a")
    return small


def test_a_lost_volume_is_named_and_the_inputs_come_again() -> None:
    small = running()
    small.buffer.lose_volume()
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "StorageLost")
    assert "USER must act" in small.condition("OutputsSafe")["message"]
    small.until(lambda: small.condition("Usable").get("status") == "True")
    small.write("kept/b")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/b")
    assert "the storage was lost" in small.truth["outcome"]["exceptions"][0]
    assert small.leftovers() == []


def test_a_volume_lost_after_its_inventory_is_fenced_and_listed_again_and_its_rse_stays() -> None:
    small = running()
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.fail_copies(steps=100)
    small.until(lambda: any(isinstance(effect, do.Register) and len(effect.files) == 1 for effect in small.applied))
    small.buffer.lose_volume()
    small.until(lambda: "holds the last copy of user.alice:out." in small.message)
    assert small.catalogue.has_rse(small.rse), "a file whose last copy is lost stays known until somebody decides"
    fences = [effect for effect in small.applied if isinstance(effect, do.Fence)]
    assert len(fences) == 2
    assert (
        "1 output files (6 bytes) that were known and not safe, among them user.alice:out." in small.truth["losses"][0]
    )


def test_a_server_that_answered_nobody_is_told_of() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    assert "answered nobody" not in small.condition("StorageReady")["message"]
    small.buffer.xrootd_restarts = 2
    small.until(lambda: "answered nobody: 2." in small.condition("StorageReady")["message"])


def test_a_claim_that_is_deleted_by_hand_gets_its_volume_again() -> None:
    small = running()
    volume = small.volume
    small.drop(Piece.POD, Piece.VOLUME)
    small.until(lambda: any(isinstance(effect, do.ClaimVolume) for effect in small.applied))
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    assert small.volume == volume
    assert "losses" not in small.truth or not small.truth["losses"]


def test_a_pod_that_is_being_deleted_is_not_deleted_again() -> None:
    small = running()
    ref = Ref("Pod", "bufs", name_of(small.record_id, Piece.POD))
    uid = uid_of(small.cluster.get(ref) or {})
    small.cluster.delete(ref, uid)
    small.applied.clear()
    small.until(lambda: uid_of(small.cluster.get(ref) or {"metadata": {"uid": uid}}) != uid)
    assert not any(isinstance(effect, do.DropPiece) for effect in small.applied)


def test_what_keeps_rucio_from_being_asked_is_told_while_the_list_of_inputs_is_gone_too() -> None:
    small = running()
    small.drop(Piece.INPUTS)
    login = Ref("Secret", "ops", "login")
    small.cluster.delete(login, uid_of(small.cluster.get(login) or {}))
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMissing")
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endedAt"))


def test_a_volume_that_is_gone_with_its_claim_is_replaced_and_its_loss_told() -> None:
    small = running()
    volume = small.cluster.get(Ref("PersistentVolume", None, small.volume))
    small.drop(Piece.POD, Piece.VOLUME)
    small.cluster.delete(Ref("PersistentVolume", None, small.volume), uid_of(volume or {}))
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "StorageLost")
    small.end_pod()
    small.until(small.is_closed)
    assert small.leftovers() == []


def test_a_volume_that_outlives_its_claim_goes_in_the_end() -> None:
    small = running()
    real = small.apply

    def killed(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if isinstance(effect, do.RetainVolume) and not effect.retain:
            raise Killed
        real(world, connections, facts, effect)

    small.apply = killed
    small.end_pod()
    small.until(lambda: small.truth.get("freedAt"))
    small.drop(Piece.VOLUME)
    small.apply = real
    small.until(small.is_closed)
    small.step()
    assert not small.cluster.list("PersistentVolume")


def without_volume(small: Small, *pieces: Piece) -> None:
    """Take the volume away, with its bytes, and objects of the buffer."""
    volume = Ref("PersistentVolume", None, small.volume)
    small.drop(*pieces)
    small.cluster.delete(volume, uid_of(small.cluster.get(volume) or {}))
    small.buffer.lose_volume()


@pytest.mark.parametrize("pieces", [(Piece.POD,), (Piece.POD, Piece.VOLUME)], ids=["its claim stays", "with its claim"])
def test_outputs_whose_volume_is_gone_are_shown_to_nobody_before_any_agent_tells(pieces: tuple[Piece, ...]) -> None:
    small = running()
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.fail_copies(steps=100)
    small.until(lambda: any(did.name.startswith("out.") for did in small.catalogue.registered(small.ledger)))
    without_volume(small, *pieces)
    small.buffer.down = True
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"T"})
    assert small.condition("OutputsSafe")["reason"] == "StorageLost"
    small.buffer.down = False
    small.until(lambda: "holds the last copy of user.alice:out." in small.message)
    assert len(small.truth["losses"]) == 1


def test_a_session_that_runs_hears_of_its_loss_as_its_replicas_are_hidden() -> None:
    small = running()
    without_volume(small, Piece.POD)
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"T"})
    assert small.condition("OutputsSafe")["reason"] == "StorageLost"


def test_a_volume_that_goes_after_its_outputs_are_safe_keeps_nothing_back() -> None:
    small = running()
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert not small.truth.get("freedAt")
    without_volume(small, Piece.POD)
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_pod_that_runs_on_has_what_it_had() -> None:
    small = running()
    volume = Ref("PersistentVolume", None, small.volume)
    small.cluster.delete(volume, uid_of(small.cluster.get(volume) or {}))
    for _ in range(5):
        small.step()
    assert not small.truth.get("losses")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_discard_after_a_loss_gives_up_no_output_that_is_still_there() -> None:
    """All were safe within the last try; what vanishes from its destination then is kept and told."""
    small = running()
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses") and small.condition("Usable").get("status") == "True")
    small.write("kept/b")
    small.fail_copies(steps=25)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.until(lambda: small.truth.get("safeAt"))
    (out,) = [did for did in small.catalogue.registered(small.ledger) if did.name.startswith("out.")]
    small.catalogue.lose("SITE-B", out)
    small.buffer.sites.clear()
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "LastCopy")
    for _ in range(5):
        small.step()
    assert not small.truth.get("discarded")
    assert small.catalogue.replicas(small.rse, small.ledger)[out] == "A"


@pytest.mark.parametrize("listing", ["inputs", "outputs"])
def test_what_nobody_could_list_after_a_loss_stays_where_it_is(listing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = running()
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses") and small.condition("Usable").get("status") == "True")
    small.write("kept/b")
    small.fail_copies(steps=1000)
    small.end_pod()
    small.until(lambda: len(small.catalogue.registered(small.ledger)) == 3)
    small.step()
    before = dict(small.catalogue.replicas(small.rse, small.ledger))

    def silent(*_args: object) -> object:
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, "no answer")

    monkeypatch.setattr(reports if listing == "inputs" else small.buffer, listing, silent)
    for _ in range(3):
        small.step()
    assert set(before.values()) == {"A"}
    assert small.catalogue.replicas(small.rse, small.ledger) == before


def test_what_is_lost_is_shown_to_nobody_while_the_fence_cannot_be_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    small = running()
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.fail_copies(steps=1000)
    small.until(lambda: any(did.name.startswith("out.") for did in small.catalogue.registered(small.ledger)))

    def silent(*_args: object) -> bool:
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, "no answer")

    with monkeypatch.context() as patch:
        patch.setattr(FakeEndpoints, "can_write", silent)
        small.buffer.lose_volume()
        small.until(lambda: small.truth.get("losses"))
        lost = small.clock.now()
        small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"T"})
        assert small.clock.now() - lost < timedelta(seconds=10)
        assert small.truth["phase"] == "Fencing"
    small.until(lambda: "holds the last copy of user.alice:out." in small.message)


def test_what_was_published_after_a_loss_stays_in_sight_and_is_told_as_safe_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Small()
    small.publish_and_keep("kept/a")
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses") and small.condition("Usable").get("status") == "True")
    small.buffer.publish(small.uid, "kept/b", b"kept/b")
    small.until(lambda: small.is_kept("kept/a", "kept/b"))
    small.until(lambda: told(small)["safe"] == 1)
    before = dict(small.catalogue.replicas(small.rse, small.ledger))
    monkeypatch.setattr(FakeEndpoints, "can_write", lambda *_args: True)
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endedAt"))
    for _ in range(5):
        small.step()
    assert small.truth["phase"] == "Fencing"
    assert small.catalogue.replicas(small.rse, small.ledger) == before
    assert told(small)["safe"] == 1


def told(small: Small) -> dict[str, int]:
    """Give what is told of its only output."""
    (entry,) = (small.cluster.get(REQUEST) or {})["status"]["outputs"]
    return dict(entry)


def agent_restarts(small: Small) -> None:
    """Take the object of the volume away, while the agent of a pod that runs is silent for a moment."""
    volume, pod = Ref("PersistentVolume", None, small.volume), Ref("Pod", "bufs", name_of(small.record_id, Piece.POD))
    small.cluster.delete(volume, uid_of(small.cluster.get(volume) or {}))
    small.cluster.set_status(pod, {"conditions": [{"type": "Ready", "status": "False"}]})
    small.buffer.down = True


@pytest.mark.parametrize("lost", [False, True], ids=["its volume is known", "a loss was told of it before"])
def test_a_pod_whose_agent_restarts_has_what_it_had(*, lost: bool) -> None:
    small = running()
    agent_restarts(small)
    if lost:
        told = {"volume": None, "losses": ["then: the storage was lost"], "lostFiles": 0, "lostBytes": 0}
        small.cluster.merge(
            Ref("RSERecord", None, record_name(small.record_id)), {"status": told}, subresource="status"
        )
    small.applied.clear()
    small.visit()
    assert not any(isinstance(effect, do.DropPiece) for effect in small.applied)
    assert len(small.truth.get("losses", ())) == lost
    small.buffer.down = False
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_volume_that_goes_after_its_outputs_are_safe_does_not_make_them_unsafe() -> None:
    small = running()
    small.catalogue.lose("SITE-A", Did("user.alice", "in.0"))
    small.end_pod()
    small.until(lambda: small.condition("Stalled").get("reason") == "LastCopyOfInput")
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"))
    small.step()
    assert "lostFiles" not in small.truth
    assert small.condition("OutputsSafe")["status"] == "True"


def test_what_another_volume_has_is_not_told_before_the_loss_is_written_down() -> None:
    small = running()
    small.until(lambda: told(small)["files"] == 1)
    real = small.apply

    def lost_answer(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if isinstance(effect, do.Remember) and effect.status.losses:
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, "the API server does not answer")
        real(world, connections, facts, effect)

    small.apply = lost_answer
    small.buffer.lose_volume()
    for _ in range(5):
        small.step()
        small.clock.turn(timedelta(minutes=1))
    assert told(small)["files"] == 1
    small.apply = real
    small.until(lambda: small.truth.get("losses"))
    assert small.truth["lostFiles"] == 1


def test_each_loss_counts_and_only_a_discard_of_its_owner_or_an_admin_ends_it() -> None:
    small = running()
    small.may_go = True
    for number in (1, 2):
        small.until(lambda: told(small)["files"] == 1)
        small.buffer.lose_volume()
        small.until(lambda: len(small.truth.get("losses", ())) == number)  # noqa: B023 (called at once)
        small.until(lambda: small.condition("Usable").get("status") == "True")
        small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.condition("Stalled").get("reason") == "StorageLost")
    assert small.truth["lostFiles"] == 2
    assert small.is_kept("kept/a")
    small.delete()
    small.until(lambda: small.is_gone)
    for _ in range(5):
        small.step()
    assert not small.truth.get("freedAt")
    record = Ref("RSERecord", None, record_name(small.record_id))
    small.patch(record, discard={"rse": small.rse, "requestedBy": "admin"})
    small.until(small.is_closed)
    assert small.leftovers() == []


def test_storage_that_is_lost_again_while_a_loss_awaits_its_owner_is_shown_to_nobody() -> None:
    small = running()
    small.until(lambda: told(small)["files"] == 1)
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses") and small.condition("Usable").get("status") == "True")
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"A"})
    small.end_pod()
    small.until(lambda: small.condition("Stalled").get("reason") == "StorageLost")
    small.buffer.lose_volume()
    small.until(lambda: set(small.catalogue.replicas(small.rse, small.ledger).values()) == {"T"})
    assert small.truth["lostFiles"] == 1
    assert small.condition("OutputsSafe")["reason"] == "StorageLost"
