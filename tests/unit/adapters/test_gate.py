from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from volatile_rse.adapters.gate import Gate
from volatile_rse.api.rucioconnection import Budget
from volatile_rse.ports import deadline
from volatile_rse.ports.errors import UnreachableError


class Ticks:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_server_that_did_not_answer_is_left_alone_and_then_tried_by_one() -> None:
    ticks = Ticks()
    gate = Gate("https://rucio", Budget(), ticks)
    gate.failed()
    with pytest.raises(UnreachableError, match="left alone"), gate.call():
        pass
    ticks.now += 3
    with gate.call():
        with pytest.raises(UnreachableError, match="left alone"), gate.call():
            pass
        gate.failed()
    ticks.now += 3
    with pytest.raises(UnreachableError, match="left alone"), gate.call():
        pass
    ticks.now += 3
    with gate.call():
        gate.answered()
    with gate.call(), gate.call():
        pass


def test_a_probe_that_ends_without_word_does_not_keep_the_gate_shut() -> None:
    ticks = Ticks()
    gate = Gate("https://rucio", Budget(), ticks)
    gate.failed()
    ticks.now += 3
    with pytest.raises(ZeroDivisionError), gate.call():
        raise ZeroDivisionError
    with gate.call():
        pass


def test_no_more_calls_at_once_than_allowed_and_none_waits_for_ever() -> None:
    gate = Gate("https://rucio", Budget(concurrency=1, timeout=1))
    with gate.call():
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="concurrency"), gate.call():
            pass
        assert 0.9 < time.monotonic() - began < 5
    with gate.call():
        pass


def test_who_waits_for_a_turn_learns_at_once_that_the_server_is_gone() -> None:
    gate = Gate("https://rucio", Budget(concurrency=1, timeout=60))
    refused: list[str] = []

    def ask() -> None:
        try:
            with gate.call():
                pass
        except UnreachableError as error:
            refused.append(error.what)

    with gate.call():
        waiting = threading.Thread(target=ask)
        waiting.start()
        gate.failed()
        waiting.join(10)
    assert len(refused) == 1
    assert "left alone" in refused[0]


def test_calls_are_spread_over_time() -> None:
    gate = Gate("https://rucio", Budget(calls_per_second=20))
    began = time.monotonic()
    for _ in range(30):
        with gate.call():
            pass
    assert 0.4 < time.monotonic() - began < 2


def test_a_budget_may_change() -> None:
    gate = Gate("https://rucio", Budget(concurrency=1, timeout=1))
    gate.budget = Budget(concurrency=2)
    with gate.call(), gate.call():
        pass


def test_who_asks_again_and_again_overtakes_nobody() -> None:
    """The turns are those of a queue: whoever asks in a loop waits behind all that came before."""
    gate = Gate("https://rucio", Budget(concurrency=1, calls_per_second=1000, timeout=60))
    order: list[str] = []

    def ask(name: str, calls: int) -> None:
        for _ in range(calls):
            with gate.call():
                order.append(name)

    threads = []
    with gate.call():
        for number, (name, calls) in enumerate((("loop", 50), ("one", 1), ("two", 1))):
            threads.append(threading.Thread(target=ask, args=(name, calls)))
            threads[-1].start()
            waits_for(lambda number=number: len(gate._waiting) == number + 1)  # type: ignore[misc]
    for thread in threads:
        thread.join(30)
    assert order[:3] == ["loop", "one", "two"]
    assert len(order) == 52


def waits_for(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_nobody_waits_for_a_turn_beyond_the_time_of_the_visit() -> None:
    gate = Gate("https://rucio", Budget(concurrency=1, timeout=60))
    with gate.call():
        with (
            deadline.within(0.05) as visit,
            pytest.raises(UnreachableError, match=r"not asked.*time of this visit"),
            gate.call(),
        ):
            pytest.fail("two at a time")
        assert visit.missed
    with gate.call():
        pass


def test_nobody_waits_for_the_rate_beyond_the_time_of_the_visit() -> None:
    gate = Gate("https://rucio", Budget(calls_per_second=1, timeout=60))
    for _ in range(2):
        with gate.call():
            pass
    began = time.monotonic()
    with deadline.within(0.1), pytest.raises(UnreachableError, match=r"not asked.*time of this visit"), gate.call():
        pytest.fail("too early")
    assert time.monotonic() - began < 0.5, "it is known beforehand"


def test_who_gives_up_is_in_nobody_s_way() -> None:
    gate = Gate("https://rucio", Budget(concurrency=1, timeout=1))
    with gate.call():
        with pytest.raises(UnreachableError, match="concurrency"), gate.call():
            pass
        gate.budget = Budget(concurrency=2, timeout=1)
        with gate.call():
            pass
