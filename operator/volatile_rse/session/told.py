"""The status file of the session, as the buffer keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from volatile_rse.session.errors import SessionError
from volatile_rse.session.table import Row, duration, size

__all__ = ["inputs_told", "is_arriving", "read_status", "rest_told"]


def read_status(text: str) -> dict[str, Any]:
    """Read it.

    Raises
    ------
    SessionError
        It is no such file.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        message = "The status file of the session cannot be read: it is just being written; ask again in a minute."
        raise SessionError(message)
    return found


def inputs_told(status: Mapping[str, Any]) -> list[Row]:
    """Say how much of each input is there."""
    return [_input(entry) for entry in _entries(status, "inputs")]


def is_arriving(status: Mapping[str, Any]) -> bool:
    """Tell whether files of the inputs are still to come."""
    return _time(status.get("endedAt")) is None and any(
        _number(entry, "staged") < _number(entry, "files") for entry in _entries(status, "inputs")
    )


def rest_told(status: Mapping[str, Any], now: datetime) -> list[Row]:
    """Say what is safe, how long the session lasts, and what somebody must act upon."""
    rows = [Row(f"output {entry.get('name')}", _output(entry)) for entry in _entries(status, "outputs")]
    unmatched = status.get("unmatched")
    if isinstance(unmatched, dict) and (files := _number(unmatched, "files")):
        rows.append(Row("no output", f"takes {files} files, {size(_number(unmatched, 'bytes'))}"))
    rows.append(Row("time left", _time_left(status, now)))
    warnings = _entries(status, "warnings")
    return [*rows, *(Row("warning", f"{entry.get('reason')}: {entry.get('message')}") for entry in warnings)]


def _input(entry: Mapping[str, Any]) -> Row:
    failed, staged, files = _number(entry, "failed"), _number(entry, "staged"), _number(entry, "files")
    there, whole = _number(entry, "stagedBytes"), _number(entry, "bytes")
    said = f", {failed} cannot be had now" if failed else ""
    pending = staged < files
    amount = f"{size(there)} of {size(whole)}" if pending else f"{size(whole)} in all"
    share = None if not pending else min(there / whole, 1.0) if whole else 0.0
    return Row(f"input {entry.get('name')}", f"{staged} of {files} files staged, {amount}{said}", share)


def _output(entry: Mapping[str, Any]) -> str:
    files, is_open = _number(entry, "files"), _number(entry, "open")
    said = f", {is_open} still open" if is_open else ""
    return f"{files} files, {size(_number(entry, 'bytes'))}{said}; {_number(entry, 'safe')} safe"


def _time_left(status: Mapping[str, Any], now: datetime) -> str:
    ended, end = _time(status.get("endedAt")), _time(status.get("expires"))
    if ended is not None:
        return f"none: the session ended at {_shown(ended)}"
    if end is None:
        return "not known yet: the session has not begun"
    if end - now <= timedelta(0):
        return f"none: the session ends at {_shown(end)}"
    return f"{duration(end - now)}, until {_shown(end)} at the latest"


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _time(text: object) -> datetime | None:
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def _number(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


def _entries(status: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = status.get(key)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
