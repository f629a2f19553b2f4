"""Adler-32, and the attribute of a file in which XRootD keeps it."""

from __future__ import annotations

import os
import struct
import time
import zlib
from pathlib import Path

__all__ = ["EMPTY", "digits", "extend", "of_file", "remember", "remembered"]

EMPTY = 1
"""Of no bytes."""
_ATTRIBUTE = "user.XrdCks.adler32"
_LAYOUT = struct.Struct(">16sqihbB64s")
_NAME = b"adler32"
_BLOCK = 1 << 20


def extend(value: int, data: bytes) -> int:
    """Go on with more bytes."""
    return zlib.adler32(data, value)


def digits(value: int) -> str:
    """Write it as Rucio does."""
    return f"{value:08x}"


def of_file(path: Path) -> int:
    """Read a whole file."""
    value = EMPTY
    with path.open("rb") as stream:
        while data := stream.read(_BLOCK):
            value = zlib.adler32(data, value)
    return value


def remember(file: Path | str | int, adler32: str) -> None:
    """Tell XRootD; to be done before the file is made read-only, and believed until its time of change moves.

    Parameters
    ----------
    file
        Its path, or a descriptor to which everything is written.
    """
    changed = int(os.stat(file).st_mtime)
    age = int(time.time()) - changed
    value = _LAYOUT.pack(_NAME, changed, max(-(1 << 31), min(age, (1 << 31) - 1)), 0, 0, 4, bytes.fromhex(adler32))
    os.setxattr(file, _ATTRIBUTE, value)


def remembered(path: Path | str) -> str | None:
    """Tell what is remembered of the file as it is now."""
    try:
        name, changed, _, _, _, length, value = _LAYOUT.unpack(os.getxattr(path, _ATTRIBUTE))
        current = int(os.stat(path).st_mtime)
    except (OSError, struct.error):
        return None
    if name.rstrip(b"\0") != _NAME or changed != current or length != 4:  # noqa: PLR2004 (bytes of an Adler-32)
        return None
    return bytes(value[:4]).hex()
