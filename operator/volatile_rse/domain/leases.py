"""What the agent of a buffer tells of a session's leases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from volatile_rse.api.agent import LeaseTotals, Report
from volatile_rse.api.leases import LONGEST_LEASE
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.session import Leases, is_leased
from volatile_rse.domain.stage import session_state

__all__ = ["doubt_leases", "is_held_by_lease", "leases_of", "odd_leases"]

_MARGIN = timedelta(minutes=1)
"""From the moment when leases were read to the one of the clock beside them."""


def leases_of(facts: Facts, record: Record) -> Leases | None:
    """Give what is told of the session's leases; None: nothing is known of them now."""
    totals = _totals(facts, record)
    if totals is None:
        return None
    if not totals.taken and record.status.losses:
        # On the volume of now none was ever taken: those of before went with the other one, and nobody released them.
        return None
    if not totals.held or totals.until is None:
        return Leases(taken=totals.taken)
    # No later than any lease can be: a time that can be written, whatever an agent tells.
    latest = facts.now + LONGEST_LEASE + _MARGIN
    return Leases(datetime.fromtimestamp(min(totals.until, int(latest.timestamp())), UTC), taken=True)


def is_held_by_lease(facts: Facts, record: Record) -> bool:
    """Tell whether a lease holds the session now."""
    return is_leased(session_state(record.status.session), leases_of(facts, record), facts.now)


def odd_leases(facts: Facts, record: Record) -> tuple[str, ...]:
    """Give what stands among the leases and is none, each with what is wrong with it."""
    totals = _totals(facts, record)
    return () if totals is None else tuple(totals.odd)


def doubt_leases(record: Record, report: Report) -> str:
    """Say what an agent tells of leases that cannot be; empty: nothing."""
    uid = record.spec.claims[0].uid
    for totals in report.leases or ():
        if totals.claim != uid:
            return f"it tells of leases of session {totals.claim}, and its session is {uid}"
        if bool(totals.held) != (totals.until is not None):
            return f"it counts {totals.held} leases, and tells the end of {'one' if totals.until else 'none'}"
        longest = (LONGEST_LEASE + _MARGIN).total_seconds()
        if totals.until is not None and (report.clock is None or totals.until > report.clock + longest):
            return f"it tells of a lease until {totals.until}, which is longer than any can be"
    return ""


def _totals(facts: Facts, record: Record) -> LeaseTotals | None:
    told = None if facts.report is None else facts.report.leases
    return next((totals for totals in told or () if totals.claim == record.spec.claims[0].uid), None)
