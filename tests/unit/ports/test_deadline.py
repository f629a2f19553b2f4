from __future__ import annotations

import contextvars
import threading
from contextlib import ExitStack

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.ports import deadline
from volatile_rse.ports.errors import UnreachableError

FOR_EVER = float("inf")


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    made = Seconds()
    monkeypatch.setattr(deadline, "monotonic", made)
    return made


NESTED = {
    "none": ([], FOR_EVER),
    "one": ([("within", 60)], 60),
    "the earlier one is within": ([("within", 60), ("within", 5)], 5),
    "the earlier one is around": ([("within", 5), ("within", 60)], 5),
    "some are spared": ([("within", 60), ("sparing", 15)], 45),
    "more are spared than there are": ([("within", 10), ("sparing", 15)], 0),
    "of no end nothing is to spare": ([("sparing", 15)], FOR_EVER),
    "fewer are left than needed": ([("within", 5), ("at_least", 10)], 10),
    "more are left than needed": ([("within", 60), ("at_least", 10)], 60),
    "what has no end has enough": ([("at_least", 10)], FOR_EVER),
    "what must be said has its end, too": ([("within", 5), ("at_least", 10), ("within", 3)], 3),
}


@pytest.mark.parametrize("case", NESTED)
def test_what_is_left(seconds: Seconds, case: str) -> None:
    nested, expected = NESTED[case]
    with ExitStack() as stack:
        for name, amount in nested:
            stack.enter_context(getattr(deadline, name)(amount))
        assert deadline.left() == expected
        assert deadline.left(4) == min(expected, 4)
        seconds.now += 2
        assert deadline.left() == max(expected - 2, 0)
        seconds.now += 100
        assert deadline.left() in {0, FOR_EVER}
    assert deadline.left() == FOR_EVER


def test_what_was_missed_is_known_to_all_that_it_was_within() -> None:
    with deadline.within(60) as outer, deadline.sparing(5) as inner:
        with deadline.within(1) as other:
            pass
        assert "time of this visit" in str(deadline.missed())
    assert (outer.missed, inner.missed, other.missed) == (True, True, False)


def test_it_is_the_thread_s_own_and_can_be_handed_down() -> None:
    found: list[float] = []

    def look() -> None:
        found.append(deadline.left())

    with deadline.within(60):
        context = contextvars.copy_context()
        for run in (look, lambda: context.run(look)):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    assert found[0] == FOR_EVER
    assert found[1] <= 60


def test_nobody_waits_for_a_lock_beyond_the_time_that_is_left() -> None:
    lock = threading.Lock()
    with deadline.within(60), deadline.held(lock, Reason.CLUSTER_UNREACHABLE, "Another is admitted"):
        assert lock.locked()
        with (
            deadline.within(0.05) as short,
            pytest.raises(UnreachableError, match=r"Another is admitted: the time of this visit") as raised,
            deadline.held(lock, Reason.CLUSTER_UNREACHABLE, "Another is admitted"),
        ):
            pytest.fail("two hold it")
    assert raised.value.reason is Reason.CLUSTER_UNREACHABLE
    assert short.missed
    assert not lock.locked()
    with deadline.held(lock, Reason.CLUSTER_UNREACHABLE, "nobody"):
        assert lock.locked()
