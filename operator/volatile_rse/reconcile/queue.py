"""A queue of keys: each is worked on by one thread at a time, waits its time, and no owner's keep those of others back.

Among the keys that are due, that of the namespace comes first of whose keys the fewest are being worked on, then of
the one that was served longest ago; within it the same holds for its accounts, and within these the key that has
waited longest. So who has one key waits for one visit at most for each other owner, however many keys these have.

There are two lanes, each with threads of its own: a key whose last visit was slow waits in the slow one, until a visit
is quick again. So keys that are known to be slow wait for each other, and no quick one waits for them. One that has
become urgent waits once among the quick ones. What is said of turns holds within each lane.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count
from typing import Any, Generic, TypeVar

__all__ = ["KeyedQueue", "Owner"]

Owner = tuple[str, str]
"""Namespace and account."""
_T = TypeVar("_T", bound=Hashable)
_Rank = tuple[float, ...]
_LONGEST = 86400.0
"""Seconds: no thread can wait for centuries, which a time in a record may be away."""
_REMEMBERED = 10_000
"""Turns that are remembered, the last ones: who is not among them comes first, and would anyway."""
_SPARE = 64
"""Entries of a heap that may be old ones, besides as many as count."""


class _Ranked(Generic[_T]):
    """Some who have a rank each, which may change at any time; the least comes first."""

    def __init__(self) -> None:
        self._ranks: dict[_T, _Rank] = {}
        self._heap: list[tuple[_Rank, Any]] = []
        """What it says of somebody counts only if that is his rank."""

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, who: _T) -> bool:
        return who in self._ranks

    def put(self, who: _T, rank: _Rank) -> None:
        """Add somebody, or give another rank."""
        if self._ranks.get(who) == rank:
            return
        self._ranks[who] = rank
        heapq.heappush(self._heap, (rank, who))
        if len(self._heap) > 2 * len(self._ranks) + _SPARE:
            self._heap = [(known, one) for one, known in self._ranks.items()]
            heapq.heapify(self._heap)

    def drop(self, who: _T) -> None:
        """Leave somebody out."""
        self._ranks.pop(who, None)

    def first(self, fits: Callable[[_T], bool] = lambda _: True) -> tuple[_T, _Rank] | None:
        """Give the first who fits, and the rank."""
        found, others = None, []
        while self._heap and found is None:
            rank, who = self._heap[0]
            if self._ranks.get(who) != rank:
                heapq.heappop(self._heap)
            elif fits(who):
                found = who, rank
            else:
                others.append(heapq.heappop(self._heap))
        for entry in others:
            heapq.heappush(self._heap, entry)
        return found


class _Shares(Generic[_T]):
    """What each of some has of the threads, and when it had its last turn."""

    def __init__(self) -> None:
        self.busy: Counter[_T] = Counter()
        """Who -> keys that are being worked on."""
        self._served: dict[_T, int] = {}

    def rank(self, who: _T) -> _Rank:
        """Give what is the less the sooner it is somebody's turn."""
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


