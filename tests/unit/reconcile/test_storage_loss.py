from __future__ import annotations

from tests.unit.reconcile.small_world import Small
from volatile_rse.domain import effects as do


def running() -> Small:
    small = Small()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
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


def test_a_server_that_answered_nobody_is_told_of() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    assert "answered nobody" not in small.condition("StorageReady")["message"]
    small.buffer.xrootd_restarts = 2
    small.until(lambda: "answered nobody: 2." in small.condition("StorageReady")["message"])
