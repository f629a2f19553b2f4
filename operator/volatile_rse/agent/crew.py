"""A few threads that do named pieces of work when they are due."""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from volatile_rse.agent.transfer import Line

__all__ = ["Crew", "backoff"]

_log = logging.getLogger(__name__)
_AFTER_DEFECT = 60.0
_chance = random.SystemRandom()
_Key = TypeVar("_Key", bound=Hashable)


def backoff(attempts: int, first: float, cap: float) -> float:
    """Give the seconds to wait after so many failures: scattered, so that buffers do not return to a site together."""
    longest = min(cap, first * 2 ** min(attempts - 1, 30))
    return _chance.uniform(longest / 2, longest)


class Crew(Generic[_Key]):
    """Threads, each with a line to the sites; no piece of work is done twice at a time.

    Parameters
    ----------
    name
        Of the threads.
    size
        How many.
    work
        Does one piece; gives the seconds until it shall be done again, or None.
    """

    def __init__(self, name: str, size: int, work: Callable[[Line, _Key], float | None]) -> None:
        self._work = work
        self._change = threading.Condition()
        self._order = itertools.count()
        self._heap: list[tuple[float, int, _Key]] = []
        self._due: dict[_Key, int] = {}
        """Which entry of the heap counts."""
        self._busy: set[_Key] = set()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(size)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what is being sent or fetched is broken off."""
        self._ended.set()
        with self._change:
            self._change.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def call(self, keys: Iterable[_Key], delay: float = 0) -> None:
        """Ask for work; for work that waits, this is its new time."""
        with self._change:
            for key in keys:
                self._push(key, delay)
            self._change.notify_all()

    def forget(self) -> None:
        """Drop the work that waits."""
        with self._change:
            self._heap.clear()
            self._due.clear()

    def _push(self, key: _Key, delay: float) -> None:
        number = next(self._order)
        self._due[key] = number
        heapq.heappush(self._heap, (time.monotonic() + delay, number, key))

    def _run(self) -> None:
        line = Line(self._ended.is_set)
        while (key := self._next()) is not None:
            again: float | None = _AFTER_DEFECT
            try:
                again = self._work(line, key)
            except Exception:  # noqa: BLE001 (a defect met by one file must not stop the others)
                _log.exception("%s failed by a defect of this program", key)
            with self._change:
                self._busy.discard(key)
                # Who asked meanwhile knows a better time.
                if again is not None and key not in self._due and not self._ended.is_set():
                    self._push(key, again)
                self._change.notify_all()
        line.close()

    def _next(self) -> _Key | None:
        with self._change:
            while not self._ended.is_set():
                wait = None
                if self._heap:
                    due, number, key = self._heap[0]
                    wait = due - time.monotonic()
                    if self._due.get(key) != number:
                        heapq.heappop(self._heap)
                        continue
                    if wait <= 0:
                        heapq.heappop(self._heap)
                        if key in self._busy:
                            self._push(key, 0.2)
                            continue
                        del self._due[key]
                        self._busy.add(key)
                        return key
                self._change.wait(wait)
        return None
