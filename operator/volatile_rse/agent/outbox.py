"""What sessions left in their outboxes, and which output takes it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import signal
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from volatile_rse.agent.places import sync
from volatile_rse.api.agent import EXCLUDES, PATH_LENGTH, OutputRule, rule_of
from volatile_rse.api.patterns import Reach, leads_below, reach_of
from volatile_rse.api.text import visible

__all__ = [
    "Failed",
    "Found",
    "below",
    "first_rule",
    "is_excluded",
    "is_written",
    "reached",
    "rule_below",
    "shown",
    "tear",
    "walk",
]

_OWNER = stat.S_IRWXU
_TOP = b"."
"""An outbox itself."""
_AT_ONCE = 4000
"""Bytes of a path that the kernel takes in one call."""
_DEEPEST = 16384
"""Bytes of a path below an outbox: no program can name what is deeper, and it is told as one thing."""
_DIGEST = 16
"""Characters of the digest that tells long paths apart."""

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


def walk(outbox: Path, failed: Failed) -> Iterator[Found]:
    """Give all that is below an outbox, without following links; nothing if there is no outbox.

    However deep it is: nothing here calls itself, and no more than two directories are open at a time.

    Parameters
    ----------
    failed
        Told of what cannot be read, by its path below the outbox: the rest goes on.
    """
    root = os.fsencode(outbox)
    waiting = [b""]
    while waiting:
        prefix = waiting.pop()
        with ExitStack() as opened:
            try:
                folder = opened.enter_context(_readable(root + b"/" + prefix))
                names = _names(folder, prefix, failed)
            except FileNotFoundError:
                # A session that still runs may rename and delete meanwhile: what has gone is not there.
                continue
            except OSError as error:
                failed(prefix[:-1] or _TOP, error)
                continue
            folders: list[bytes] = []
            for name in names:
                try:
                    status = _status(folder, name)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    failed(prefix + name, error)
                    continue
                if stat.S_ISDIR(status.st_mode) and len(prefix) + len(name) > _DEEPEST:
                    failed(prefix + name, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))
                elif stat.S_ISDIR(status.st_mode):
                    folders.append(prefix + name + b"/")
                else:
                    yield Found(prefix + name, status)
        waiting += reversed(folders)


def _names(folder: int, prefix: bytes, failed: Failed) -> list[bytes]:
    """List a directory; what a damaged one gives before its end counts."""
    names: list[bytes] = []
    try:
        with os.scandir(folder) as entries:
            names.extend(os.fsencode(entry.name) for entry in entries)
    except OSError as error:
        failed(prefix[:-1] or _TOP, error)
    return sorted(names)


def _status(folder: int, name: bytes) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


@contextmanager
def _readable(path: bytes) -> Iterator[int]:
    """Open a directory, also one that its session has closed: the server's user owns them all."""
    with _held(path) as handle:
        if os.fstat(handle).st_mode & _OWNER != _OWNER:
            os.chmod(f"/proc/self/fd/{handle}", _OWNER)  # noqa: PTH101 (it has no other name of bounded length)
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _held(path: bytes) -> Iterator[int]:
    """Get hold of a directory, however long its path is: the kernel takes 4 KiB of one at a time."""
    handle: int | None = None
    try:
        for part in _parts(path.rstrip(b"/")):
            further = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            if handle is not None:
                os.close(handle)
            handle = further
        if handle is None:
            message = "no path"
            raise ValueError(message)
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _parts(path: bytes) -> Iterator[bytes]:
    while len(path) > _AT_ONCE:
        end = path.rindex(b"/", 1, _AT_ONCE)
        yield path[:end]
        path = path[end + 1 :]
    yield path


@contextmanager
def reached(path: Path) -> Iterator[Path]:
    """Give a path that the kernel takes, for as long as it is needed: the same one, if that is short enough."""
    raw = os.fsencode(path)
    if len(raw) <= _AT_ONCE:
        yield path
        return
    folder, _, name = raw.rpartition(b"/")
    with _held(folder) as handle:
        yield Path(f"/proc/self/fd/{handle}/{os.fsdecode(name)}")


def below(root: Path, path: bytes) -> Path:
    """Give the file of a path that was found below a directory."""
    return Path(os.fsdecode(os.fsencode(root) + b"/" + path))


def shown(path: bytes) -> str:
    r"""Write a path for people: bytes that are not UTF-8, and what is not printed, as ``visible`` does.

    Of a very long one its begin and a digest are enough: two paths are never shown as one.
    """
    text = visible(_text(path))
    if len(text) <= PATH_LENGTH:
        return text
    digest = hashlib.sha256(path).hexdigest()[:_DIGEST]
    return f"{visible(text, PATH_LENGTH - _DIGEST)}{digest}"


def _text(path: bytes) -> str:
    r"""Give what globs are compared with: bytes that are not UTF-8 are ``\xNN``."""
    return path.decode("utf-8", "backslashreplace")


def first_rule(claim: str, path: bytes, rules: Iterable[OutputRule]) -> OutputRule | None:
    """Give the output that takes a file."""
    return rule_of(claim, _text(path), rules)


def rule_below(claim: str, folder: bytes, rules: Iterable[OutputRule]) -> OutputRule | None:
    """Give the first output that takes a file, or takes files below it if it is a directory."""
    rules = list(rules)
    above = "" if folder == _TOP else _text(folder)
    leading = (
        rule for rule in rules if rule.claim == claim and any(leads_below(pattern, above) for pattern in rule.patterns)
    )
    return first_rule(claim, folder, rules) or next(leading, None)


def is_excluded(path: bytes) -> bool:
    """Tell whether a file is what programs leave lying about."""
    text = _text(path)
    return any(reach_of(pattern, text) is Reach.WHOLE for pattern in EXCLUDES)
