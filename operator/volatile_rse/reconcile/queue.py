"""A queue of keys: each is worked on by one thread at a time, waits its time, and no owner's keep those of others back.

Among the keys that are due, that of the namespace comes first of whose keys the fewest are being worked on, then of
the one that was served longest ago; within it the same holds for its accounts, and within these the key that has
waited longest. So who has one key waits for one visit at most for each other owner, however many keys these have.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from itertools import count
from typing import Generic, TypeVar

__all__ = ["KeyedQueue", "Owner"]

Owner = tuple[str, str]
"""Namespace and account."""
_Entry = tuple[float, str]
"""When a key is due, and the key."""
_T = TypeVar("_T", bound=Hashable)
_LONGEST = 86400.0
"""Seconds: no thread can wait for centuries, which a time in a record may be away."""
_REMEMBERED = 10_000
"""Turns that are remembered, the last ones: who is not among them comes first, and would anyway."""


class _Shares(Generic[_T]):
    """What each of some has of the threads, and when it had its last turn."""

    def __init__(self) -> None:
        self.busy: Counter[_T] = Counter()
        """Who -> keys that are being worked on."""
        self._served: dict[_T, int] = {}

    def rank(self, who: _T) -> tuple[int, int]:
        """Give a number that is the less the sooner it is somebody's turn."""
        return self.busy[who], self._served.get(who, 0)

    def begin(self, who: _T, turn: int) -> None:
        """Count a key that is being worked on."""
        self.busy[who] += 1
        self._served.pop(who, None)
        self._served[who] = turn
        if len(self._served) > _REMEMBERED:
            del self._served[next(iter(self._served))]

    def end(self, who: _T) -> None:
        """Count one less."""
        _count_less(self.busy, who)


def _count_less(counter: Counter[_T], who: _T) -> None:
    counter[who] -= 1
    if counter[who] <= 0:
        del counter[who]


class KeyedQueue:
    """Keys to be worked on, each at its time; adding a key that waits makes it come earlier, never later.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    owner_of
        Owner of a key, asked when it is added; by default each key is its own.
    most
        Keys of one namespace that are worked on at the same time, as long as another one has any; None: any number.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        owner_of: Callable[[str], Owner] = lambda key: (key, ""),
        most: int | None = None,
    ) -> None:
        self._clock = clock
        self._owner_of = owner_of
        self._most = most
        self._changed = threading.Condition()
        self._waiting: dict[str, tuple[float, Owner]] = {}
        """Key -> when it is due, and whose it is."""
        self._later: list[_Entry] = []
        """Heap of what is not due yet; what it says of a key counts only if that has not been changed since."""
        self._ready: dict[Owner, list[_Entry]] = {}
        """Heaps of what is due."""
        self._working: dict[str, Owner] = {}
        self._namespaces: _Shares[str] = _Shares()
        self._owners: _Shares[Owner] = _Shares()
        self._known: Counter[str] = Counter()
        """Namespaces -> how many of their keys wait, for whatever time."""
        self._turns = count(1)
        self._closed = False

    def add(self, key: str, delay: float = 0.0) -> None:
        """Have a key worked on after so many seconds, also if it is being worked on now."""
        owner = self._owner_of(key)
        with self._changed:
            due, known = self._clock() + min(delay, _LONGEST), self._waiting.get(key)
            if known is not None and known[0] <= due and known[1] == owner:
                return
            if known is not None:
                due = min(due, known[0])
                self._leave(key)
            self._waiting[key] = due, owner
            self._known[owner[0]] += 1
            heapq.heappush(self._later, (due, key))
            self._changed.notify_all()

    def take(self) -> str | None:
        """Wait for a key that is due and that nobody works on; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                self._ripen()
                key = self._next()
                if key is not None:
                    self._begin(key)
                    return key
                self._changed.wait(self._later[0][0] - self._clock() if self._later else None)
            return None

    def done(self, key: str) -> None:
        """Give a key back that was taken."""
        with self._changed:
            owner = self._working.pop(key, None)
            if owner is not None:
                self._owners.end(owner)
                self._namespaces.end(owner[0])
            self._changed.notify_all()

    def due(self) -> int:
        """Count the keys that are due and wait."""
        with self._changed:
            now = self._clock()
            return sum(due <= now for due, _ in self._waiting.values())

    def lateness(self) -> float:
        """Give the seconds for which the oldest key that is due has waited."""
        with self._changed:
            return max(0.0, self._clock() - min((due for due, _ in self._waiting.values()), default=float("inf")))

    def close(self) -> None:
        """Let every waiting thread go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _ripen(self) -> None:
        """Give what has become due to its owners."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            due, key = heapq.heappop(self._later)
            if self._is_so(due, key):
                heapq.heappush(self._ready.setdefault(self._waiting[key][1], []), (due, key))

    def _next(self) -> str | None:
        """Choose among the owners, and of the first its key that has waited longest."""
        turns = [(self._rank(owner), owner) for owner in list(self._ready) if not self._is_bounded(owner[0])]
        for _, owner in sorted(turns):
            if (key := self._first_of(owner)) is not None:
                return key
        return None

    def _rank(self, owner: Owner) -> tuple[int, int, int, int]:
        return *self._namespaces.rank(owner[0]), *self._owners.rank(owner)

    def _is_bounded(self, namespace: str) -> bool:
        """Tell whether a namespace has to leave a thread to others."""
        if self._most is None or self._namespaces.busy[namespace] < self._most:
            return False
        return any(other != namespace for known in (self._known, self._namespaces.busy) for other in known)

    def _first_of(self, owner: Owner) -> str | None:
        entries, kept, found = self._ready[owner], [], None
        while entries and found is None:
            due, key = heapq.heappop(entries)
            if not self._is_so(due, key) or self._waiting[key][1] != owner:
                continue
            if key in self._working:
                kept.append((due, key))
            else:
                found = key
        for entry in kept:
            heapq.heappush(entries, entry)
        if not entries:
            del self._ready[owner]
        return found

    def _is_so(self, due: float, key: str) -> bool:
        known = self._waiting.get(key)
        return known is not None and known[0] == due

    def _begin(self, key: str) -> None:
        _, owner = self._waiting[key]
        self._working[key] = owner
        turn = next(self._turns)
        self._owners.begin(owner, turn)
        self._namespaces.begin(owner[0], turn)
        self._leave(key)

    def _leave(self, key: str) -> None:
        """Take a key from those that wait."""
        _, owner = self._waiting.pop(key)
        _count_less(self._known, owner[0])
