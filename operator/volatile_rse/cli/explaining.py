"""What a reason or a condition means, who must act, and what to do."""

from __future__ import annotations

import difflib

from volatile_rse.api.conditions import MEANINGS, REMEDIES, ClassCondition, ConditionType, Reason
from volatile_rse.api.pages import docstrings
from volatile_rse.domain.status import STALLING

__all__ = ["explained", "names", "similar"]

_CONDITIONS: tuple[tuple[str, ConditionType | ClassCondition], ...] = (
    *(("VolatileRSE", type_) for type_ in ConditionType),
    *(("VolatileRSEClass", type_) for type_ in ClassCondition),
)
"""Kind and condition."""


def names() -> tuple[str, ...]:
    """List what can be explained."""
    return tuple(sorted({*(reason.value for reason in Reason), *(type_.value for _, type_ in _CONDITIONS)}))


def similar(word: str) -> list[str]:
    """List names that somebody may have meant."""
    by_case = {name.casefold(): name for name in names()}
    return [by_case[found] for found in difflib.get_close_matches(word.casefold(), by_case)]


def explained(word: str) -> str | None:
    """Explain a reason or a condition, however its letters are written; None if there is none."""
    asked = word.casefold()
    told = [_condition(type_, kind) for kind, type_ in _CONDITIONS if type_.value.casefold() == asked]
    told += [_reason(reason) for reason in Reason if reason.value.casefold() == asked]
    return "\n".join(told) or None


def _condition(type_: ConditionType | ClassCondition, kind: str) -> str:
    return f"Condition {type_.value} of a {kind}\n  {docstrings(type(type_))[type_.name]}\n"


def _reason(reason: Reason) -> str:
    lines = [f"Reason {reason.value}", f"  {MEANINGS[reason]}"]
    if (remedy := REMEDIES.get(reason)) is None:
        lines.append("  Nobody must act.")
    else:
        lines.append(f"  {remedy.actor.value} must act: {remedy.action}")
    if reason in STALLING:
        lines.append("  Waiting alone does not help: the condition Stalled is True by it.")
    return "\n".join(lines) + "\n"
