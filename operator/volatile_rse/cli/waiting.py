"""Whether what somebody waits for has come, or never will."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from volatile_rse.api.conditions import ConditionType, Reason
from volatile_rse.cli.pages import condition_of

__all__ = ["Goal", "Verdict", "is_over", "verdict"]

Goal = Literal["usable", "safe"]

_TYPES: dict[Goal, ConditionType] = {"usable": ConditionType.USABLE, "safe": ConditionType.OUTPUTS_SAFE}
_ENDED = frozenset({Reason.SESSION_ENDED, Reason.SESSION_OVER})
"""Reasons of Usable after which it is never True again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of what is awaited."""

    reached: bool
    never: str = ""
    """Why it cannot come any more; empty: it may."""


def verdict(goal: Goal, body: Mapping[str, Any]) -> Verdict:
    """Judge a VolatileRSE as it is now."""
    condition = condition_of(body, _TYPES[goal])
    if condition.get("status") == "True":
        return Verdict(reached=True)
    said = str(condition.get("message", ""))
    if is_over(body) or (goal == "usable" and condition.get("reason") in _ENDED):
        return Verdict(reached=False, never=said or "The session is over.")
    if goal == "usable" and "deletionTimestamp" in body["metadata"]:
        return Verdict(reached=False, never="It is being deleted.")
    return Verdict(reached=False)


def is_over(body: Mapping[str, Any]) -> bool:
    """Tell whether nothing of a VolatileRSE changes any more by itself."""
    ready = condition_of(body, ConditionType.READY)
    completed = ready.get("status") == "True" and ready.get("reason") == Reason.COMPLETED
    return completed or ready.get("reason") == Reason.INPUTS_LATE
