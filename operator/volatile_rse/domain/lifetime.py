"""How long a session may live, and when something about it changes by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from volatile_rse.api.schema import parse_duration
from volatile_rse.domain.discard import is_unacknowledged
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.leases import leases_of
from volatile_rse.domain.outputs import continuous_outputs
from volatile_rse.domain.plan import request_of
from volatile_rse.domain.session import Limits, Observation, SessionState, advance, end_of, is_due
from volatile_rse.domain.stage import session_state
from volatile_rse.domain.times import earlier, later, when

__all__ = [
    "certain_end",
    "deleted_at",
    "is_end_due",
    "latest_end",
    "limits_of",
    "next_wake",
    "session_after",
    "warns_at",
]

_WATCHING = timedelta(seconds=10)
"""Between two looks at a buffer whose session may publish."""


def session_after(facts: Facts, record: Record, *, usable: bool) -> SessionState:
    """Advance the session by what is seen of it."""
    gone = facts.request is None or facts.request.deleting
    asked = facts.request is not None and facts.request.end_requested
    written = facts.report is not None and any(total.files for total in facts.report.outputs)
    seen = Observation(
        now=facts.now,
        usable=usable,
        pods_running=facts.session.running,
        pods_finished=facts.session.finished,
        leases=leases_of(facts, record),
        awaited=bool(facts.session.awaited),
        jobs=facts.session.jobs,
        written=written,
        deleting=gone,
        requested=asked,
        extend_until=None if facts.request is None else facts.request.extend_until,
    )
    return advance(session_state(record.status.session), seen, limits_of(record))


def certain_end(facts: Facts, record: Record) -> SessionState | None:
    """Give the end that the request, the record and the time alone decide: nobody has to be asked for anything.

    That no pod runs is seen elsewhere, and may be as wrong as any answer.
    """
    before = session_state(record.status.session)
    request = facts.request
    seen = Observation(
        now=facts.now,
        usable=False,
        pods_running=True,
        deleting=request is None or request.deleting,
        requested=request is not None and request.end_requested,
        extend_until=None if request is None else request.extend_until,
    )
    after = advance(before, seen, limits_of(record))
    if before.ended_at is not None or after.ended_at is None:
        return None
    return replace(before, ended_at=after.ended_at, end_reason=after.end_reason)


def limits_of(record: Record) -> Limits:
    """Read the session's times."""
    session = request_of(record).session
    return Limits(
        start_timeout=parse_duration(session.start_timeout),
        ttl=parse_duration(session.ttl),
        end_grace=parse_duration(session.end_grace),
        # It counts at first Ready alone: of a record that is read in part there is no such moment any more.
        max_ttl=timedelta() if record.partial else parse_duration(record.spec.class_snapshot.max_ttl),
    )


def is_end_due(facts: Facts, record: Record) -> bool:
    """Tell whether nothing has held a session for so long that its end is due, if no Job starts another pod."""
    state = session_state(record.status.session)
    return state.ended_at is None and is_due(state, facts.now, limits_of(record))


def warns_at(state: SessionState, record: Record) -> datetime | None:
    """Tell from when on a session is warned of its latest end."""
    end = latest_end(state, record)
    return None if end is None else earlier(end, parse_duration(request_of(record).session.end_warning))


def latest_end(state: SessionState, record: Record) -> datetime | None:
    """Tell when a session ends at the latest, as far as it has come."""
    limits = limits_of(record)
    end = end_of(state, limits)
    if state.ready_at is None or end is None:
        return None
    return end if state.started_at else min(end, later(state.ready_at, limits.start_timeout))


def deleted_at(facts: Facts, record: Record) -> datetime | None:
    """Tell when the VolatileRSE is to be deleted as it asks; None: it is not, or something is to be said of it yet.

    Until its storage is freed, something may be found that is not safe: then nothing is freed, and it stays to say so.
    """
    request, safe = facts.request, when(record.status.safe_at)
    if request is None or request.deleting or request.ttl_after_finished is None:
        return None
    if safe is None or record.status.freed_at is None or is_unacknowledged(record):
        return None
    if record.status.discarded is None and _is_to_be_read(record):
        # Its owner may read no record: with it the only word of that would go.
        return None
    return later(safe, request.ttl_after_finished)


def _is_to_be_read(record: Record) -> bool:
    """Tell whether outputs were lost, or took nothing though files were left: its owner has to learn of it."""
    outcome = record.status.outcome
    return bool(record.status.losses) or (outcome is not None and bool(outcome.empty))


def next_wake(facts: Facts, state: SessionState, record: Record) -> datetime | None:
    """Tell when a living session changes by the mere passing of time."""
    limits = limits_of(record)
    times = [latest_end(state, record), warns_at(state, record), state.leased_until]
    if state.last_seen_at is not None:
        times.append(later(state.last_seen_at, limits.end_grace))
    if state.ready_at is not None and continuous_outputs(record.spec):
        times.append(facts.now + _WATCHING)
    return min((time for time in times if time is not None and time > facts.now), default=None)
