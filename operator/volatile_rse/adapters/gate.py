"""What one Rucio server is asked at most, and how long it is left alone after it did not answer."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rucioconnection import Budget
from volatile_rse.ports import deadline
from volatile_rse.ports.errors import UnreachableError

__all__ = ["Gate"]

_LEFT_ALONE = "did not answer a moment ago and is left alone for some seconds"
_CROWDED = "has more calls running than its budget's concurrency allows"
_SPENT = "has used up its budget's callsPerSecond"
_LATE = "was not asked, since its budget allowed it too late"
_FIRST, _LAST = 2.0, 15.0
"""Seconds for which a server that did not answer is left alone; doubled each time."""


class Gate:
    """Lets calls to one server pass, so many at a time and so many a second.

    After a call without an answer all others fail at once, for a short while; then one may try, and its answer counts
    for all.

    Parameters
    ----------
    server
        What messages call it.
    seconds
        A clock that never goes back.
    """

    def __init__(self, server: str, budget: Budget, seconds: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._seconds = seconds
        self._changed = threading.Condition()
        self._budget = budget
        self._running = 0
        self._waiting: deque[object] = deque()
        """Who waits for a turn, in the order in which they came: who asks again at once comes last."""
        self._next = 0.0
        """When the next call may begin, if the budget was used evenly."""
        self._failures = 0
        self._closed_until = 0.0
        self._probing = False

    @property
    def budget(self) -> Budget:
        """What is allowed now."""
        return self._budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        with self._changed:
            self._budget = budget
            self._changed.notify_all()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait for a turn, at most for the timeout of a call, and for what is left to the visit.

        Raises
        ------
        UnreachableError
            CATALOGUE_UNREACHABLE: the server did not answer others a moment ago, or too many calls wait.
        """
        began = self._seconds()
        with self._changed:
            self._wait_for_slot(began)
            is_probe = self._admit()
            self._running += 1
        try:
            self._pace(began)
            yield
        finally:
            with self._changed:
                self._running -= 1
                if is_probe:
                    self._probing = False
                self._changed.notify_all()

    def answered(self) -> None:
        """Take note of an answer, whatever it says."""
        with self._changed:
            self._failures, self._closed_until = 0, 0.0

    def failed(self) -> None:
        """Take note of a call without an answer."""
        with self._changed:
            pause = min(_FIRST * 2.0**self._failures, _LAST) * random.uniform(0.8, 1.2)  # noqa: S311 (spreads retries)
            self._failures += 1
            self._closed_until = self._seconds() + pause
            # Whoever waits for a turn learns it now and not after a timeout of its own.
            self._changed.notify_all()

    def _wait_for_slot(self, began: float) -> None:
        ticket = object()
        self._waiting.append(ticket)
        try:
            while not self._is_turn(ticket) and not self._is_closed():
                left = deadline.left(began + self._budget.timeout - self._seconds())
                if left <= 0:
                    if deadline.left() <= 0:
                        self._late()
                    raise self._refusal(_CROWDED)
                self._changed.wait(left)
        finally:
            self._waiting.remove(ticket)
            # There may be room for the next one, too.
            self._changed.notify_all()

    def _is_turn(self, ticket: object) -> bool:
        return self._waiting[0] is ticket and self._running < self._budget.concurrency

    def _admit(self) -> bool:
        """Let a call pass or fail; True if it is the one that tries whether the server answers again."""
        if not self._failures:
            return False
        if self._is_closed():
            raise self._refusal(_LEFT_ALONE)
        self._probing = True
        return True

    def _is_closed(self) -> bool:
        return bool(self._failures) and (self._probing or self._seconds() < self._closed_until)

    def _pace(self, began: float) -> None:
        with self._changed:
            now, rate = self._seconds(), self._budget.calls_per_second
            # A second's worth may come at once.
            turn = max(self._next, now - 1.0)
            delay = turn - now
            if now + delay > began + self._budget.timeout:
                raise self._refusal(_SPENT)
            if delay > 0 and delay >= deadline.left():
                self._late()
            self._next = turn + 1.0 / rate
        if delay > 0:
            time.sleep(delay * random.uniform(1.0, 1.1))  # noqa: S311 (spreads calls)

    def _late(self) -> NoReturn:
        over = deadline.missed()
        why = f"{_LATE}: {over}"
        raise self._refusal(why) from over

    def _refusal(self, why: str) -> UnreachableError:
        return UnreachableError(Reason.CATALOGUE_UNREACHABLE, f"Rucio at {self._server} {why}.")
