"""The explicit taking over of an RSE whose cluster, or whose record, is lost: it is brought to its end."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import Claim, PublicAddress, RSERecordSpec
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.objects import RECORD, record_name
from volatile_rse.builders.rse import buffer_rse
from volatile_rse.domain.catalogue import BufferRse, Did, LedgerOwner
from volatile_rse.domain.naming import faults_of_naming, record_of
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import create_record
from volatile_rse.reconcile.holding import hold, is_held
from volatile_rse.reconcile.orphans import OBJECTS
from volatile_rse.reconcile.reading import read_class, read_connection
from volatile_rse.reconcile.world import World

__all__ = ["Adoption", "adopt"]

_MARK = "vrse_instance"
_RECORD_ID = re.compile(r"[a-z2-7]{10}")
_UNKNOWN = "unknown"
"""Namespace and name of the VolatileRSE of an RSE that was never told, or has been taken, whose it is."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What is taken over."""

    rse: str
    """It need not exist: of one that was never made, or is removed already, the ledger is left."""
    instance: str
    """Whose it is."""
    class_name: str
    """VolatileRSEClass of this cluster by which it is brought to its end: its connection, names, and empty server."""


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left in the catalogue of one buffer."""

    ledger: Did
    owner: LedgerOwner
    rse: BufferRse | None


@dataclass(frozen=True, slots=True)
class _Terms:
    """By what it is brought to its end."""

    class_: VolatileRSEClassSpec
    connection: RucioConnectionSpec


def adopt(world: World, connections: Connections, wanted: Adoption) -> str:
    """Take over one RSE, also one half made or half removed: mark its ledger as ours, then make a record.

    The operator brings it to its end. May be repeated after a crash. Rucio compares and sets nothing at once: two
    operators that take the same RSE over within the same moment may both believe to have it; both would do the same to
    it.

    Returns
    -------
    str
        Name of the record.

    Raises
    ------
    PortError
        FOREIGN_OBJECT: it is not what the admin says, or is not lost. UNKNOWN_CLASS: the class or its connection is
        absent or going. CONFIGURATION_INVALID: one of them cannot be read. NAMING_INVALID: the class calls nothing.
        Nothing of it was changed.
    """
    terms = _terms(world, wanted.class_name)
    catalogue = connections.of(terms.connection, terms.class_.connection_name)
    left = _left(catalogue, terms, wanted)
    if why := _unlike(world, left, wanted):
        raise _refusal(wanted, why)
    spec = _record(world, left, wanted, terms)
    if why := _not_lost(world, spec) or _beyond_reach(catalogue, left, spec):
        raise _refusal(wanted, why)
    # What the operator will ask of it: it is refused if the RSE of that name is somebody else's.
    catalogue.rse(buffer_rse(spec))
    _hold_used(world, spec)
    catalogue.take_ledger(left.ledger, left.owner, left.owner.heir(world.settings.instance))
    create_record(world, spec)
    return record_name(spec.record_id)


def _refusal(wanted: Adoption, why: str) -> RefusedError:
    return RefusedError(Reason.FOREIGN_OBJECT, f"RSE {wanted.rse} cannot be taken: {why}.")


def _terms(world: World, name: str) -> _Terms:
    class_ = read_class(_found(world, "VolatileRSEClass", name))
    if faults := faults_of_naming(class_.naming):
        raise RefusedError(Reason.NAMING_INVALID, f"VolatileRSEClass {name}: {faults[0]}")
    connection = read_connection(_found(world, "RucioConnection", class_.connection_name))
    return _Terms(class_, connection.model_copy(update={"budget": None}))


def _found(world: World, kind: str, name: str) -> Mapping[str, Any]:
    body = world.cluster.get(Ref(kind, None, name))
    if body is None:
        raise RefusedError(Reason.UNKNOWN_CLASS, f"{kind} {name} does not exist.")
    return body


def _left(catalogue: Catalogue, terms: _Terms, wanted: Adoption) -> _Left:
    """Find what is left: the ledger of the record that the RSE, or else its name, tells."""
    found = catalogue.buffer(wanted.rse)
    named = record_of(terms.class_.naming, wanted.rse)
    record_id = named if found is None else found.attributes.get("vrse_record", named)
    if record_id is None or not _RECORD_ID.fullmatch(record_id):
        what = "it does not exist, or is no operator's of this kind" if found is None else "it does not tell its record"
        raise _refusal(wanted, f"{what}, and no RSE of VolatileRSEClass {wanted.class_name} is called so")
    scope = terms.connection.ledger_scope
    ledgers = catalogue.ledgers_of(scope, record_id)
    if len(ledgers) != 1:
        is_there = "it does not exist, or is no operator's of this kind" if found is None else "it is there"
        kept = ", ".join(map(str, sorted(ledgers))) or "none"
        what = f"{is_there}, and of the ledgers in scope {scope} exactly one must be record {record_id}'s ({kept} is)"
        raise _refusal(wanted, what)
    [(ledger, owner)] = ledgers.items()
    return _Left(ledger, owner, found)


def _unlike(world: World, left: _Left, wanted: Adoption) -> str:
    """Say what keeps it from being what the admin names: the ledger tells whose it is, and whose mark the RSE bears."""
    owner = left.owner
    # Of an adoption that was cut off the ledger is ours already.
    cut_off = owner.instance == world.settings.instance and owner.made_by == wanted.instance
    if owner.instance != wanted.instance and not cut_off:
        return f"its ledger {left.ledger} belongs to {owner.instance!r}, not to {wanted.instance!r}"
    if left.rse is not None and left.rse.attributes[_MARK] != owner.made_by:
        return f"{left.rse.attributes[_MARK]!r} made it, not {owner.made_by!r}, as its ledger {left.ledger} says"
    return ""


def _record(world: World, left: _Left, wanted: Adoption, terms: _Terms) -> RSERecordSpec:
    """Make a record of what the RSE tells about itself; there is nobody to ask for the rest."""
    record_id, rse = left.owner.record_id, left.rse
    told = {} if rse is None else rse.attributes
    # Nothing is done in that account's name any more.
    account = told.get("vrse_account", terms.connection.account)
    namespace, _, name = told.get("vrse_claim", f"{_UNKNOWN}/{_UNKNOWN}").partition("/")
    public = _address(rse)
    exposure = terms.class_.exposure
    if public is not None:
        exposure = exposure.model_copy(update={"public_host": public.host})
    request = VolatileRSESpec(class_name=wanted.class_name, capacity="1Mi", account=account)
    # A namespace of that name here is another's, and has nothing to do with it.
    adopted = f"adopted-{record_id}"
    claim = Claim(uid=adopted, namespace=namespace, namespace_uid=adopted, name=name, account=account, request=request)
    return RSERecordSpec(
        record_id=record_id,
        rse_name=wanted.rse,
        instance=world.settings.instance,
        adopted_from=left.owner.made_by,
        ledger=str(left.ledger),
        capacity="1Mi",
        class_name=wanted.class_name,
        class_snapshot=terms.class_.model_copy(update={"exposure": exposure}),
        connection_name=terms.class_.connection_name,
        connection_snapshot=terms.connection,
        claims=[claim],
        public=public,
    )


def _address(rse: BufferRse | None) -> PublicAddress | None:
    """Give the address of an RSE; of one that has not got it yet, or not any more, None."""
    if rse is None or not (rse.host and rse.root_port and rse.davs_port):
        return None
    return PublicAddress(host=rse.host, root_port=rse.root_port, davs_port=rse.davs_port)


def _not_lost(world: World, spec: RSERecordSpec) -> str:
    """Say what is still here of it."""
    cluster, buffers, record = world.cluster, world.settings.buffers, record_name(spec.record_id)
    if cluster.get(Ref("RSERecord", None, record)) is not None:
        return f"it is no orphan, RSERecord {record} is here"
    there = [body for kind in OBJECTS for body in cluster.list(kind, buffers, {RECORD: spec.record_id})]
    if there:
        named = f"{there[0]['kind']} {buffers}/{there[0]['metadata']['name']}"
        return f"its buffer is still here ({named}), and what is on it has to be saved by hand first"
    return ""


def _beyond_reach(catalogue: Catalogue, left: _Left, spec: RSERecordSpec) -> str:
    """Say what keeps Rucio's reaper from it: nothing is registered before an RSE has its address, nor is after."""
    if left.rse is None or spec.public is not None or not (kept := catalogue.replicas(spec.rse_name, left.ledger)):
        return ""
    return f"somebody took its protocols away, and {len(kept)} replicas are on it: give it back both, davs and root"


def _hold_used(world: World, spec: RSERecordSpec) -> None:
    """Hold class and connection before there is a record, as for every buffer."""
    for kind, name in (("VolatileRSEClass", spec.class_name), ("RucioConnection", spec.connection_name)):
        ref = Ref(kind, None, name)
        hold(world.cluster, ref)
        body = _found(world, kind, name)
        if not is_held(body) or "deletionTimestamp" in body["metadata"]:
            raise RefusedError(Reason.UNKNOWN_CLASS, f"{kind} {name} is being deleted, and takes no RSE over.")
