"""Which plans nobody can take back, and what they rest upon: that is read anew before they are carried out."""

from __future__ import annotations

from dataclasses import dataclass

from volatile_rse.api.rserecord import RSERecordStatus
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.domain.plan import Plan
from volatile_rse.domain.stage import Stage, stage_of
from volatile_rse.reconcile.lease import is_destructive

__all__ = ["Grounds", "grounds_of"]

_BEFORE_END = {Stage.PREPARING, Stage.SERVING}
_BY_UID = (
    do.DropPiece,
    do.DropLeftover,
    do.RestoreSession,
    do.RevokeSession,
)
"""Effects that delete one very object, whatever has its name by then."""
_BY_CATALOGUE = (do.Hide, do.AllowDeletion, do.DeleteRse, do.ExpireLedger, do.ExpireRule)
"""Effects that rest upon what Rucio has just said."""
_BY_RECORD = (do.Fence, do.Seal, do.FreePod, do.ReleaseRequest, do.ReleaseRecord, do.DeleteRequest)
"""Effects that rest upon what the record says."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a plan rests upon beside request and record, which every plan does."""

    storage: bool
    session: bool


def grounds_of(facts: Facts, plan: Plan) -> Grounds | None:
    """Tell what a plan rests upon that cannot be taken back; None: it can be.

    Parameters
    ----------
    facts
        That it was made upon.
    """
    stage = None if facts.record is None else stage_of(facts.record.status)
    written = [effect.status for effect in plan.effects if isinstance(effect, do.Remember)]
    turns = [status for status in written if stage_of(status) not in {stage, *_BEFORE_END} or _gives_up(facts, status)]
    # A list of inputs that replaces another one is no loss: nothing rests upon it before the record holds its digest.
    deeds = [effect for effect in plan.effects if is_destructive(effect) and not isinstance(effect, do.FreezeInputs)]
    if not turns and not deeds:
        return None
    by_others = all(isinstance(effect, (*_BY_UID, *_BY_CATALOGUE, *_BY_RECORD)) for effect in deeds)
    return Grounds(storage=bool(turns) or not by_others, session=stage in _BEFORE_END)


def _gives_up(facts: Facts, status: RSERecordStatus) -> bool:
    """Tell whether a status tells of a loss, a quarantine or a discard that the record does not tell of yet."""
    if facts.record is None:
        return False
    before = facts.record.status
    pairs = (
        (before.losses, status.losses),
        (before.quarantined_at, status.quarantined_at),
        (before.discarded, status.discarded),
    )
    return any(old != new for old, new in pairs)
