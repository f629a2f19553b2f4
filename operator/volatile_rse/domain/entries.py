"""Entries that are added while a session lives, and inputs that are removed: what is asked, and what is taken up.

Each is judged for itself, by all that was judged at the begin, as things are now. First its truths are written into the
record's status (its frozen list, the RSEs that it goes to), then the entry at the end of the record's list: from there
on it is one of the session's. What is refused is told of that entry alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import ChosenDestination, FrozenInput
from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.text import WORDS, visible
from volatile_rse.api.volatilerse import EntryStatus, Input, Output
from volatile_rse.api.volatilerseclass import Tenancy
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Facts, Judged, Record
from volatile_rse.domain.frozen import digest_of, distinct, usable
from volatile_rse.domain.plan import request_of
from volatile_rse.domain.problems import Problem, problems_of_request, problems_of_spec
from volatile_rse.domain.resolved import said_of_lacks
from volatile_rse.domain.rights import read_by, scopes_of
from volatile_rse.domain.tenants import Namespace

__all__ = [
    "INPUT",
    "OUTPUT",
    "Asked",
    "asked_of",
    "entries_of",
    "is_refused",
    "problem_of_room",
    "problems_of_entry",
    "taken_up",
    "to_judge",
    "waiting_of",
]

INPUT, OUTPUT = "Input", "Output"
_MOST = 32
"""Entries of each list, in a session's life."""
_MESSAGE = 1024
_PASSING = frozenset(
    {
        Reason.CATALOGUE_UNREACHABLE,
        Reason.BUFFER_UNREACHABLE,
        Reason.CLUSTER_UNREACHABLE,
        Reason.CHANGED_MEANWHILE,
        Reason.OUT_OF_TIME,
        Reason.OPERATOR_FAULT,
    }
)
"""What tells nothing of the entry."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request has that its record does not have yet."""

    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    removed: tuple[str, ...] = ()
    """Inputs."""


def asked_of(facts: Facts, record: Record) -> Asked:
    """Compare the request with the record, as long as the session has not ended."""
    request, known = facts.request, request_of(record)
    if request is None or request.spec is None or request.deleting or record.status.session.ended_at is not None:
        return Asked()
    inputs = {entry.name for entry in known.inputs}
    outputs = {entry.name for entry in known.outputs}
    # Removed and written again before anybody saw it: what has another DID is another input.
    wanted = {(entry.name, entry.did) for entry in request.spec.inputs}
    return Asked(
        inputs=tuple(
            entry
            for entry in request.spec.inputs
            if entry.name not in inputs and entry.name not in record.status.removed
        ),
        outputs=tuple(entry for entry in request.spec.outputs if entry.name not in outputs),
        removed=tuple(entry.name for entry in known.inputs if (entry.name, entry.did) not in wanted),
    )


def to_judge(facts: Facts, record: Record) -> Asked:
    """Give the entries that are still to be judged: none before the session has begun."""
    if record.status.session.ready_at is None:
        return Asked()
    asked = asked_of(facts, record)
    return Asked(
        inputs=tuple(entry for entry in asked.inputs if not _is_frozen(record, entry)),
        outputs=tuple(entry for entry in asked.outputs if not _is_chosen(record, entry)),
    )


def _is_frozen(record: Record, entry: Input) -> bool:
    return any(known.name == entry.name and known.added == entry.did for known in record.status.inputs or ())


def _is_chosen(record: Record, entry: Output) -> bool:
    return any(known.output == entry.name for known in record.status.destinations or ())


def is_refused(found: Judged) -> bool:
    """Tell whether something is wrong with the entry, and not only with those who were asked."""
    return any(problem.reason not in _PASSING for problem in found.problems)


def waiting_of(facts: Facts, record: Record) -> Asked:
    """Give the entries that were judged, and are about to be written into the record."""
    asked, judged = asked_of(facts, record), to_judge(facts, record)
    return Asked(
        inputs=tuple(entry for entry in asked.inputs if entry not in judged.inputs),
        outputs=tuple(entry for entry in asked.outputs if entry not in judged.outputs),
    )


