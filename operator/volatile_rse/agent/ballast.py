"""Room on the volume that no session can fill, so that a full volume can still be fenced and sealed."""

from __future__ import annotations

import logging
import os

from volatile_rse.agent.places import Places

__all__ = ["drop", "load"]

_log = logging.getLogger(__name__)
_MOST = 16 << 20
_SHARE = 100
"""At most one part in so many of the volume."""


def load(places: Places) -> None:
    """Take the room, if the volume still has it."""
    path = places.control / "ballast"
    volume = os.statvfs(places.control)
    size = min(_MOST, volume.f_blocks * volume.f_frsize // _SHARE)
    if size == 0 or (path.exists() and path.stat().st_size == size):
        return
    try:
        with path.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        _log.warning("no room is kept for the end of the session: %s", error)
        path.unlink(missing_ok=True)


def drop(places: Places) -> None:
    """Give the room back, for the gate, the ledger and the names of sealed files."""
    (places.control / "ballast").unlink(missing_ok=True)
