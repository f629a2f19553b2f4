"""Outputs on their way to safety: every file goes as far as it can, whatever keeps another one back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from volatile_rse.api.agent import Copies, CopyOrder, CopyState, CopyTarget, OutputRule, OutputState
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import ChosenDestination, RSERecordSpec, RSERecordStatus
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.text import WORDS, visible
from volatile_rse.api.volatilerse import Output
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import DatasetState, Did, File, RuleState
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.naming import file_template, layout_of
from volatile_rse.domain.plan import SHOWN
from volatile_rse.domain.problems import Problem, problem_of_dataset
from volatile_rse.domain.stage import when
from volatile_rse.domain.times import later
from volatile_rse.domain.versions import others_of, own_of, same_of

__all__ = [
    "Copying",
    "at_risk",
    "chosen_of",
    "continuous_outputs",
    "copying_of",
    "destinations_of",
    "did_of",
    "empty_outputs",
    "is_output",
    "is_owed",
    "kept_again",
    "lifetime_of",
    "next_steps",
    "output_rules",
    "pending_rules",
    "refused_datasets",
    "sealed_files",
    "taken_paths",
    "unknown_copies",
]

_ORDERS = 5000
"""Files of one order; the protocol takes 10,000."""

_JUDGING = timedelta(minutes=10)
"""After the end of a session: as long as Rucio may need to see by itself what has come to a dataset."""
_UNASKED = DatasetState("", is_dataset=False, open=False)

Target = tuple[str, Did]
"""A destination RSE and the file that goes there."""


@dataclass(frozen=True, slots=True)
class Copying:
    """Where the copies of sealed outputs are."""

    wanted: frozenset[Target]
    """To be ordered: nobody works on them, or all attempts have failed."""
    moving: bool
    """Some are under way that have not failed so far."""
    arrived: Mapping[str, tuple[File, ...]]
    """Output -> files whose every copy is verified."""


def output_rules(record: RSERecordSpec) -> list[OutputRule]:
    """Say which output takes which files of the session's outbox."""
    claim, naming = record.claims[0], record.class_snapshot.naming
    return [
        OutputRule(
            claim=claim.uid,
            name=output.name,
            patterns=[output.path],
            scope=output.scope,
            dataset=output.dataset,
            template=file_template(naming),
            layout="identity" if layout_of(naming) == "identity" else None,
        )
        for output in claim.request.outputs
    ]


def continuous_outputs(record: RSERecordSpec) -> list[str]:
    """Name the outputs whose published files are kept while the session runs."""
    return [output.name for output in record.claims[0].request.outputs if output.register_ == "Continuous"]


def is_output(record: Record, did: Did) -> bool:
    """Tell what this session wrote from everything else: every template puts the record's id into a name."""
    return record.spec.record_id in did.name


def empty_outputs(record: Record, taking: Collection[str | None]) -> list[Output]:
    """Give the outputs that are not among those that have taken something."""
    return [output for output in record.spec.claims[0].request.outputs if output.name not in taking]


def sealed_files(states: Sequence[OutputState]) -> dict[str, list[File]]:
    """Group the sealed files by output."""
    groups: dict[str, list[File]] = {}
    for state in states:
        if state.state != "sealed" or state.output is None or state.scope is None or state.name is None:
            continue
        file = File(Did(state.scope, state.name), state.bytes, state.adler32 or "")
        groups.setdefault(state.output, []).append(file)
    return groups


def destinations_of(facts: Facts) -> list[ChosenDestination]:
    """Write down what was chosen just now."""
    return [
        ChosenDestination(output=name, rses=list(rses), tight=visible(facts.tight.get(name, ""), WORDS) or None)
        for name, rses in (facts.chosen or {}).items()
    ]


def chosen_of(status: RSERecordStatus) -> dict[str, list[str]]:
    """Give each output's destination RSEs."""
    return {entry.output: entry.rses for entry in status.destinations or ()}


def copying_of(
    groups: Mapping[str, Sequence[File]], copies: Sequence[CopyState], chosen: Mapping[str, Sequence[str]]
) -> Copying:
    """Sort the copies by what has become of them."""
    states = {(copy.rse, Did(copy.scope, copy.name)): copy for copy in copies}
    wanted: set[Target] = set()
    arrived: dict[str, tuple[File, ...]] = {}
    moving = False
    for output, rses in chosen.items():
        whole = []
        for file in groups.get(output, ()):
            found = [(target, states.get(target)) for target in ((rse, file.did) for rse in rses)]
            wanted |= {target for target, copy in found if copy is None or copy.state == "failed"}
            moving |= any(copy is not None and copy.state == "wanted" and copy.error is None for _, copy in found)
            if all(copy is not None and copy.state == "verified" for _, copy in found):
                whole.append(file)
        arrived[output] = tuple(whole)
    return Copying(frozenset(wanted), moving, arrived)


