"""How far clocks may be apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.clocks import problem_of_skew, skew_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNIX = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("told", "took", "skew"),
    [
        (0, 0, 0),
        (1, 0, 0),
        (-1, 0, 0),
        (2, 0, 1),
        (-2, 0, -1),
        (400, 0, 399),
        (-400, 0, -399),
        # The answer was awaited: nobody knows when it was written.
        (10, 10, 0),
        (0, 10, 0),
        (20, 10, 9),
        (-5, 10, -4),
        ((1 << 63) - 1 - UNIX, 0, (1 << 63) - 2 - UNIX),
    ],
)
def test_a_skew_is_what_two_clocks_must_be_apart_at_least(told: int, took: int, skew: int) -> None:
    assert skew_of(UNIX + told, NOW, NOW + timedelta(seconds=took)) == skew


@pytest.mark.parametrize("skew", [0, 2, -2, -240, 540])
def test_clocks_that_are_near_enough_are_no_problem(skew: int) -> None:
    assert problem_of_skew("vrse-a", skew) is None


@pytest.mark.parametrize(
    ("skew", "said"),
    [(-241, "241 s behind the operator's"), (541, "541 s ahead of the operator's"), (1 << 62, "ahead of the operator")],
)
def test_clocks_that_are_too_far_apart_are_named(skew: int, said: str) -> None:
    problem = problem_of_skew("vrse-a", skew)
    assert problem is not None
    assert problem.reason is Reason.CLOCK_SKEW
    assert said in problem.message
    assert "pod vrse-a" in problem.message
    assert "ADMIN must act" in problem.message
