"""The stages of a session that lives: its inputs are resolved and staged, its publications brought to safety."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import FrozenInput, SessionTruth
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.text import WORDS, visible
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.entries import asked_of, taken_up
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.frozen import digest_of, distinct, least_of, usable
from volatile_rse.domain.lifetime import next_wake, session_after
from volatile_rse.domain.limits import problem_of_files
from volatile_rse.domain.outputs import (
    chosen_of,
    copying_of,
    destinations_of,
    next_steps,
    refused_datasets,
    sealed_files,
    taken_paths,
)
from volatile_rse.domain.plan import SHOWN, Plan, changed_objects, foreign_object, remember, request_of
from volatile_rse.domain.plausible import staged_file
from volatile_rse.domain.problems import Problem, problems_of_inputs
from volatile_rse.domain.provision import find_address, have_rse, have_storage, hide_lost, send_work
from volatile_rse.domain.resolved import said_of_lacks
from volatile_rse.domain.rights import scopes_of
from volatile_rse.domain.session import EndReason, SessionState
from volatile_rse.domain.stage import UNASKED, session_truth, stamp, when
from volatile_rse.domain.times import later
from volatile_rse.domain.versions import own_of

__all__ = ["is_usable", "preparing", "serving"]

_AS_IT_IS = timedelta(minutes=1)
"""For which an object of a session stands at least, whatever others write into it: nobody is fought with."""


def preparing(facts: Facts, record: Record) -> Plan:
    """Freeze the inputs, and choose the destinations."""
    session = session_after(facts, record, usable=False)
    if session.ended_at is not None:
        return Plan(effects=(remember(record, session=session_truth(session)),))
    if removed := asked_of(facts, record).removed:
        # Before it is resolved: it may be what cannot be.
        return Plan(effects=(remember(record, removed=[*record.status.removed, *removed]),))
    chosen = _chosen(facts, record)
    waits = record.status.session.ready_at is not None and not chosen.effects
    return _going_on(facts, record, session, chosen) if waits else chosen


def _going_on(facts: Facts, record: Record, session: SessionState, chosen: Plan) -> Plan:
    """Keep up a session that runs while what could not be read of its record cannot be chosen anew."""
    effects = list(have_storage(facts, record))
    truth = session_truth(session)
    if truth != record.status.session:
        # First: it depends on no deed, and what is refused each time must not keep a session from its end.
        effects.insert(0, remember(record, session=truth))
    return replace(chosen, effects=tuple(effects), wake=next_wake(facts, session, record))


def _chosen(facts: Facts, record: Record) -> Plan:
    if facts.resolved is None or facts.chosen is None or facts.problems:
        return _never_begun(facts, record, ()) or Plan()
    request = request_of(record)
    sizes = {name: sum(file.bytes for file in files) for name, files in facts.resolved.items()}
    # Each file once, as the agent stages it: a dataset may be named beside the container that has it.
    wrong = problems_of_inputs(request, sizes, sum(file.bytes for file in distinct(facts.resolved)))
    if wrong:
        return _never_begun(facts, record, wrong) or Plan(problems=wrong)
    files = sum(len(files) for files in facts.resolved.values())
    if over := problem_of_files(record.spec.claims[0].namespace, record, files, facts.owner_usage):
        return _never_begun(facts, record, (over,)) or Plan(problems=(over,))
    inputs = [
        FrozenInput(
            name=name,
            files=len(files),
            bytes=sizes[name],
            digest=digest_of(files),
            unusable=len(files) - len(usable(files)),
            lacks=visible(said_of_lacks(files), WORDS) or None,
        )
        for name, files in facts.resolved.items()
    ]
    chosen = destinations_of(facts)
    # A session without inputs needs no list of them.
    freeze = (do.FreezeInputs(facts.resolved),) if inputs else ()
    scopes = list(scopes_of(facts.resolved))
    return Plan(effects=(*freeze, remember(record, inputs=inputs, scopes=scopes, destinations=chosen)))


def serving(facts: Facts, record: Record) -> Plan:
    """Have all that a session needs, and hand it over when it is usable."""
    usable = is_usable(facts, record)
    session = session_after(facts, record, usable=usable)
    unfit = _unsuitable(facts, record)
    room = _no_room(facts, record)
    work = () if unfit or room else send_work(facts)
    effects = [
        # Its list was deleted by somebody, and is asked for anew.
        *([do.FreezeInputs(facts.resolved)] if facts.resolved is not None else ()),
        *have_storage(facts, record),
        *have_rse(facts, record),
        *work,
        *_arrived(facts, record),
        *hide_lost(facts, record),
    ]
    published, going = _published(facts, record)
    effects += published
    # A session that is over gets nothing: its namespace may refuse new objects, and its end must be written.
    handing_over = usable and record.status.session.ready_at and session.ended_at is None
    added, changes = taken_up(facts, record)
    if handing_over:
        effects += _issue(facts, waits=bool(added or changes))
    problems = [*unfit, *room, *_stalled(facts, record), *refused_datasets(facts, record), *taken_paths(facts)]
    truth, steps = session_truth(session), _unasked(facts, record)
    if session.ended_at is None and (late := _late(facts, record, problems)):
        truth = late
    if truth != record.status.session:
        # Where nothing was to come, this is the first that is written of the volume.
        volume = record.status.volume or (facts.report.volume if facts.report else None)
        # First: it depends on no deed, and what is refused each time must not keep a session from its end.
        effects.insert(0, remember(record, session=truth, volume=volume))
    elif changes:
        # Before all others, too: a list that is refused each time must not keep what people have added from them.
        effects[:0] = [*added, remember(record, **changes)]
    elif added:
        effects[:0] = added
    elif steps != record.status.steps:
        effects.insert(0, remember(record, steps=steps))
    elif address := find_address(facts, record):
        effects.append(address)
    if handing_over and any(each.by for each in facts.session.changed):
        problems.append(changed_objects(record.spec.claims[0].namespace, facts.session.changed))
    if facts.session.foreign:
        problems.append(foreign_object(facts.session.foreign))
    return Plan(tuple(effects), tuple(problems), _awaited(facts, record) or going, next_wake(facts, session, record))


def _issue(facts: Facts, *, waits: bool) -> Iterable[do.Effect]:
    """Give the session what it lacks; what others have changed is made anew, but not as often as they change it.

    Parameters
    ----------
    waits
        More entries are about to be taken up, for all of which its objects are written anew once.
    """
    if facts.session.objects:
        if facts.session.outdated and not waits:
            yield do.RestoreSession(facts.session.outdated)
            yield do.IssueSession()
    elif not facts.session.changed:
        yield do.IssueSession()
    elif all(each.since is not None and facts.now >= later(each.since, _AS_IT_IS) for each in facts.session.changed):
        yield do.RestoreSession(facts.session.changed)
        yield do.IssueSession()


def _arrived(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Register what has been staged since, as far as the class allows."""
    if facts.inputs is None or facts.registered is None or facts.rse is None or not facts.rse.complete:
        return
    files = [
        staged_file(state)
        for state in facts.inputs
        if state.state == "staged" and Did(state.scope, state.name) not in facts.registered
    ]
    room = max(record.spec.class_snapshot.max_registered_replicas - len(facts.registered), 0)
    if files[:room]:
        yield do.Register(files[:room])


