"""When a session starts and ends: the truths of the record, moved forward by what is observed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from volatile_rse.api.rserecord import JOBS
from volatile_rse.domain.times import later

__all__ = [
    "EndReason",
    "JobRef",
    "Leases",
    "Limits",
    "Observation",
    "SessionState",
    "advance",
    "end_of",
    "is_due",
    "is_leased",
]

_SLACK = timedelta(minutes=5)
"""What is known of the end of leases may be so much too early: a thousand jobs that renew theirs cost few writes."""


class EndReason(StrEnum):
    """Why a session ended; persisted, and never taken back."""

    PODS_GONE = "PodsGone"
    NOBODY_CAME = "NobodyCame"
    TTL_EXPIRED = "TtlExpired"
    DELETED = "Deleted"
    REQUESTED = "Requested"
    INPUTS_LATE = "InputsLate"
    """It never began: what it could not begin without did not come in time."""
    RECORD_UNREADABLE = "RecordUnreadable"
    """What its record says of it cannot be read, so that nobody knows whether it had ended."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The session's own times."""

    start_timeout: timedelta
    """From first Ready."""
    ttl: timedelta
    """From first Ready."""
    end_grace: timedelta
    """Without a pod or a lease."""
    max_ttl: timedelta = timedelta()
    """From first Ready: how far it can be extended at most."""


@dataclass(frozen=True, slots=True, order=True)
class JobRef:
    """A Job that controls pods of the session."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class SessionState:
    """What the record holds of a session."""

    ready_at: datetime | None = None
    extendable_until: datetime | None = None
    """The latest end that it may be given; None: what its ttl gives."""
    extended_until: datetime | None = None
    """The end that it was given."""
    started_at: datetime | None = None
    last_seen_at: datetime | None = None
    """When a pod or a lease was last known to hold the session; None while one does."""
    leased_until: datetime | None = None
    """Until when leases hold it at least; None: none does."""
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    jobs: tuple[JobRef, ...] = ()
    """Those that control its pods, as seen so far; the last ones are the latest."""


@dataclass(frozen=True, slots=True)
class Leases:
    """What its buffer tells of a session's leases."""

    until: datetime | None = None
    """When the last one that holds it is over; None: none does."""
    taken: bool = False
    """One was taken, even if nobody saw it hold."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of a session now."""

    now: datetime
    usable: bool
    pods_running: bool
    """Some selected pod is scheduled and has not finished."""
    pods_finished: bool = False
    """Some selected pod has finished: the session came, even if nobody saw it run."""
    leases: Leases | None = None
    """None: they are not known now."""
    awaited: bool = False
    """A Job of the pods has not ended: it may start another one."""
    jobs: tuple[JobRef, ...] = ()
    """Those that control the pods that are there, the latest ones first."""
    written: bool = False
    """There are files of the session: somebody came, even if no pod was ever seen."""
    deleting: bool = False
    requested: bool = False
    """Its owner has asked for its end."""
    extend_until: datetime | None = None
    """Until when its owner asks that it may live."""


def advance(state: SessionState, seen: Observation, limits: Limits) -> SessionState:
    """Move a session's truths forward; the same observation twice changes nothing.

    An end is irrevocable: a pod that appears afterwards does not bring the session back.
    """
    if state.ended_at is not None:
        return state
    if seen.usable and state.ready_at is None:
        longest = later(seen.now, max(limits.ttl, limits.max_ttl))
        state = replace(state, ready_at=seen.now, extendable_until=longest)
    state = _extended(state, seen, limits)
    if seen.deleting:
        return _ended(state, seen.now, EndReason.DELETED)
    if seen.requested:
        return _ended(state, seen.now, EndReason.REQUESTED)
    if state.ready_at is None:
        return state
    state = _held(state, seen)
    return _expire(state, seen, limits)


def _extended(state: SessionState, seen: Observation, limits: Limits) -> SessionState:
    """Give a session longer, as far as it may have that; what it was given is not taken back."""
    end = end_of(state, limits)
    if seen.extend_until is None or state.extendable_until is None or end is None:
        return state
    until = min(seen.extend_until, state.extendable_until)
    return replace(state, extended_until=until) if until > end else state


def end_of(state: SessionState, limits: Limits) -> datetime | None:
    """Tell when a session that has started ends at the latest; None: it was not ready yet."""
    if state.ready_at is None:
        return None
    by_ttl = later(state.ready_at, limits.ttl)
    return by_ttl if state.extended_until is None else max(by_ttl, state.extended_until)


def _held(state: SessionState, seen: Observation) -> SessionState:
    state = replace(state, leased_until=_leased_until(state, seen))
    holds = seen.pods_running or is_leased(state, seen.leases, seen.now)
    came = holds or seen.pods_finished or (seen.leases is not None and seen.leases.taken)
    if state.started_at is None and not came:
        return state
    last_seen_at = None if holds else state.last_seen_at or seen.now
    jobs = _known(state.jobs, seen.jobs)
    return replace(state, started_at=state.started_at or seen.now, last_seen_at=last_seen_at, jobs=jobs)


def is_leased(state: SessionState, leases: Leases | None, now: datetime) -> bool:
    """Tell whether a lease holds a session: by the buffer's word, and without it by what is known of before."""
    if leases is not None:
        return leases.until is not None
    return state.leased_until is not None and now < state.leased_until


def _leased_until(state: SessionState, seen: Observation) -> datetime | None:
    known, told = state.leased_until, seen.leases
    if told is None or told.until is None:
        return known if told is None else None
    stays = known is not None and seen.now < known <= told.until <= later(known, _SLACK)
    return known if stays else told.until


def _known(before: tuple[JobRef, ...], now: tuple[JobRef, ...]) -> tuple[JobRef, ...]:
    """Add the Jobs that are seen to those that are known; of too many the latest, and the same for the same sight."""
    if set(now) <= set(before):
        return before
    here = now[:JOBS]
    if set(here) <= set(before):
        return before
    return (*(job for job in before if job not in here), *reversed(here))[-JOBS:]


def _expire(state: SessionState, seen: Observation, limits: Limits) -> SessionState:
    end = end_of(state, limits)
    if end is not None and seen.now >= end:
        return _ended(state, seen.now, EndReason.TTL_EXPIRED)
    if is_due(state, seen.now, limits) and not seen.awaited:
        return _ended(state, seen.now, EndReason.PODS_GONE)
    nobody = state.started_at is None and state.ready_at is not None
    if nobody and state.ready_at is not None and seen.now >= later(state.ready_at, limits.start_timeout):
        return _ended(state, seen.now, EndReason.PODS_GONE if seen.written else EndReason.NOBODY_CAME)
    return state


def is_due(state: SessionState, now: datetime, limits: Limits) -> bool:
    """Tell whether nothing has held the session for so long that only a pod that is awaited keeps it."""
    return state.last_seen_at is not None and now >= later(state.last_seen_at, limits.end_grace)


def _ended(state: SessionState, now: datetime, reason: EndReason) -> SessionState:
    return replace(state, ended_at=now, end_reason=reason)
