"""Which storage pods may not be evicted: those whose eviction would destroy what a session has written.

A PodDisruptionBudget of the buffers' namespace refuses the eviction of pods with a label; here is who bears it.
"""

from __future__ import annotations

from collections.abc import Iterable

from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.plan import request_of
from volatile_rse.domain.stage import EMPTIED, Stage, stage_of

__all__ = ["has_risk", "held_or_freed"]

_BEFORE_SAFE = {Stage.PREPARING, Stage.SERVING, Stage.FENCING, Stage.KEEPING}
"""Also where what was chosen could not be read, and a session that runs prepares again."""


def has_risk(facts: Facts, record: Record) -> bool | None:
    """Tell whether the storage pod has, or may get, bytes of its session that go with its node and are nowhere else.

    Returns
    -------
    bool | None
        None: it is not known, and what was known before counts.
    """
    if record.spec.class_snapshot.outlives() == "Network":
        # The volume can be had on another node: an eviction interrupts, and destroys nothing.
        return False
    stage = stage_of(record.status)
    if stage in _BEFORE_SAFE:
        # From then on somebody may write, whatever was seen at the last look. Of no output nothing is kept anyway.
        return record.status.session.ready_at is not None and bool(request_of(record).outputs)
    return _is_last(facts, record) if stage is Stage.HIDING else False


def _is_last(facts: Facts, record: Record) -> bool | None:
    """Tell whether what was safe once is so no more, or an input has lost its other copies meanwhile."""
    if EMPTIED in record.status.steps:
        return False
    if facts.record is None or stage_of(facts.record.status) is not Stage.HIDING:
        # All was found to be safe just now.
        return False
    if facts.last_copies is None or facts.unsafe is None:
        return None
    unsafe = {did for dids in facts.unsafe.values() for did in dids}
    return bool(unsafe.union(facts.last_copies) - facts.given_up)


def held_or_freed(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Have the storage pod labelled as it has to be, where it is not.

    Parameters
    ----------
    record
        With the truths that are being written now.
    """
    pod = facts.storage.pod
    risk = None if pod is None else has_risk(facts, record)
    if pod is None or risk is None or risk is pod.held:
        return
    yield do.HoldPod(pod.uid) if risk else do.FreePod(pod.uid)
