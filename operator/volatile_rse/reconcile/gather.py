"""The world -> facts: what the stage of a record needs to know, asked anew each time."""

from __future__ import annotations

import dataclasses
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from volatile_rse.api.agent import OutputState
from volatile_rse.api.volatilerse import Output, VolatileRSESpec
from volatile_rse.builders.objects import record_name
from volatile_rse.domain.catalogue import Did, File, Term
from volatile_rse.domain.discard import dids_of, is_unacknowledged
from volatile_rse.domain.facts import Facts, Request
from volatile_rse.domain.identity import identify
from volatile_rse.domain.outputs import Copying, chosen_of, copying_of, lifetime_of, sealed_files
from volatile_rse.domain.problems import Problem, problem_of_dataset
from volatile_rse.domain.quarantine import DISCARDING, is_unlisted
from volatile_rse.domain.stage import EMPTIED, REVERTED, Stage, when
from volatile_rse.domain.versions import own_of, same_of
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import PortError, RefusedError
from volatile_rse.reconcile import credentials, door, lists, manifest, objects, preparing, registration, reports
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.datasets import dataset_of
from volatile_rse.reconcile.holding import is_held
from volatile_rse.reconcile.look import Look
from volatile_rse.reconcile.reading import (
    owner_of,
    read_class,
    read_connection,
    read_quarantined,
    read_record,
    read_request,
    read_usage,
    uid_of,
)
from volatile_rse.reconcile.world import World

__all__ = ["gather", "glimpse"]

_log = logging.getLogger(__name__)

_AT_RISK = {Stage.FENCING, Stage.KEEPING}
_SPOTS = 8
"""Copies that the operator itself looks for at their destination."""
_SOUGHT = 100
"""Files that it looks for there at a time, of those that Rucio has forgotten."""


def gather(world: World, connections: Connections, record_id: str, known: tuple[str, str] | None) -> Facts:
    """Ask what is the matter with one buffer.

    Parameters
    ----------
    known
        Namespace and name of its VolatileRSE, while there is no record that tells.
    """
    facts = glimpse(world, record_id, known)
    if facts.unseen is not None:
        return facts
    try:
        return _looked(world, connections, facts)
    except RefusedError as error:
        # It does not pass by itself, so it has to be told where people look.
        return dataclasses.replace(facts, unseen=Problem(error.reason, error.what))


def glimpse(world: World, record_id: str, known: tuple[str, str] | None) -> Facts:
    """Ask for nothing but the request and its record."""
    body = world.cluster.get(Ref("RSERecord", None, record_name(record_id)))
    if body is not None:
        known = owner_of(body) or known
    request = None if known is None else _request(world, record_id, *known)
    facts = Facts(now=world.clock.now(), request=request)
    try:
        return facts if body is None else dataclasses.replace(facts, record=read_record(body))
    except RefusedError as error:
        return dataclasses.replace(facts, unseen=Problem(error.reason, error.what))


def _looked(world: World, connections: Connections, facts: Facts) -> Facts:
    request = facts.request
    if facts.record is not None:
        return _all(Look(world, connections, facts, facts.record))
    if request is None or request.spec is None or request.deleting:
        return facts
    return _offered(world, facts, request.spec, request.namespace)


def _request(world: World, record_id: str, namespace: str, name: str) -> Request | None:
    body = world.cluster.get(Ref("VolatileRSE", namespace, name))
    if body is None or identify(world.settings.instance, uid_of(body)).record_id != record_id:
        return None
    return read_request(body, world.cluster.get(Ref("Namespace", None, namespace)))


def _offered(world: World, facts: Facts, spec: VolatileRSESpec, namespace: str) -> Facts:
    """Ask for the class and its connection, and for what is used of them already."""
    class_body = world.cluster.get(Ref("VolatileRSEClass", None, spec.class_name))
    if class_body is None:
        return facts
    class_ = read_class(class_body)
    body = world.cluster.get(Ref("RucioConnection", None, class_.connection_name))
    connection = None if body is None else read_connection(body)
    records = world.cluster.list("RSERecord")
    used = [found for found in (class_body, body) if found is not None]
    return dataclasses.replace(
        facts,
        class_=class_,
        connection=connection,
        unheld=tuple(_named(found) for found in used if not is_held(found)),
        going=tuple(" ".join(_named(found)) for found in used if "deletionTimestamp" in found["metadata"]),
        usage=read_usage(records, spec.class_name, namespace),
        quarantined=read_quarantined(records, spec.class_name),
    )


