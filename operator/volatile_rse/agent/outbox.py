"""What sessions left in their outboxes, and which output takes it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from volatile_rse.agent.places import sync
from volatile_rse.api.agent import EXCLUDES, OutputRule

__all__ = [
    "Failed",
    "Found",
    "below",
    "first_rule",
    "is_excluded",
    "is_written",
    "matches",
    "rule_below",
    "shown",
    "tear",
    "walk",
]

_PART = re.compile(r"\*\*/|\*\*|.", re.DOTALL)
_OWNER = stat.S_IRWXU
_TOP = b"."
"""An outbox itself."""

Failed = Callable[[bytes, OSError], None]


@dataclass(frozen=True, slots=True)
class Found:
    """One thing of an outbox that is no directory."""

    path: bytes
    """Below the outbox."""
    status: os.stat_result

    @property
    def regular(self) -> bool:
        """Tell whether it is a file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def torn(self) -> bool:
        """Tell whether its upload never ended: XRootD takes the sticky bit away at the end.

        What was whole before and is being changed has none until the fence: see ``tear``.
        """
        return self.regular and bool(self.status.st_mode & stat.S_ISVTX)


def tear(handles: Iterable[Path]) -> int:
    """Mark files as torn, so that they stay it whatever ends or restarts; give the number of those that were not yet.

    The mark is the one of torn uploads. It is the file's, whatever that is called by now; it needs no room; and nothing
    takes it away once the gate is closed.
    """
    marked = 0
    for handle in handles:
        mode = stat.S_IMODE(handle.stat().st_mode)
        if not mode & stat.S_ISVTX:
            # Readable for the sync: sessions may have closed their own files.
            handle.chmod(mode | stat.S_ISVTX | stat.S_IRUSR)
            sync(handle)
            marked += 1
    return marked


def is_written(path: Path) -> bool | None:
    """Tell whether anybody has a file open to write: the kernel gives no lease on it then; None: it cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        # It has gone, or its session has closed it.
        return None
    try:
        # A lease that is broken is told by a signal: by one that does no harm.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(descriptor)
    return False


def walk(outbox: Path, failed: Failed | None = None) -> Iterator[Found]:
    """Give all that is below an outbox, without following links; nothing if there is no outbox.

    Parameters
    ----------
    failed
        Told of what cannot be read, by its path below the outbox: the rest goes on. Without it, nothing does.
    """
    try:
        is_there = outbox.is_dir()
    except OSError as error:
        _tell(failed, _TOP, error)
        return
    if is_there:
        yield from _walk(os.fsencode(outbox), b"", failed)


def _walk(folder: bytes, prefix: bytes, failed: Failed | None) -> Iterator[Found]:
    # Sessions may have closed their own directories; the server's user owns them all.
    # A session that still runs may rename and delete meanwhile: what has gone is not there.
    listed: list[os.DirEntry[bytes]] = []
    try:
        if os.stat(folder).st_mode & _OWNER != _OWNER:  # noqa: PTH116 (paths are bytes here)
            os.chmod(folder, _OWNER)  # noqa: PTH101 (as above)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        _tell(failed, prefix[:-1] or _TOP, error)
    for entry in listed:
        path = prefix + entry.name
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            status = None if is_folder else _status(entry)
        except OSError as error:
            _tell(failed, path, error)
            continue
        if is_folder:
            yield from _walk(entry.path, path + b"/", failed)
        elif status is not None:
            yield Found(path, status)


def _status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _tell(failed: Failed | None, path: bytes, error: OSError) -> None:
    if failed is None:
        raise error
    failed(path, error)


def below(root: Path, path: bytes) -> Path:
    """Give the file of a path that was found below a directory."""
    return Path(os.fsdecode(os.fsencode(root) + b"/" + path))


def shown(path: bytes) -> str:
    r"""Write a path as text: bytes that are not UTF-8 as ``\xNN``."""
    return path.decode("utf-8", "backslashreplace")


def first_rule(claim: str, path: bytes, rules: Iterable[OutputRule]) -> OutputRule | None:
    """Give the first output that takes a file."""
    text = shown(path)
    for rule in rules:
        if rule.claim == claim and any(matches(pattern, text) for pattern in rule.patterns):
            return rule
    return None


def rule_below(claim: str, folder: bytes, rules: Iterable[OutputRule]) -> OutputRule | None:
    """Give the first output that takes a file, or takes files below it if it is a directory."""
    rules = list(rules)
    below_it = "" if folder == _TOP else f"{shown(folder)}/"
    leading = (
        rule
        for rule in rules
        if rule.claim == claim and any(_leads_below(pattern, below_it) for pattern in rule.patterns)
    )
    return first_rule(claim, folder, rules) or next(leading, None)


def is_excluded(path: bytes) -> bool:
    """Tell whether a file is what programs leave lying about."""
    text = shown(path)
    return any(matches(pattern, text) for pattern in EXCLUDES)


def matches(pattern: str, path: str) -> bool:
    """Compare a path with a glob: ``**`` is any number of directories, ``*`` and ``?`` stay within a name.

    All places that the pattern can have reached are followed at once. A regular expression would try them one after
    another: a few stars, which anybody may write, keep it busy for hours.
    """
    reached = {0}
    for part in _PART.findall(pattern):
        reached = _onward(part, path, reached)
        if not reached:
            return False
    return len(path) in reached


def _leads_below(pattern: str, folder: str) -> bool:
    """Tell whether a glob may match something below a directory, which is given with its last slash."""
    reached = {0}
    for part in _PART.findall(pattern):
        before = len(folder) in reached
        reached = _onward(part, folder, reached) if reached else reached
        if before or (part == "**" and len(folder) in reached):
            return True
    return False


def _onward(part: str, path: str, reached: set[int]) -> set[int]:
    """Give the places of a path that one part of a pattern leads to."""
    if part == "**/":
        first = min(reached)
        return reached.union(at for at in range(first + 1, len(path) + 1) if path[at - 1] == "/")
    if part == "**":
        return set(range(min(reached), len(path) + 1))
    if part == "*":
        return _within_names(path, reached)
    if part == "?":
        return {at + 1 for at in reached if path[at : at + 1] not in {"", "/"}}
    return {at + 1 for at in reached if path[at : at + 1] == part}


def _within_names(path: str, reached: set[int]) -> set[int]:
    found: set[int] = set()
    for start in sorted(reached):
        if start not in found:
            end = path.find("/", start)
            found.update(range(start, (len(path) if end < 0 else end) + 1))
    return found
