"""How far the clocks of the operator and of a buffer's node may be apart, and what is said beyond that."""

from __future__ import annotations

from datetime import datetime, timedelta

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.problems import Problem

__all__ = ["BACKDATED", "PROBING", "problem_of_skew", "skew_of"]

BACKDATED = timedelta(minutes=5)
"""A token begins so long before it is signed: XRootD refuses one that begins by its own clock in a second."""
PROBING = timedelta(minutes=10)
"""Life of a token of a probe: an expired one would be refused for that."""
_MARGIN = timedelta(minutes=1)
"""It is told so long before it matters."""


def skew_of(told: int, before: datetime, after: datetime) -> int:
    """Tell by how many seconds at least another clock is ahead of ours; negative: behind.

    Parameters
    ----------
    told
        What it showed at some moment between the next two, in seconds of Unix time, cut off as those are.
    before, after
        By our clock.
    """
    least, most = told - int(after.timestamp()) - 1, told + 1 - int(before.timestamp())
    return least if least > 0 else min(most, 0)


def problem_of_skew(record: str, skew: int) -> Problem | None:
    """Say that no token counts as it should by the clock of a record's buffer; None: its clock is near enough."""
    behind, ahead = ((limit - _MARGIN).total_seconds() for limit in (BACKDATED, PROBING))
    if -behind <= skew <= ahead:
        return None
    side, why = ("ahead of", "have expired there") if skew > 0 else ("behind", "have not begun there yet")
    what = (
        f"The clock of the node of pod {record} is {abs(skew)} s {side} the operator's, so that its XRootD refuses "
        f"tokens of the operator and of the session, which {why}."
    )
    return Problem(Reason.CLOCK_SKEW, what)