def _named(body: Mapping[str, Any]) -> tuple[str, str]:
    return body["kind"], body["metadata"]["name"]


def _all(look: Look) -> Facts:
    """Ask what the stage needs."""
    if look.stage is not Stage.CLOSED:
        look.set(storage=objects.storage(look))
    look.set(session=objects.session(look))
    if look.stage in _ASKED:
        _ASKED[look.stage](look)
    look.set(problems=tuple(look.problems))
    if look.stage in _AT_RISK and DISCARDING in look.record.status.steps and is_unlisted(look.facts):
        registration.last_copies(look)
    credentials.doubt(look)
    look.set(problems=tuple(dict.fromkeys(look.problems)))
    return look.facts


def _serving(look: Look) -> None:
    lists.frozen(look)
    if not look.facts.frozen and any(entry.files for entry in look.record.status.inputs or ()):
        lists.frozen_again(look)
    registration.rse(look)
    registration.registered(look)
    reports.report(look)
    manifest.due(look, staging=True)
    report, registered = look.facts.report, look.facts.registered
    lost = bool(look.record.status.losses)
    if lost:
        registration.replicas(look)
    if report is None:
        return
    staged = sum(total.staged for total in report.inputs)
    published = sum(total.sealed for total in report.outputs)
    if published or lost:
        _outgoing(look)
    room = registered is not None and len(registered) < look.spec.class_snapshot.max_registered_replicas
    partial = staged < sum(entry.files for entry in look.record.status.inputs or ())
    # A file of two inputs is counted for both, and registered once.
    behind = staged - lists.shared(look) + published > len(registered or ())
    if (room and behind) or partial or lost:
        look.set(inputs=look.ask(reports.inputs, look))
    pod = look.facts.storage.pod
    if pod is not None and pod.ready:
        look.set(unusable=look.ask(door.unusable, look))


def _fencing(look: Look) -> None:
    if look.record.status.session.ready_at is None:
        return
    reports.report(look)
    if look.record.status.losses:
        # People are not sent to what is gone, whenever its agent comes again or the fence is proven.
        registration.rse(look)
        registration.replicas(look)
        if look.facts.report is not None:
            look.set(inputs=look.ask(reports.inputs, look), outputs=look.ask(reports.outputs, look))
    report, token = look.facts.report, door.token_of(look)
    if report is None or token is None or report.actual.mode != "fenced":
        return
    look.set(writable=look.ask(door.writable, look, token))


def _keeping(look: Look) -> None:
    reports.report(look)
    manifest.due(look, staging=False)
    registration.rse(look)
    registration.registered(look)
    if look.facts.report is None:
        return
    _outgoing(look)
    if look.facts.unsafe is not None and look.ask(_spot_check, look) is None:
        look.set(unsafe=None)
    if look.record.status.losses:
        registration.replicas(look)
        look.set(inputs=look.ask(reports.inputs, look))


def _outgoing(look: Look) -> None:
    """Ask how far the sealed files are on their way."""
    outputs = look.ask(reports.outputs, look)
    copies = look.ask(reports.copies, look)
    look.set(outputs=outputs, copies=copies)
    if outputs is None or copies is None:
        return
    groups = sealed_files(outputs)
    copying = copying_of(groups, copies, chosen_of(look.record.status))
    if not copying.moving:
        # While copies run nothing is asked about the others: it would be asked again for each of them.
        _unsafe(look, copying.arrived)
    _datasets(look, groups, {did for _, did in copying.wanted})
    if copying.wanted:
        look.set(pfns=look.ask(_pfns, look, copying.wanted) or {})
    if not copying.moving:
        look.set(unlocked=look.ask(_unlocked, look, _held(look, groups, copying)))


