"""Leases that a session has taken: ``/lease/<claim>/<id>``, read anew for each report."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from volatile_rse.agent.links import REMOVED, remove
from volatile_rse.agent.outbox import shown
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import LeaseTotals
from volatile_rse.api.leases import fault_of_lease_name, time_of_lease
from volatile_rse.api.text import visible

__all__ = ["Leases", "make"]

_log = logging.getLogger(__name__)
_MOST = 10_000
"""Entries of a session's directory that are looked at."""
_CONTENT = 64
"""Bytes of a lease."""
_ODD = 5
"""Entries of which it is told what is wrong with them."""
_NAME, _WORDS = 80, 300
"""Characters of a name that is told, and of what is told of it."""


def make(places: Places, claim: str) -> None:
    """Make a session's directory, with a time that tells whether anything was ever written or removed there."""
    folder = _folder(places, claim)
    if not folder.exists():
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file said, as long as it is the same."""

    stamp: tuple[int, int, int]
    time: timedelta
    fault: str


class Leases:
    """Reads them; each file once for each time that it was written.

    Parameters
    ----------
    clock
        Seconds of Unix time.
    most
        Entries of a session's directory that are looked at.
    """

    def __init__(self, places: Places, *, clock: Callable[[], float] = time.time, most: int = _MOST) -> None:
        self._places = places
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, _Read]] = {}

    def look(self, claims: Iterable[str]) -> list[LeaseTotals] | None:
        """Tell what holds each of the claims; None: that cannot be read."""
        with self._lock:
            try:
                return [self._of(claim) for claim in claims]
            except OSError as error:
                _log.warning("the leases cannot be read: %s", error)
                return None

    def _of(self, claim: str) -> LeaseTotals:
        odd: list[str] = []
        before, now = self._known.pop(claim, {}), self._clock()
        known = self._known[claim] = {}
        ends = []
        folder = _folder(self._places, claim)
        for entry, status in self._entries(folder, odd):
            read = _read(entry, status, before.get(entry.name))
            if read is None:
                # It went, or is being written for the first time.
                continue
            known[entry.name] = read
            if read.fault:
                odd.append(_told(entry.name, read.fault))
            # What was written in the future was written now, by a clock that has been set back since.
            ends.append(int(min(status.st_mtime, now) + read.time.total_seconds()))
        held = [end for end in ends if end > now]
        taken = bool(folder.stat().st_mtime_ns)
        return LeaseTotals(claim=claim, held=len(held), until=max(held, default=None), taken=taken, odd=odd[:_ODD])

    def _entries(self, folder: Path, odd: list[str]) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """Give what may be a lease, and tell of all else."""
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                if number == self._most:
                    odd.insert(0, f"there are more than {self._most}, and the others are not looked at")
                    return
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                fault = _fault(entry, status)
                if fault:
                    odd.append(_told(entry.name, fault))
                else:
                    yield entry, status


def _folder(places: Places, claim: str) -> Path:
    return places.namespace / "lease" / claim


def _fault(entry: os.DirEntry[str], status: os.stat_result) -> str:
    """Say why an entry is no lease, and is left alone."""
    if stat.S_ISLNK(status.st_mode):
        remove(Path(entry.path))
        return REMOVED
    if not stat.S_ISREG(status.st_mode):
        return "it is no file"
    if status.st_size > _CONTENT:
        return f"it has {status.st_size} bytes: no lease has more than {_CONTENT}, and no output is taken from here"
    return fault_of_lease_name(entry.name)


def _read(entry: os.DirEntry[str], status: os.stat_result, known: _Read | None) -> _Read | None:
    written = status.st_ino, status.st_mtime_ns, status.st_size
    if known is not None and known.stamp == written:
        return known
    if status.st_mode & stat.S_ISVTX:
        # XRootD takes this mark away when an upload has ended.
        return None
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        # Its session has closed it; it was taken all the same.
        said = f"it cannot be read ({error.strerror}), and counts as an empty one"
        return _Read(written, time_of_lease(b"")[0], said)
    try:
        content = os.read(descriptor, _CONTENT)
    finally:
        os.close(descriptor)
    return _Read(written, *time_of_lease(content))


def _told(name: str, fault: str) -> str:
    return visible(f"{visible(shown(os.fsencode(name)), _NAME)}: {fault}", _WORDS)
