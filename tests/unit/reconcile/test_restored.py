"""Rucio's database is set back to an earlier state, when the outputs of a session were safe already."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.domain import effects as do


def restored(small: Small, *, forgotten: bool) -> None:
    """Have a session whose outputs are safe, and a Rucio that knows nothing of it."""
    before = small.catalogue.backup()
    small.begin()
    small.write("kept/a", "kept/b")
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    small.catalogue.restore(before)
    if forgotten:
        small.forget()


@pytest.mark.parametrize("forgotten", [False, True], ids=["the RSE is remembered", "by a new process"])
def test_what_the_destination_has_lost_is_told_and_its_storage_stands(*, forgotten: bool) -> None:
    small = Small()
    restored(small, forgotten=forgotten)
    sites, small.buffer.sites = small.buffer.sites, {}
    before = len(small.applied)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "CatalogueReverted")
    said = small.condition("OutputsSafe")["message"]
    assert "user.alice:out." in said
    assert "ADMIN must act" in said
    assert small.condition("Ready")["status"] == "False"
    for _ in range(10):
        small.step()
    assert not small.truth.get("freedAt")
    assert not any(isinstance(effect, do.Attach) for effect in small.applied[before:])
    small.buffer.sites = sites
    small.until(small.is_closed)
    assert small.is_kept("kept/a", "kept/b")


def test_nothing_is_freed_while_the_agent_does_not_say_what_there_was() -> None:
    small = Small()
    restored(small, forgotten=True)
    small.buffer.down = True
    for _ in range(10):
        small.step()
    assert not small.truth.get("freedAt")
    small.buffer.down = False
    small.until(small.is_closed)
    assert small.is_kept("kept/a", "kept/b")


def test_a_replica_that_rucio_alone_has_lost_is_registered_again_and_the_buffer_goes() -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert not small.truth.get("freedAt")
    (out,) = [did for did in small.catalogue.registered(small.ledger) if did.name.startswith("out.")]
    small.catalogue.lose("SITE-B", out)
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    small.until(lambda: "registered again" in small.condition("OutputsSafe")["message"])
