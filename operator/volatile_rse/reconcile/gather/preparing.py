"""What a buffer begins with: its input files, the destinations of its outputs, and whether sites let it in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from volatile_rse.api.agent import CopyState, OutputState
from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.volatilerse import Input, Output
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.domain.catalogue import DatasetState, Did, File, Room
from volatile_rse.domain.destinations import Need, full, preferred, problem_of_choice, tight
from volatile_rse.domain.frozen import distinct, least_of, usable
from volatile_rse.domain.missing import problems_of_missing
from volatile_rse.domain.outputs import did_of
from volatile_rse.domain.problems import problem_of_dataset
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.datasets import dataset_of
from volatile_rse.reconcile.gather import credentials, reports, resolving
from volatile_rse.reconcile.gather.example import example_of
from volatile_rse.reconcile.gather.look import Look, guarded
from volatile_rse.reconcile.usage import share_of, usage_of_others

__all__ = ["Choice", "ask", "choose", "choose_again", "shut_sources"]

_LOOKED_AT = 100
"""RSEs that are asked about one by one for an output: of hundreds that match, those that leave the most room."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where an output goes."""

    rses: tuple[str, ...]
    urls: tuple[str, ...]
    """What one of its copies would be called there."""
    tight: str
    """Why not all may fit there; empty: it does."""


@guarded
def ask(look: Look) -> None:
    """Resolve the inputs, choose the destinations, and see whether there is a token for each site."""
    catalogue, access = look.ask(look.catalogue), look.ask(credentials.access, look)
    if catalogue is None or access is None:
        return
    resolved = look.resolved = resolving.resolved(look, catalogue)
    shut: set[credentials.Shut] = set()
    for entry in look.claim.request.inputs:
        files = resolved[entry.name]
        if files:
            shut |= shut_sources(look, catalogue, access, entry, files)
    read = sum(file.bytes for file in distinct({name: files or () for name, files in resolved.items()}))
    most = max(parse_quantity(look.spec.capacity) - read, 0)
    chosen = {
        output.name: look.ask(choose, look, catalogue, access, output, most) for output in look.claim.request.outputs
    }
    faults = [access.fault(url, writes=True) for choice in chosen.values() if choice is not None for url in choice.urls]
    shut |= {credentials.Shut("write", *fault) for fault in faults if fault is not None}
    look.problems += credentials.problems(look, shut)
    if not look.problems:
        made = {name: choice for name, choice in chosen.items() if choice is not None}
        others = look.world.cluster.select("RSERecord", share_of) if any(resolved.values()) else ()
        look.set(
            owner_usage=usage_of_others(others, look.spec, look.facts.now, look.facts.tenant),
            resolved=resolved,
            chosen={name: choice.rses for name, choice in made.items()},
            tight={name: choice.tight for name, choice in made.items() if choice.tight},
        )


@guarded
def choose_again(look: Look) -> None:
    """Choose where outputs go that are there already, if it is not known any more what had been chosen.

    It is where their copies went, as the agent knows; what was chosen for them is not judged a second time.
    """
    catalogue, access = look.ask(look.catalogue), look.ask(credentials.access, look)
    if catalogue is None or access is None or look.facts.report is None:
        return
    outputs, copies = look.ask(reports.outputs, look), look.ask(reports.copies, look)
    if outputs is None or copies is None:
        return
    most = parse_quantity(look.spec.capacity)
    rses: dict[str, tuple[str, ...] | None] = {}
    for output in look.claim.request.outputs:
        before = look.ask(_chosen_before, catalogue, output, _sent_to(output, outputs, copies))
        if before == ():
            made = look.ask(choose, look, catalogue, access, output, most)
            before = None if made is None else made.rses
        rses[output.name] = before
    if None not in rses.values():
        look.set(chosen=rses)


def _sent_to(output: Output, outputs: Iterable[OutputState], copies: Iterable[CopyState]) -> list[str]:
    """List the RSEs that copies of an output were sent to, those with the most that have arrived first."""
    files = {did_of(state) for state in outputs if state.state == "sealed" and state.output == output.name}
    ours = [copy for copy in copies if Did(copy.scope, copy.name) in files]
    arrived = Counter(copy.rse for copy in ours if copy.state == "verified")
    return sorted({copy.rse for copy in ours}, key=lambda rse: (-arrived[rse], rse))


def _chosen_before(catalogue: Catalogue, output: Output, sent: Sequence[str]) -> tuple[str, ...]:
    """Give those that can have been chosen, whatever an agent tells; empty: too few for all copies."""
    matching = catalogue.destinations(output.destination.rse_expression) if sent else {}
    possible = [rse for rse in sent if matching.get(rse) == "" and not catalogue.doubt(rse)]
    copies = output.destination.copies
    return tuple(possible[:copies]) if len(possible) >= copies else ()


