"""How fast inputs arrive, and since when nothing of one has."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

__all__ = ["Progress"]

_WINDOW = 30.0
_STEP = 1.0
"""Seconds that are told together."""


class Progress:
    """What arrived, told by entries; for all threads.

    Parameters
    ----------
    clock
        Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._last: dict[str, float] = {}
        self._steps: deque[tuple[float, int]] = deque()
        """When each step began, and the bytes in it."""

    def expect(self, entries: Iterable[str]) -> None:
        """Hear of these entries, and of no others; the time of one that was known runs on."""
        with self._lock:
            now = self._clock()
            self._last = {name: self._last.get(name, now) for name in entries}
            self._begun = now if self._begun is None else self._begun

    def arrived(self, entries: Iterable[str], size: int) -> None:
        """Count bytes of a file of these entries; none for its end."""
        with self._lock:
            now = self._clock()
            for name in entries:
                if name in self._last:
                    self._last[name] = now
            if not self._steps or now - self._steps[-1][0] >= _STEP:
                self._forget(now)
                self._steps.append((now, 0))
            begun, before = self._steps[-1]
            self._steps[-1] = begun, before + size

    def idle(self, entry: str) -> int | None:
        """Give the whole seconds since something of an entry arrived."""
        with self._lock:
            last = self._last.get(entry)
            return None if last is None else int(self._clock() - last)

    def rate(self) -> int | None:
        """Give the bytes per second."""
        with self._lock:
            if self._begun is None:
                return None
            now = self._clock()
            self._forget(now)
            return int(sum(size for _, size in self._steps) / min(_WINDOW, max(_STEP, now - self._begun)))

    def _forget(self, now: float) -> None:
        while self._steps and self._steps[0][0] < now - _WINDOW:
            self._steps.popleft()
