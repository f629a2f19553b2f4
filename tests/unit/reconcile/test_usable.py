"""When a session may begin, and what is said while it may not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_buffer import FakeEndpoints
from volatile_rse.api.agent import DAVS_PORT, ROOT_PORT
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


@pytest.mark.parametrize("skew", [-2, 2, -239, 539])
def test_clocks_that_are_a_little_apart_do_no_harm(skew: int) -> None:
    small = Small()
    small.buffer.skew = timedelta(seconds=skew)
    small.request()
    small.until(small.has_session)
    assert "clock" not in small.message
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.end_pod()
    small.until(lambda: "sealed" in small.truth.get("steps", {}))


@pytest.mark.parametrize(("skew", "side"), [(-303, "behind"), (602, "ahead of")])
def test_a_clock_that_is_far_off_is_named_until_it_is_set_right(skew: int, side: str) -> None:
    small = Small()
    small.buffer.skew = timedelta(seconds=skew)
    small.request()
    small.until(lambda: small.condition("Usable").get("reason") == "ClockSkew")
    for _ in range(12):
        small.step()
    for condition in ("Usable", "Ready"):
        assert small.condition(condition)["reason"] == "ClockSkew"
        assert f" s {side} the operator's" in small.condition(condition)["message"]
        assert "ADMIN must act: Set the clocks" in small.condition(condition)["message"]
    assert not small.has_session()
    small.buffer.skew = timedelta()
    small.until(small.has_session)
    assert "clock" not in small.message


def test_a_clock_that_goes_wrong_in_the_session_holds_its_fence_and_says_so() -> None:
    small = Small()
    small.begin()
    small.write("kept/a")
    small.buffer.skew = timedelta(hours=-1)
    small.until(lambda: small.condition("Usable").get("reason") == "ClockSkew")
    small.end_pod()
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "ClockSkew")
    small.buffer.skew = timedelta()
    small.until(lambda: small.is_kept("kept/a"))


def test_a_clock_that_nobody_needs_is_not_spoken_of() -> None:
    """What is sealed needs no token of the buffer's any more."""
    small = Small()
    small.begin()
    small.write("kept/a")
    small.fail_copies(1000)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.buffer.skew = timedelta(hours=-1)
    for _ in range(5):
        small.step()
    assert "clock" not in small.message


@pytest.mark.parametrize("side", ["inside", "outside"])
@pytest.mark.parametrize("protocol", ["davs", "root"])
def test_a_session_waits_for_each_door_and_is_told_which_one_is_shut(side: str, protocol: str) -> None:
    """ROOT reads by root alone, and copies go by davs."""
    small = Small()
    small.request()
    small.until(lambda: small.record.get("spec", {}).get("public"))
    public = small.record["spec"]["public"]
    doors = {"inside": {"davs": DAVS_PORT, "root": ROOT_PORT}}
    doors["outside"] = {"davs": public["davsPort"], "root": public["rootPort"]}
    port = doors[side][protocol]
    small.buffer.shut[port] = "Connection refused"
    small.until(lambda: small.condition("Usable").get("reason") == "ReadFailed")
    scheme = "https" if protocol == "davs" else protocol
    host = "buffers.example.org" if side == "outside" else f"vrse-{small.record_id}.bufs.svc"
    assert f"{scheme}://{host}:{port} got no answer: Connection refused" in small.condition("Usable")["message"]
    assert not small.has_session()
    del small.buffer.shut[port]
    small.until(small.has_session)
    assert "by https and by root" in small.condition("Usable")["message"]
