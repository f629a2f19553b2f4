"""What the stage of a record needs to know, asked anew each time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.builders.objects import name_of, record_name
from volatile_rse.domain.discard import dids_of, is_unacknowledged
from volatile_rse.domain.facts import Facts, Piece, Request, Storage
from volatile_rse.domain.identity import identify
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.quarantine import goes_without_list
from volatile_rse.domain.stage import EMPTIED, REVERTED, Stage, stage_of
from volatile_rse.domain.tenants import Namespace
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.faults import problem_of
from volatile_rse.reconcile.gather import (
    credentials,
    door,
    entries,
    lists,
    manifest,
    objects,
    outgoing,
    preparing,
    previewing,
    registration,
    reports,
)
from volatile_rse.reconcile.gather.look import Look, guarded
from volatile_rse.reconcile.holding import is_held
from volatile_rse.reconcile.lease import LeaseLostError
from volatile_rse.reconcile.reading import (
    owner_of,
    read_class,
    read_connection,
    read_partly,
    read_pod,
    read_record,
    read_request,
    uid_of,
)
from volatile_rse.reconcile.usage import quarantined_of, share_of, usage_of
from volatile_rse.reconcile.world import World

__all__ = ["glimpse", "look_at_objects", "look_closely", "look_least"]

_AT_RISK = {Stage.FENCING, Stage.KEEPING}


def look_closely(world: World, connections: Connections, facts: Facts) -> Facts:
    """Ask for all that a glimpse has not told.

    Raises
    ------
    UnreachableError
        The cluster does not answer, without which nothing can be done.
    """
    if facts.unseen is not None:
        return look_least(world, connections, facts)
    try:
        return _looked(world, connections, facts)
    except (LeaseLostError, UnreachableError):
        raise
    except Exception as error:  # noqa: BLE001 (logged with its traceback)
        # It does not pass by itself, so it has to be told where people look.
        found = facts.record or facts.request
        name = "" if found is None else found.name
        why = problem_of(world.telemetry, error, f"{name}: what the cluster holds of it could not be used")
        return dataclasses.replace(look_least(world, connections, facts), unseen=why)


def look_least(world: World, connections: Connections, facts: Facts) -> Facts:
    """Ask what the fence of a session needs that has ended, and nothing else: the agent of its pod."""
    record = facts.record
    if record is None or stage_of(record.status) is not Stage.FENCING or record.status.session.ready_at is None:
        return facts
    look = Look(world, connections, facts, record)
    _find_agent(look)
    return look.facts


def look_at_objects(world: World, connections: Connections, facts: Facts, *, storage: bool, session: bool) -> Facts:
    """Ask what the cluster holds of a buffer, of its session or of both, and nobody else.

    Raises
    ------
    PortError
        It cannot be asked.
    """
    if facts.record is None or facts.unseen is not None:
        return facts
    look = Look(world, connections, facts, facts.record)
    if storage:
        _at_storage(look)
    if session:
        look.set(session=objects.session(look))
    return look.facts


@guarded
def _find_agent(look: Look) -> None:
    """Ask it for its report; nothing but the fence is decided by that, so that it need not be believed."""
    pod = Ref("Pod", look.world.settings.buffers, name_of(look.spec.record_id, Piece.POD))
    if (body := look.world.cluster.get(pod)) is not None:
        look.set(storage=Storage(pod=read_pod(body)))
        look.set(report=reports.buffer_of(look.world, look.record, look.facts).report())


def glimpse(world: World, record_id: str, known: tuple[str, str] | None) -> Facts:
    """Ask for nothing but the request and its record."""
    body = world.cluster.get(Ref("RSERecord", None, record_name(record_id)))
    if body is not None:
        known = owner_of(body) or known
    request = None if known is None else _request(world, record_id, *known)
    facts = Facts(now=world.clock.now(), request=request)
    try:
        return facts if body is None else dataclasses.replace(facts, record=read_record(body, facts.now))
    except RefusedError as error:
        return dataclasses.replace(
            facts, unseen=Problem(error.reason, error.what), record=read_partly(body or {}, facts.now)
        )


def _looked(world: World, connections: Connections, facts: Facts) -> Facts:
    request = facts.request
    if facts.record is not None:
        return _all(Look(world, connections, facts, facts.record))
    if request is None or request.spec is None or request.tenant is None or request.deleting:
        return facts
    if not request.spec.dry_run:
        return _offered(world, facts, request.spec, request.tenant)
    if request.previewed:
        return facts
    offered = _offered(world, facts, request.spec, request.tenant)
    return previewing.previewed(world, connections, offered, request, request.spec)


def _request(world: World, record_id: str, namespace: str, name: str) -> Request | None:
    body = world.cluster.get(Ref("VolatileRSE", namespace, name))
    if body is None or identify(world.settings.instance, uid_of(body)).record_id != record_id:
        return None
    return read_request(body, world.cluster.get(Ref("Namespace", None, namespace)))


def _offered(world: World, facts: Facts, spec: VolatileRSESpec, tenant: Namespace) -> Facts:
    """Ask for the class and its connection, and for what is used of them already."""
    class_body = world.cluster.get(Ref("VolatileRSEClass", None, spec.class_name))
    if class_body is None:
        return facts
    class_ = read_class(class_body)
    body = world.cluster.get(Ref("RucioConnection", None, class_.connection_name))
    connection = None if body is None else read_connection(body)
    shares = world.cluster.select("RSERecord", share_of)
    used = [found for found in (class_body, body) if found is not None]
    return dataclasses.replace(
        facts,
        class_=class_,
        connection=connection,
        unheld=tuple(_named(found) for found in used if not is_held(found)),
        going=tuple(" ".join(_named(found)) for found in used if "deletionTimestamp" in found["metadata"]),
        usage=usage_of(shares, spec.class_name, tenant, facts.now),
        owner_usage=usage_of(shares, spec.class_name, tenant, facts.now, spec.account),
        quarantined=quarantined_of(shares, spec.class_name),
    )


def _named(body: Mapping[str, Any]) -> tuple[str, str]:
    return body["kind"], body["metadata"]["name"]


def _all(look: Look) -> Facts:
    """Ask what the stage needs."""
    _at_storage(look)
    look.set(session=objects.session(look))
    if look.stage in _ASKED:
        look.ask(_ASKED[look.stage], look)
    look.set(problems=_told(look))
    if look.stage in _AT_RISK and goes_without_list(look.facts, look.record):
        registration.last_copies(look)
        reports.told(look)
    credentials.doubt(look)
    look.set(problems=_told(look))
    return look.facts


def _told(look: Look) -> tuple[Problem, ...]:
    """Give what is to be told: that no time was left once, for whatever came after."""
    late = [problem for problem in look.problems if problem.reason is Reason.OUT_OF_TIME][1:]
    return tuple(dict.fromkeys(problem for problem in look.problems if problem not in late))


def _at_storage(look: Look) -> None:
    if look.stage is not Stage.CLOSED:
        look.set(storage=objects.storage(look))


def _serving(look: Look) -> None:
    lists.frozen(look)
    # Before Rucio is asked, which may take all the time that there is: the agent, and the door.
    reports.report(look)
    if not look.facts.frozen and any(entry.files for entry in look.record.status.inputs or ()):
        lists.frozen_again(look)
    reports.recount(look)
    _at_door(look)
    registration.rse(look)
    registration.registered(look)
    manifest.due(look, staging=True)
    entries.ask(look)
    report, registered = look.facts.report, look.facts.registered
    lost = bool(look.record.status.losses)
    if lost:
        registration.replicas(look)
    if report is None:
        return
    staged = sum(total.staged for total in report.inputs)
    published = sum(total.sealed for total in report.outputs)
    if published or lost:
        outgoing.ask(look)
    room = registered is not None and len(registered) < look.spec.class_snapshot.max_registered_replicas
    # A file of two inputs is counted for both, and registered once.
    behind = staged - lists.shared(look) + published > lists.counted(look, registered or ())
    if look.facts.inputs is None and room and behind:
        look.set(inputs=look.ask(reports.inputs, look))


def _at_door(look: Look) -> None:
    """Ask the agent which inputs are there, if not all are, and read some of them as the session would."""
    report, pod = look.facts.report, look.facts.storage.pod
    if report is None:
        return
    partial = sum(total.staged for total in report.inputs) < sum(
        entry.files for entry in look.record.status.inputs or ()
    )
    if look.facts.inputs is None and (partial or look.record.status.losses):
        look.set(inputs=look.ask(reports.inputs, look))
    if pod is not None and pod.ready:
        unusable = look.ask(door.unusable, look)
        unseen = unusable is None and look.problems[-1].reason is Reason.OUT_OF_TIME
        look.set(unusable=unusable, unproven=unseen)


def _fencing(look: Look) -> None:
    if look.record.status.session.ready_at is None:
        return
    reports.report(look)
    if look.facts.report is not None and look.facts.report.actual.mode == "fenced":
        # Before Rucio is asked, which may take all the time that there is.
        look.set(writable=look.ask(door.writable, look))
    if look.record.status.losses:
        # People are not sent to what is gone, whenever its agent comes again or the fence is proven.
        registration.rse(look)
        registration.replicas(look)
        if look.facts.report is not None:
            look.set(inputs=look.ask(reports.inputs, look), outputs=look.ask(reports.outputs, look))


def _keeping(look: Look) -> None:
    reports.report(look)
    manifest.due(look, staging=False)
    registration.rse(look)
    registration.registered(look)
    if look.record.status.destinations is None:
        preparing.choose_again(look)
        return
    if look.facts.report is None:
        return
    outgoing.ask(look)
    if look.facts.unsafe is not None and look.ask(outgoing.spot_check, look) is None:
        look.set(unsafe=None)
    if look.record.status.losses:
        registration.replicas(look)
        look.set(inputs=look.ask(reports.inputs, look))


def _hiding(look: Look) -> None:
    if look.record.status.discarded is not None:
        written_off = lists.written_off(look)
        look.set(given_up=dids_of(written_off), written_off=written_off)
    registration.rse(look)
    if look.facts.rse is None and look.facts.rse_asked:
        # We have not removed it: what Rucio says of outputs that were safe once is not what it said then.
        look.set(replicas={}, last_copies=(), foreign_rules=())
        outgoing.still_safe(look)
    if look.facts.rse is None or _awaits_drain(look):
        # The empty server comes first: nothing is asked that would have to be asked again once it stands.
        return
    standing = look.ask(lambda: look.catalogue().standing(look.spec.rse_name, look.ledger))
    if standing is None:
        return
    look.set(replicas=standing.states, last_copies=standing.last)
    registration.foreign_rules(look)
    gone = EMPTIED in look.record.status.steps
    spans = any(not rule.only_here for rule in look.facts.foreign_rules or ())
    if (standing.last or spans or is_unacknowledged(look.record)) and not gone:
        # What stays a while may be lost meanwhile.
        reports.report(look)
    shown = any(state != "B" for state in standing.states.values())
    begun = REVERTED in look.record.status.steps
    if not shown or begun or (standing.last and look.record.status.outcome is not None):
        outgoing.still_safe(look)
    if shown and look.facts.unsafe is None:
        # Last copies are looked for before anything is hidden; whether outputs are safe, before anything is freed.
        look.set(unsafe={})


def _awaits_drain(look: Look) -> bool:
    """Tell whether the empty server has to stand before anything else, for what Rucio sends people to."""
    status, service = look.record.status, look.facts.storage.service
    if service is None or service.drained or look.facts.storage.drain_ready:
        return False
    staged = any(entry.files for entry in status.inputs or ())
    kept = status.outcome is not None and status.outcome.files > 0
    return staged or kept or bool(status.discarded or status.losses or look.spec.adopted_from)


def _draining(look: Look) -> None:
    registration.rse(look)
    if look.facts.rse is None:
        return
    registration.replicas(look)
    if all(state == "B" for state in (look.facts.replicas or {}).values()):
        # Rucio makes no rule on a hidden replica, and one that was ended shows it again.
        look.set(foreign_rules=())
        return
    registration.foreign_rules(look)


_ASKED: Mapping[Stage, Callable[[Look], None]] = {
    Stage.PREPARING: preparing.ask,
    Stage.SERVING: _serving,
    Stage.FENCING: _fencing,
    Stage.KEEPING: _keeping,
    Stage.HIDING: _hiding,
    Stage.DRAINING: _draining,
}
