"""A record's truths of which some cannot be read: what the others are taken for, so that its buffer comes to its end.

Each truth permits something. One that cannot be read permits nothing, and the machine goes on from the stage before:
every deed may be repeated, and what is destroyed rests on what is asked live. What a truth would forbid counts as said:
a session of which nothing can be read may have written, and has ended.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from volatile_rse.api.rserecord import Outcome, RSERecordStatus, SessionTruth
from volatile_rse.api.text import WORDS, visible
from volatile_rse.domain.session import EndReason
from volatile_rse.domain.stage import DISCARDING, EMPTIED, REVERTED, SEALED, stamp

__all__ = ["WHOLE", "safer", "said_of_mending"]

WHOLE = "status"
"""All of it cannot be read."""
_CHOSEN = {"inputs", "scopes", "addedScopes", "destinations"}
"""What is resolved and chosen in one go, before a session is served."""


def safer(status: RSERecordStatus, lost: Collection[str], created: datetime | None, now: datetime) -> RSERecordStatus:
    """Take the safer reading for each truth that cannot be read.

    Parameters
    ----------
    status
        What could be read; the others are as if they were not there.
    lost
        Names of those, as in the stored object: ``session``, ``session.endedAt``, ``steps.sealed``; or ``WHOLE``.
    created
        When the record was made: a session began no earlier.
    """
    if not lost:
        return status
    lost = {"session", *_CHOSEN} if WHOLE in lost else set(lost)
    status = _without_safe(status, lost)
    status = status.model_copy(update=_implied(status, stamp(now)) | _lost_with_storage(status, lost))
    ended = status.freed_at or status.safe_at or status.steps.get(SEALED)
    session = _session(status.session, lost, stamp(created or now), ended or stamp(now))
    if ended and session.ended_at is None:
        session = session.model_copy(update={"ended_at": ended, "end_reason": EndReason.RECORD_UNREADABLE.value})
    update: dict[str, object] = {"session": session}
    if lost & _CHOSEN and session.ended_at is None:
        # All of it is resolved and chosen anew.
        update |= {"inputs": None, "scopes": [], "added_scopes": [], "destinations": None}
    return status.model_copy(update=update)


def said_of_mending(lost: Collection[str], now: datetime) -> str:
    """Say what was not read, for those who look at the record later."""
    named = ", ".join(name if name == WHOLE else f"status.{name}" for name in sorted(lost))
    said = f"{stamp(now)}: could not be read, and was taken by the safer reading: {named}"
    return visible(said, WORDS)


def _without_safe(status: RSERecordStatus, lost: Collection[str]) -> RSERecordStatus:
    """Go back to where outputs are brought to safety, if it is not known any more what is safe, or where.

    What was freed is gone: that was decided when it was known.
    """
    steps = dict(status.steps)
    unknown = {"outcome", "destinations", "lostFiles"} & set(lost)
    if EMPTIED not in steps:
        # Its consent stands, and is carried out again; what went with the storage is written off where it is.
        unknown |= {"discarded"} & set(lost)
    if not unknown or status.freed_at or status.closed_at:
        return status
    # Before a consent is carried out again, what can become safe does.
    steps.pop(DISCARDING, None)
    if _never_began(status, lost):
        # Nobody can have written: that is found again at once, without any storage.
        steps.pop(SEALED, None)
    return status.model_copy(update={"safe_at": None, "steps": steps, "outcome": None})


def _never_began(status: RSERecordStatus, lost: Collection[str]) -> bool:
    return status.session.ready_at is None and not {"session", "session.readyAt"} & set(lost)


def _implied(status: RSERecordStatus, now: str) -> dict[str, object]:
    """Give the truths that must have been there before those that can be read."""
    freed = status.freed_at or status.closed_at
    # The outcome is written together with it.
    safe = status.safe_at or freed or (now if status.outcome is not None else None)
    steps = dict(status.steps)
    if safe:
        steps.setdefault(SEALED, safe)
    return {"freed_at": freed, "safe_at": safe, "steps": steps}


def _lost_with_storage(status: RSERecordStatus, lost: Collection[str]) -> dict[str, object]:
    """Have a loss that was written down count, also where it cannot be read what was lost."""
    update: dict[str, object] = {}
    if "losses" in lost:
        update["losses"] = ["What was lost with the storage cannot be read any more."]
    if "lostFiles" in lost and status.discarded is None and not status.freed_at and not _never_began(status, lost):
        update |= {"lost_files": 1, "lost_bytes": 0}
    if f"steps.{REVERTED}" in lost and status.safe_at:
        # Its outputs are not safe before their rules are seen.
        update["steps"] = {**status.steps, REVERTED: status.safe_at}
    if status.freed_at and "outcome" in lost:
        update["outcome"] = Outcome(files=0, bytes=0, exceptions=["What became of it cannot be read any more."])
    return update


def _session(told: SessionTruth, lost: Collection[str], created: str, ended: str) -> SessionTruth:
    update: dict[str, object] = {}
    if {"session", "session.readyAt"} & set(lost):
        # Somebody may have written.
        update["ready_at"] = told.started_at or created
    if {"session", "session.endedAt"} & set(lost):
        # Nobody writes an end that is none. To fence a session that runs loses no byte.
        update["ended_at"] = ended
        update["end_reason"] = told.end_reason or EndReason.RECORD_UNREADABLE.value
    return told.model_copy(update=update)
