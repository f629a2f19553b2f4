"""What buffers take together, by their records; each is counted by itself, also one that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.schema import LARGEST, parse_quantity
from volatile_rse.builders.objects import FINALIZER
from volatile_rse.domain.facts import Usage
from volatile_rse.domain.limits import RECENT
from volatile_rse.domain.problems import Quarantined
from volatile_rse.domain.tenants import Namespace, is_of
from volatile_rse.domain.times import later, when
from volatile_rse.reconcile.reading import claim_of, created_of, is_closed, record_id_of, spec_of, status_of

__all__ = ["holder_of", "read_quarantined", "read_usage", "usage_of_others"]

Object = Mapping[str, Any]


def holder_of(body: Object) -> tuple[str, str] | None:
    """Give namespace and account of a record; an account that cannot be read is empty."""
    claim = claim_of(body)
    namespace, account = claim.get("namespace"), claim.get("account")
    return (namespace, account if isinstance(account, str) else "") if isinstance(namespace, str) else None


def read_quarantined(bodies: Iterable[Object], class_name: str) -> Quarantined:
    """Add up the records of a class whose outputs are in quarantine."""
    found = [body for body in bodies if spec_of(body).get("className") == class_name and _is_quarantined(body)]
    ends = [_end_of(body) for body in found]
    return Quarantined(
        bytes=sum(_at_risk(body) for body in found),
        oldest=min((end for end in ends if end is not None), default=None),
        records=tuple(sorted(body["metadata"]["name"] for body in found)),
    )


def read_usage(
    bodies: Iterable[Object], class_name: str, namespace: Namespace, now: datetime, account: str | None = None
) -> Usage:
    """Add up the records of a namespace, or of one of its accounts, and of a class.

    Those of a namespace that had its name before are not among them.
    """
    of_all = [body for body in bodies if spec_of(body).get("className") == class_name]
    holders = [(body, holder) for body in of_all if (holder := holder_of(body)) is not None]
    ours = [body for body, holder in holders if account in {None, holder[1]} and _is_of(body, namespace)]
    found = [body for body in ours if not is_closed(body)]
    return Usage(
        buffers=len(found),
        bytes=sum(_capacity_of(body) for body in found),
        quarantined=sum(_at_risk(body) for body in found if _is_quarantined(body)),
        files=sum(_files_of(body) for body in found),
        recent=sum(_is_recent(body, now) for body in ours),
        over=sum(is_closed(body) and FINALIZER in (body["metadata"].get("finalizers") or ()) for body in ours),
    )


def usage_of_others(bodies: Iterable[Object], spec: RSERecordSpec, now: datetime, namespace: Namespace | None) -> Usage:
    """Add up all other records of the owner of one.

    Parameters
    ----------
    namespace
        Of its VolatileRSE; None: there is none any more, and the record tells.
    """
    claim, others = spec.claims[0], [body for body in bodies if record_id_of(body) != spec.record_id]
    whose = namespace or Namespace(claim.namespace, claim.namespace_uid or "")
    return read_usage(others, spec.class_name, whose, now, claim.account)


def _is_of(body: Object, namespace: Namespace) -> bool:
    claim = claim_of(body)
    return is_of(namespace, claim.get("namespace"), claim.get("namespaceUID"), created_of(body))


def _files_of(body: Object) -> int:
    """Count the files of a record; of one that cannot be read, none are known."""
    status = status_of(body)
    inputs = status.get("inputs")
    entries = [entry for entry in inputs if isinstance(entry, Mapping)] if isinstance(inputs, list) else []
    numbers = [*(entry.get("files") for entry in entries), status.get("filesAtRisk")]
    return sum(number for number in numbers if isinstance(number, int) and number > 0)


def _is_recent(body: Object, now: datetime) -> bool:
    created = created_of(body)
    return created is not None and now < later(created, RECENT)


def _is_quarantined(body: Object) -> bool:
    status = status_of(body)
    return bool(status.get("quarantinedAt")) and not status.get("safeAt")


def _end_of(body: Object) -> datetime | None:
    """Give the end of a record's session; of one that cannot be read, none is known."""
    session = status_of(body).get("session")
    try:
        return when(session.get("endedAt")) if isinstance(session, Mapping) else None
    except (TypeError, ValueError):
        return None


def _capacity_of(body: Object) -> int:
    """Give the capacity of a record; of one that cannot be, none is known: it must not keep others waiting."""
    capacity = spec_of(body).get("capacity")
    try:
        told = parse_quantity(capacity) if isinstance(capacity, str) else 0
    except ValueError:
        return 0
    return 0 if told >= LARGEST else told


def _at_risk(body: Object) -> int:
    """Give the bytes of a record in quarantine; what nobody can tell may be all that it has room for."""
    told = status_of(body).get("bytesAtRisk")
    return max(told, 0) if isinstance(told, int) else _capacity_of(body)
