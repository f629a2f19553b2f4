"""Facts and plan -> what the VolatileRSE says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from volatile_rse.api.agent import OutputTotals, Report
from volatile_rse.api.conditions import REMEDIES, Actor, Condition, ConditionType, Reason, Status
from volatile_rse.api.text import visible
from volatile_rse.api.volatilerse import (
    SESSION_LABEL,
    Endpoint,
    InputStatus,
    Output,
    OutputStatus,
    UnmatchedStatus,
    VolatileRSEStatus,
)
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.discard import is_unacknowledged
from volatile_rse.domain.entries import entries_of
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.leases import is_held_by_lease, odd_leases
from volatile_rse.domain.lifetime import latest_end, limits_of, warns_at
from volatile_rse.domain.outputs import at_risk, chosen_of, empty_outputs, sealed_files, taken_paths
from volatile_rse.domain.plan import Plan
from volatile_rse.domain.problems import Problem, problem_of_name
from volatile_rse.domain.serving import is_usable
from volatile_rse.domain.session import EndReason, end_of
from volatile_rse.domain.stage import EMPTIED, REVERTED, Stage, session_state, stage_of, stamp
from volatile_rse.domain.times import later

__all__ = ["STALLING", "outputs_of", "status_of", "warnings_of"]

STALLING = frozenset(
    {
        Reason.UNKNOWN_CLASS,
        Reason.UNKNOWN_CONNECTION,
        Reason.ACCOUNT_NOT_GRANTED,
        Reason.NAMESPACE_NOT_GRANTED,
        Reason.SCOPE_NOT_GRANTED,
        Reason.CAPACITY_OVER_LIMIT,
        Reason.TTL_OVER_LIMIT,
        Reason.PATH_ESCAPES_OUTBOX,
        Reason.PATH_INVALID,
        Reason.NAMING_INVALID,
        Reason.NAME_REFUSED,
        Reason.INVALID_SPEC,
        Reason.CONFIGURATION_INVALID,
        Reason.RECORD_UNREADABLE,
        Reason.DID_NOT_FOUND,
        Reason.NO_REPLICA,
        Reason.ON_TAPE,
        Reason.IN_ARCHIVE,
        Reason.INPUTS_TOO_LARGE,
        Reason.INPUT_UNPLACEABLE,
        Reason.TOO_MANY_SCOPES,
        Reason.INPUT_UNUSABLE,
        Reason.INPUTS_LATE,
        Reason.NO_DESTINATION,
        Reason.DATASET_REFUSED,
        Reason.DURABILITY_TOO_LOW,
        Reason.QUARANTINE_FULL,
        Reason.LIMIT_EXCEEDED,
        Reason.DISCARD_REFUSED,
        Reason.QUOTA_EXCEEDED,
        Reason.CREDENTIAL_MISSING,
        Reason.CREDENTIAL_INVALID,
        Reason.CREDENTIAL_MISMATCH,
        Reason.FOREIGN_OBJECT,
        Reason.INPUTS_CHANGED,
        Reason.LAST_COPY,
        Reason.LAST_COPY_OF_INPUT,
        Reason.STORAGE_UNSUITABLE,
        Reason.STORAGE_LOST,
        Reason.CATALOGUE_REVERTED,
        Reason.FOREIGN_RULE,
    }
)
"""Reasons that no waiting cures."""


_KEPT_BACK = (
    Reason.FENCE_LATE,
    Reason.CLOCK_SKEW,
    Reason.FENCE_UNPROVEN,
    Reason.SEALING_FAILED,
    Reason.DATASET_REFUSED,
    Reason.VERSION_EXISTS,
    Reason.COPY_FAILED,
    Reason.QUOTA_EXCEEDED,
    Reason.RULE_INSUFFICIENT,
    Reason.CATALOGUE_REFUSED,
    Reason.CATALOGUE_UNREACHABLE,
    Reason.BUFFER_UNREACHABLE,
    Reason.BUFFER_IMPLAUSIBLE,
    Reason.DOORS_DISAGREE,
    Reason.OUT_OF_TIME,
)
"""What keeps outputs from being safe; the first that holds is told."""


_AWAITED = frozenset(
    {
        ConditionType.READY,
        ConditionType.USABLE,
        ConditionType.INPUTS_STAGED,
        ConditionType.SESSION_ACTIVE,
        ConditionType.OUTPUTS_SAFE,
    }
)
"""What never comes of a session that did not begin."""
_ROUTING = timedelta(seconds=10)
"""From a pod's readiness until every node leads to it, at most, where nothing is wrong."""
_FAR = 365 * 86400
"""Seconds beyond which nothing is told of an end: it stands still, as good as."""
_SHOWN = 20
"""Paths that a warning names."""
_PATH = 200
"""Characters of a path that a warning names."""
_RULE, _RULE_STATE = 64, 32
"""Characters."""
_NONE = OutputTotals(claim="none")


