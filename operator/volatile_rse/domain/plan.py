"""What one look at a buffer decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import RSERecordStatus
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Changed, Record
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import stage_of

__all__ = ["SHOWN", "Plan", "Risk", "changed_objects", "foreign_object", "remember", "request_of", "risky", "some_of"]

SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True, slots=True)
class Risk:
    """Outputs that are not safe."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, what stands in the way, and when to look again."""

    effects: tuple[do.Effect, ...] = ()
    problems: tuple[Problem, ...] = ()
    waiting: str = ""
    """What has to happen first, elsewhere."""
    wake: datetime | None = None
    """A time at which the facts change by themselves."""
    risk: Risk | None = None
    """What is not safe, where that is known."""
    faults: tuple[Exception, ...] = ()
    """What went wrong while it was decided: the rest of the plan stands without it."""


def risky(risk: Risk | None) -> dict[str, object]:
    """Write a risk as the record's fields."""
    return {
        "files_at_risk": None if risk is None else risk.files,
        "bytes_at_risk": None if risk is None else risk.bytes,
    }


def remember(record: Record, **changes: object) -> do.Remember:
    """Change truths of the record; its phase follows from them, and the message of another phase is void."""
    status = RSERecordStatus.model_validate(record.status.model_copy(update=changes).model_dump())
    phase = stage_of(status)
    message = status.message if phase is stage_of(record.status) else None
    return do.Remember(status.model_copy(update={"phase": phase.value, "message": message}))


def foreign_object(what: str) -> Problem:
    """Say that a name that is needed is taken."""
    return Problem(Reason.FOREIGN_OBJECT, f"{what} is not the operator's.")


def changed_objects(namespace: str, changed: Iterable[Changed]) -> Problem:
    """Say which objects of a session are not as they were written, and which programs say that they wrote them."""
    said = "; ".join(f"{each.kind} {namespace}/{each.name} was changed by {each.by}" for each in changed if each.by)
    return Problem(Reason.SESSION_OBJECT_CHANGED, f"{said}.")


def request_of(record: Record) -> VolatileRSESpec:
    """Give what was asked for, as it was frozen."""
    return record.spec.claims[0].request


def some_of(dids: Sequence[Did]) -> str:
    """Name a few, and say how many more there are."""
    named = ", ".join(str(did) for did in dids[:SHOWN])
    return named if len(dids) <= SHOWN else f"{named} and {len(dids) - SHOWN} more"
