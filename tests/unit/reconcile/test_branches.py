from __future__ import annotations

import os
import signal

import pytest

from tests.unit.reconcile.branches import Branches


def play(*ends: str) -> tuple[Branches, list[str]]:
    """Go on from each of some moments, to an end of its kind."""
    branches, seen = Branches(), []
    with branches.played():
        for end in ends:
            seen.append(end)
            if not branches.is_branch and branches.starts(end):
                if end == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                assert end != "bad", f"after {seen}"
        assert not branches.is_branch or seen[-1] == ends[-1], "a branch goes on to the end"
    return branches, seen


def test_what_ends_well_is_counted_and_leaves_nothing() -> None:
    branches, seen = play("one", "two", "three")
    assert (branches.plans, branches.failures, seen) == (3, [], ["one", "two", "three"])
    branches.check()


@pytest.mark.parametrize(("end", "told"), [("bad", "bad: Traceback"), ("killed", "killed: its process ended with 9")])
def test_a_branch_that_ends_badly_is_told_with_its_name(end: str, told: str) -> None:
    branches, _ = play("one", end, "three")
    assert branches.plans == 3
    assert len(branches.failures) == 1
    assert branches.failures[0].startswith(told)
    with pytest.raises(AssertionError, match="1 of 3 plans end badly"):
        branches.check()


def test_what_was_played_before_is_known_to_a_branch() -> None:
    branches, _ = play("one", "two", "bad")
    assert "after ['one', 'two', 'bad']" in branches.failures[0]


def test_what_all_began_in_raises_itself() -> None:
    with pytest.raises(ZeroDivisionError), Branches().played():
        raise ZeroDivisionError
