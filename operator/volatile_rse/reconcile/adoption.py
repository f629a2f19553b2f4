"""The explicit taking over of an RSE whose cluster, or whose record, is lost: it is brought to its end."""

from __future__ import annotations

from dataclasses import dataclass

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import Claim, PublicAddress, RSERecordSpec
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.objects import RECORD, record_name
from volatile_rse.domain.catalogue import BufferRse, Did, LedgerOwner
from volatile_rse.domain.naming import ledger_name
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import create_record
from volatile_rse.reconcile.orphans import OBJECTS
from volatile_rse.reconcile.world import World

__all__ = ["Adoption", "adopt"]

_MARK = "vrse_instance"
_NEEDED = ("vrse_record", "vrse_claim", "vrse_account")
"""Attributes of an RSE that tell whose it is."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is taken over."""

    rse: str
    instance: str
    """That made it."""
    class_name: str
    """VolatileRSEClass of this cluster by which it is brought to its end: its connection, names, and empty server."""


def adopt(world: World, connections: Connections, wanted: Adoption) -> str:
    """Take over one RSE: mark its ledger as ours, then make a record, which the operator brings to its end.

    May be repeated after a crash. Rucio compares and sets nothing at once: two operators that take the same RSE over
    within the same moment may both believe to have it; both would do the same to it.

    Returns
    -------
    str
        Name of the record.

    Raises
    ------
    PortError
        FOREIGN_OBJECT: it is not what the admin says, or is not lost. Nothing was changed.
    """
    class_, connection = _class_and_connection(world, wanted.class_name)
    catalogue = connections.of(connection)
    found = catalogue.buffer(wanted.rse)
    if found is None or (why := _unlike(found, wanted)):
        why = why if found is not None else "it does not exist, or is no operator's of this kind"
        raise RefusedError(Reason.FOREIGN_OBJECT, f"RSE {wanted.rse} at {connection.server} cannot be taken: {why}.")
    spec = _record(world, found, wanted, class_, connection)
    if why := _not_lost(world, catalogue, spec):
        raise RefusedError(Reason.FOREIGN_OBJECT, f"RSE {wanted.rse} cannot be taken: {why}.")
    ours = LedgerOwner(world.settings.instance, spec.record_id)
    catalogue.take_ledger(Did.parse(spec.ledger), LedgerOwner(wanted.instance, spec.record_id), ours)
    create_record(world, spec)
    return record_name(spec.record_id)


def _class_and_connection(world: World, name: str) -> tuple[VolatileRSEClassSpec, RucioConnectionSpec]:
    body = world.cluster.get(Ref("VolatileRSEClass", None, name))
    if body is None:
        raise RefusedError(Reason.UNKNOWN_CLASS, f"VolatileRSEClass {name} does not exist.")
    class_ = VolatileRSEClassSpec.model_validate(body["spec"])
    body = world.cluster.get(Ref("RucioConnection", None, class_.connection_name))
    if body is None:
        what = f"RucioConnection {class_.connection_name}, which VolatileRSEClass {name} names, does not exist."
        raise RefusedError(Reason.UNKNOWN_CLASS, what)
    connection = RucioConnectionSpec.model_validate(body["spec"])
    return class_, connection.model_copy(update={"budget": None})


def _record(
    world: World,
    found: BufferRse,
    wanted: Adoption,
    class_: VolatileRSEClassSpec,
    connection: RucioConnectionSpec,
) -> RSERecordSpec:
    """Make a record of what the RSE tells about itself; there is nobody to ask for the rest."""
    record_id, account = found.attributes["vrse_record"], found.attributes["vrse_account"]
    namespace, _, name = found.attributes["vrse_claim"].partition("/")
    exposure = class_.exposure.model_copy(update={"public_host": found.host})
    nobody = {"podSelector": {"matchLabels": {RECORD: record_id}}}
    request = VolatileRSESpec.model_validate(
        {"className": wanted.class_name, "capacity": "1Mi", "account": account, "session": nobody}
    )
    claim = Claim(uid=f"adopted-{record_id}", namespace=namespace, name=name, account=account, request=request)
    return RSERecordSpec(
        record_id=record_id,
        rse_name=found.name,
        instance=world.settings.instance,
        adopted_from=wanted.instance,
        ledger=f"{connection.ledger_scope}:{ledger_name(class_.naming, record_id, account)}",
        capacity="1Mi",
        class_name=wanted.class_name,
        class_snapshot=class_.model_copy(update={"exposure": exposure}),
        connection_name=class_.connection_name,
        connection_snapshot=connection,
        claims=[claim],
        public=PublicAddress(host=found.host, root_port=found.root_port, davs_port=found.davs_port),
    )


def _unlike(found: BufferRse, wanted: Adoption) -> str:
    """Say what keeps an RSE from being what the admin names."""
    if found.attributes[_MARK] != wanted.instance:
        return f"{found.attributes[_MARK]!r} made it, not {wanted.instance!r}"
    missing = [key for key in _NEEDED if key not in found.attributes]
    if missing or not found.root_port or not found.davs_port:
        lacking = ", ".join(missing) or "a protocol"
        return f"it was never finished or is half removed, and lacks {lacking}: remove it in Rucio (docs/operations.md)"
    return ""


def _not_lost(world: World, catalogue: Catalogue, spec: RSERecordSpec) -> str:
    """Say what is still here of it."""
    cluster, buffers, record = world.cluster, world.settings.buffers, record_name(spec.record_id)
    if cluster.get(Ref("RSERecord", None, record)) is not None:
        return f"it is no orphan, RSERecord {record} is here"
    there = [body for kind in OBJECTS for body in cluster.list(kind, buffers, {RECORD: spec.record_id})]
    if there:
        named = f"{there[0]['kind']} {buffers}/{there[0]['metadata']['name']}"
        return f"its buffer is still here ({named}), and what is on it has to be saved by hand first"
    if not catalogue.ledger_exists(Did.parse(spec.ledger)):
        return f"its ledger {spec.ledger} is gone, or its class named ledgers otherwise"
    return ""