@dataclass(frozen=True, slots=True)
class _Said:
    type: ConditionType
    status: Status
    reason: Reason
    message: str = ""


def status_of(facts: Facts, plan: Plan, endpoints: Sequence[Endpoint]) -> VolatileRSEStatus | None:
    """Write the status; fields and conditions that are not known now are absent, so that they keep their value.

    Parameters
    ----------
    endpoints
        Of the session, to be told once it may use them.
    """
    request, record = facts.request, facts.record
    if request is None or (request.spec is not None and request.spec.dry_run and request.previewed):
        # What was told of a dry run stays.
        return None
    never = _never_begun(record)
    unknown = frozenset[ConditionType]() if record is None else _unknown(facts, record, plan)
    known = [entry for entry in _said(facts, record, plan) if entry.type not in unknown]
    said = [_as_never_begun(entry, never) if never else entry for entry in known]
    conditions = [
        Condition(
            type=entry.type.value,
            status=entry.status,
            reason=entry.reason.value,
            message=entry.message,
            last_transition_time=stamp(facts.now),
            observed_generation=request.generation,
        )
        for entry in said
    ]
    session = None if record is None or record.partial else session_state(record.status.session)
    end = None if record is None or session is None else end_of(session, limits_of(record))
    return VolatileRSEStatus(
        observed_generation=request.generation,
        phase=_phase(facts, plan),
        rse=None if record is None else record.spec.rse_name,
        record=None if record is None else record.name,
        expires=None if end is None else stamp(end),
        endpoints=None if end is None else list(endpoints),
        inputs=None if record is None or facts.unseen is not None else _inputs(facts, record),
        outputs=None if record is None else outputs_of(facts, record),
        entries=None if record is None or facts.unseen is not None else entries_of(facts, record),
        preview=facts.preview,
        unmatched=_unmatched(facts),
        exceptions=None if record is None else _exceptions(record),
        conditions=conditions,
    )


def warnings_of(facts: Facts, plan: Plan) -> tuple[bool, list[tuple[Reason, str]]]:
    """Tell whether the session is usable, and what somebody must act upon: each reason once, as conditions say it."""
    said = _said(facts, facts.record, plan)
    usable = any(entry.type is ConditionType.USABLE and entry.status == "True" for entry in said)
    found: dict[Reason, str] = {}
    for entry in said:
        remedy = REMEDIES.get(entry.reason)
        if remedy is not None and remedy.actor is not Actor.NOBODY:
            found.setdefault(entry.reason, entry.message)
    return usable, list(found.items())


def _unknown(facts: Facts, record: Record, plan: Plan) -> frozenset[ConditionType]:
    """Name the conditions that stay as they were, since nothing but the time of the visit kept anybody from asking."""
    unknown = set[ConditionType]()
    if _find(plan, Reason.OUT_OF_TIME) is None or facts.unseen is not None:
        return frozenset()
    began = record.status.session.ready_at is not None
    if began and stage_of(record.status) is Stage.SERVING and (facts.unreported or facts.unproven):
        unknown |= {ConditionType.READY, ConditionType.USABLE}
    if not facts.rse_asked and _find(plan, Reason.CATALOGUE_UNREACHABLE) is None:
        unknown.add(ConditionType.RSE_REGISTERED)
    if facts.unreported and not began:
        unknown.add(ConditionType.INPUTS_STAGED)
    return frozenset(unknown)


def _never_begun(record: Record | None) -> Problem | None:
    """Tell why a session was given up that had not begun."""
    session = None if record is None else record.status.session
    if session is None or session.end_reason != EndReason.INPUTS_LATE:
        return None
    return Problem(Reason.INPUTS_LATE, session.end_message or "The session was given up before it began.")


def _as_never_begun(entry: _Said, never: Problem) -> _Said:
    """Have every condition that somebody may wait for say so, for good: that there is no output is no success."""
    if entry.type is ConditionType.STALLED:
        others = f" {entry.message}" if entry.status == "True" else ""
        return _Said(entry.type, "True", never.reason, f"{never.message}{others}")
    if entry.type not in _AWAITED or entry.reason is Reason.SESSION_OVER:
        return entry
    return _Said(entry.type, "False", *_because(never))


