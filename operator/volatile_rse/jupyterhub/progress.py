"""What the spawn page says of a VolatileRSE: its status -> how far it is, in words; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

__all__ = ["Progress", "State", "is_over", "progress_of", "size_of"]

Object = Mapping[str, Any]


class State(Enum):
    """What to do about a server that waits."""

    WAITING = "waiting"
    USABLE = "usable"
    REFUSED = "refused"
    """It never becomes usable, and its user can ask for something else."""
    HELPLESS = "helpless"
    """It does not become usable by itself, and its user cannot help it."""


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    state: State
    percent: int
    line: str


_ADMIN = "ADMIN must act"
_STORAGE, _RSE, _STAGING, _USABLE = 5, 12, 18, 80
"""Per cent when each begins; the pod's start has the rest."""
_QUIET = {"", "InProgress", "Pending", "Succeeded", "NotNeeded"}
"""Reasons that say no more than the numbers."""
_PENDING = "StoragePending"
_ENDED = {"SessionEnded", "SessionOver"}
_OF_THE_HUB = {"AccountNotGranted", "DurabilityTooLow", "InvalidSpec", "TtlOverLimit", "UnknownClass"}
"""Reasons of what no user of a hub chooses, but its settings."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_TEN = 10
_LONGEST = 600
_MINUTE = 60


def progress_of(body: Object, now: datetime) -> Progress:
    """Judge a VolatileRSE as it is now."""
    status = _mapping(body.get("status"))
    conditions = _conditions(status)

    def is_true(type_: str) -> bool:
        return _mapping(conditions.get(type_)).get("status") == "True"

    if is_over(body):
        return Progress(State.HELPLESS, _USABLE, "The session is over before it began: its VolatileRSE was ended.")
    if is_true("Stalled"):
        return _stalled(_mapping(conditions.get("Stalled")))
    if is_true("Usable"):
        return Progress(State.USABLE, _USABLE, f"The data are there, on {status.get('rse')}.")
    if not conditions:
        return Progress(State.WAITING, 1, "Waiting for the operator of volatile RSEs.")
    if not is_true("StorageReady"):
        return Progress(State.WAITING, _STORAGE, _start(conditions, now))
    if not is_true("RSERegistered"):
        what = f"{status.get('rse')} is being registered in Rucio"
        return Progress(State.WAITING, _RSE, _with(what, conditions, "RSERegistered"))
    percent, what = _staged(status, now)
    return Progress(State.WAITING, min(percent, _USABLE - 1), _with(what, conditions, "InputsStaged"))


def _start(conditions: Mapping[str, Object], now: datetime) -> str:
    what, condition = "The storage is being started", _mapping(conditions.get("StorageReady"))
    since = _time(condition.get("lastTransitionTime"))
    # Every storage is pending at first, and nobody has to act.
    if condition.get("reason") == _PENDING and since is not None and (now - since).total_seconds() < _MINUTE:
        return f"{what}."
    return _with(what, conditions, "StorageReady")


def _staged(status: Object, now: datetime) -> tuple[int, str]:
    staged, files, there, size = (_sum(status, key) for key in ("staged", "files", "stagedBytes", "bytes"))
    if not files:
        return _STAGING, "Almost there"
    # An operator of an earlier version tells no bytes.
    tells = any("stagedBytes" in _mapping(entry) for entry in _list(status.get("inputs")))
    done, whole = (there, size) if tells and size else (staged, files)
    amount = f"{size_of(there)} of {size_of(size)}" if tells and staged < files else f"{size_of(size)} in all"
    percent = _STAGING + (_USABLE - _STAGING) * min(done, whole) // whole
    return percent, f"{staged} of {files} files staged, {amount}{_left(status, now)}"


def is_over(body: Object) -> bool:
    """Tell whether its session has ended, whoever ended it."""
    reason = str(_mapping(_conditions(_mapping(body.get("status"))).get("Usable")).get("reason"))
    return "deletionTimestamp" in _mapping(body.get("metadata")) or reason in _ENDED


def _conditions(status: Object) -> Mapping[str, Object]:
    return {str(entry.get("type")): entry for entry in map(_mapping, _list(status.get("conditions")))}


def _stalled(condition: Object) -> Progress:
    why = condition.get("message")
    line = _short(why) or "The data cannot be had."
    if condition.get("reason") in _OF_THE_HUB:
        return Progress(State.HELPLESS, _USABLE, f"{line} On this hub that is its admin's to change.")
    # Who must act stands at its end.
    is_helpless = isinstance(why, str) and _ADMIN in why
    return Progress(State.HELPLESS if is_helpless else State.REFUSED, _USABLE, line)


def _with(what: str, conditions: Mapping[str, Object], type_: str) -> str:
    """Add what is wrong, where something is."""
    condition = _mapping(conditions.get(type_))
    if condition.get("status") == "True" or str(condition.get("reason", "")) in _QUIET:
        return f"{what}."
    return _short(f"{what}. {condition.get('message', '')}")


def _left(status: Object, now: datetime) -> str:
    ends = [moment for entry in _list(status.get("inputs")) if (moment := _time(_mapping(entry).get("eta")))]
    seconds = (max(ends) - now).total_seconds() if ends else 0
    if seconds <= 0:
        return ""
    return f", about {seconds // _MINUTE:.0f} min left" if seconds >= 2 * _MINUTE else f", about {seconds:.0f} s left"


def _time(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


def _sum(status: Object, key: str) -> int:
    values = (_mapping(entry).get(key) for entry in _list(status.get("inputs")))
    return sum(value for value in values if isinstance(value, int))


def size_of(count: int) -> str:
    """Write a number of bytes as people read it."""
    size, unit = float(count), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < _TEN else f"{size:.0f} {_UNITS[unit]}"


def _short(text: object) -> str:
    """Leave out what is in the middle: the begin tells what is wrong, the end who must do what."""
    said = text if isinstance(text, str) else ""
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 :]}"


def _mapping(value: object) -> Object:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
