"""What accounts have used in a span of time, by the records of their buffers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from volatile_rse.api.schema import parse_quantity
from volatile_rse.domain.facts import Record
from volatile_rse.domain.times import when

__all__ = ["Used", "used_between"]

_HOUR, _SECOND = timedelta(hours=1), timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Used:
    """What an account in a namespace has used of a class."""

    namespace: str
    account: str
    class_name: str
    buffers: int
    """That had storage at some time of the span."""
    byte_hours: int
    """Capacity, for as long as the storage was there."""
    bytes_in: int
    """Inputs of the sessions that became ready in the span."""
    bytes_out: int
    """Outputs that became safe in the span."""


def used_between(records: Iterable[Record], since: datetime, until: datetime) -> list[Used]:
    """Add up what was used from one moment until before another, by namespace, account and class, in this order.

    Spans that follow each other count every byte once: inputs in the moment in which the session became ready, outputs
    in the one in which they were found safe.
    """
    sums: defaultdict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for record in records:
        used = _used(record, since, until)
        if any(used):
            claim = record.spec.claims[0]
            total = sums[claim.namespace, claim.account, record.spec.class_name]
            total[:] = [before + now for before, now in zip(total, used, strict=True)]
    found = [Used(*whose, *total) for whose, total in sums.items()]
    return sorted(found, key=astuple)


def _used(record: Record, since: datetime, until: datetime) -> tuple[int, int, int, int]:
    status, outcome = record.status, record.status.outcome

    def within(moment: str | None) -> bool:
        time = when(moment)
        return time is not None and since <= time < until

    began = max(record.created or since, since)
    ended = min(when(status.freed_at) or until, until)
    # Python's whole numbers: no capacity and no span is too large for them.
    span = max(ended - began, timedelta())
    byte_hours = parse_quantity(record.spec.capacity) * (span // _SECOND) // (_HOUR // _SECOND)
    staged = sum(entry.bytes for entry in status.inputs or ()) if within(status.session.ready_at) else 0
    kept = outcome.bytes if outcome is not None and within(status.safe_at) else 0
    return int(span > timedelta()), byte_hours, staged, kept
