"""How far the outputs of a session are on their way, and whether they are safe."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from volatile_rse.api.addresses import place_of
from volatile_rse.api.agent import OutputState
from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Output
from volatile_rse.domain.catalogue import Did, File, Term
from volatile_rse.domain.outputs import Copying, chosen_of, copying_of, lifetime_of, sealed_files
from volatile_rse.domain.problems import problem_of_dataset
from volatile_rse.domain.stage import EMPTIED, REVERTED, when
from volatile_rse.domain.versions import own_of, same_of
from volatile_rse.ports import deadline
from volatile_rse.ports.errors import PortError, RefusedError
from volatile_rse.reconcile.datasets import dataset_of
from volatile_rse.reconcile.gather import credentials, reports
from volatile_rse.reconcile.gather.look import Look, guarded

__all__ = ["ask", "spot_check", "still_safe"]

_log = logging.getLogger(__name__)
_SPOTS = 8
"""Copies that the operator itself looks for at their destination."""
_SOUGHT = 100
"""Files that it looks for there at a time, of those that Rucio has forgotten."""


@guarded
def ask(look: Look) -> None:
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


def spot_check(look: Look) -> bool:
    """Ask the destinations themselves for some of what is said to be safe: all else is the agent's word.

    They are asked by the door to which Rucio sends readers. A site that cannot be asked from here, or says nothing,
    keeps nothing back; one that contradicts does.
    """
    facts, chosen = look.facts, chosen_of(look.record.status)
    if any((facts.unsafe or {}).values()) or facts.unlocked:
        return True
    arrived = copying_of(sealed_files(facts.outputs or ()), facts.copies or (), chosen).arrived
    all_ = [(rse, file) for output, files in arrived.items() for file in files for rse in chosen.get(output, ())]
    some = random.sample(all_, min(len(all_), _SPOTS))  # a lie cannot tell which ones
    listed = _pfns(look, ((rse, file.did) for rse, file in some), reads=True)
    for rse, file, url, size in _sizes(look, some, listed):
        if size != file.bytes:
            has = "no such file" if size is None else f"{size} bytes"
            _must_be_one_place(look, rse, file, url, has)
            reports.believe(look, f"it says that {file.did} with {file.bytes} bytes is at {rse}, and {url} has {has}")
    return True


def _must_be_one_place(look: Look, rse: str, file: File, url: str, has: str) -> None:
    """See whether a copy is where it was written to: then nobody has told a lie, and an RSE has doors to two places."""
    # Where it was written may be no door to write by any more.
    place, copies = (rse, file.did.scope, file.did.name), look.facts.copies or ()
    written = next((copy.pfn for copy in copies if (copy.rse, copy.scope, copy.name) == place), url)
    there = [] if written == url else list(_sizes(look, [(rse, file)], {(rse, file.did): written}))
    if any(size == file.bytes for *_, size in there):
        what = f"RSE {rse} has {there[0][2]}, and Rucio sends readers to {url}, which has {has}."
        raise RefusedError(Reason.DOORS_DISAGREE, what)


@guarded
def still_safe(look: Look) -> None:
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


def _datasets(look: Look, groups: Mapping[str, Sequence[File]], wanted: Iterable[Did] = ()) -> None:
    """Look into the datasets for which something is to be copied or attached."""
    missing = {did for dids in (look.facts.unsafe or {}).values() for did in dids}.union(wanted)
    for output in look.claim.request.outputs:
        files = [file for file in groups.get(output.name, ()) if file.did in missing]
        if files:
            with look.tolerant(f"the dataset of spec.outputs[{output.name}]"):
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
    known, catalogue = dataset_of(look.catalogue(), output), look.live()
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
    pfns = look.ask(lambda: _pfns(look, [(rse, file.did) for rse, file in wanted], reads=True)) or {}
    seen = {(rse, file.did) for rse, file, _, size in _sizes(look, wanted, pfns) if size == file.bytes}
    missing = {file.did for rse, file in wanted if (rse, file.did) not in seen}
    look.set(found_again=frozenset({file.did for file, _ in files} - missing))


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
        if there and (held_by := look.safety().locked_by(dataset, account, rses, term, there)):
            look.set(held_by={**look.facts.held_by, output.name: held_by})
            continue
        missing.add(output.name)
        if not absent and (rule := look.safety().rule_state(dataset, account, rses)) is not None:
            look.set(rules={**look.facts.rules, output.name: rule})
    return frozenset(missing)


def _held_since(look: Look) -> datetime:
    """Give the moment from which outputs are to be held: of a session that runs its beginning, till then."""
    session = look.record.status.session
    return when(session.ended_at) or when(session.ready_at) or look.facts.now


def _pfns(look: Look, wanted: Iterable[tuple[str, Did]], *, reads: bool = False) -> dict[tuple[str, Did], str]:
    """Give what copies are written by, or what readers are sent to."""
    by_rse: dict[str, list[Did]] = {}
    for rse, did in sorted(wanted):
        by_rse.setdefault(rse, []).append(did)
    ask = look.catalogue().read_pfns if reads else look.catalogue().pfns
    return {(rse, did): pfn for rse, dids in by_rse.items() for did, pfn in ask(rse, dids).items()}


def _sizes(
    look: Look, copies: Iterable[tuple[str, File]], pfns: Mapping[tuple[str, Did], str]
) -> Iterator[tuple[str, File, str, int | None]]:
    """Ask sites for the sizes of copies; one that cannot be asked is left out, and nothing is told by that.

    Raises
    ------
    PortError
        The time of the visit is over: a site that nobody has asked must not count as one that says nothing.
    """
    try:
        access = credentials.access(look)
    except PortError as error:
        if deadline.is_over(error):
            raise
        _log.info("%s: the destinations are not asked: %s", look.spec.record_id, error.what)
        return
    silent: set[str] = set()
    for rse, file in copies:
        url = pfns.get((rse, file.did), "")
        token = access.needed((), {place.host} if (place := place_of(url)) else ()).opening(url)
        if token is None:
            _log.info("%s: %s is not asked: there is no token for it", look.spec.record_id, url)
            continue
        if rse in silent:
            # It would take its time for each.
            continue
        try:
            size = look.world.endpoints.size(url, token, access.trust)
        except PortError as error:
            if deadline.is_over(error):
                raise
            _log.info("%s: %s is not asked: %s", look.spec.record_id, rse, error.what)
            silent.add(rse)
        else:
            yield rse, file, url, size
