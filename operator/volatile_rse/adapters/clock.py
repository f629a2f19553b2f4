"""The time: of this machine, or turned by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from volatile_rse.ports.clock import Clock

__all__ = ["FakeClock", "SystemClock"]


class SystemClock(Clock):
    """The clock of the machine."""

    def now(self) -> datetime:
        """Give the time in UTC, whole seconds."""
        return datetime.now(UTC).replace(microsecond=0)


class FakeClock(Clock):
    """A clock that stands still until it is turned."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        """Give the time that was set."""
        return self._now

    def turn(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
