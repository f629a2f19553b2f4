"""Who uses the testbed of this machine: there is one, and each clone of this user could remove another's.

A process that works with it is written down beside the cache, which all clones share. What a dead one has written does
not count: a testbed that nobody alive uses may be taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from testbed.layout import CACHE, CHECKOUT, STATE
from testbed.progress import StepError

__all__ = ["Holder", "join", "leave", "take"]

HOLDERS = CACHE / "testbed-holders.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STATE, _PARENT, _STARTED = 0, 1, 19
"""Fields of ``/proc/PID/stat``, counted after the name of the program."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One process that uses the testbed."""

    clone: str
    testbed: str
    """Where it keeps keys and passwords: clones that share it have one testbed."""
    pid: int
    born: str
    """Boot and clock tick at which the process began: a number of a process comes again."""
    since: str
    command: str

    def __str__(self) -> str:
        return f"{self.command} of {self.clone} (process {self.pid}, since {self.since})"


def take(command: str, pid: int | None = None, *, alone: bool = False, force: bool = False) -> tuple[Holder, ...]:
    """Hold the testbed until this process ends.

    Parameters
    ----------
    command
        What people call it.
    pid
        The process that holds it; by default this one.
    alone
        What they have made will be removed: other processes of the same clone count, too.
    force
        Whatever others do with it.

    Returns
    -------
    tuple[Holder, ...]
        Dead ones of other clones, which may have left a testbed.

    Raises
    ------
    StepError
        Somebody else uses it; says who, and since when.
    """
    ours, family = _testbed(), _family()
    with _locked():
        before = _read()
        living = [holder for holder in before if _born(holder.pid) == holder.born]
        others = [holder for holder in living if holder.pid not in family and (alone or holder.testbed != ours)]
        if others and not force:
            message = (
                f"the testbed of this machine is in use: {'; '.join(map(str, others))}. USER must act: wait until that "
                f"has ended, or take it away from there: `{command} FORCE=1`"
            )
            raise StepError(message)
        kept = [holder for holder in living if holder not in others]
        if not any(holder.pid in family for holder in kept):
            kept.append(_holder(command, pid or os.getpid()))
        _write(kept)
    return tuple(holder for holder in before if holder not in living and holder.testbed != ours)


def join(command: str) -> None:
    """Hold the testbed beside others of this clone; where another clone has it, there is nothing to hold."""
    with suppress(StepError):
        take(command)


def leave() -> None:
    """Hold it no more: there is none."""
    family = _family()
    with _locked():
        _write([holder for holder in _read() if holder.pid not in family and _born(holder.pid) == holder.born])


def _holder(command: str, pid: int) -> Holder:
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Holder(str(CHECKOUT), _testbed(), pid, _born(pid) or "", since, command)


def _testbed() -> str:
    return str(STATE.resolve())


@contextmanager
def _locked() -> Iterator[None]:
    HOLDERS.parent.mkdir(parents=True, exist_ok=True)
    with HOLDERS.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read() -> list[Holder]:
    try:
        return [Holder(**entry) for entry in json.loads(HOLDERS.read_text())]
    except (OSError, ValueError, TypeError):
        # None yet, or of another version of this program: nobody is known.
        return []


def _write(holders: Sequence[Holder]) -> None:
    new = HOLDERS.with_suffix(".new")
    new.write_text(json.dumps([asdict(holder) for holder in holders], indent=1))
    new.replace(HOLDERS)


def _family() -> set[int]:
    """Give this process and those that it was started by: what make holds, its commands may use."""
    found: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in found and (stat := _stat(pid)):
        found.add(pid)
        pid = int(stat[_PARENT])
    return found


def _born(pid: int) -> str | None:
    """Tell when a process began; None: it has ended."""
    stat = _stat(pid)
    return None if not stat or stat[_STATE] == "Z" else f"{_BOOT.read_text().strip()} {stat[_STARTED]}"


def _stat(pid: int) -> list[str]:
    try:
        # The name of the program is in brackets, and may have some itself.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
