"""Leases: small files by which work outside the cluster holds a session, as pods inside it do."""

from __future__ import annotations

import contextlib
import re
from datetime import timedelta

from volatile_rse.api.schema import parse_duration

__all__ = ["LONGEST_LEASE", "USUAL_LEASE", "fault_of_lease_name", "time_of_lease"]

USUAL_LEASE = "1h"
"""What an empty one says."""
LONGEST_LEASE = timedelta(days=7)
"""What says more counts as this."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def fault_of_lease_name(name: str) -> str:
    """Say why a name cannot be a lease's; empty: it can."""
    return "" if _NAME.fullmatch(name) else "its name is not up to 63 letters, digits, '.', '_' and '-'"


def time_of_lease(content: bytes) -> tuple[timedelta, str]:
    """Read for how long a lease holds.

    Returns
    -------
    tuple[timedelta, str]
        The time, and why it is not the one that is written there; empty: it is.
    """
    said = content.strip().decode("ascii", "backslashreplace")
    with contextlib.suppress(ValueError):
        asked = parse_duration(said or USUAL_LEASE)
        days = LONGEST_LEASE.days
        return min(asked, LONGEST_LEASE), f"{said} counts as {days}d, the longest" if asked > LONGEST_LEASE else ""
    return parse_duration(USUAL_LEASE), f"what is in it is no duration such as 90m or 24h: it counts as {USUAL_LEASE}"
