"""How much tenants may take: what their buffers use, who has to wait, and which closed records go early."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from volatile_rse.api.conditions import Reason
from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import NamespaceLimits, OwnerLimits
from volatile_rse.domain.facts import Record, Usage
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import when
from volatile_rse.domain.times import later

__all__ = ["RECENT", "problem_of_files", "problem_of_namespace", "problem_of_owner", "surplus"]

RECENT = timedelta(hours=1)
"""For how long a new buffer counts as one, whatever becomes of it; its record stays for that time."""


def problem_of_namespace(namespace: str, spec: VolatileRSESpec, limits: NamespaceLimits, used: Usage) -> Problem | None:
    """Refuse one buffer more than a namespace may have."""
    over = []
    if limits.buffers is not None and used.buffers >= limits.buffers:
        over.append(_too_many(used.buffers, limits.buffers))
    if limits.bytes is not None:
        over += _too_large(used, spec, limits.bytes)
    if limits.quarantined_bytes is not None and used.quarantined > parse_quantity(limits.quarantined_bytes):
        over.append(f"has {used.quarantined} bytes in quarantine, and may have {limits.quarantined_bytes}")
    return _exceeded(f"Namespace {namespace!r}", over, f"limits.perNamespace of class {spec.class_name!r}")


def problem_of_owner(namespace: str, spec: VolatileRSESpec, limits: OwnerLimits, used: Usage) -> Problem | None:
    """Refuse one buffer more than an account in a namespace may have."""
    over = [_too_many(used.buffers, limits.buffers)] if used.buffers >= limits.buffers else []
    over += _too_large(used, spec, limits.bytes)
    if used.files >= limits.files and spec.inputs:
        over.append(f"has {used.files} files on its buffers, and may have {limits.files}")
    if used.recent >= limits.new_per_hour:
        over.append(f"has begun {used.recent} buffers within an hour, and may begin {limits.new_per_hour}")
    if used.over >= limits.closed_records:
        over.append(
            f"has {used.over} VolatileRSEs whose sessions are over, and may have {limits.closed_records}: delete some"
        )
    return _exceeded(_named(namespace, spec.account), over, f"limits.perOwner of class {spec.class_name!r}")


def problem_of_files(namespace: str, record: Record, files: int, used: Usage) -> Problem | None:
    """Refuse more input files than an account in a namespace may have, once they are counted.

    Parameters
    ----------
    files
        Of this buffer's inputs.
    used
        What all others of its owner have.
    """
    limits, spec = record.spec.class_snapshot.limits.per_owner, record.spec.claims[0].request
    if not files or used.files + files <= limits.files:
        return None
    over = f"has {used.files} files on its other buffers, and may have {limits.files} with the {files} of these inputs"
    return _exceeded(_named(namespace, spec.account), [over], f"limits.perOwner of class {spec.class_name!r}")


def _too_many(used: int, limit: int) -> str:
    return f"has {used} buffers, and may have {limit}"


def _too_large(used: Usage, spec: VolatileRSESpec, limit: str) -> list[str]:
    if used.bytes + parse_quantity(spec.capacity) <= parse_quantity(limit):
        return []
    return [f"uses {used.bytes} bytes, and may use {limit} with the {spec.capacity} that are asked for"]


def _named(namespace: str, account: str) -> str:
    return f"Account {account!r} in namespace {namespace!r}"


def _exceeded(who: str, over: list[str], by: str) -> Problem | None:
    if not over:
        return None
    return Problem(Reason.LIMIT_EXCEEDED, f"{who} {'; '.join(over)}, by {by}.")


@dataclass(frozen=True, slots=True)
class _Closed:
    """A closed record that may go."""

    record: Record
    closed: datetime
    created: datetime

    @property
    def owner(self) -> tuple[str, str, str, str]:
        """Class, namespace and account; a namespace is another one if it is made again."""
        claim = self.record.spec.claims[0]
        return self.record.spec.class_name, claim.namespace, claim.namespace_uid or "", claim.account

    @property
    def order(self) -> tuple[bool, datetime, str]:
        """What tells of a loss goes last, and of the others the oldest first."""
        status = self.record.status
        lost = status.discarded is not None or bool(status.losses) or bool(status.lost_files)
        told = status.outcome is not None and bool(status.outcome.exceptions)
        return lost or told, self.closed, self.record.name


def surplus(records: Iterable[Record], now: datetime) -> list[Record]:
    """Choose the closed records that go before their retention is over, since their owner has too many.

    None that is held: its VolatileRSE would run again. None of a new buffer: they are counted by the hour.
    """
    owners: defaultdict[tuple[str, str, str, str], list[_Closed]] = defaultdict(list)
    for record in records:
        closed = when(record.status.closed_at)
        if closed is not None and not record.held:
            found = _Closed(record, closed, record.created or closed)
            owners[found.owner].append(found)
    going = []
    for group in owners.values():
        newest = max(group, key=lambda found: (found.created, found.record.name))
        limit = newest.record.spec.class_snapshot.limits.per_owner.closed_records
        too_many = max(len(group) - limit, 0)
        old = [found for found in group if later(found.created, RECENT) <= now]
        going += [found.record for found in sorted(old, key=lambda found: found.order)[:too_many]]
    return going