def _datasets(look: Look, groups: Mapping[str, Sequence[File]], wanted: Iterable[Did] = ()) -> None:
    """Look into the datasets for which something is to be copied or attached."""
    missing = {did for dids in (look.facts.unsafe or {}).values() for did in dids}.union(wanted)
    for output in look.claim.request.outputs:
        files = [file for file in groups.get(output.name, ()) if file.did in missing]
        if files:
            with look.tolerant():
                _look_into(look, output, files)
    same = same_of(groups, look.facts.versions)
    if any(same.values()) and look.facts.unsafe is not None:
        # What the dataset has already counts in its place, where it is.
        before, instead = look.facts.unsafe, {file.did for pairs in same.values() for file, _ in pairs}
        _unsafe(look, {output: [theirs for _, theirs in pairs] for output, pairs in same.items()})
        if (theirs := look.facts.unsafe) is not None:
            kept = {name: [did for did in dids if did not in instead] for name, dids in before.items()}
            look.set(unsafe={name: (*dids, *theirs.get(name, ())) for name, dids in kept.items()})


def _look_into(look: Look, output: Output, files: Sequence[File]) -> None:
    did, datasets, facts = Did(output.scope, output.dataset), look.connections.datasets, look.facts
    known, catalogue = dataset_of(look.catalogue(), output), look.connections.of(look.spec.connection_snapshot)
    versions, turns = dict(facts.versions), dict(facts.turns)
    refused = problem_of_dataset(output, look.claim.account, look.spec.record_id, known)
    if known is not None and refused is None:
        dataset = look.spec.connection_snapshot.server, did
        turns[did] = datasets.turn(dataset, look.spec.record_id)
        versions |= datasets.versions(catalogue, dataset, files, look.spec.record_id)
    look.set(datasets={**facts.datasets, output.name: known}, versions=versions, turns=turns)


def _held(look: Look, groups: Mapping[str, Sequence[File]], copying: Copying) -> dict[str, list[File]]:
    """Give what the rule of each output has to hold."""
    versions = look.facts.versions
    arrived, same = own_of(copying.arrived, versions), same_of(groups, versions)
    return {name: [*files, *(theirs for _, theirs in same.get(name, ()))] for name, files in arrived.items()}


def _spot_check(look: Look) -> bool:
    """Ask the destinations themselves for some of what is said to be safe: all else is the agent's word.

    A site that cannot be asked from here, or says nothing, keeps nothing back; one that contradicts does.
    """
    facts, chosen = look.facts, chosen_of(look.record.status)
    if any((facts.unsafe or {}).values()) or facts.unlocked:
        return True
    arrived = copying_of(sealed_files(facts.outputs or ()), facts.copies or (), chosen).arrived
    all_ = [(rse, file) for output, files in arrived.items() for file in files for rse in chosen.get(output, ())]
    some = random.sample(all_, min(len(all_), _SPOTS))  # a lie cannot tell which ones
    for rse, file, url, size in _sizes(look, some, _pfns(look, ((rse, file.did) for rse, file in some))):
        if size != file.bytes:
            has = "no such file" if size is None else f"{size} bytes"
            reports.believe(look, f"it says that {file.did} with {file.bytes} bytes is at {rse}, and {url} has {has}")
    return True


def _sizes(
    look: Look, copies: Iterable[tuple[str, File]], pfns: Mapping[tuple[str, Did], str]
) -> Iterator[tuple[str, File, str, int | None]]:
    try:
        access = credentials.access(look)
        for rse, file in copies:
            url = pfns.get((rse, file.did), "")
            token = access.tokens.get(urlsplit(url).hostname or "", "")
            yield rse, file, url, look.world.endpoints.size(url, token, access.trust)
    except PortError as error:
        _log.info("%s: the destination is not asked: %s", look.spec.record_id, error.what)


def _hiding(look: Look) -> None:
    if look.record.status.discarded is not None:
        written_off = lists.written_off(look)
        look.set(given_up=dids_of(written_off), written_off=written_off)
    registration.rse(look)
    if look.facts.rse is None and look.facts.rse_asked:
        # We have not removed it: what Rucio says of outputs that were safe once is not what it said then.
        look.set(replicas={}, last_copies=(), foreign_rules=())
        _still_safe(look)
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
        _still_safe(look)
    if shown and look.facts.unsafe is None:
        # Last copies are looked for before anything is hidden; whether outputs are safe, before anything is freed.
        look.set(unsafe={})


