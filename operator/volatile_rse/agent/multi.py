"""Many transfers in one thread: named pieces of work that wait for sites, and begin when they are due.

One thread with eight connections stages small files more than twice as fast as eight threads do, and a fifth faster
than two such threads, because it never waits for Python's lock. A piece of work is a generator: it yields what it wants
of a site and gets the answer, or the error.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Hashable, Iterable
from functools import partial
from typing import Generic, TypeVar

import pycurl

from volatile_rse.agent.transfer import Answer, Request, Transfer, TransferError
from volatile_rse.agent.troubles import Troubles, explain
from volatile_rse.agent.worker import worker

__all__ = ["Engine", "Steps", "backoff"]

_log = logging.getLogger(__name__)
_AFTER_DEFECT = 60.0
_AFTER_ITSELF = 0.2
_LONGEST_WAIT = 60.0
_chance = random.SystemRandom()
_Key = TypeVar("_Key", bound=Hashable)
Steps = Generator[Request | None, Answer, float | None]
"""What one piece of work wants, step by step: a request, or None to let others go on. Its value is the seconds until it
shall be done again, or None. Who wants a request that is asked alone may wait for long: it must hold no open file."""


def backoff(attempts: int, first: float, cap: float) -> float:
    """Give the seconds to wait after so many failures: scattered, so that buffers do not return to a site together."""
    longest = min(cap, first * 2 ** min(attempts - 1, 30))
    return _chance.uniform(longest / 2, longest)


class Engine(Generic[_Key]):
    """A thread that does pieces of work side by side; none is done twice at a time.

    Parameters
    ----------
    name
        Of the thread.
    slots
        How many pieces are under way at a time, besides those that wait for their turn at a host. Where what has waited
        goes on with another request, they are a few more for a while.
    work
        Begins one piece. Between its steps it must not wait for anything.
    troubles
        Hears of pieces that end by an error that they should have met themselves.
    """

    def __init__(self, name: str, slots: int, work: Callable[[_Key], Steps], troubles: Troubles) -> None:
        self._name = name
        self._work = work
        self._troubles = troubles
        self._defects: dict[_Key, str] = {}
        self._slots = slots
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._heap: list[tuple[float, int, _Key]] = []
        self._due: dict[_Key, int] = {}
        """Which entry of the heap counts."""
        self._unwanted: set[_Key] = set()
        self._ended = threading.Event()
        self._bell, self._rope = socket.socketpair()
        self._bell.setblocking(False)
        self._rope.setblocking(False)
        self._thread = worker(name, self._run)
        # What follows belongs to the thread.
        self._multi = pycurl.CurlMulti()
        self._idle: list[pycurl.Curl] = []
        self._under_way: dict[_Key, Steps] = {}
        self._transfers: dict[pycurl.Curl, tuple[_Key, Transfer]] = {}
        self._resting: deque[_Key] = deque()
        self._queues: dict[str, deque[tuple[_Key, Request]]] = {}
        """Host -> what is asked of it one by one; the first is under way."""
        self._put_off: dict[str, dict[_Key, None]] = {}
        """Host -> what begins once fewer wait for it, the first one first."""
        self._unsent: deque[tuple[_Key, TransferError]] = deque()
        """Whose request never came to libcurl, and why."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being sent or fetched is broken off."""
        self._ended.set()
        self._ring()
        if self._thread.ident is not None:
            self._thread.join()

    def call(self, keys: Iterable[_Key], delay: float = 0) -> None:
        """Ask for work; for work that waits, this is its new time."""
        with self._lock:
            for key in keys:
                self._push(key, delay)
        self._ring()

    def forget(self) -> None:
        """Drop the work that waits."""
        with self._lock:
            self._heap.clear()
            self._due.clear()

    def cancel(self, keys: Collection[_Key]) -> None:
        """Break off what is under way of these."""
        with self._lock:
            self._unwanted.update(keys)
        self._ring()

    def is_last(self) -> bool:
        """Tell a piece of work, between its steps, whether no other is under way or due."""
        with self._lock:
            due = bool(self._heap) and self._heap[0][0] <= time.monotonic()
        return not due and len(self._under_way) == 1

    def waiting(self, host: str) -> int:
        """Tell a piece of work, between its steps, how many wait for their turn at a host."""
        return max(len(self._queues.get(host, ())) - 1, 0)

    def put_off(self, key: _Key, host: str) -> None:
        """Have a piece of work, which ends now, done again once fewer wait for a host; some must wait for it now."""
        self._put_off.setdefault(host, {})[key] = None

    def _has_room(self) -> bool:
        # Who waits holds neither a connection nor a file: a host that is slow must keep no other one waiting.
        waiting = sum(len(queue) - 1 for queue in self._queues.values())
        return len(self._under_way) - waiting < self._slots

    def _push(self, key: _Key, delay: float) -> None:
        number = next(self._order)
        self._due[key] = number
        heapq.heappush(self._heap, (time.monotonic() + delay, number, key))

    def _ring(self) -> None:
        try:
            self._rope.send(b"!")
        except BlockingIOError:
            # It has been rung often enough.
            return

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._break_off()
                self._begin()
                self._multi.perform()
                self._collect()
                self._wait()
        finally:
            for key in list(self._under_way):
                self._drop(key)
            for curl in self._idle:
                curl.close()
            self._multi.close()

    def _begin(self) -> None:
        for rested in [self._resting.popleft() for _ in range(len(self._resting))]:
            self._advance(rested, partial(next, self._under_way[rested]))
        for asking, failure in [self._unsent.popleft() for _ in range(len(self._unsent))]:
            if asking in self._under_way:
                self._advance(asking, partial(self._under_way[asking].throw, failure))
        while self._has_room() and (key := self._next()) is not None:
            steps = self._under_way[key] = self._work(key)
            self._advance(key, partial(next, steps))

    def _next(self) -> _Key | None:
        with self._lock:
            while self._heap:
                due, number, key = self._heap[0]
                if self._due.get(key) == number and due > time.monotonic():
                    return None
                heapq.heappop(self._heap)
                if self._due.get(key) != number:
                    continue
                if key in self._under_way:
                    self._push(key, _AFTER_ITSELF)
                    continue
                del self._due[key]
                return key
        return None

    def _advance(self, key: _Key, step: Callable[[], Request | None]) -> None:
        """Let one piece take its next step."""
        again: float | None = _AFTER_DEFECT
        try:
            request = step()
        except StopIteration as end:
            again = end.value
            self._ended_with(key, None)
        except Exception as error:  # noqa: BLE001 (what one file meets must not stop the others)
            _log.exception("%s ended by an error that nobody expected", key)
            self._ended_with(key, error)
        else:
            self._ask(key, request)
            return
        del self._under_way[key]
        with self._lock:
            # Who asked meanwhile knows a better time.
            if again is not None and key not in self._due:
                self._push(key, again)

    def _ended_with(self, key: _Key, defect: Exception | None) -> None:
        if defect is not None:
            self._defects[key] = explain(defect)
        elif self._defects.pop(key, None) is None:
            return
        first = next(iter(self._defects.values()), None)
        others = len(self._defects) - 1
        self._troubles.tell(self._name, f"{first}; so it is for {others} others" if others > 0 else first)

    def _ask(self, key: _Key, request: Request | None) -> None:
        if request is None:
            self._resting.append(key)
            return
        if request.alone:
            queue = self._queues.setdefault(request.host, deque())
            queue.append((key, request))
            if len(queue) > 1:
                return
        self._send(key, request)

    def _send(self, key: _Key, request: Request, *, has_waited: bool = False) -> None:
        try:
            request = request.renewed() if has_waited else request
            curl = self._idle.pop() if self._idle else pycurl.Curl()
            transfer = Transfer(curl, request)
            self._multi.add_handle(curl)
        except TransferError as failure:
            self._unsent.append((key, failure))
            self._next_of(request)
        except Exception as error:  # noqa: BLE001 (what libcurl does not take is a failure of this one request)
            _log.exception("%s cannot be asked", key)
            self._unsent.append((key, TransferError(f"{request}: {error}")))
            self._next_of(request)
        else:
            self._transfers[curl] = key, transfer

    def _collect(self) -> None:
        """Hand out the answers."""
        left = 1
        while left:
            left, fine, broken = self._multi.info_read()
            for curl, number, error in [*((curl, pycurl.E_OK, None) for curl in fine), *broken]:
                status = curl.getinfo(pycurl.RESPONSE_CODE)
                # As bytes: who redirects may write any.
                moved = curl.getinfo_raw(pycurl.REDIRECT_URL) if number == pycurl.E_TOO_MANY_REDIRECTS else None
                key, transfer = self._release(curl)
                try:
                    if moved is not None:
                        # It keeps its place among those that a host is asked one by one.
                        self._send(key, transfer.request.onward(status, moved.decode(errors="surrogateescape")))
                        continue
                    step = partial(self._under_way[key].send, transfer.outcome(error, status))
                except TransferError as failure:
                    step = partial(self._under_way[key].throw, failure)
                self._next_of(transfer.request)
                self._advance(key, step)

    def _release(self, curl: pycurl.Curl) -> tuple[_Key, Transfer]:
        key, transfer = self._transfers.pop(curl)
        self._multi.remove_handle(curl)
        # What it calls back holds open files.
        curl.reset()
        self._idle.append(curl)
        return key, transfer

    def _next_of(self, request: Request) -> None:
        """Send what had to wait for the end of a request."""
        if not request.alone:
            return
        queue = self._queues[request.host]
        queue.popleft()
        # Those that come need not wait here after all: with the last one that does, nobody is put off any longer.
        put_off = self._put_off.get(request.host, {})
        begin = list(itertools.islice(put_off, 1 if queue else None))
        with self._lock:
            for key in begin:
                del put_off[key]
                self._push(key, 0)
        if queue:
            self._send(*queue[0], has_waited=True)
        else:
            del self._queues[request.host]
            self._put_off.pop(request.host, None)

    def _break_off(self) -> None:
        with self._lock:
            keys, self._unwanted = self._unwanted, set()
        for key in keys:
            self._ended_with(key, None)
            if key in self._under_way:
                self._drop(key)

    def _drop(self, key: _Key) -> None:
        for host, queue in self._queues.items():
            # The first of each is under way: it leaves with its transfer.
            self._queues[host] = deque(item for n, item in enumerate(queue) if n == 0 or item[0] != key)
        for curl in [curl for curl, (owner, _) in self._transfers.items() if owner == key]:
            self._next_of(self._release(curl)[1].request)
        if key in self._resting:
            self._resting.remove(key)
        try:
            self._under_way.pop(key).close()
        except Exception:  # noqa: BLE001 (nobody waits for it any more: it must not stop the others)
            _log.exception("%s was broken off, and did not end well", key)

    def _wait(self) -> None:
        reads, writes, errors = self._multi.fdset()
        select.select([*reads, self._bell.fileno()], writes, errors, self._patience())
        try:
            while self._bell.recv(4096):
                pass
        except BlockingIOError:
            return

    def _patience(self) -> float:
        """Give the seconds until something is to be done, if no site answers."""
        wait = 0.0 if self._resting or self._unsent else _LONGEST_WAIT
        if (libcurl := self._multi.timeout()) >= 0:
            wait = min(wait, libcurl / 1000)
        with self._lock:
            if self._heap and self._has_room():
                wait = min(wait, max(0.0, self._heap[0][0] - time.monotonic()))
        return wait
