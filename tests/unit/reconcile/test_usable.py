"""When a session may begin, and what is said while it may not."""

from __future__ import annotations

from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.builders.objects import hosts_of, name_of
from volatile_rse.domain.facts import Piece


def test_an_endpoint_that_does_not_answer_at_first_is_no_fault_and_one_that_stays_silent_is() -> None:
    """Services lead to a pod a moment after it is ready; a wrong public host never answers."""
    small = Small(inputs=0)
    world = small.world

    def half_open() -> object:
        made = world()
        inside = hosts_of(small.settings, name_of(small.record_id, Piece.SERVICE))[0]
        object.__setattr__(made, "endpoints", FakeEndpoints({inside: small.buffer}))
        return made

    small.world = half_open  # type: ignore[method-assign, assignment]
    small.request()
    for _ in range(6):
        small.step()
    assert small.condition("Usable")["reason"] == "InProgress"
    assert not [event for event in small.cluster.events if event.type_ == "Warning"]
    small.until(lambda: small.condition("Usable").get("reason") == "ReadFailed")
    assert "buffers.example.org" in small.condition("Usable")["message"]
    assert "ADMIN must act" in small.condition("Usable")["message"]
    assert not small.has_session()
    small.world = world  # type: ignore[method-assign]
    small.forget()
    small.until(small.has_session)
