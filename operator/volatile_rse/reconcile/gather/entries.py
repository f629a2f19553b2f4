"""What entries resolve to that are added while a session lives; each is judged for itself, and troubles no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.volatilerse import Input, Output
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.domain.catalogue import File
from volatile_rse.domain.entries import (
    INPUT,
    OUTPUT,
    Asked,
    is_refused,
    problem_of_room,
    problems_of_entry,
    to_judge,
    waiting_of,
)
from volatile_rse.domain.facts import Judged, Usage
from volatile_rse.domain.frozen import distinct
from volatile_rse.domain.limits import problem_of_files
from volatile_rse.domain.tenants import Namespace
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.reconcile.gather import credentials, preparing, resolving
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.usage import share_of, usage_of_others

__all__ = ["ask"]


def ask(look: Look) -> None:
    """Judge what was added, as far as it is not one of the session's entries yet."""
    asked, tenant = to_judge(look.facts, look.record), look.facts.tenant
    if tenant is None or look.facts.report is None or look.facts.frozen is None:
        return
    generation = 0 if look.facts.request is None else look.facts.request.generation
    known = look.connections.refused(look.spec.record_id, generation)
    judged: dict[tuple[str, str], Judged] = {}
    before, beside = dict(look.facts.frozen), waiting_of(look.facts, look.record)
    for entry in asked.inputs:
        found = known.get((INPUT, entry.name)) or _input(look, tenant, entry, before, beside)
        judged[INPUT, entry.name] = found
        if not found.problems:
            before[entry.name] = found.files
            beside = replace(beside, inputs=(*beside.inputs, entry))
    goes = _destinations(look, beside.outputs)
    for output in asked.outputs:
        found = known.get((OUTPUT, output.name)) or _output(look, tenant, output, before, beside)
        if not found.problems:
            # Rucio holds a dataset as a whole, wherever else there may be more room now.
            first = goes.setdefault((output.scope, output.dataset), found)
            found = replace(found, rses=first.rses, tight=first.tight)
            beside = replace(beside, outputs=(*beside.outputs, output))
        judged[OUTPUT, output.name] = found
    refused = {entry: found for entry, found in judged.items() if is_refused(found)}
    if refused and not known:
        look.connections.refuse(look.spec.record_id, generation, refused)
    look.set(judged=judged)


def _destinations(look: Look, waiting: Iterable[Output]) -> dict[tuple[str, str], Judged]:
    """Say where the datasets of the session's outputs go."""
    chosen = {entry.output: entry for entry in look.record.status.destinations or ()}
    goes: dict[tuple[str, str], Judged] = {}
    for output in (*look.claim.request.outputs, *waiting):
        if (entry := chosen.get(output.name)) is not None:
            found = Judged(rses=tuple(entry.rses), tight=entry.tight or "")
            goes.setdefault((output.scope, output.dataset), found)
    return goes


def _input(
    look: Look, tenant: Namespace, entry: Input, before: Mapping[str, tuple[File, ...]], beside: Asked
) -> Judged:
    files: tuple[File, ...] | None = None
    with look.apart() as problems:
        catalogue, access = look.ask(look.catalogue), look.ask(credentials.access, look)
        if catalogue is not None and access is not None:
            problems.extend(problems_of_entry(tenant, look.record, resolving.tenancy(look), entry, beside))
            if not problems:
                files = resolving.added(look, catalogue, entry, before)
            if files is not None:
                shut = preparing.shut_sources(look, catalogue, access, entry, files)
                problems.extend(credentials.problems(look, shut))
                problems.extend(filter(None, (problem_of_room(look.facts, look.record, before, entry, files),)))
                used = _used(look)
                number = sum(map(len, before.values())) + len(files)
                problems.extend(filter(None, (problem_of_files(tenant.name, look.record, number, used),)))
    return Judged(problems=tuple(problems), files=files or ())


def _used(look: Look) -> Usage:
    others = look.world.cluster.select("RSERecord", share_of)
    return usage_of_others(others, look.spec, look.facts.now, look.facts.tenant)


def _output(
    look: Look, tenant: Namespace, output: Output, before: Mapping[str, tuple[File, ...]], beside: Asked
) -> Judged:
    chosen: preparing.Choice | None = None
    with look.apart() as problems:
        catalogue, access = look.ask(look.catalogue), look.ask(credentials.access, look)
        if catalogue is not None and access is not None:
            problems.extend(problems_of_entry(tenant, look.record, resolving.tenancy(look), output, beside))
            if not problems:
                chosen = look.ask(_choose, look, catalogue, access, output, before)
    return Judged(
        problems=tuple(problems),
        rses=() if chosen is None else chosen.rses,
        tight="" if chosen is None else chosen.tight,
    )


def _choose(
    look: Look, catalogue: Catalogue, access: SiteAccess, output: Output, before: Mapping[str, tuple[File, ...]]
) -> preparing.Choice:
    read = sum(file.bytes for file in distinct(before))
    chosen = preparing.choose(look, catalogue, access, output, max(parse_quantity(look.spec.capacity) - read, 0))
    faults = [fault for url in chosen.urls if (fault := access.fault(url, writes=True)) is not None]
    look.problems += credentials.problems(look, {credentials.Shut("write", *fault) for fault in faults})
    return chosen
