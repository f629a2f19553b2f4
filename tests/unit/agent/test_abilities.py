"""What a volume must be able to do, and how one that cannot is told."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from volatile_rse.agent import abilities
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places

Fault = Callable[[pytest.MonkeyPatch], None]


def refusing(holder: Any, name: str, number: int = errno.EOPNOTSUPP) -> Fault:
    def fault(patch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(holder, name, refuse)

    return fault


def _copies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "link", shutil.copy)


def _other_value(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "getxattr", lambda *_: b"")


def _no_modes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "chmod", lambda *_: None)


def _short_names(patch: pytest.MonkeyPatch) -> None:
    """As eCryptfs has it."""
    write = Path.write_bytes

    def short(path: Path, data: bytes) -> int:
        if len(path.name) > 143:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return write(path, data)

    patch.setattr(Path, "write_bytes", short)


def _one_case(patch: pytest.MonkeyPatch) -> None:
    """As CIFS has it."""
    write = Path.write_bytes
    patch.setattr(Path, "write_bytes", lambda path, data: write(path.with_name(path.name.lower()), data))


def _no_locks(patch: pytest.MonkeyPatch) -> None:
    """As NFS without its lock daemon has it."""

    def locked(*_: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
        raise error

    patch.setattr(sqlite3, "connect", locked)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refusing(os, "setxattr"), "extended attributes of users (user.*): [Errno 95] Operation not supported"),
        (refusing(os, "getxattr"), "extended attributes of users (user.*): [Errno 95] Operation not supported"),
        (refusing(os, "removexattr"), "extended attributes of users (user.*): [Errno 95] Operation not supported"),
        (_other_value, "extended attributes of users (user.*): [Errno 95] what is read is not what was written"),
        (refusing(os, "link", errno.EPERM), "hard links: [Errno 1] Operation not permitted"),
        (_copies, "hard links: [Errno 95] the link is another file"),
        (
            refusing(Path, "rename", errno.EXDEV),
            "renaming a file over another one: [Errno 18] ",
        ),
        (refusing(os, "fsync", errno.EINVAL), "syncing files and directories: [Errno 22] Invalid argument"),
        (_no_modes, "modes of files: [Errno 95] a file that was given the mode 1600 has 0"),
        (_short_names, "names of 255 bytes: [Errno 36] File name too long"),
        (_one_case, "names that differ in case: [Errno 95] 'a' and 'A' are one file"),
        (_no_locks, "a database with a write-ahead log: disk I/O error"),
    ],
)
def test_what_a_volume_cannot_is_named_with_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    area = Places(*(tmp_path / name for name in ("data", "run", "config", "tls")))
    assert abilities.lacking(area) == []
    with monkeypatch.context() as patch:
        fault(patch)
        found = abilities.lacking(area)
    assert len(found) == 1
    assert found[0].startswith(said), found
    assert str(tmp_path) not in found[0]
    assert not (area.control / "probe").exists()


def test_what_an_earlier_trial_has_left_is_not_in_the_way(tmp_path: Path) -> None:
    area = Places(*(tmp_path / name for name in ("data", "run", "config", "tls")))
    (area.control / "probe" / "other").mkdir(parents=True)
    (area.control / "probe" / "a").touch(0o444)
    assert abilities.lacking(area) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_volume_that_is_full_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """An agent that starts again on a volume that its session has filled."""
    area = Places(*(tmp_path / name for name in ("data", "run", "config", "tls")))
    refusing(os, "setxattr", number)(monkeypatch)
    refusing(Path, "write_bytes", number)(monkeypatch)
    assert abilities.lacking(area) == []


def test_the_agent_reports_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    area = Places(*(tmp_path / name for name in ("data", "run", "config", "tls")))
    with monkeypatch.context() as patch:
        refusing(os, "setxattr")(patch)
        buffer = Buffer(area)
    (said,) = buffer.report().lacks
    assert said.startswith("extended attributes of users")
    assert Buffer(area).report().lacks == []