def _said(facts: Facts, record: Record | None, plan: Plan) -> list[_Said]:
    if record is None and facts.unseen is not None:
        why = _because(facts.unseen)
        said = [_Said(type_, "False", *why) for type_ in (ConditionType.READY, ConditionType.USABLE)]
        return [*said, _deleting(facts, plan), _stalled(plan)]
    if record is None:
        return _without_record(facts, plan)
    if facts.unseen is not None:
        # Of all others nothing is known now.
        return [_ready(facts, record, plan), _usable(facts, record, plan), _deleting(facts, plan), _stalled(plan)]
    return _of_record(facts, record, plan)


def _without_record(facts: Facts, plan: Plan) -> list[_Said]:
    problem = plan.problems[0] if plan.problems else None
    why = (Reason.PENDING, "The request has not been taken up yet.") if problem is None else _because(problem)
    if problem is None and facts.preview is not None:
        why = Reason.NOT_NEEDED, "This is a dry run: nothing is made for it."
    said = [_Said(type_, "False", *why) for type_ in (ConditionType.READY, ConditionType.USABLE)]
    said += [
        _Said(type_, "False", Reason.PENDING)
        for type_ in (
            ConditionType.STORAGE_READY,
            ConditionType.RSE_REGISTERED,
            ConditionType.INPUTS_STAGED,
            ConditionType.SESSION_ACTIVE,
            ConditionType.OUTPUTS_SAFE,
        )
    ]
    said.append(_Said(ConditionType.CREDENTIALS_VALID, "Unknown", Reason.PENDING))
    return [*said, _deleting(facts, plan), _stalled(plan)]


def _of_record(facts: Facts, record: Record, plan: Plan) -> list[_Said]:
    return [
        _ready(facts, record, plan),
        _usable(facts, record, plan),
        _storage(facts, record, plan),
        _rse(facts, record, plan),
        _staged(facts, record, plan),
        _credentials(record, plan),
        _session(facts, record),
        _safe(facts, record, plan),
        _deleting(facts, plan),
        _stalled(plan),
    ]


def _serves(facts: Facts, record: Record) -> bool:
    return stage_of(record.status) is Stage.SERVING and is_usable(facts, record) and facts.session.objects