def _published(facts: Facts, record: Record) -> tuple[list[do.Effect], str]:
    """Bring what the session has published to safety, as at its end; the rule comes after the replicas here, too."""
    if facts.outputs is None or facts.copies is None or facts.registered is None:
        return [], ""
    if facts.rse is None or not facts.rse.complete:
        return [], ""
    groups = sealed_files(facts.outputs)
    copying = copying_of(own_of(groups, facts.versions), facts.copies, chosen_of(record.status))
    steps = next_steps(facts, record, groups, copying)
    return steps, "the copies of what was published" if steps or copying.moving or copying.wanted else ""


def _unsuitable(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Name what the volume cannot, before anything is staged on it: nothing of a session could be kept there.

    One that has begun has what it has, and goes on as far as it can.
    """
    if facts.report is None or not facts.report.lacks or record.status.session.ready_at is not None:
        return ()
    medium, class_ = record.spec.class_snapshot.storage.volume, request_of(record).class_name
    if medium is None:
        named = "is in the memory of its node"
    elif medium.storage_class_name is None:
        named = "is of the cluster's default StorageClass"
    else:
        named = f"is of StorageClass {medium.storage_class_name!r}"
    what = (
        f"The volume of {record.name} {named}, as class {class_!r} has it, and its file system cannot do what a buffer "
        f"needs: {'; '.join(facts.report.lacks)}. Nothing is staged there, and no session begins."
    )
    return (Problem(Reason.STORAGE_UNSUITABLE, what),)


def _no_room(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Compare what is to come with the volume, before a byte moves.

    Once there is a session its own files count, and the agent needs the manifest for them, too: it has an eye on the
    space for each input itself.
    """
    if facts.manifest is None or facts.report is None or record.status.session.ready_at is not None:
        return ()
    if facts.inputs is None:
        # All of them are there, or the agent does not answer.
        return ()
    there = {Did(state.scope, state.name) for state in facts.inputs if state.state == "staged"}
    left = [file for file in distinct(facts.frozen or {}) if file.did not in there]
    # What was begun goes on where it ended.
    files = len(left) - facts.report.partial_files
    size = sum(file.bytes for file in left) - facts.report.partial_bytes
    space = facts.report.space
    if size <= space.bytes_free and (files <= space.inodes_free or not space.inodes):
        return ()
    what = (
        f"The inputs need {size} bytes and {max(files, 0)} inodes more, and the volume has "
        f"{space.bytes_free} bytes and {space.inodes_free} inodes free."
    )
    return (Problem(Reason.INPUTS_TOO_LARGE, what),)


def _stalled(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Name the inputs that the session waits for, and of which nothing has come for longer than their deadline."""
    if facts.report is None or record.status.session.ready_at is not None:
        return ()
    late = []
    totals = {total.name: total for total in facts.report.inputs}
    for entry in request_of(record).inputs:
        total = totals.get(entry.name)
        idle = None if total is None else total.idle
        if idle is not None and idle >= parse_duration(entry.deadline).total_seconds():
            late += [f"{entry.name} ({entry.deadline})"] if not _enough(facts, record, entry.name) else []
    if not late:
        return ()
    said = "; ".join(f"{failure.what}: {failure.error}" for failure in facts.report.failures[:SHOWN])
    what = f"Nothing of these inputs has arrived within their deadline: {', '.join(late)}. {said}".strip()
    return (Problem(Reason.STAGING_STALLED, what),)


def _never_begun(facts: Facts, record: Record, wrong: Sequence[Problem]) -> Plan | None:
    """Give up a session whose inputs are not even known after their deadline, where that is to end it."""
    late = _late(facts, record, wrong)
    return None if late is None else Plan(effects=(remember(record, session=late),))


def _late(facts: Facts, record: Record, wrong: Sequence[Problem]) -> SessionTruth | None:
    """Give the end of a session that never began, if inputs whose deadline is to end it have not come in time."""
    if record.status.session.ready_at is not None or facts.unreported:
        return None
    late = [
        entry
        for entry in request_of(record).inputs
        if entry.on_deadline == "Fail"
        # Nobody waits for what a session may do without.
        and entry.minimum_percent
        and not _enough(facts, record, entry.name)
        and _waited(facts, record, entry.name) >= parse_duration(entry.deadline)
    ]
    if not late:
        return None
    named = ", ".join(f"{entry.name} ({entry.deadline})" for entry in late)
    said = f"Nothing of these inputs arrived within their deadline, and onDeadline is Fail: {named}."
    why = _why_late(facts, wrong)
    return record.status.session.model_copy(
        update={
            "ended_at": stamp(facts.now),
            "end_reason": EndReason.INPUTS_LATE.value,
            "end_message": visible(f"{said} {why}".strip(), WORDS),
        }
    )


def _why_late(facts: Facts, wrong: Sequence[Problem]) -> str:
    failures = () if facts.report is None else facts.report.failures[:SHOWN]
    if failures:
        return "; ".join(f"{failure.what}: {failure.error}" for failure in failures)
    problems = [problem.what for problem in (*facts.problems, *wrong) if problem.reason is not Reason.STAGING_STALLED]
    if problems:
        return " ".join(problems[:SHOWN])
    pod = facts.storage.pod
    return "" if pod is None or pod.ready else f"The storage pod: {pod.message}."


def _waited(facts: Facts, record: Record, name: str) -> timedelta:
    """Tell for how long nothing of an input has arrived, as far as anybody knows."""
    idle = _idle(facts, name)
    if idle is not None:
        return timedelta(seconds=idle)
    # Before an agent has ever answered, nothing can have arrived since the record exists.
    begun = record.created if record.status.volume is None else when(record.status.steps.get(UNASKED))
    return timedelta() if begun is None else facts.now - begun


def _idle(facts: Facts, name: str) -> int | None:
    totals = () if facts.report is None else facts.report.inputs
    return next((total.idle for total in totals if total.name == name), None)


def _unasked(facts: Facts, record: Record) -> dict[str, str]:
    """Give the steps with since when an agent that had answered tells nothing of inputs whose deadline ends a session.

    It may be gone for good, with its node or its volume.
    """
    if facts.unreported:
        # It was not asked, and may be well.
        return dict(record.status.steps)
    silent = (
        record.status.volume is not None
        and record.status.session.ready_at is None
        and any(entry.on_deadline == "Fail" and _idle(facts, entry.name) is None for entry in request_of(record).inputs)
    )
    steps = {step: at for step, at in record.status.steps.items() if silent or step != UNASKED}
    return {UNASKED: stamp(facts.now)} | steps if silent else steps


def is_usable(facts: Facts, record: Record) -> bool:
    """Tell whether the session can read the inputs that it cannot start without, through its endpoint, now."""
    if facts.report is None or _has_no_work(facts, record) or facts.unusable != "" or _unsuitable(facts, record):
        return False
    if not all(_enough(facts, record, name) for name in _awaited_inputs(record)):
        return False
    # While Rucio does not answer, the session goes on with what was true before.
    if facts.rse is None:
        return not facts.rse_asked and record.status.session.ready_at is not None
    if facts.registered is None:
        return facts.rse.complete and record.status.session.ready_at is not None
    # What arrives later does not interrupt a session that has begun.
    behind = record.status.session.ready_at is None and any(True for _ in _arrived(facts, record))
    return facts.rse.complete and not behind


def _awaited_inputs(record: Record) -> list[str]:
    """Name the inputs of the begin: nobody waits for what was added since."""
    return [entry.name for entry in record.status.inputs or () if entry.added is None]


def _has_no_work(facts: Facts, record: Record) -> bool:
    """Tell whether the agent must be given its work first; one that has some goes on with it while more is sent."""
    works = facts.report is not None and facts.report.manifest is not None
    return facts.manifest is not None and not (works and record.status.session.ready_at is not None)


def _enough(facts: Facts, record: Record, name: str) -> bool:
    """Tell whether as many files of an input are there as the session cannot start without."""
    if facts.report is None:
        return False
    asked = next(entry for entry in request_of(record).inputs if entry.name == name)
    files = next((entry.files for entry in record.status.inputs or () if entry.name == name), 0)
    staged = next((total.staged for total in facts.report.inputs if total.name == name), 0)
    return staged >= least_of(asked, files)


def _awaited(facts: Facts, record: Record) -> str:
    if facts.storage.pod is None or not facts.storage.pod.ready:
        return "the storage pod"
    if facts.report is None:
        return "the agent of the buffer"
    if not all(_enough(facts, record, name) for name in _awaited_inputs(record)):
        return "the inputs"
    if facts.unusable:
        return f"the endpoint: {facts.unusable}"
    # Nobody watches Jobs: it is looked at as soon as whatever else is awaited.
    return f"Job {facts.session.awaited}" if facts.session.awaited else ""