def _still_safe(look: Look) -> None:
    """Ask once more whether outputs are safe, as the agent knows them."""
    status, outcome = look.record.status, look.record.status.outcome
    if EMPTIED in status.steps or (outcome is not None and outcome.files == 0):
        look.set(unsafe={})
        return
    if look.facts.report is None:
        reports.report(look)
    if look.facts.report is None or look.facts.report.volume != status.volume:
        return
    outputs = look.ask(reports.outputs, look)
    if outputs is None:
        return
    _unsafe(look, sealed_files(outputs))
    missing = {did for dids in (look.facts.unsafe or {}).values() for did in dids} - look.facts.given_up
    if missing or REVERTED in status.steps:
        _seek(look, outputs)


def _seek(look: Look, outputs: tuple[OutputState, ...]) -> None:
    """Ask the destinations for some of what Rucio does not know as safe any more, and for the rules."""
    copies = look.ask(reports.copies, look)
    look.set(outputs=outputs, copies=copies)
    if copies is None or look.facts.unsafe is None:
        return
    chosen, groups = chosen_of(look.record.status), sealed_files(outputs)
    copying = copying_of(groups, copies, chosen)
    _datasets(look, groups)
    if look.facts.unsafe is None:
        return
    unlocked = look.ask(_unlocked, look, _held(look, groups, copying))
    look.set(unlocked=unlocked, registered=frozenset(look.facts.replicas or ()))
    lost = {did for dids in look.facts.unsafe.values() for did in dids} - look.facts.given_up
    files = [(file, output) for output, found in copying.arrived.items() for file in found if file.did in lost][
        :_SOUGHT
    ]
    wanted = [(rse, file) for file, output in files for rse in chosen[output]]
    pfns = look.ask(_pfns, look, [(rse, file.did) for rse, file in wanted]) or {}
    seen = {(rse, file.did) for rse, file, _, size in _sizes(look, wanted, pfns) if size == file.bytes}
    missing = {file.did for rse, file in wanted if (rse, file.did) not in seen}
    look.set(found_again=frozenset({file.did for file, _ in files} - missing))


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


def _pfns(look: Look, wanted: Iterable[tuple[str, Did]]) -> dict[tuple[str, Did], str]:
    by_rse: dict[str, list[Did]] = {}
    for rse, did in sorted(wanted):
        by_rse.setdefault(rse, []).append(did)
    return {(rse, did): pfn for rse, dids in by_rse.items() for did, pfn in look.catalogue().pfns(rse, dids).items()}


def _unsafe(look: Look, by_output: Mapping[str, Sequence[File]]) -> None:
    def ask() -> dict[str, tuple[Did, ...]]:
        chosen = chosen_of(look.record.status)
        return {name: look.safety().unsafe(by_output.get(name, ()), rses) for name, rses in chosen.items()}

    look.set(unsafe=look.ask(ask))


def _unlocked(look: Look, by_output: Mapping[str, Sequence[File]]) -> frozenset[str]:
    chosen, missing = chosen_of(look.record.status), set()
    for output in look.claim.request.outputs:
        dataset, account = Did(output.scope, output.dataset), look.claim.account
        if not by_output.get(output.name):
            continue
        # A rule of one destination has nothing to hold while none of its files is there.
        absent = set((look.facts.unsafe or {}).get(output.name, ()))
        there = [file.did for file in by_output[output.name] if file.did not in absent]
        term, rses = Term(lifetime_of(output), _held_since(look)), chosen[output.name]
        if there and look.safety().locked_by(dataset, account, rses, term, there):
            continue
        missing.add(output.name)
        if not absent and (rule := look.safety().rule_state(dataset, account, rses)) is not None:
            look.set(rules={**look.facts.rules, output.name: rule})
    return frozenset(missing)


def _held_since(look: Look) -> datetime:
    """Give the moment from which outputs are to be held: of a session that runs its beginning, till then."""
    session = look.record.status.session
    return when(session.ended_at) or when(session.ready_at) or look.facts.now


_ASKED: Mapping[Stage, Callable[[Look], None]] = {
    Stage.PREPARING: preparing.ask,
    Stage.SERVING: _serving,
    Stage.FENCING: _fencing,
    Stage.KEEPING: _keeping,
    Stage.HIDING: _hiding,
    Stage.DRAINING: _draining,
}
