"""The time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """What tells the time; tests turn it by hand."""

    def now(self) -> datetime:
        """Give the time in UTC, whole seconds."""