class _Lane:
    """Keys that wait for the same threads.

    Parameters
    ----------
    lock
        Of the queue: held by whoever calls.
    most
        Keys of one namespace that are worked on at the same time, as long as another one has any; None: any number.
    """

    def __init__(self, lock: threading.Lock, most: int | None) -> None:
        self.changed = threading.Condition(lock)
        self.due = 0
        """Keys that could be worked on now."""
        self._most = most
        self._owners: dict[str, Owner] = {}
        self._later: _Ranked[str] = _Ranked()
        """Keys that are not due yet, by when they are."""
        self._ready: dict[Owner, _Ranked[str]] = {}
        """Keys that are due, by since when."""
        self._namespaces: _Ranked[str] = _Ranked()
        self._accounts: dict[str, _Ranked[Owner]] = {}
        """Of each namespace; as the namespaces, those that have keys that are due, by whose turn it is."""
        self._of_namespaces: _Shares[str] = _Shares()
        self._of_owners: _Shares[Owner] = _Shares()
        self._known: Counter[str] = Counter()
        """Namespaces -> how many of their keys are known, for whatever time."""

    def know(self, owner: Owner) -> None:
        """Count a key of an owner, from when it is added."""
        self._known[owner[0]] += 1

    def unknow(self, owner: Owner) -> None:
        """Count one less."""
        _count_less(self._known, owner[0])

    def put(self, key: str, due: float, owner: Owner) -> None:
        """Let a key wait that nobody works on."""
        self._owners[key] = owner
        self._later.put(key, (due,))

    def drop(self, key: str) -> None:
        """Take a key from those that wait; fine if it is none of them."""
        owner = self._owners.pop(key, None)
        if owner is None:
            return
        self._later.drop(key)
        ready = self._ready.get(owner)
        if ready is None or key not in ready:
            return
        ready.drop(key)
        self.due -= 1
        if not ready:
            del self._ready[owner]
            accounts = self._accounts[owner[0]]
            accounts.drop(owner)
            if not accounts:
                del self._accounts[owner[0]]
                self._namespaces.drop(owner[0])

    def ripen(self, now: float) -> None:
        """Give what has become due to its owners."""
        while (first := self._later.first()) is not None and first[1][0] <= now:
            key, due = first
            self._later.drop(key)
            owner = self._owners[key]
            self._ready.setdefault(owner, _Ranked()).put(key, due)
            self.due += 1
            self._accounts.setdefault(owner[0], _Ranked())
            self._rank(owner)

    def wait(self, now: float) -> None:
        """Wait for a change, or until the next key is due."""
        first = self._later.first()
        self.changed.wait(None if first is None else first[1][0] - now)

    def first(self) -> str | None:
        """Choose among the owners, and of the first its key that has waited longest."""
        namespace = self._namespaces.first(lambda one: not self._is_bounded(one))
        if namespace is None:
            return None
        owner = self._accounts[namespace[0]].first()
        key = None if owner is None else self._ready[owner[0]].first()
        return None if key is None else key[0]

    def begin(self, owner: Owner, turn: int) -> None:
        """Take note that a key of an owner is being worked on."""
        self._of_owners.begin(owner, turn)
        self._of_namespaces.begin(owner[0], turn)
        self._rank(owner)

    def end(self, owner: Owner) -> None:
        """Take note that it is not any more."""
        self._of_owners.end(owner)
        self._of_namespaces.end(owner[0])
        self._rank(owner)

    def _rank(self, owner: Owner) -> None:
        if owner[0] in self._accounts:
            self._namespaces.put(owner[0], self._of_namespaces.rank(owner[0]))
        if owner in self._ready:
            self._accounts[owner[0]].put(owner, self._of_owners.rank(owner))

    def _is_bounded(self, namespace: str) -> bool:
        """Tell whether a namespace has to leave a thread to others."""
        busy = self._of_namespaces.busy
        if self._most is None or busy[namespace] < self._most:
            return False
        return any(other != namespace for known in (self._known, busy) for other in known)


