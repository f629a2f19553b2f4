"""How far a buffer is: read off the truths of its record, nothing else."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from volatile_rse.api.rserecord import RSERecordStatus, SeenJob, SessionTruth
from volatile_rse.api.schema import parse_duration
from volatile_rse.domain.facts import Record
from volatile_rse.domain.session import EndReason, JobRef, SessionState
from volatile_rse.domain.times import later, stamp, when

__all__ = [
    "DISCARDING",
    "EMPTIED",
    "REVERTED",
    "SEALED",
    "STEPS",
    "UNASKED",
    "Stage",
    "has_expired",
    "session_state",
    "session_truth",
    "stage_of",
    "stamp",
    "when",
]

SEALED = "sealed"
"""Step: nobody can write any more, and it is known what there is."""
EMPTIED = "emptied"
"""Step: the storage was lost after its outputs were safe."""
REVERTED = "reverted"
"""Step: Rucio no longer knew outputs that were safe, and their destination had them: they are kept anew."""

UNASKED = "unasked"
"""Step: the agent of a session that has not begun tells nothing of its inputs."""
DISCARDING = "discarding"
"""Step: the consent to a discard was seen."""
STEPS = (SEALED, EMPTIED, REVERTED, UNASKED, DISCARDING)


class Stage(StrEnum):
    """The stages of a record, in their order."""

    PREPARING = "Preparing"
    """Inputs are resolved and destinations chosen; nothing exists yet."""
    SERVING = "Serving"
    """Storage, RSE, inputs, and the session."""
    FENCING = "Fencing"
    """The session has ended; nobody shall write any more, and the inventory is made."""
    KEEPING = "Keeping"
    """Outputs are registered, copied, verified, held by a rule."""
    HIDING = "Hiding"
    """Outputs are safe; nobody shall be sent to the buffer any more."""
    DRAINING = "Draining"
    """The storage is freed, Rucio forgets the replicas, the RSE goes."""
    CLOSED = "Closed"
    """Nothing exists but the record."""


def stage_of(status: RSERecordStatus) -> Stage:
    """Tell the stage."""
    reached = (
        (status.closed_at, Stage.CLOSED),
        (status.freed_at, Stage.DRAINING),
        (status.safe_at, Stage.HIDING),
        (status.steps.get(SEALED), Stage.KEEPING),
        (status.session.ended_at, Stage.FENCING),
        (status.inputs is not None, Stage.SERVING),
    )
    return next((stage for truth, stage in reached if truth), Stage.PREPARING)


def has_expired(record: Record, now: datetime) -> bool:
    """Tell whether a closed record has been kept for as long as its class wants."""
    closed = when(record.status.closed_at)
    return closed is not None and now >= later(closed, parse_duration(record.spec.class_snapshot.record_retention))


def session_state(truth: SessionTruth) -> SessionState:
    """Read the session's truths."""
    return SessionState(
        ready_at=when(truth.ready_at),
        extendable_until=when(truth.extendable_until),
        extended_until=when(truth.extended_until),
        started_at=when(truth.started_at),
        last_seen_at=when(truth.last_seen_at),
        leased_until=when(truth.leased_until),
        ended_at=when(truth.ended_at),
        end_reason=EndReason(truth.end_reason) if truth.end_reason else None,
        jobs=tuple(JobRef(job.name, job.uid) for job in truth.jobs),
    )


def session_truth(state: SessionState) -> SessionTruth:
    """Write the session's truths."""

    def text(time: datetime | None) -> str | None:
        return None if time is None else stamp(time)

    return SessionTruth(
        ready_at=text(state.ready_at),
        extendable_until=text(state.extendable_until),
        extended_until=text(state.extended_until),
        started_at=text(state.started_at),
        last_seen_at=text(state.last_seen_at),
        leased_until=text(state.leased_until),
        ended_at=text(state.ended_at),
        end_reason=state.end_reason,
        jobs=[SeenJob(name=job.name, uid=job.uid) for job in state.jobs],
    )