def problems_of_entry(
    namespace: Namespace, record: Record, tenancy: Tenancy, entry: Input | Output, beside: Asked
) -> tuple[Problem, ...]:
    """Judge an entry by itself, by the class, and by what the session has already; by the grants as they are now.

    Parameters
    ----------
    beside
        What is taken up with it, or before it, and does not stand in the record yet.
    """
    known = request_of(record)
    known = known.model_copy(update={"outputs": [*known.outputs, *beside.outputs]})
    class_ = record.spec.class_snapshot.model_copy(update={"tenancy": tenancy})
    alone: dict[str, object]
    if isinstance(entry, Input):
        alone = {"inputs": [entry], "outputs": []}
        number = len(known.inputs) + len(record.status.removed) + len(beside.inputs)
        together = known
    else:
        alone, number = {"inputs": [], "outputs": [entry]}, len(known.outputs)
        together = known.model_copy(update={"outputs": [*known.outputs, entry]})
    problems = list(problems_of_request(namespace, known.model_copy(update=alone), class_, connection_exists=True))
    before = {*problems, *problems_of_spec(known)}
    problems += [problem for problem in problems_of_spec(together) if problem not in before]
    if number >= _MOST:
        kind = "inputs" if isinstance(entry, Input) else "outputs"
        what = f"spec.{kind}[{entry.name}]: a session has at most {_MOST} {kind} in its life."
        problems.append(Problem(Reason.INVALID_SPEC, what))
    return tuple(problems)


def problem_of_room(
    facts: Facts, record: Record, before: Mapping[str, Iterable[File]], entry: Input, files: Iterable[File]
) -> Problem | None:
    """Compare what an added input brings with the capacity, and with what is left of the volume."""
    known, request = distinct(before), request_of(record)
    new = [file for file in distinct({entry.name: files}) if file not in known]
    size = sum(file.bytes for file in new)
    total, capacity = size + sum(file.bytes for file in known), parse_quantity(request.capacity)
    if total > capacity:
        what = (
            f"spec.inputs[{entry.name}]: with its {size} bytes the inputs have {total}, and spec.capacity is "
            f"{request.capacity} ({capacity} bytes)."
        )
        return Problem(Reason.INPUTS_TOO_LARGE, what)
    if facts.report is None:
        return None
    space = facts.report.space
    there = (
        None
        if facts.inputs is None
        else {Did(state.scope, state.name) for state in facts.inputs if state.state == "staged"}
    )
    left = [] if there is None else [file for file in known if file.did not in there]
    coming = max(sum(file.bytes for file in left) - facts.report.partial_bytes, 0)
    inodes = max(len(left) - facts.report.partial_files, 0)
    if size + coming <= space.bytes_free and (len(new) + inodes <= space.inodes_free or not space.inodes):
        return None
    what = (
        f"spec.inputs[{entry.name}] needs {size} bytes and {len(new)} inodes, {coming} bytes and {inodes} inodes of "
        f"others are still to come, and the volume has {space.bytes_free} bytes and {space.inodes_free} inodes free."
    )
    return Problem(Reason.INPUTS_TOO_LARGE, what)


def taken_up(facts: Facts, record: Record) -> tuple[tuple[do.Effect, ...], dict[str, object]]:
    """Take up what was asked and judged.

    Returns
    -------
    tuple[tuple[do.Effect, ...], dict[str, object]]
        What is to be done, and then the truths to be written, if there are any.
    """
    asked, status = asked_of(facts, record), record.status
    inputs = [entry for entry in asked.inputs if _is_frozen(record, entry)]
    outputs = [entry for entry in asked.outputs if _is_chosen(record, entry)]
    stale = _stale(record, inputs)
    if (inputs or outputs) and not asked.removed and not stale:
        return (do.ExtendRecord(inputs, outputs),), {}
    changes: dict[str, object] = {}
    if asked.removed:
        changes["removed"] = [*status.removed, *asked.removed]
    judged = to_judge(facts, record)
    lists = {entry.name: found.files for entry in judged.inputs if (found := _accepted(facts, INPUT, entry.name))}
    dids = {entry.name: entry.did for entry in judged.inputs}
    if lists or stale:
        kept = [entry for entry in status.inputs or () if entry.name not in stale]
        changes["inputs"] = [*kept, *(_frozen(name, dids[name], files) for name, files in lists.items())]
        new = [scope for scope in scopes_of(lists) if scope not in read_by(status)]
        changes["added_scopes"] = [*status.added_scopes, *new]
    chosen = [
        ChosenDestination(
            output=entry.name, rses=list(found.rses), tight=visible(found.tight, WORDS) or None, added=True
        )
        for entry in judged.outputs
        if (found := _accepted(facts, OUTPUT, entry.name))
    ]
    if chosen:
        changes["destinations"] = [*(status.destinations or ()), *chosen]
    return ((do.FreezeAdded(lists),) if lists else ()), changes