def next_steps(facts: Facts, record: Record, groups: Mapping[str, Sequence[File]], copying: Copying) -> list[do.Effect]:
    """Register, copy, attach and hold, in this order for each file; a rule comes when Rucio knows every replica."""
    registered = facts.registered or frozenset()
    effects: list[do.Effect] = []
    # What the dataset has already is that; it must not keep the buffer as a last copy.
    same = {file.did for pairs in same_of(groups, facts.versions).values() for file, _ in pairs}
    files = [file for group in groups.values() for file in group if file.did not in same]
    if missing := [file for file in files if file.did not in registered]:
        effects.append(do.Register(missing))
    effects += _made(facts, record)
    # Nothing is copied that no dataset could take.
    taken = {file.did for output in _taking(facts, record) for file in groups.get(output, ())}
    orders = _orders([target for target in copying.wanted if target[1] in taken], facts.pfns, registered)
    effects += [do.Copy(Copies(copies=orders[at : at + _ORDERS])) for at in range(0, len(orders), _ORDERS)]
    return [*effects, *_kept(facts, record, copying)]


def refused_datasets(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say which outputs wait because their dataset is no longer what it was when the session began."""
    claim, id_ = record.spec.claims[0], record.spec.record_id
    return tuple(
        problem
        for output in claim.request.outputs
        if (problem := problem_of_dataset(output, claim.account, id_, facts.datasets.get(output.name)))
    )


def taken_paths(facts: Facts) -> tuple[Problem, ...]:
    """Say which files have a path that their dataset has already: it never holds two versions of one."""
    groups = sealed_files(facts.outputs or ())
    paths = {did_of(state): state.path for state in facts.outputs or ()}
    unsafe = {did for dids in (facts.unsafe or {}).values() for did in dids}
    other = others_of(groups, facts.versions)
    absent = [pair for pairs in same_of(groups, facts.versions).values() for pair in pairs if pair[1].did in unsafe]
    problems = []
    for pairs, what in (
        (other, "have a path that their dataset has from another session with other content"),
        (absent, "are in their dataset from another session, and those are not at the destination of this one"),
    ):
        files = [(file, theirs) for file, theirs in pairs if file.did not in facts.given_up]
        if files:
            said = ", ".join(f"{paths[file.did]} (as {theirs.did})" for file, theirs in files[:SHOWN])
            more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
            problems.append(Problem(Reason.VERSION_EXISTS, f"{len(files)} files {what}: {said}{more}."))
    return tuple(problems)


def pending_rules(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say which rules do not hold what is there: files of others keep them from it, or Rucio's daemons."""
    problems = []
    for output in record.spec.claims[0].request.outputs:
        rule = facts.rules.get(output.name)
        if rule is None or output.name not in (facts.unlocked or ()) or not _is_pending(rule, facts, record):
            continue
        what = (
            f"The files of spec.outputs[{output.name}] are at {', '.join(chosen_of(record.status)[output.name])}, but "
            f"rule {rule.id} on {output.scope}:{output.dataset} does not hold them: it is {rule.state}, "
            f"{rule.ok} of its {rule.wanted} locks are OK and {rule.stuck} are stuck."
        )
        problems.append(Problem(Reason.RULE_INSUFFICIENT, what))
    return tuple(problems)


def _is_pending(rule: RuleState, facts: Facts, record: Record) -> bool:
    if rule.state != "OK":
        return True
    ended = when(record.status.session.ended_at)
    # One that is whole ends too early, which is told where it cannot be lengthened.
    return rule.ok < rule.wanted and ended is not None and facts.now >= later(ended, _JUDGING)


def _taking(facts: Facts, record: Record) -> set[str]:
    """Name the outputs whose datasets were seen to be there, and may take files."""
    claim, id_ = record.spec.claims[0], record.spec.record_id
    return {
        output.name
        for output in claim.request.outputs
        if (known := facts.datasets.get(output.name)) is not None
        and problem_of_dataset(output, claim.account, id_, known) is None
    }


def _made(facts: Facts, record: Record) -> Iterator[do.Effect]:
    """Make the datasets that are not there: whoever makes one first has it."""
    claim = record.spec.claims[0]
    absent = [output for output in claim.request.outputs if facts.datasets.get(output.name, _UNASKED) is None]
    fresh = {Did(output.scope, output.dataset) for output in absent if output.if_exists == "Fail"}
    for did in dict.fromkeys(Did(output.scope, output.dataset) for output in absent):
        yield do.EnsureDataset(did, claim.account, did in fresh)


def _orders(wanted: Collection[Target], pfns: Mapping[Target, str], registered: Collection[Did]) -> list[CopyOrder]:
    by_file: dict[Did, list[CopyTarget]] = {}
    for rse, did in sorted(wanted):
        if did in registered and (rse, did) in pfns:
            by_file.setdefault(did, []).append(CopyTarget(rse=rse, pfn=pfns[rse, did]))
    return [CopyOrder(scope=did.scope, name=did.name, destinations=goals) for did, goals in by_file.items()]


def kept_again(facts: Facts, record: Record) -> list[do.Effect]:
    """Attach and hold anew what Rucio has forgotten, where the destination was seen to have it."""
    groups = sealed_files([state for state in facts.outputs or () if did_of(state) not in facts.given_up])
    copying = copying_of(own_of(groups, facts.versions), facts.copies or (), chosen_of(record.status))
    forgotten = {did for dids in (facts.unsafe or {}).values() for did in dids} - facts.found_again
    arrived = {
        output: tuple(file for file in files if file.did not in forgotten) for output, files in copying.arrived.items()
    }
    return [*_made(facts, record), *_kept(facts, record, replace(copying, arrived=arrived))]


def _kept(facts: Facts, record: Record, copying: Copying) -> list[do.Effect]:
    """Attach what has arrived; hold it by a rule that starts no transfer."""
    if facts.unsafe is None or facts.unlocked is None:
        return []
    chosen, taking = chosen_of(record.status), _taking(facts, record)
    same = same_of(sealed_files(facts.outputs or ()), facts.versions)
    effects: list[do.Effect] = []
    for output in record.spec.claims[0].request.outputs:
        unsafe, rses = set(facts.unsafe.get(output.name, ())), chosen[output.name]
        arrived = copying.arrived.get(output.name, ())
        files = [file for file in arrived if file.did in unsafe]
        whole = [*(file.did for file in arrived), *(theirs.did for _, theirs in same.get(output.name, ()))]
        missing = unsafe.intersection(whole)
        dataset = Did(output.scope, output.dataset)
        attach = [do.Attach(dataset, rse, files) for rse in rses] if files and output.name in taking else []
        rule = [_rule(record, output, rses)] if output.name in facts.unlocked else []
        # With several destinations a file that is only at some of them would start transfers to the others.
        attached = len(missing) < len(whole) if len(rses) == 1 else not missing and whole
        if attached:
            # A file that is refused does not keep the others' rule back.
            effects += [*rule, *attach]
        elif attach:
            # Of these, only if all of them are attached.
            effects += [*attach, *(rule if len(missing) == len(files) else ())]
    return effects


def lifetime_of(output: Output) -> int | None:
    """Give the seconds for which an output is to be held; None: for ever."""
    lifetime = output.destination.lifetime
    return None if lifetime is None else int(parse_duration(lifetime).total_seconds())


def _rule(record: Record, output: Output, rses: Sequence[str]) -> do.EnsureRule:
    dataset = Did(output.scope, output.dataset)
    return do.EnsureRule(dataset, record.spec.claims[0].account, rses, lifetime_of(output))


def unknown_copies(facts: Facts) -> dict[Did, tuple[str, ...]]:
    """Say where outputs were sent that Rucio does not know at all their destinations: bytes of them may lie there."""
    safe = {file.did for files in sealed_files(facts.outputs or ()).values() for file in files}
    safe -= {did for dids in (facts.unsafe or {}).values() for did in dids}
    found: dict[Did, tuple[str, ...]] = {}
    for copy in facts.copies or ():
        did = Did(copy.scope, copy.name)
        known = copy.state == "verified" and did in safe and did not in facts.versions
        if not known:
            found[did] = (*found.get(did, ()), copy.pfn)
    return found


def at_risk(facts: Facts, record: Record) -> tuple[OutputState, ...] | None:
    """Give the files of declared outputs that are not safe, as far as anyone knows; None: nobody can tell."""
    if facts.outputs is None:
        return None
    groups = sealed_files(facts.outputs)
    copying = copying_of(own_of(groups, facts.versions), facts.copies or (), chosen_of(record.status))
    same = same_of(groups, facts.versions)
    safe: set[Did] = set()
    if facts.unsafe is not None and facts.unlocked is not None:
        for output, files in copying.arrived.items():
            if output not in facts.unlocked:
                unsafe = set(facts.unsafe.get(output, ()))
                safe |= {file.did for file in files} - unsafe
                safe |= {file.did for file, theirs in same.get(output, ()) if theirs.did not in unsafe}
    return tuple(state for state in facts.outputs if is_owed(state) and did_of(state) not in safe)


def is_owed(state: OutputState) -> bool:
    """Tell whether a file is to be kept: an output names it, and it is whole."""
    return state.output is not None and state.state in {"sealed", "failed", "found"}


def did_of(state: OutputState) -> Did:
    """Give the name of a sealed file; of any other, one that no file has."""
    return Did(state.scope or "", state.name or "")