class KeyedQueue:
    """Keys to be worked on, each at its time; adding a key that waits makes it come earlier, never later.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    owner_of
        Owner of a key, asked when it is added; by default each key is its own.
    most, most_slow
        Keys of one namespace that are worked on at the same time, as long as another one has any, in the lane of quick
        keys and in that of slow ones; None: any number.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        owner_of: Callable[[str], Owner] = lambda key: (key, ""),
        most: int | None = None,
        most_slow: int | None = None,
    ) -> None:
        self._clock = clock
        self._owner_of = owner_of
        self._lock = threading.Lock()
        self._quick, self._slow = _Lane(self._lock, most), _Lane(self._lock, most_slow)
        self._waiting: dict[str, tuple[float, Owner]] = {}
        """Key -> when it is due, and whose it is; also of keys that are being worked on, and wait for the next time."""
        self._oldest: _Ranked[str] = _Ranked()
        self._working: dict[str, tuple[Owner, _Lane]] = {}
        self._are_slow: set[str] = set()
        self._are_urgent: set[str] = set()
        """Keys that wait among the quick ones this time, whatever they took before."""
        self._turns = count(1)
        self._closed = False

    def add(self, key: str, delay: float = 0.0, *, urgent: bool = False) -> None:
        """Have a key worked on after so many seconds, also if it is being worked on now.

        Parameters
        ----------
        urgent
            It does not wait in the lane of slow keys, this time.
        """
        owner = self._owner_of(key)
        with self._lock:
            due, known = self._clock() + min(delay, _LONGEST), self._waiting.get(key)
            urgent = urgent and key not in self._are_urgent
            if known is not None and known[0] <= due and known[1] == owner and not urgent:
                return
            if known is not None:
                due = min(due, known[0])
                self._leave(key)
            if urgent:
                self._are_urgent.add(key)
            self._enter(key, due, owner)

    def take(self, *, slow: bool = False) -> str | None:
        """Wait for a key of a lane that is due and that nobody works on; None once the queue is closed."""
        lane = self._slow if slow else self._quick
        with self._lock:
            while not self._closed:
                lane.ripen(self._clock())
                key = lane.first()
                if key is not None:
                    self._begin(key, lane)
                    # Who waits may have to wait less, or not at all: each that takes a key has another one look.
                    lane.changed.notify()
                    return key
                lane.wait(self._clock())
            return None

    def done(self, key: str, *, slow: bool = False) -> None:
        """Give a key back that was taken.

        Parameters
        ----------
        slow
            That took long: the next time it waits in the lane of such keys.
        """
        with self._lock:
            owner, lane = self._working.pop(key, (None, self._quick))
            if owner is not None:
                lane.end(owner)
                lane.changed.notify()
            again = self._waiting.get(key)
            if again is not None:
                self._leave(key)
            if slow:
                self._are_slow.add(key)
            else:
                self._are_slow.discard(key)
            if again is not None:
                self._enter(key, *again)

    def is_slow(self, key: str) -> bool:
        """Tell whether the last visit of a key was slow."""
        with self._lock:
            return key in self._are_slow

    def forget(self, keys: Iterable[str]) -> None:
        """Drop what is known of keys that do not come again."""
        with self._lock:
            for key in keys:
                again = self._waiting.get(key)
                if again is not None:
                    self._leave(key)
                self._are_slow.discard(key)
                self._are_urgent.discard(key)
                if again is not None:
                    self._enter(key, *again)

    def due(self) -> int:
        """Count the keys that are due and wait."""
        with self._lock:
            now = self._clock()
            for lane in self._lanes():
                lane.ripen(now)
            again = sum(key in self._waiting and self._waiting[key][0] <= now for key in self._working)
            return again + sum(lane.due for lane in self._lanes())

    def lateness(self) -> float:
        """Give the seconds for which the oldest key that is due has waited."""
        with self._lock:
            first = self._oldest.first()
            return 0.0 if first is None else max(0.0, self._clock() - first[1][0])

    def close(self) -> None:
        """Let every waiting thread go."""
        with self._lock:
            self._closed = True
            for lane in self._lanes():
                lane.changed.notify_all()

    def _lanes(self) -> Iterator[_Lane]:
        yield self._quick
        yield self._slow

    def _lane_of(self, key: str) -> _Lane:
        return self._slow if key in self._are_slow and key not in self._are_urgent else self._quick

    def _enter(self, key: str, due: float, owner: Owner) -> None:
        """Let a key wait; one that is being worked on gets to its lane when that is over."""
        self._waiting[key] = due, owner
        self._oldest.put(key, (due,))
        lane = self._lane_of(key)
        lane.know(owner)
        if key not in self._working:
            lane.put(key, due, owner)
            lane.changed.notify()

    def _leave(self, key: str) -> None:
        """Take a key from those that wait."""
        _, owner = self._waiting.pop(key)
        self._oldest.drop(key)
        lane = self._lane_of(key)
        lane.unknow(owner)
        lane.drop(key)

    def _begin(self, key: str, lane: _Lane) -> None:
        _, owner = self._waiting[key]
        self._leave(key)
        self._are_urgent.discard(key)
        self._working[key] = owner, lane
        lane.begin(owner, next(self._turns))