def shut_sources(
    look: Look, catalogue: Catalogue, access: SiteAccess, entry: Input, files: tuple[File, ...]
) -> set[credentials.Shut]:
    """Tell which sites would have to let in for an input; none if enough of its files can be had without them."""
    wanted = usable(files)
    sources = look.ask(resolving.sources, look, catalogue, entry, wanted) if wanted else {}
    if sources is None:
        return set()
    missing = [file.did for file in wanted if not sources.get(file.did)]
    if len(wanted) - len(missing) < least_of(entry, len(files)):
        barred = look.ask(resolving.barred, catalogue, entry, missing)
        if barred is not None:
            look.problems += problems_of_missing(entry, files, missing, barred)
        return set()
    faults = [[access.fault(pfn, writes=False) for pfn in pfns] for pfns in sources.values()]
    shut = [told for told in faults if told and None not in told]
    if len(wanted) - len(missing) - len(shut) >= least_of(entry, len(files)):
        return set()
    return {credentials.Shut("read", *fault) for told in shut for fault in told if fault is not None}


def choose(look: Look, catalogue: Catalogue, access: SiteAccess, output: Output, most: int) -> Choice:
    """Choose RSEs that will take what the session may write: Rucio itself refuses late, when nobody is there."""
    account = look.claim.account
    known = dataset_of(catalogue, output)
    if refused := problem_of_dataset(output, account, look.spec.record_id, known):
        raise RefusedError(refused.reason, refused.what)
    candidates = _Candidates(look, catalogue, output, _need(catalogue, output, account, known, most))
    urls, shut = dict[str, str](), dict[str, str]()
    for rse in candidates.fitting():
        try:
            url = example_of(look, catalogue, output, rse)
        except RefusedError as error:
            candidates.why[rse] = f"where a copy goes there cannot be told ({error.what.rstrip('.')})"
            continue
        (urls if access.fault(url, writes=True) is None else shut)[rse] = url
        if len(urls) == output.destination.copies:
            break
    # Where too few let in, those that would have been chosen are told.
    urls |= dict(list(shut.items())[: output.destination.copies - len(urls)])
    if len(urls) < output.destination.copies:
        problem = problem_of_choice(
            output, len(candidates.matching), candidates.why, candidates.no_room, candidates.unasked
        )
        raise RefusedError(problem.reason, problem.what)
    return Choice(tuple(urls), tuple(urls.values()), _told_tight(candidates.rooms, candidates.need, list(urls)))


class _Candidates:
    """The RSEs that an output may go to: all are judged by what Rucio tells at once, and few are looked at singly."""

    def __init__(self, look: Look, catalogue: Catalogue, output: Output, need: Need) -> None:
        self._account, self._catalogue = look.claim.account, catalogue
        self.need = need
        self.matching = catalogue.destinations(output.destination.rse_expression)
        self.why = {rse: fault for rse, fault in self.matching.items() if fault}
        """RSE -> why it is left out."""
        self.rooms = dict(catalogue.rooms(self._account, [rse for rse in self.matching if rse not in self.why]))
        self.no_room = full(self.rooms, need)
        """Those of them that lack nothing but quota."""
        self.why |= self.no_room
        self.unasked = 0
        """RSEs that nobody has looked at."""

    def fitting(self) -> Iterator[str]:
        """Give RSEs that keep outputs, the preferred ones first: each is looked at when it comes into question."""
        tighter = []
        candidates = preferred(self.rooms, self.need)
        for at, rse in enumerate(candidates):
            if at == _LOOKED_AT:
                self.unasked = len(candidates) - at
                break
            was_tight = tight(self.rooms[rse], self.need, rse)
            if not self._takes(rse):
                continue
            if tight(self.rooms[rse], self.need, rse) and not was_tight and rse not in self.need.held:
                tighter.append(rse)
            else:
                yield rse
        yield from tighter

    def _takes(self, rse: str) -> bool:
        if fault := self._catalogue.doubt(rse):
            self.why[rse] = fault
            return False
        self.rooms[rse] = self._catalogue.narrowed(self._account, rse, self.rooms[rse])
        no_room = full({rse: self.rooms[rse]}, self.need)
        self.no_room |= no_room
        self.why |= no_room
        return not no_room


def _need(catalogue: Catalogue, output: Output, account: str, known: DatasetState | None, most: int) -> Need:
    if known is None:
        return Need(most)
    dataset = Did(output.scope, output.dataset)
    return Need(most, catalogue.size(dataset), catalogue.held_at(dataset, account))


def _told_tight(rooms: Mapping[str, Room], need: Need, rses: Sequence[str]) -> str:
    """Say where less can be locked than the session may write."""
    less = [rse for rse in rses if tight(rooms[rse], need, rse)]
    if not less:
        return ""
    first = rooms[less[0]]
    left = (first.bytes or 0) - need.least(less[0])
    return f"{left} bytes may be held on {less[0]} by {first.by}, and the session may write {need.most}"
