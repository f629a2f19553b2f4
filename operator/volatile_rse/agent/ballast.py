"""Room on the volume that no session can fill, so that a full volume can still be fenced, sealed and started again."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3

from volatile_rse.agent.places import Places

__all__ = ["drop", "is_full", "load"]

_log = logging.getLogger(__name__)
_MOST = 16 << 20
_SHARE = 100
"""At most one part in so many of the volume."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
_PRIMARY = 0xFF
"""Of the result codes of SQLite: the rest is detail."""


def load(places: Places) -> None:
    """Take the room, or as much of it as leaves the session half of what is free; harmless to repeat."""
    path = places.control / "ballast"
    volume = os.statvfs(places.control)
    has = path.stat().st_size if path.exists() else 0
    wanted = min(_MOST, volume.f_blocks * volume.f_frsize // _SHARE)
    size = min(wanted, has + volume.f_bavail * volume.f_frsize // 2)
    if size <= has:
        return
    try:
        with path.open("ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        _log.warning("no more room is kept for the end of the session: %s", error)


def drop(places: Places) -> None:
    """Give the room back, for the gate, the ledger and the names of sealed files."""
    (places.control / "ballast").unlink(missing_ok=True)


def is_full(error: Exception) -> bool:
    """Tell whether room on the volume is all that is missing."""
    if isinstance(error, sqlite3.OperationalError):
        # Where its files cannot grow, SQLite says either.
        return getattr(error, "sqlite_errorcode", 0) & _PRIMARY in _NO_ROOM
    return isinstance(error, OSError) and error.errno in _FULL
