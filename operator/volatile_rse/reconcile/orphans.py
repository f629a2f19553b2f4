"""What carries a record's id and has no record; it is only listed: a person decides about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from volatile_rse.api.volatilerseclass import Naming
from volatile_rse.builders.objects import MANAGED, RECORD
from volatile_rse.domain.catalogue import BufferRse, Did, LedgerOwner
from volatile_rse.domain.naming import faults_of_naming, rse_name
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.reading import read_class, read_connection, record_id_of
from volatile_rse.reconcile.world import World

__all__ = ["OBJECTS", "Orphan", "is_whole", "orphans_of"]

OBJECTS = ("Pod", "PersistentVolumeClaim", "Service", "Secret", "ConfigMap")
"""Kinds of what a buffer has in the cluster."""
_MARKS = ("vrse_record", "vrse_claim", "vrse_account")
"""Attributes of an RSE that tell whose it is."""


@dataclass(frozen=True, slots=True, order=True)
class Orphan:
    """Something without a record."""

    record_id: str
    what: str

    def __str__(self) -> str:
        return f"record {self.record_id} is missing: {self.what}"


@dataclass(frozen=True, slots=True)
class _Ledger:
    """A ledger, and where it was found."""

    did: Did
    owner: LedgerOwner
    connection: str
    server: str
    catalogue: Catalogue


def orphans_of(world: World, connections: Connections, instance: str) -> tuple[Orphan, ...]:
    """List the ledgers of an operator instance, and this cluster's objects, whose record does not exist.

    A ledger is there before its RSE and after it: nothing is missing that a process left in the middle. What is known
    of the RSE is told with it.

    Raises
    ------
    PortError
        Somebody did not answer: there may be more than anyone knows.
    """
    objects, ledgers = _in_cluster(world), _in_catalogues(world, connections, instance)
    # Read last: a record is there before, and goes after, everything that bears its id.
    records = {record_id_of(body) for body in world.cluster.list("RSERecord")}
    found = {orphan for orphan in objects if orphan.record_id not in records}
    lost = [ledger for ledger in ledgers if ledger.owner.record_id not in records]
    namings = _namings(world) if lost else {}
    return tuple(sorted(found | {_orphan(ledger, namings.get(ledger.connection, ())) for ledger in lost}))


def is_whole(rse: BufferRse) -> bool:
    """Tell whether an RSE has all that its making gives it and its removal takes away."""
    return bool(rse.host and rse.root_port and rse.davs_port) and all(mark in rse.attributes for mark in _MARKS)


def _in_cluster(world: World) -> list[Orphan]:
    buffers = world.settings.buffers
    bodies = [body for kind in OBJECTS for body in world.cluster.list(kind, buffers, MANAGED)]
    # A volume with outputs on it outlives its claim, and everything else that would tell of it.
    bodies += world.cluster.list("PersistentVolume", None, MANAGED)
    place = {kind: f"{kind} {buffers}/" for kind in OBJECTS}
    return [
        Orphan(
            body["metadata"]["labels"][RECORD],
            f"{place.get(body['kind'], 'PersistentVolume ')}{body['metadata']['name']}",
        )
        for body in bodies
        if RECORD in (body["metadata"].get("labels") or {})
    ]


def _in_catalogues(world: World, connections: Connections, instance: str) -> list[_Ledger]:
    found: list[_Ledger] = []
    for body in world.cluster.list("RucioConnection"):
        spec = read_connection(body)
        catalogue = connections.of(spec, body["metadata"]["name"])
        ledgers = catalogue.ledgers(spec.ledger_scope, instance)
        found += [
            _Ledger(did, owner, body["metadata"]["name"], spec.server, catalogue) for did, owner in ledgers.items()
        ]
    return found


def _namings(world: World) -> Mapping[str, Sequence[Naming]]:
    """Tell for each connection what its classes call RSEs."""
    found: dict[str, list[Naming]] = {}
    for body in world.cluster.list("VolatileRSEClass"):
        spec = read_class(body)
        if not faults_of_naming(spec.naming):
            found.setdefault(spec.connection_name, []).append(spec.naming)
    return found


def _orphan(ledger: _Ledger, namings: Iterable[Naming]) -> Orphan:
    names = sorted({rse_name(naming, ledger.owner.record_id) for naming in namings})
    told = [_told(found) for name in names if (found := ledger.catalogue.buffer(name)) is not None]
    absent = [f"no RSE {' or '.join(names)}"] if names else []
    what = f"ledger {ledger.did} at {ledger.server}, of the operator {ledger.owner.instance}"
    return Orphan(ledger.owner.record_id, "; ".join([what, *(told or absent)]))


def _told(rse: BufferRse) -> str:
    return f"RSE {rse.name}" if is_whole(rse) else f"RSE {rse.name}, half made or half removed"
