"""A queue of keys: each is worked on by one thread at a time, and waits its time."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

__all__ = ["KeyedQueue"]

_LONGEST = 86400.0
"""Seconds: no thread can wait for centuries, which a time in a record may be away."""


class KeyedQueue:
    """Keys to be worked on, each at its time; adding a key that waits makes it come earlier, never later.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._working: set[str] = set()
        self._closed = False

    def add(self, key: str, delay: float = 0.0) -> None:
        """Have a key worked on after so many seconds, also if it is being worked on now."""
        with self._changed:
            due = self._clock() + min(delay, _LONGEST)
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._heap, (due, key))
                self._changed.notify_all()

    def take(self) -> str | None:
        """Wait for a key that is due and that nobody works on; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                key, wait = self._next()
                if key is not None:
                    self._working.add(key)
                    return key
                self._changed.wait(wait)
            return None

    def done(self, key: str) -> None:
        """Give a key back that was taken."""
        with self._changed:
            self._working.discard(key)
            self._changed.notify_all()

    def due(self) -> int:
        """Count the keys that are due and wait."""
        with self._changed:
            now = self._clock()
            return sum(due <= now for due in self._due.values())

    def lateness(self) -> float:
        """Give the seconds for which the oldest key that is due has waited."""
        with self._changed:
            return max(0.0, self._clock() - min(self._due.values(), default=float("inf")))

    def close(self) -> None:
        """Let every waiting thread go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> tuple[str | None, float | None]:
        kept: list[tuple[float, str]] = []
        found: tuple[str | None, float | None] = (None, None)
        while self._heap:
            due, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)  # It was made to come earlier meanwhile.
                continue
            if due > self._clock():
                found = (None, due - self._clock())
                break
            heapq.heappop(self._heap)
            if key not in self._working:
                del self._due[key]
                found = (key, None)
                break
            kept.append((due, key))
        for entry in kept:
            heapq.heappush(self._heap, entry)
        return found
