"""Times that never overflow: what lies beyond all calendars is the last moment, or the first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["FAR", "earlier", "is_time", "later", "moment", "stamp", "when"]

FAR = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_FIRST = datetime(1, 1, 1, tzinfo=UTC)


def later(moment: datetime, span: timedelta) -> datetime:
    """Give the moment that is later by a span."""
    try:
        return moment + span
    except OverflowError:
        return FAR if span > timedelta() else _FIRST


def earlier(moment: datetime, span: timedelta) -> datetime:
    """Give the moment that is earlier by a span."""
    try:
        return moment - span
    except OverflowError:
        return _FIRST if span > timedelta() else FAR


def stamp(time: datetime) -> str:
    """Write a time as Kubernetes does."""
    try:
        whole = time.astimezone(UTC)
    except OverflowError:
        # Its zone is all that lies beyond.
        whole = time
    return f"{whole.replace(microsecond=0, tzinfo=None).isoformat()}Z"


def when(text: str | None) -> datetime | None:
    """Read a time of Kubernetes.

    Raises
    ------
    ValueError
        It is none.
    """
    if text is None:
        return None
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def moment(text: str) -> datetime:
    """Read a time as people type it, in UTC where they say no other.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is no time such as 2026-12-01 or 2026-12-01T08:00:00Z"
        raise ValueError(message) from error


def is_time(value: object) -> bool:
    """Tell whether a value is a time that Kubernetes would take."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
