"""The time of one visit, handed down to every call that is made for it.

It goes with the thread: adapters ask for it where they begin a call and where they wait. A thread that is started
within a call gets it by ``contextvars.copy_context().run``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from volatile_rse.api.conditions import Reason
from volatile_rse.ports.errors import UnreachableError

__all__ = ["Deadline", "OverError", "at_least", "held", "is_over", "left", "missed", "sparing", "within"]

_FOR_EVER = float("inf")


class OverError(TimeoutError):
    """The time of the visit was over, and not that of the call: nothing is told by it of who was asked."""

    def __init__(self) -> None:
        super().__init__("the time of this visit was over, the next one asks again")


@dataclass(slots=True, eq=False)
class Deadline:
    """What is left to what is done within."""

    until: float
    outer: Deadline | None
    missed: bool = False
    """Something was not asked, or not waited for, since no time was left."""


_now: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


@contextmanager
def within(seconds: float) -> Iterator[Deadline]:
    """Give all that is done within so many seconds; of several deadlines the earlier one counts."""
    with _until(min(monotonic() + seconds, _end())) as made:
        yield made


@contextmanager
def sparing(seconds: float) -> Iterator[Deadline]:
    """Leave so many of the seconds that are left to what comes after."""
    with _until(_end() - seconds) as made:
        yield made


@contextmanager
def at_least(seconds: float) -> Iterator[Deadline]:
    """Give so many seconds, also where fewer are left: for what has to be said, and what must not stay half done."""
    with _until(max(monotonic() + seconds, _end())) as made:
        yield made


def left(most: float = _FOR_EVER) -> float:
    """Give the seconds that are left, at most so many; 0: none."""
    return max(min(_end() - monotonic(), most), 0.0)


def missed() -> OverError:
    """Take note that something fails because no time is left; give what it fails with."""
    deadline = _now.get()
    while deadline is not None:
        deadline.missed = True
        deadline = deadline.outer
    return OverError()


def is_over(error: BaseException | None) -> bool:
    """Tell whether something failed only since the time of the visit was over: nobody has said no, or kept silent."""
    while error is not None:
        if isinstance(error, OverError):
            return True
        error = error.__cause__
    return False


@contextmanager
def held(lock: Lock, reason: Reason, what: str) -> Iterator[None]:
    """Hold a lock, and wait for it no longer than the time that is left.

    Parameters
    ----------
    what
        Is waited for, and why.

    Raises
    ------
    UnreachableError
        Of this reason: others have held it for too long.
    """
    seconds = left()
    if not lock.acquire(timeout=-1 if seconds == _FOR_EVER else seconds):
        over = missed()
        raise UnreachableError(reason, f"{what}: {over}.") from over
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _until(end: float) -> Iterator[Deadline]:
    made = Deadline(end, _now.get())
    token = _now.set(made)
    try:
        yield made
    finally:
        _now.reset(token)


def _end() -> float:
    deadline = _now.get()
    return _FOR_EVER if deadline is None else deadline.until
