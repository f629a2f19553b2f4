"""The status of a class: what was found when its parts were tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from volatile_rse.api.conditions import ClassCondition, Condition, Reason, Status, conditions_by_type
from volatile_rse.api.volatilerseclass import VolatileRSEClassStatus
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import stamp
from volatile_rse.domain.times import is_time

__all__ = ["Finding", "status_of_class"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part of a class."""

    type: ClassCondition
    problems: tuple[Problem, ...] = ()
    """What is wrong; none: it works."""
    well: str = ""
    """What is said where nothing is wrong."""
    awaited: str = ""
    """What is not known yet; empty: it is known."""


def status_of_class(
    findings: Sequence[Finding], old: Mapping[str, Any], generation: int, now: datetime
) -> VolatileRSEClassStatus:
    """Write the status.

    Parameters
    ----------
    findings
        Of the parts that could be tried; the condition of another part stays as it was.
    old
        The status that is there, which anybody may have written.
    """
    before = conditions_by_type(old)
    found = {finding.type: finding for finding in findings}
    parts: list[ClassCondition] = [type_ for type_ in ClassCondition if type_ is not ClassCondition.READY]
    tried = {type_: _said(found[type_]) if type_ in found else _kept(before.get(type_)) for type_ in parts}
    said: dict[ClassCondition, _Said] = {ClassCondition.READY: _ready(tried), **tried}
    conditions = [
        Condition(
            type=type_.value,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=_since(before.get(type_), status, now),
            observed_generation=generation,
        )
        for type_, (status, reason, message) in said.items()
    ]
    return VolatileRSEClassStatus(observed_generation=generation, conditions=conditions)


_Said = tuple[Status, str, str]


def _said(finding: Finding) -> _Said:
    if finding.problems:
        return "False", finding.problems[0].reason.value, " ".join(problem.message for problem in finding.problems)
    if finding.awaited:
        return "Unknown", Reason.IN_PROGRESS.value, finding.awaited
    return "True", Reason.SUCCEEDED.value, finding.well


def _kept(before: Mapping[str, Any] | None) -> _Said:
    """Leave a condition as it was, or say that nobody has looked yet."""
    match before:
        case {"status": "True" | "False" | "Unknown" as status, "reason": str(reason), "message": str(message)} if (
            reason
        ):
            return status, reason, message
    return "Unknown", Reason.PENDING.value, "It has not been tried yet."


def _ready(said: Mapping[ClassCondition, _Said]) -> _Said:
    """Be what the worst part is; the first one of these is told."""
    for worst in ("False", "Unknown"):
        for type_, (status, reason, message) in said.items():
            if status == worst:
                return worst, reason, f"{type_.value}: {message}"
    return "True", Reason.SUCCEEDED.value, "All that the class offers was tried and works."


def _since(before: Mapping[str, Any] | None, status: str, now: datetime) -> str:
    if before is not None and before.get("status") == status and is_time(before.get("lastTransitionTime")):
        return str(before["lastTransitionTime"])
    return stamp(now)
