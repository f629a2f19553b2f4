"""What a buffer needs of its volume's file system, tried out before anything is kept there.

Checksums live in extended attributes, finished files appear by renames and hard links, and torn ones are told by their
mode: without these nothing is staged and nothing is sealed, and the error that comes of it says little.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from volatile_rse.agent.ballast import is_full
from volatile_rse.agent.places import Places, sync

__all__ = ["lacking"]

_WORDS = 200
_ATTRIBUTE, _VALUE = "user.volatile-rse.probe", b"v" * 512
_LONGEST = "n" * 255
_SEALED, _TORN = 0o444, stat.S_ISVTX | 0o600
_ROOM = 1 << 20
"""Bytes free in which each trial fits."""


def lacking(places: Places) -> list[str]:
    """Tell what the volume cannot, each with the error; a volume that is full is not judged by that.

    Raises
    ------
    OSError
        Not even a directory can be made there.
    """
    folder = places.control / "probe"
    found = []
    for what, trial in _NEEDED:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            trial(folder)
        except (OSError, sqlite3.Error) as error:
            if not _is_room_all(places, error):
                found.append(f"{what}: {error}".replace(f"{folder}/", "")[:_WORDS])
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _is_room_all(places: Places, error: Exception) -> bool:
    """Tell whether room is all that is missing: SQLite says the same of a file that it may not lock or map."""
    if not is_full(error) or isinstance(error, OSError):
        return is_full(error)
    volume = os.statvfs(places.control)
    return volume.f_bavail * volume.f_frsize < _ROOM or 0 < volume.f_files > volume.f_favail == 0


def _attributes(folder: Path) -> None:
    file = _made(folder / "a")
    os.setxattr(file, _ATTRIBUTE, _VALUE)
    if os.getxattr(file, _ATTRIBUTE) != _VALUE:
        _differs("what is read is not what was written")
    os.removexattr(file, _ATTRIBUTE)


def _links(folder: Path) -> None:
    file = _made(folder / "a")
    (folder / "other").mkdir()
    link = folder / "other" / "b"
    os.link(file, link)
    if not link.samefile(file):
        _differs("the link is another file")


def _renames(folder: Path) -> None:
    (folder / "other").mkdir()
    place = _made(folder / "other" / "b")
    _made(folder / "a", b"new").rename(place)
    if place.read_bytes() != b"new":
        _differs("the old file is still there")


def _syncs(folder: Path) -> None:
    sync(_made(folder / "a"))
    sync(folder)


def _modes(folder: Path) -> None:
    file = _made(folder / "a")
    for mode in (_TORN, _SEALED):
        file.chmod(mode)
        if (found := stat.S_IMODE(file.stat().st_mode)) != mode:
            _differs(f"a file that was given the mode {mode:04o} has {found:04o}")


def _names(folder: Path) -> None:
    _made(folder / _LONGEST)
    if [path.name for path in folder.iterdir()] != [_LONGEST]:
        _differs("it is listed by another name")


def _cases(folder: Path) -> None:
    _made(folder / "a", b"lower")
    _made(folder / "A", b"upper")
    if (folder / "a").read_bytes() != b"lower":
        _differs("'a' and 'A' are one file")


def _database(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        # What is lost with the machine's power does not matter here.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE item (name TEXT)")
        database.commit()
    if mode != "wal":
        _differs(f"its journal is of mode {mode}")


_NEEDED: Sequence[tuple[str, Callable[[Path], None]]] = (
    ("extended attributes of users (user.*)", _attributes),
    ("hard links", _links),
    ("renaming a file over another one", _renames),
    ("syncing files and directories", _syncs),
    ("modes of files", _modes),
    ("names of 255 bytes", _names),
    ("names that differ in case", _cases),
    ("a database with a write-ahead log", _database),
)


def _made(path: Path, data: bytes = b"old") -> Path:
    path.write_bytes(data)
    return path


def _differs(what: str) -> NoReturn:
    """Say that a call went well, and did not do what it is for."""
    raise OSError(errno.EOPNOTSUPP, what)
