"""What buffers take together, by their records; each is counted by itself, also one that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.schema import LARGEST, parse_quantity
from volatile_rse.builders.objects import FINALIZER
from volatile_rse.domain.facts import Usage
from volatile_rse.domain.limits import RECENT
from volatile_rse.domain.node_ports import NodePorts
from volatile_rse.domain.problems import Quarantined
from volatile_rse.domain.tenants import Namespace, is_of
from volatile_rse.domain.times import later, when
from volatile_rse.reconcile.reading import claim_of, created_of, is_closed, record_id_of, spec_of, status_of

__all__ = ["Share", "holder_of", "node_ports_of", "quarantined_of", "share_of", "usage_of", "usage_of_others"]

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """What one record takes; a few words instead of a record, so that a thousand can be added up at every request."""

    name: str
    record_id: str
    class_name: object
    namespace: object
    namespace_uid: object
    account: str | None
    """None: nobody can tell whose it is."""
    created: datetime | None
    ended: datetime | None
    closed: bool
    held: bool
    quarantined: bool
    files: int
    capacity: int
    at_risk: int


def share_of(body: Object) -> Share:
    """Read a record's share."""
    claim, holder = claim_of(body), holder_of(body)
    return Share(
        name=body["metadata"]["name"],
        record_id=record_id_of(body),
        class_name=spec_of(body).get("className"),
        namespace=claim.get("namespace"),
        namespace_uid=claim.get("namespaceUID"),
        account=None if holder is None else holder[1],
        created=created_of(body),
        ended=_end_of(body),
        closed=is_closed(body),
        held=FINALIZER in (body["metadata"].get("finalizers") or ()),
        quarantined=_is_quarantined(body),
        files=_files_of(body),
        capacity=_capacity_of(body),
        at_risk=_at_risk(body),
    )


def node_ports_of(records: Iterable[Object], range_: int) -> NodePorts:
    """Count the buffers that keep NodePorts; one that cannot be read may have some."""
    shares = [share_of(body) for body in records if _has_node_ports(body)]
    return NodePorts(range_, len(shares), sum(share.ended is not None for share in shares))


def _has_node_ports(body: Object) -> bool:
    class_ = spec_of(body).get("classSnapshot")
    exposure = class_.get("exposure") if isinstance(class_, Mapping) else None
    method = exposure.get("method", "NodePort") if isinstance(exposure, Mapping) else "NodePort"
    return method == "NodePort" and not is_closed(body)


def holder_of(body: Object) -> tuple[str, str] | None:
    """Give namespace and account of a record; an account that cannot be read is empty."""
    claim = claim_of(body)
    namespace, account = claim.get("namespace"), claim.get("account")
    return (namespace, account if isinstance(account, str) else "") if isinstance(namespace, str) else None


def quarantined_of(shares: Iterable[Share], class_name: str) -> Quarantined:
    """Add up the records of a class whose outputs are in quarantine."""
    found = [share for share in shares if share.class_name == class_name and share.quarantined]
    return Quarantined(
        bytes=sum(share.at_risk for share in found),
        oldest=min((share.ended for share in found if share.ended is not None), default=None),
        records=tuple(sorted(share.name for share in found)),
    )


def usage_of(
    shares: Iterable[Share], class_name: str, namespace: Namespace, now: datetime, account: str | None = None
) -> Usage:
    """Add up the records of a namespace, or of one of its accounts, and of a class.

    Those of a namespace that had its name before are not among them.
    """
    of_all = [share for share in shares if share.class_name == class_name and share.account is not None]
    ours = [share for share in of_all if account in {None, share.account} and _is_of(share, namespace)]
    found = [share for share in ours if not share.closed]
    return Usage(
        buffers=len(found),
        bytes=sum(share.capacity for share in found),
        quarantined=sum(share.at_risk for share in found if share.quarantined),
        files=sum(share.files for share in found),
        recent=sum(share.created is not None and now < later(share.created, RECENT) for share in ours),
        over=sum(share.closed and share.held for share in ours),
    )


def usage_of_others(shares: Iterable[Share], spec: RSERecordSpec, now: datetime, namespace: Namespace | None) -> Usage:
    """Add up all other records of the owner of one.

    Parameters
    ----------
    namespace
        Of its VolatileRSE; None: there is none any more, and the record tells.
    """
    claim, others = spec.claims[0], [share for share in shares if share.record_id != spec.record_id]
    whose = namespace or Namespace(claim.namespace, claim.namespace_uid or "")
    return usage_of(others, spec.class_name, whose, now, claim.account)


def _is_of(share: Share, namespace: Namespace) -> bool:
    return is_of(namespace, share.namespace, share.namespace_uid, share.created)


def _files_of(body: Object) -> int:
    """Count the files of a record; of one that cannot be read, none are known."""
    status = status_of(body)
    inputs = status.get("inputs")
    entries = [entry for entry in inputs if isinstance(entry, Mapping)] if isinstance(inputs, list) else []
    numbers = [*(entry.get("files") for entry in entries), status.get("filesAtRisk")]
    return sum(number for number in numbers if isinstance(number, int) and number > 0)


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