def _ready(facts: Facts, record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.READY
    if record.status.safe_at is not None:
        if problem := _no_longer_safe(plan):
            return _Said(type_, "False", *_because(problem))
        if is_unacknowledged(record):
            return _Said(type_, "False", *_because(_loss(record)))
        kept = record.status.outcome.files if record.status.outcome else 0
        gone = record.status.discarded
        lost = "" if gone is None else f" {gone.files} were discarded by {gone.requested_by}."
        said = f"The session is over; {kept} output files are safe.{lost}{_lost(record) if _has_lost(record) else ''}"
        empty = _empty(record)
        said = f"{said} {empty.message}" if empty else said
        return _Said(type_, "True", Reason.COMPLETED, said)
    if _serves(facts, record):
        return _Said(type_, "True", Reason.USABLE, "The session can read its inputs and write its outputs.")
    return _Said(type_, "False", *_why_not(record, plan))


def _usable(facts: Facts, record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.USABLE
    if record.status.session.ended_at is not None:
        return _Said(type_, "False", Reason.SESSION_ENDED, _end(record))
    if _serves(facts, record):
        said = "Read just now with the session's rights, inside and outside, by https and by root."
        return _Said(type_, "True", Reason.USABLE, said)
    if problem := _find(plan, Reason.STORAGE_UNSUITABLE) or (facts.unusable and _find(plan, Reason.CLOCK_SKEW)) or None:
        return _Said(type_, "False", *_because(problem))
    if facts.unusable and not _is_starting(facts):
        return _Said(type_, "False", *_because(Problem(Reason.READ_FAILED, facts.unusable)))
    return _Said(type_, "False", *_why_not(record, plan))


def _is_starting(facts: Facts) -> bool:
    """Tell whether the Services may not lead to the pod yet, which has been ready for a moment only."""
    since = None if facts.storage.pod is None else facts.storage.pod.ready_since
    return since is not None and facts.now < later(since, _ROUTING)


def _why_not(record: Record, plan: Plan) -> tuple[Reason, str]:
    if plan.problems:
        return _because(plan.problems[0])
    if record.status.session.ended_at is not None:
        return Reason.SESSION_ENDED, f"{_end(record)} {_awaiting(plan)}".strip()
    return Reason.IN_PROGRESS, _awaiting(plan)


def _storage(facts: Facts, record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.STORAGE_READY
    if record.status.freed_at is not None:
        return _Said(type_, "False", Reason.COMPLETED, "The storage has been freed.")
    if problem := _find(plan, Reason.BUFFER_UNREACHABLE) or _find(plan, Reason.STORAGE_UNSUITABLE):
        return _Said(type_, "False", *_because(problem))
    pod = facts.storage.pod
    if pod is not None and pod.ready:
        again = 0 if facts.report is None else facts.report.xrootd_restarts
        said = f" Restarts of XRootD because it answered nobody: {again}." if again else ""
        return _Said(type_, "True", Reason.SUCCEEDED, f"The storage pod is ready.{said}")
    if pod is None:
        refused = _find(plan, Reason.NODE_PORTS_EXHAUSTED) or _find(plan, Reason.CLUSTER_REFUSED)
        why = (Reason.PENDING, "There is no storage pod yet.") if refused is None else _because(refused)
        return _Said(type_, "False", *why)
    return _Said(type_, "False", *_because(Problem(Reason.STORAGE_PENDING, f"Pod {record.name}: {pod.message}.")))


def _rse(facts: Facts, record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.RSE_REGISTERED
    if record.status.closed_at is not None:
        return _Said(type_, "False", Reason.COMPLETED, f"{record.spec.rse_name} has been deregistered.")
    unreachable = _find(plan, Reason.CATALOGUE_UNREACHABLE)
    if (
        not facts.rse_asked
        and unreachable is None
        and stage_of(record.status) is Stage.FENCING
        and record.status.session.ready_at
    ):
        return _Said(type_, "True", Reason.SUCCEEDED, f"{record.spec.rse_name} was registered when the session began.")
    if not facts.rse_asked:
        why = _because(unreachable) if unreachable else (Reason.PENDING, "Rucio was not asked yet.")
        return _Said(type_, "Unknown", *why)
    if record.status.freed_at is not None:
        return _Said(type_, "False", Reason.IN_PROGRESS, f"It is being deregistered. {_awaiting(plan)}".strip())
    if facts.rse is not None and facts.rse.complete:
        return _Said(type_, "True", Reason.SUCCEEDED, f"{record.spec.rse_name} is registered.")
    problem = _find(plan, Reason.CATALOGUE_REFUSED) or _find(plan, Reason.FOREIGN_OBJECT)
    lacks = "" if facts.rse is None else f" As Rucio tells it, {'; '.join(facts.rse.lacks)}."
    why = _because(problem) if problem else (Reason.IN_PROGRESS, f"It is being registered.{lacks}")
    return _Said(type_, "False", *why)


def _staged(facts: Facts, record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.INPUTS_STAGED
    if not record.spec.claims[0].request.inputs:
        return _Said(type_, "True", Reason.NOT_NEEDED, "There are no inputs.")
    wrong = [
        Reason.DID_NOT_FOUND,
        Reason.NO_REPLICA,
        Reason.ON_TAPE,
        Reason.IN_ARCHIVE,
        Reason.INPUTS_TOO_LARGE,
        Reason.INPUT_UNPLACEABLE,
        Reason.INPUT_UNUSABLE,
        Reason.INPUTS_CHANGED,
    ]
    for reason in wrong:
        if problem := _find(plan, reason):
            return _Said(type_, "False", *_because(problem))
    if problem := _find(plan, Reason.STAGING_STALLED):
        return _Said(type_, "False", *_because(problem))
    if facts.report is None or not facts.report.inputs:
        if record.status.session.ready_at is not None:
            return _Said(type_, "True", Reason.SUCCEEDED, "The inputs were on the buffer when the session began.")
        return _Said(type_, "False", Reason.PENDING)
    files, staged = (sum(entry.files for entry in record.status.inputs or ()), _staged_files(facts))
    failed = sum(total.failed for total in facts.report.inputs)
    said = "; ".join(f"{failure.what}: {failure.error}" for failure in facts.report.failures[:3])
    what = f" {failed} of {files} files cannot be staged: {said}." if failed else ""
    what += _unusable(record)
    if staged < files and record.status.session.ready_at is not None:
        return _Said(
            type_, "True", Reason.IN_PROGRESS, f"{_whole(staged, files)}, which is enough to begin with.{what}"
        )
    if failed:
        return _Said(type_, "False", *_because(Problem(Reason.STAGING_FAILED, what.strip())))
    if staged >= files:
        return _Said(type_, "True", Reason.SUCCEEDED, "Every input is on the buffer.")
    return _Said(type_, "False", Reason.IN_PROGRESS, f"{_whole(staged, files)}.{what}")


def _unusable(record: Record) -> str:
    """Tell of the files that the session goes without, since they can be no inputs as Rucio has them."""
    entries = [entry for entry in record.status.inputs or () if entry.unusable]
    if not entries:
        return ""
    said = "; ".join(entry.lacks for entry in entries[:3] if entry.lacks)
    whose = "Whoever registered them must correct them in Rucio, for a new VolatileRSE."
    return f" {sum(entry.unusable for entry in entries)} files are missing for good: {said}. {whose}"


def _whole(staged: int, files: int) -> str:
    return f"{staged} of {files} files are staged"


def _staged_files(facts: Facts) -> int:
    return 0 if facts.report is None else sum(total.staged for total in facts.report.inputs)


def _credentials(record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.CREDENTIALS_VALID
    for reason in (Reason.CREDENTIAL_MISMATCH, Reason.CREDENTIAL_INVALID, Reason.CREDENTIAL_MISSING):
        if problem := _find(plan, reason):
            return _Said(type_, "False", *_because(problem))
    if record.status.inputs is None:
        return _Said(type_, "Unknown", Reason.PENDING)
    return _Said(type_, "True", Reason.SUCCEEDED, "There is a token for every site that is needed.")


def _session(facts: Facts, record: Record) -> _Said:
    said = _active(facts, record)
    told = f"{_extension(facts, record)} {_odd_leases(facts, record)}".strip()
    return replace(said, message=f"{said.message} {told}".strip()) if told else said


def _extension(facts: Facts, record: Record) -> str:
    """Tell what counts of the time until which the session shall live, and why that is less."""
    asked = None if facts.request is None else facts.request.extend_until
    state, class_ = session_state(record.status.session), record.spec.claims[0].request.class_name
    end = end_of(state, limits_of(record))
    if asked is None or end is None or state.ended_at is not None:
        return ""
    told = f"It was extended until {stamp(end)}." if state.extended_until else ""
    if asked <= (state.extendable_until or end):
        return told
    named = f"spec.session.extendUntil is {stamp(asked)}, and the session ends at {stamp(end)} at the latest"
    if state.extendable_until is None:
        return f"{named}: an earlier version of the operator has begun it, with a token that lives no longer."
    return f"{named}: class {class_!r} lets it live for {record.spec.class_snapshot.max_ttl} (maxTtl) from first Ready."


def _odd_leases(facts: Facts, record: Record) -> str:
    """Tell of what stands among the leases and does not say what its writer may think."""
    odd = odd_leases(facts, record) if record.status.session.ended_at is None else ()
    return f"Among its leases: {'; '.join(odd)}." if odd else ""


def _active(facts: Facts, record: Record) -> _Said:
    type_, truth = ConditionType.SESSION_ACTIVE, record.status.session
    if truth.ended_at is not None:
        if facts.session.running:
            late = Problem(Reason.SESSION_OVER, f"A pod of the session runs, but {_end(record)}")
            return _Said(type_, "False", *_because(late))
        return _Said(type_, "False", Reason.SESSION_ENDED, _end(record))
    unnamed = problem_of_name(record.spec.claims[0].name)
    if truth.ready_at is None:
        return _Said(type_, "False", *_because(unnamed)) if unnamed else _Said(type_, "False", Reason.PENDING)
    if warning := _warning(facts, record) or _refused(facts) or _taken(facts) or _missed(facts, record) or unnamed:
        return _Said(type_, "True" if _is_held(facts, record) else "False", *_because(warning))
    if facts.session.running:
        return _Said(type_, "True", Reason.SESSION_RUNNING)
    if is_held_by_lease(facts, record):
        least = f" until {truth.leased_until}" if truth.leased_until else ""
        return _Said(type_, "True", Reason.SESSION_RUNNING, f"No pod of it runs; a lease holds it at least{least}.")
    if truth.started_at is None:
        what = f"No {_labelled_pod(record)} has come yet, and no lease was taken."
        return _Said(type_, "False", Reason.WAITING_FOR_SESSION, what)
    if facts.session.awaited:
        what = (
            f"No {_labelled_pod(record)} runs; Job {facts.session.awaited} is neither Complete nor Failed, and is "
            "awaited."
        )
        return _Said(type_, "False", Reason.IN_PROGRESS, what)
    what = f"No {_labelled_pod(record)} runs, and no lease holds; the grace of the session has begun."
    return _Said(type_, "False", Reason.IN_PROGRESS, what)


def _is_held(facts: Facts, record: Record) -> bool:
    return facts.session.running or is_held_by_lease(facts, record)


def _labelled_pod(record: Record) -> str:
    claim = record.spec.claims[0]
    return f"pod of namespace {claim.namespace} with the label {SESSION_LABEL}={claim.name}"


def _warning(facts: Facts, record: Record) -> Problem | None:
    """Warn of an end that comes by the clock."""
    state = session_state(record.status.session)
    begin, end = warns_at(state, record), latest_end(state, record)
    if begin is None or end is None or facts.now < begin:
        return None
    which = "ttl" if state.extended_until is None else "extendUntil"
    nobody = f"no {_labelled_pod(record)} and no lease has come, and its startTimeout or {which}"
    why = f"its {which}" if state.started_at else nobody
    also = [problem.what for problem in (_refused(facts), _taken(facts), _missed(facts, record)) if problem]
    said = "".join(f" {what}" for what in also)
    return Problem(Reason.SESSION_ENDING, f"The session ends at {stamp(end)}: {why} is over then.{said}")


def _refused(facts: Facts) -> Problem | None:
    """Warn of published files that were not taken, while the session can still do something about it."""
    report = facts.report
    failed = 0 if report is None else sum(total.failed for total in report.outputs if total.name is not None)
    if report is None or not failed:
        return None
    said = "; ".join(f"{failure.what}: {failure.error}" for failure in report.failures[:3])
    return Problem(Reason.NOT_PUBLISHED, f"{failed} published files were not taken: {said}.")


def _taken(facts: Facts) -> Problem | None:
    """Warn of published files whose path the dataset has, while the session can still publish them otherwise."""
    return next(iter(taken_paths(facts)), None)


def _missed(facts: Facts, record: Record) -> Problem | None:
    """Warn of whole files that nothing takes, while the session can still move them."""
    report = facts.report
    if report is None:
        return None
    files = sum(total.files - total.open for total in report.outputs if total.name is None)
    if not files:
        return None
    named = ", ".join(visible(path, _PATH) for path in report.unmatched[:_SHOWN])
    said = f"No output takes {files} files that are there, for example {named}."
    taking = {total.name for total in report.outputs if total.files}
    if empty := empty_outputs(record, taking):
        paths = ", ".join(f"spec.outputs[{output.name}].path {output.path!r}" for output in empty)
        said = f"{said} Nothing that is there is taken by {paths}."
    return Problem(Reason.UNMATCHED_FILES, said)


def _exceptions(record: Record) -> list[str] | None:
    """Tell what was lost or left behind, to who may read no record."""
    outcome = record.status.outcome
    if outcome is None:
        return None
    told = list(outcome.exceptions)
    if len(told) <= _SHOWN:
        return told
    return [*told[: _SHOWN - 1], f"{len(told) - _SHOWN + 1} more entries: RSERecord {record.name} has them"]


def _unmatched(facts: Facts) -> UnmatchedStatus | None:
    if facts.report is None or not facts.report.knows:
        return None
    totals = [total for total in facts.report.outputs if total.name is None]
    return UnmatchedStatus(files=sum(total.files for total in totals), bytes=sum(total.bytes for total in totals))


def _safe(facts: Facts, record: Record, plan: Plan) -> _Said:
    type_ = ConditionType.OUTPUTS_SAFE
    if record.status.safe_at is not None:
        kept = record.status.outcome.files if record.status.outcome else 0
        if problem := _no_longer_safe(plan):
            return _Said(type_, "False", *_because(problem))
        if (gone := record.status.discarded) is not None:
            what = f"{gone.files} files ({gone.bytes} bytes) were discarded at {gone.at}, as {gone.requested_by} asked."
            said = f"{what} {kept} files are verified at their destination.{_lost(record)}"
            return _Said(type_, "False", Reason.DISCARDED, said)
        if _has_lost(record):
            return _Said(type_, "False", *_because(_loss(record)))
        again = record.status.steps.get(REVERTED)
        said = (
            "" if again is None else f" Rucio had forgotten some of them; they were registered again from {again} on."
        )
        if problem := _empty(record):
            # What other outputs have is safe all the same; a session of which nothing was kept is told from that.
            return _Said(type_, "True" if kept else "False", problem.reason, f"{problem.message}{said}")
        said = f"{kept} files, verified at their destination.{said}{_lost(record)}"
        return _Said(type_, "True", Reason.SUCCEEDED, said)
    if problem := _find(plan, Reason.QUARANTINED):
        others = (entry.message for entry in plan.problems if entry is not problem)
        return _Said(type_, "False", problem.reason, " ".join((problem.message, *others)))
    if record.status.losses:
        return _Said(type_, "False", *_because(Problem(Reason.STORAGE_LOST, f"{record.status.losses[-1]}.")))
    if problem := _kept_back(facts, record, plan):
        return _Said(type_, "False", *_because(problem))
    if record.status.session.ended_at is None:
        return _Said(type_, "False", *_unended(record))
    return _Said(type_, "False", Reason.IN_PROGRESS, _awaiting(plan))


def _unended(record: Record) -> tuple[Reason, str]:
    """Say of the outputs of a session that may write more what it is in time to hear."""
    tight = [entry for entry in record.status.destinations or () if entry.tight]
    if not tight:
        return Reason.PENDING, "The session has not ended."
    return _because(Problem(Reason.QUOTA_LOW, f"spec.outputs[{tight[0].output}].destination: {tight[0].tight}."))


def _kept_back(facts: Facts, record: Record, plan: Plan) -> Problem | None:
    """Tell what keeps outputs from being safe: all of them after the end, and before it those that are published."""
    if record.status.session.ended_at is None and not facts.outputs:
        return None
    return next((problem for reason in _KEPT_BACK if (problem := _find(plan, reason))), None)


def _no_longer_safe(plan: Plan) -> Problem | None:
    return _find(plan, Reason.CATALOGUE_REVERTED) or _find(plan, Reason.LAST_COPY)


def _has_lost(record: Record) -> bool:
    """Tell whether the storage was ever lost with what was not safe; records of before do not count the files."""
    return bool(record.status.losses) and (record.status.lost_files is not None or EMPTIED not in record.status.steps)


def _loss(record: Record) -> Problem:
    kept = record.status.outcome.files if record.status.outcome else 0
    return Problem(Reason.STORAGE_LOST, f"{kept} files are verified at their destination.{_lost(record)}")


def _empty(record: Record) -> Problem | None:
    """Tell of outputs that took nothing of a session that has left files."""
    outcome = record.status.outcome
    if outcome is None or not outcome.empty:
        return None
    named = [output for output in record.spec.claims[0].request.outputs if output.name in outcome.empty]
    paths = ", ".join(f"spec.outputs[{output.name}].path {output.path!r}" for output in named)
    what = (
        f"{outcome.files} files are verified at their destination; nothing was taken by {paths}, and "
        f"{outcome.unmatched} files that no output takes were left: status.outcome.exceptions of the record names them."
    )
    return Problem(Reason.OUTPUT_EMPTY, what)


def _lost(record: Record) -> str:
    return "".join(f" {loss}." for loss in record.status.losses)


def _deleting(facts: Facts, plan: Plan) -> _Said:
    type_ = ConditionType.DELETING
    if facts.request is not None and facts.request.deleting:
        return _Said(type_, "True", Reason.DELETION_REQUESTED, _awaiting(plan))
    return _Said(type_, "False", Reason.NOT_DELETING)


def _stalled(plan: Plan) -> _Said:
    type_ = ConditionType.STALLED
    stalling = [problem for problem in plan.problems if problem.reason in STALLING]
    if not stalling:
        return _Said(type_, "False", Reason.NOT_STALLED)
    message = " ".join(problem.message for problem in stalling)
    return _Said(type_, "True", stalling[0].reason, message)


def _phase(facts: Facts, plan: Plan) -> str | None:
    record = facts.record
    if record is not None and record.status.quarantined_at is not None and record.status.safe_at is None:
        # Whatever it waits for; the condition Stalled says whether that needs somebody.
        return "Quarantined"
    if _never_begun(record):
        return "Failed"
    if any(problem.reason in STALLING for problem in plan.problems):
        return "Stalled"
    if record is None:
        return "Pending"
    if record.status.safe_at is not None:
        return "Completed"
    if record.status.session.ended_at is not None:
        return "Ending"
    if facts.unseen is not None and record.status.session.ready_at is not None:
        return None
    if ConditionType.READY in _unknown(facts, record, plan):
        return None
    if not _serves(facts, record):
        awaits_inputs = facts.report is not None and any(entry.files for entry in record.status.inputs or ())
        return "Staging" if awaits_inputs else "Pending"
    return "Active" if _is_held(facts, record) else "Ready"


def _inputs(facts: Facts, record: Record) -> list[InputStatus] | None:
    if record.status.inputs is None:
        return None
    totals = {} if facts.report is None else {total.name: total for total in facts.report.inputs}
    if not totals and record.status.session.ready_at is not None and record.status.inputs:
        return None
    return [
        InputStatus(
            name=entry.name,
            files=entry.files,
            staged=totals[entry.name].staged if entry.name in totals else 0,
            failed=entry.unusable + (totals[entry.name].failed if entry.name in totals else 0),
            bytes=entry.bytes,
            # What is removed from the list may still be counted by an agent.
            staged_bytes=min(totals[entry.name].staged_bytes, entry.bytes) if entry.name in totals else 0,
            registered=_registered(facts, record, entry.name),
            eta=_eta(facts, entry.name),
        )
        for entry in record.status.inputs
    ]


def _registered(facts: Facts, record: Record, name: str) -> int | None:
    """Count what Rucio knows, where the class keeps it from knowing all."""
    limit = record.spec.class_snapshot.max_registered_replicas
    if facts.registered is None or sum(entry.files for entry in record.status.inputs or ()) <= limit:
        return None
    return sum(file.did in facts.registered for file in (facts.frozen or {}).get(name, ()))


def _eta(facts: Facts, name: str) -> str | None:
    """Tell when an input will be there, by the minute: all inputs share the rate."""
    report = facts.report
    total = None if report is None else next((entry for entry in report.inputs if entry.name == name), None)
    if report is None or total is None or not report.staging_rate or total.staged >= total.files:
        return None
    left = sum(entry.bytes - entry.staged_bytes for entry in report.inputs)
    if left > _FAR * report.staging_rate:
        return None
    eta = facts.now + timedelta(seconds=left / report.staging_rate)
    return stamp(eta.replace(second=0, microsecond=0) + timedelta(minutes=1))


def outputs_of(facts: Facts, record: Record) -> list[OutputStatus] | None:
    """Tell how far the outputs are; None: what was told before stands."""
    if facts.report is not None and record.status.volume not in {None, facts.report.volume}:
        # What another volume has is told once the loss is written down, which counts what was told before.
        return None
    if facts.outputs is None and facts.report is not None and record.status.session.ended_at is None:
        return _written(facts, facts.report, record)
    sent = facts.copies is None or any(copy.state == "verified" for copy in facts.copies)
    if facts.outputs is None or (facts.unsafe is None and sent):
        # Nothing is said to be less safe than it was because nobody has asked just now.
        return None
    known = facts.registered or ()
    totals = _output_totals(facts.report)
    left = {(state.output, Did(state.scope or "", state.name or "")) for state in at_risk(facts, record) or ()}
    groups = sealed_files(facts.outputs)
    entries = []
    for output in record.spec.claims[0].request.outputs:
        files = groups.get(output.name, [])
        unsafe = [file for file in files if (output.name, file.did) in left]
        risk = sum(file.bytes for file in unsafe)
        if record.status.session.ended_at is None and output.name in totals:
            risk += max(totals[output.name].bytes - sum(file.bytes for file in files), 0)
        entries.append(
            OutputStatus(
                name=output.name,
                files=totals.get(output.name, _NONE).files,
                open=totals.get(output.name, _NONE).open,
                sealed=len(files),
                registered=sum(file.did in known for file in files),
                safe=len(files) - len(unsafe),
                bytes=max(totals.get(output.name, _NONE).bytes, sum(file.bytes for file in files)),
                bytes_at_risk=risk,
                **_kept_in(facts, record, output),
            )
        )
    return entries


def _kept_in(facts: Facts, record: Record, output: Output) -> dict[str, Any]:
    """Say where an output goes, and what holds it there: also what was told before, while nobody asks."""
    told = {} if facts.request is None else {entry.name: entry for entry in facts.request.outputs}
    before, rule = told.get(output.name), facts.rules.get(output.name)
    held = (None, None) if before is None else (before.rule, before.rule_state)
    if (held_by := facts.held_by.get(output.name)) is not None:
        held = (held_by, "OK")
    elif rule is not None:
        held = (rule.id, rule.state)
    return {
        "dataset": f"{output.scope}:{output.dataset}",
        "rses": chosen_of(record.status).get(output.name),
        "rule": None if held[0] is None else visible(held[0], _RULE),
        "rule_state": None if held[1] is None else visible(held[1], _RULE_STATE),
    }


def _written(facts: Facts, report: Report, record: Record) -> list[OutputStatus]:
    """Tell what the session has written so far."""
    totals = _output_totals(report)
    return [
        OutputStatus(
            name=output.name,
            files=total.files,
            open=total.open,
            bytes=total.bytes,
            bytes_at_risk=total.bytes,
            **_kept_in(facts, record, output),
        )
        for output in record.spec.claims[0].request.outputs
        for total in (totals.get(output.name, _NONE),)
    ]


def _output_totals(report: Report | None) -> dict[str | None, OutputTotals]:
    return {} if report is None else {total.name: total for total in report.outputs}


def _find(plan: Plan, reason: Reason) -> Problem | None:
    return next((problem for problem in plan.problems if problem.reason is reason), None)


def _because(problem: Problem) -> tuple[Reason, str]:
    return problem.reason, problem.message


def _awaiting(plan: Plan) -> str:
    return f"Waiting for {plan.waiting}." if plan.waiting else ""


def _end(record: Record) -> str:
    truth = record.status.session
    nobody = truth.end_reason == EndReason.NOBODY_CAME
    why = f"{truth.end_reason}: no {_labelled_pod(record)} and no lease came" if nobody else truth.end_reason
    return f"The session ended at {truth.ended_at} ({why}) and never runs again."