def _stale(record: Record, waiting: Iterable[Input]) -> set[str]:
    """Name the lists that were frozen for an entry that was taken back before it was one of the session's."""
    names = {entry.name for entry in (*request_of(record).inputs, *waiting)}
    return {entry.name for entry in record.status.inputs or () if entry.added and entry.name not in names}


def _accepted(facts: Facts, kind: str, name: str) -> Judged | None:
    found = facts.judged.get((kind, name))
    return None if found is None or found.problems else found


def _frozen(name: str, did: str, files: tuple[File, ...]) -> FrozenInput:
    return FrozenInput(
        name=name,
        files=len(files),
        bytes=sum(file.bytes for file in files),
        digest=digest_of(files),
        unusable=len(files) - len(usable(files)),
        lacks=visible(said_of_lacks(files), WORDS) or None,
        added=did,
    )


def entries_of(facts: Facts, record: Record) -> list[EntryStatus] | None:
    """Say what became of entries that were added or removed; None: there is nothing to say."""
    request = facts.request
    if request is None or request.spec is None:
        return None
    said = [*_accepted_entries(facts, record), *_removed_entries(record)]
    known = request_of(record)
    names = {
        *((INPUT, entry.name) for entry in known.inputs),
        *((OUTPUT, entry.name) for entry in known.outputs),
        *((entry.kind, entry.name) for entry in said),
    }
    before: dict[tuple[str, str], EntryStatus] = {(entry.kind, entry.name): entry for entry in request.entries}
    for kind, entries in ((INPUT, request.spec.inputs), (OUTPUT, request.spec.outputs)):
        waiting = [entry.name for entry in entries if (kind, entry.name) not in names]
        said += [_waiting(facts, record, kind, name, before.get((kind, name))) for name in waiting]
    return said if said or request.entries else None


def _accepted_entries(facts: Facts, record: Record) -> list[EntryStatus]:
    known = request_of(record)
    totals = {} if facts.report is None else {total.name: total for total in facts.report.inputs}
    said = []
    inputs, outputs = {entry.name for entry in known.inputs}, {entry.name for entry in known.outputs}
    for frozen in record.status.inputs or ():
        if frozen.added and frozen.name in inputs:
            message = f"{frozen.files} files, {frozen.bytes} bytes."
            if frozen.unusable:
                message += f" {frozen.unusable} of them are missing for good: {frozen.lacks}."
            if frozen.name in totals and (failed := totals[frozen.name].failed):
                message += f" {failed} of them cannot be staged now: InputsStaged says why."
            said.append(_said(INPUT, frozen.name, "Accepted", Reason.SUCCEEDED, message))
    for chosen in record.status.destinations or ():
        if chosen.added and chosen.output in outputs:
            message = f"It goes to {', '.join(chosen.rses)}."
            message += f" {chosen.tight}." if chosen.tight else ""
            said.append(_said(OUTPUT, chosen.output, "Accepted", Reason.SUCCEEDED, message))
    return said


def _removed_entries(record: Record) -> list[EntryStatus]:
    message = "Nothing new of it is staged. What had arrived may stay until the end. Its name is not used again."
    return [_said(INPUT, name, "Removed", Reason.COMPLETED, message) for name in record.status.removed]


def _waiting(facts: Facts, record: Record, kind: str, name: str, before: EntryStatus | None) -> EntryStatus:
    truth, found = record.status.session, facts.judged.get((kind, name))
    if truth.ended_at is not None:
        message = f"The session ended at {truth.ended_at}, before this was one of its entries."
        return _said(kind, name, "Refused", Reason.SESSION_ENDED, message)
    if found is not None and found.problems:
        lasting = [problem for problem in found.problems if problem.reason not in _PASSING]
        told = lasting or list(found.problems)
        message = " ".join(problem.message for problem in told)
        return _said(kind, name, "Refused" if lasting else "Pending", told[0].reason, message)
    if found is None and before is not None:
        return before
    message = "" if truth.ready_at else "It is taken up once the session is usable."
    return _said(kind, name, "Pending", Reason.PENDING, message)


def _said(kind: str, name: str, state: str, reason: Reason, message: str) -> EntryStatus:
    return EntryStatus.model_validate(
        {
            "kind": kind,
            "name": name,
            "state": state,
            "reason": reason.value,
            "message": visible(message, _MESSAGE),
        }
    )
