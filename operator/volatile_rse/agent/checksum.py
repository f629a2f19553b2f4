"""Adler-32, and the attribute of a file in which XRootD keeps it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["EMPTY", "digits", "extend", "of_file", "remember", "remembered"]

EMPTY = 1
"""Of no bytes."""
_ATTRIBUTE = "user.XrdCks.adler32"
_LAYOUT = struct.Struct(">16sqihbB64s")
_NAME = b"adler32"
_BLOCK = 1 << 20
_SECTOR = 512
"""Bytes in which the kernel counts what a file takes."""
_MODULUS = 65521
"""Of Adler-32."""


def _fastest() -> Callable[[bytes, int], int]:
    """Give ISA-L's function, which comes with XRootD's server and takes a third of zlib's time; or else zlib's."""
    try:
        isal = ctypes.CDLL("libisal.so.2").isal_adler32
    except (OSError, AttributeError):
        return zlib.adler32
    isal.restype, isal.argtypes = ctypes.c_uint32, (ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint64)

    def adler32(data: bytes, value: int) -> int:
        return int(isal(value, data, len(data)))

    return adler32 if _is_right(adler32) else zlib.adler32


def _is_right(adler32: Callable[[bytes, int], int]) -> bool:
    """Compare with zlib, also where one call goes on from another."""
    parts = (b"", b"\0", b"\xff" * 6000, bytes(range(256)) * 33, b"x")
    value = expected = EMPTY
    for part in parts:
        value, expected = adler32(part, value), zlib.adler32(part, expected)
        if value != expected:
            return False
    return True


_adler32 = _fastest()


def extend(value: int, data: bytes) -> int:
    """Go on with more bytes."""
    return _adler32(data, value)


def digits(value: int) -> str:
    """Write it as Rucio does."""
    return f"{value:08x}"


def of_file(path: Path, got_on: Callable[[], None] = lambda: None) -> int:
    """Read a whole file, but for its holes: a session makes one of any size in a moment.

    Parameters
    ----------
    got_on
        Called for each MiB.
    """
    value, at = EMPTY, 0
    with path.open("rb") as stream:
        for begin, end in _written(stream.fileno()):
            value = _zeros(value, begin - at)
            stream.seek(begin)
            at = begin
            while at < end and (data := stream.read(min(_BLOCK, end - at))):
                value = extend(value, data)
                at += len(data)
                got_on()
        return _zeros(value, os.fstat(stream.fileno()).st_size - at)


def _written(file: int) -> Iterator[tuple[int, int]]:
    """Give where a file has bytes."""
    status = os.fstat(file)
    size = status.st_size
    if status.st_blocks * _SECTOR >= size:
        yield 0, size
        return
    end = 0
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin, end


def _zeros(value: int, size: int) -> int:
    """Go on with so many zeros, however many they are."""
    low, high = value & 0xFFFF, value >> 16
    return (high + size * low) % _MODULUS << 16 | low


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
