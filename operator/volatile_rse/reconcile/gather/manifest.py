"""The manifest: what the agent is to stage, by which ways."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from volatile_rse.api.addresses import place_of
from volatile_rse.api.agent import InputFile, Manifest, Report
from volatile_rse.builders.manifest import SiteAccess, is_in_force, manifest, manifest_digest, with_sources, with_words
from volatile_rse.builders.session import listing_of
from volatile_rse.domain.catalogue import Barred, Did, File
from volatile_rse.domain.frozen import usable
from volatile_rse.domain.outputs import chosen_of, continuous_outputs, output_rules
from volatile_rse.domain.rights import listed_in
from volatile_rse.reconcile.gather import credentials, reports, resolving
from volatile_rse.reconcile.gather.example import example_of
from volatile_rse.reconcile.gather.look import Look, guarded

__all__ = ["due"]


@guarded
def due(look: Look, *, staging: bool) -> None:
    """Make the manifest that the agent must be given, if it has another."""
    report, access = look.facts.report, look.ask(credentials.access, look)
    if report is None or access is None or (staging and look.facts.frozen is None):
        return
    # What is published is copied while inputs still arrive: from the begin, as nobody knows when it comes.
    writes = not staging or bool(continuous_outputs(look.spec))
    destinations = look.ask(_destinations, look) if writes else frozenset[str]()
    if destinations is None:
        return
    rules = output_rules(look.spec) if staging and "outputs" in report.knows else ()

    # What is frozen for an entry that is not one of the session's yet has no source yet.
    names = {entry.name for entry in look.claim.request.inputs}
    entered = [entry for entry in look.record.status.inputs or () if entry.name in names]

    def work(sources: Collection[str]) -> tuple[SiteAccess, str]:
        needed = _access_known_to(access, report).needed(sources, destinations)
        return needed, manifest_digest(entered, needed, rules, staging=staging)

    # Where inputs come from is told by the agent that was told it: so nobody has to be asked at each look.
    _, digest = work(report.sites if staging else ())
    found: Mapping[Did, Sequence[str]] = {}
    if is_in_force(digest, report.manifest):
        found = _found_since(look, report) if staging else {}
        if not found or report.manifest == with_sources(digest, found):
            return
    frozen = {name: files for name, files in (look.facts.frozen or {}).items() if name in names}
    inputs = _inputs_known_to(report, frozen) if staging else {}
    sources = look.ask(_sources, look, inputs)
    if sources is not None:
        needed, digest = work({place.host for pfns in sources.values() for pfn in pfns if (place := place_of(pfn))})
        digest = with_sources(digest, found) if found else digest
        if "sourceless" in report.knows:
            # It says of these, too, that they are missing, and why.
            sources = {file.did: sources.get(file.did, ()) for files in inputs.values() for file in usable(files)}
        made = manifest(look.spec, digest, inputs, sources, needed)
        later: dict[str, object] = {"outputs": list(rules), "inputs": _with_words(look, made, inputs)}
        if staging and "listing" in report.knows:
            later["listing"] = listing_of(look.world.settings, look.spec, listed_in(look.record.status))
        if rules and "continuous" in report.knows and (continuous := continuous_outputs(look.spec)):
            later |= {"continuous": continuous, "record_id": look.spec.record_id}
        look.set(manifest=made.model_copy(update=later))


def _inputs_known_to(report: Report, inputs: Mapping[str, tuple[File, ...]]) -> Mapping[str, tuple[File, ...]]:
    """Leave out what an older agent would refuse all of its work for."""
    if "md5" in report.knows:
        return inputs
    return {name: tuple(file for file in files if not file.md5) for name, files in inputs.items()}


def _access_known_to(access: SiteAccess, report: Report) -> SiteAccess:
    # An older agent refuses what it does not know, and follows nowhere.
    return access if "plainRedirects" in report.knows else replace(access, plain=frozenset())


def _destinations(look: Look) -> frozenset[str]:
    """Give the hosts that the outputs go to."""
    chosen, catalogue = chosen_of(look.record.status), look.catalogue()
    urls = [
        example_of(look, catalogue, output, rse)
        for output in look.claim.request.outputs
        for rse in chosen.get(output.name, ())
    ]
    return frozenset(place.host for url in urls if (place := place_of(url)))


def _found_since(look: Look, report: Report) -> Mapping[Did, tuple[str, ...]]:
    """Ask anew where the files are that the agent could not get, ever less often."""
    if not any(total.failed for total in report.inputs):
        return {}
    if not look.connections.is_time_again(look.spec.record_id):
        return {}
    failed = {Did(state.scope, state.name) for state in look.ask(reports.inputs, look) or () if state.state == "failed"}
    frozen = look.facts.frozen or {}
    sought = {name: tuple(file for file in files if file.did in failed) for name, files in frozen.items()}
    return look.ask(_sources, look, sought) or {}


def _sources(look: Look, inputs: Mapping[str, tuple[File, ...]]) -> dict[Did, tuple[str, ...]]:
    found: dict[Did, tuple[str, ...]] = {}
    for entry in look.claim.request.inputs:
        if files := usable(inputs.get(entry.name, ())):
            found.update(resolving.sources(look, look.catalogue(), entry, files))
    return found


def _with_words(look: Look, made: Manifest, inputs: Mapping[str, tuple[File, ...]]) -> list[InputFile]:
    """Say of those that come from nowhere where Rucio has them, if the agent knows such words."""
    missing = {Did(file.scope, file.name) for file in made.inputs if not file.sources}
    if look.facts.report is None or "barred" not in look.facts.report.knows:
        return made.inputs
    found: dict[Did, Barred] = {}
    for entry in look.claim.request.inputs:
        sought = [file.did for file in inputs.get(entry.name, ()) if file.did in missing]
        found |= look.ask(resolving.barred, look.catalogue(), entry, sought) or {}
    return with_words(made.inputs, found)
