"""What carries a record's id and has no record; it is only listed: a person decides about it."""

from __future__ import annotations

from dataclasses import dataclass

from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.builders.objects import MANAGED, RECORD
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.world import World

__all__ = ["OBJECTS", "Orphan", "orphans_of"]

OBJECTS = ("Pod", "PersistentVolumeClaim", "Service", "Secret", "ConfigMap")
"""Kinds of what a buffer has in the cluster."""


@dataclass(frozen=True, slots=True, order=True)
class Orphan:
    """Something without a record."""

    record_id: str
    what: str

    def __str__(self) -> str:
        return f"record {self.record_id} is missing: {self.what}"


def orphans_of(world: World, connections: Connections, instance: str) -> tuple[Orphan, ...]:
    """List the ledgers of an operator instance, and this cluster's objects, whose record does not exist.

    Raises
    ------
    PortError
        Somebody did not answer: there may be more than anyone knows.
    """
    found = [*_in_cluster(world), *_in_catalogues(world, connections, instance)]
    # Read last: a record is there before, and goes after, everything that bears its id.
    records = {body["spec"]["recordId"] for body in world.cluster.list("RSERecord")}
    return tuple(sorted({orphan for orphan in found if orphan.record_id not in records}))


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
        if RECORD in body["metadata"]["labels"]
    ]


def _in_catalogues(world: World, connections: Connections, instance: str) -> list[Orphan]:
    found: list[Orphan] = []
    for body in world.cluster.list("RucioConnection"):
        spec = RucioConnectionSpec.model_validate(body["spec"])
        ledgers = connections.of(spec).ledgers(spec.ledger_scope, instance)
        found += [
            Orphan(owner.record_id, f"ledger {did} at {spec.server}, of the operator {owner.instance}")
            for did, owner in ledgers.items()
        ]
    return found
