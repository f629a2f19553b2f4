"""Facts -> what to do next. Pure: the same facts always give the same plan, and a plan that was carried out is empty.

Each stage has one function. It gives all effects that the facts permit now; whatever has to be seen before the next
one may be done waits for the next look. At most one effect of a plan writes the record, and it is the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from volatile_rse.api.agent import OutputState, SealRequest
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import (
    ChosenDestination,
    Discarded,
    FrozenInput,
    Outcome,
    RSERecordSpec,
    RSERecordStatus,
)
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import Naming
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.discard import LAST_TRY, consent_of, digest_of_lost, lost_of, refused_consent
from volatile_rse.domain.facts import Facts, Piece, Record, Request
from volatile_rse.domain.frozen import digest_of
from volatile_rse.domain.identity import identify
from volatile_rse.domain.naming import ledger_name, rse_name
from volatile_rse.domain.outputs import (
    at_risk,
    chosen_of,
    continuous_outputs,
    copying_of,
    next_steps,
    output_rules,
    sealed_files,
)
from volatile_rse.domain.problems import (
    Problem,
    problem_of_limits,
    problem_of_quarantine,
    problems_of_inputs,
    problems_of_request,
)
from volatile_rse.domain.session import Limits, Observation, SessionState, advance
from volatile_rse.domain.stage import FENCED, SEALED, Stage, session_state, session_truth, stage_of, stamp, when

__all__ = ["GENERATION", "Plan", "Risk", "is_usable", "latest_end", "limits_of", "plan", "warns_at"]

GENERATION = 1
"""Of the fence: a session ends once."""

DISCARDING = "discarding"
"""Step: the consent to a discard was seen."""
_WATCHING = timedelta(seconds=10)
"""Between two looks at a buffer whose session may publish."""
_SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True, slots=True)
class Risk:
    """Outputs that are not safe."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, what stands in the way, and when to look again."""

    effects: tuple[do.Effect, ...] = ()
    problems: tuple[Problem, ...] = ()
    waiting: str = ""
    """What has to happen first, elsewhere."""
    wake: datetime | None = None
    """A time at which the facts change by themselves."""
    risk: Risk | None = None
    """What is not safe, where that is known."""


def plan(facts: Facts, instance: str) -> Plan:
    """Decide.

    Parameters
    ----------
    instance
        Of this operator: a record of another one is not touched.
    """
    record = facts.record
    if record is None:
        return _without_record(facts, instance)
    if record.spec.instance != instance:
        what = f"{record.name} belongs to the operator instance {record.spec.instance!r}, not to {instance!r}."
        return Plan(problems=(Problem(Reason.FOREIGN_OBJECT, what),))
    stage = stage_of(record.status)
    if stage in _WITH_STORAGE and (noticed := _volume(facts, record)):
        return Plan(effects=(noticed,), problems=facts.problems)
    decided = _STAGES[stage](facts, record)
    if stage in _AT_RISK:
        decided = _quarantine(facts, record, decided)
    before: list[do.Effect] = []
    if record.status.session.ended_at is not None and facts.session.remains:
        before.append(do.RevokeSession())
    after = _release(facts, record)
    # The release comes last but for a write of the record, which it does not depend on.
    return replace(decided, effects=(*before, *decided.effects, *after), problems=facts.problems + decided.problems)


# Before there is a record.


def _without_record(facts: Facts, instance: str) -> Plan:
    request = facts.request
    if request is None:
        return Plan()
    if request.deleting:
        return Plan(effects=(do.ReleaseRequest(),) if request.held else ())
    if request.spec is None:
        return Plan(problems=(*facts.problems, Problem(Reason.INVALID_SPEC, request.invalid)))
    connected = facts.connection is not None
    wrong = problems_of_request(request.namespace, request.spec, facts.class_, connection_exists=connected)
    if wrong or facts.problems or facts.class_ is None or facts.connection is None:
        return Plan(problems=facts.problems + wrong)
    if full := problem_of_quarantine(request.spec.class_name, facts.class_.quarantine, facts.quarantined, facts.now):
        return Plan(problems=(full,))
    if over := problem_of_limits(request.namespace, request.spec, facts.class_.limits.per_namespace, facts.usage):
        return Plan(problems=(over,))
    if facts.going:
        what = f"{' and '.join(facts.going)} is being deleted and takes no new sessions."
        return Plan(problems=(Problem(Reason.UNKNOWN_CLASS, what),))
    if not request.held:
        return Plan(effects=(do.HoldRequest(),))
    if facts.unheld:
        return Plan(effects=tuple(do.HoldUsed(kind, name) for kind, name in facts.unheld))
    return Plan(effects=(do.CreateRecord(_record(request, request.spec, facts, instance)),))


def _record(request: Request, spec: VolatileRSESpec, facts: Facts, instance: str) -> RSERecordSpec:
    identity = identify(instance, request.uid)
    class_, connection = facts.class_, facts.connection
    if connection is not None:
        # The budget is the server's, of today, for all buffers.
        connection = connection.model_copy(update={"budget": None})
    naming = class_.naming if class_ else Naming()
    ledger = ledger_name(naming, identity.record_id, spec.account)
    return RSERecordSpec.model_validate(
        {
            "record_id": identity.record_id,
            "rse_name": rse_name(naming, identity.record_id),
            "instance": instance,
            "ledger": f"{connection.ledger_scope if connection else ''}:{ledger}",
            "capacity": spec.capacity,
            "class_name": spec.class_name,
            "class_snapshot": class_,
            "connection_name": class_.connection_name if class_ else "",
            "connection_snapshot": connection,
            "claims": [
                {
                    "uid": request.uid,
                    "namespace": request.namespace,
                    "name": request.name,
                    "account": spec.account,
                    "request": spec,
                }
            ],
        }
    )


# The stages of a record.


def _preparing(facts: Facts, record: Record) -> Plan:
    session = _session(facts, record, usable=False)
    if session.ended_at is not None:
        return Plan(effects=(_remember(record, session=session_truth(session)),))
    if facts.resolved is None or facts.chosen is None or facts.problems:
        return Plan()
    request = _request(record)
    sizes = {name: sum(file.bytes for file in files) for name, files in facts.resolved.items()}
    wrong = problems_of_inputs(request, sizes)
    if wrong:
        return Plan(problems=wrong)
    inputs = [
        FrozenInput(name=name, files=len(files), bytes=sizes[name], digest=digest_of(files))
        for name, files in facts.resolved.items()
    ]
    chosen = [ChosenDestination(output=name, rses=list(rses)) for name, rses in facts.chosen.items()]
    freeze = do.FreezeInputs(facts.resolved)
    return Plan(effects=(freeze, _remember(record, inputs=inputs, destinations=chosen)))


def _serving(facts: Facts, record: Record) -> Plan:
    usable = is_usable(facts, record)
    session = _session(facts, record, usable=usable)
    room = _no_room(facts)
    work = () if room else _work(facts)
    effects = [
        *_storage(facts, record),
        *_catalogue(facts, record),
        *work,
        *_arrived(facts, record),
        *_lost(facts, record),
    ]
    published, going = _published(facts, record)
    effects += published
    # A session that is over gets nothing: its namespace may refuse new objects, and its end must be written.
    if usable and record.status.session.ready_at and session.ended_at is None and not facts.session.objects:
        effects.append(do.IssueSession())
    truth = session_truth(session)
    if truth != record.status.session:
        effects.append(_remember(record, session=truth))
    elif address := _address(facts, record):
        effects.append(address)
    problems = [*room, *_stalled(facts, record)]
    if facts.session.foreign:
        problems.append(_foreign_object(facts.session.foreign))
    return Plan(tuple(effects), tuple(problems), _awaited(facts, record) or going, _wake(facts, session, record))


def _fencing(facts: Facts, record: Record) -> Plan:
    if record.status.session.ready_at is None:
        # No token was ever given: nobody can have written.
        now = stamp(facts.now)
        steps = {**record.status.steps, FENCED: now, SEALED: now}
        return Plan(effects=(_remember(record, steps=steps, safe_at=now, outcome=Outcome(files=0, bytes=0)),))
    effects = list(_storage(facts, record))
    report = facts.report
    if report is None:
        return Plan(tuple(effects), waiting="the agent of the buffer")
    if report.desired.mode != "fenced":
        effects.append(do.Fence(GENERATION))
    elif report.actual.mode == "fenced" and facts.writable is False:
        effects.append(_remember(record, steps={**record.status.steps, FENCED: stamp(facts.now)}))
    wrong: tuple[Problem, ...] = ()
    if report.actual.mode == "fenced" and facts.writable:
        what = f"{record.spec.rse_name} is fenced, and yet its session's token can write."
        wrong = (Problem(Reason.BUFFER_REFUSED, what),)
    return Plan(tuple(effects), wrong, "the fence")


def _sealing(facts: Facts, record: Record) -> Plan:
    effects = list(_storage(facts, record))
    if facts.report is None:
        return Plan(tuple(effects), waiting="the agent of the buffer")
    seal = facts.report.seal
    if seal is not None and seal.state == "done":
        # Files that could not be sealed do not keep the others back: they are tried again until all is safe.
        steps = {**record.status.steps, SEALED: stamp(facts.now)}
        found = [total for total in facts.report.outputs if total.name is not None]
        risk = Risk(sum(total.sealed + total.failed for total in found), sum(total.bytes for total in found))
        effects.append(_remember(record, steps=steps, **_risky(risk)))
        return Plan(tuple(effects))
    wrong: tuple[Problem, ...] = ()
    if seal is not None and seal.state == "failed":
        wrong = (Problem(Reason.SEALING_FAILED, f"The inventory of the outbox failed: {seal.error or 'no reason'}."),)
    if seal is None or seal.state == "failed":
        effects.append(do.Seal(_seal_request(record)))
    return Plan(tuple(effects), wrong, "the inventory of the outbox")


def _keeping(facts: Facts, record: Record) -> Plan:
    effects = [*_storage(facts, record), *_work(facts), *_lost(facts, record)]
    if facts.outputs is None or facts.registered is None or facts.copies is None:
        return Plan(tuple(effects), waiting="the agent of the buffer and Rucio")
    groups = sealed_files(facts.outputs)
    copying = copying_of(groups, facts.copies, chosen_of(record.status))
    steps = next_steps(facts, record, groups, copying)
    if any(isinstance(step, do.Register) for step in steps):
        effects += _catalogue(facts, record)
    left = at_risk(facts, record) or ()
    risk = Risk(len(left), sum(state.bytes for state in left))
    if steps or copying.moving or copying.wanted:
        return Plan((*effects, *steps), _copy_problems(facts), "the copies", risk=risk)
    if facts.unsafe is None or facts.unlocked is None:
        return Plan(tuple(effects), _copy_problems(facts), "the copies and Rucio", risk=risk)
    if wrong := _unsealed(facts):
        return Plan((*effects, do.Seal(_seal_request(record))), wrong, risk=risk)
    if left:
        return Plan(tuple(effects), _copy_problems(facts), "the copies and the rules of the outputs", risk=risk)
    safe = _remember(record, safe_at=stamp(facts.now), outcome=_outcome(facts, record), **_risky(None))
    return Plan((*effects, safe), risk=risk)


def _hiding(facts: Facts, record: Record) -> Plan:
    if not facts.rse_asked or facts.ledger is None:
        return Plan(waiting="Rucio")
    freed = _remember(record, freed_at=stamp(facts.now))
    if facts.rse is None:
        return Plan(effects=(freed,))
    if facts.replicas is None or facts.last_copies is None or facts.foreign_rules is None or facts.unsafe is None:
        # What is safe is asked once more before the storage goes, and only the agent knows what there is.
        kept = record.status.outcome is not None and record.status.outcome.files
        return Plan(tuple(_storage(facts, record)) if kept else (), waiting="the agent of the buffer and Rucio")
    if wrong := _not_yet(facts, record):
        return _written_off(facts, record) or Plan(problems=(*refused_consent(facts, record), *wrong))
    if facts.foreign_rules:
        return Plan(tuple(do.ExpireRule(rule.id) for rule in facts.foreign_rules), waiting="Rucio's judge-cleaner")
    if shown := [did for did, state in facts.replicas.items() if state != "B"]:
        return Plan((do.Hide(shown),))
    if facts.storage.service is not None and not facts.storage.service.drained:
        if not facts.storage.drain_ready:
            return Plan((do.MakeDrain(),), waiting="the empty server")
        return Plan((do.SwapService(),))
    return Plan((freed,))


def _draining(facts: Facts, record: Record) -> Plan:
    if not facts.rse_asked or facts.ledger is None:
        # Nothing is destroyed while Rucio cannot be asked, not even what is decided already.
        return Plan(waiting="Rucio")
    effects: list[do.Effect] = []
    volume = facts.storage.volume
    pieces = facts.storage.pieces
    kept = facts.storage.going | {Piece.SERVICE}
    if volume is not None and volume.volume is not None and volume.retained:
        effects.append(do.RetainVolume(volume.volume, retain=False))
        # The claim goes once this is seen: without it nobody would know of a volume that stayed.
        kept |= {Piece.VOLUME}
    effects += [do.DropPiece(piece, uid) for piece, uid in pieces.items() if piece not in kept]
    if facts.rse is not None:
        return _deregister(facts, effects)
    if facts.ledger:
        return Plan((*effects, do.ExpireLedger()), waiting="Rucio's undertaker")
    if Piece.SERVICE in pieces and Piece.SERVICE not in facts.storage.going:
        effects.append(do.DropPiece(Piece.SERVICE, pieces[Piece.SERVICE]))
    if not pieces:
        effects.append(_remember(record, closed_at=stamp(facts.now)))
    return Plan(tuple(effects), waiting="the objects of the buffer to go")


def _closed(facts: Facts, record: Record) -> Plan:
    # While the VolatileRSE exists, its record is what says that it never runs again.
    return Plan(effects=(do.ReleaseRecord(),) if record.held and facts.request is None else ())


_STAGES: Mapping[Stage, Callable[[Facts, Record], Plan]] = {
    Stage.PREPARING: _preparing,
    Stage.SERVING: _serving,
    Stage.FENCING: _fencing,
    Stage.SEALING: _sealing,
    Stage.KEEPING: _keeping,
    Stage.HIDING: _hiding,
    Stage.DRAINING: _draining,
    Stage.CLOSED: _closed,
}


_WITH_STORAGE = {Stage.SERVING, Stage.FENCING, Stage.SEALING, Stage.KEEPING}
_AT_RISK = {Stage.FENCING, Stage.SEALING, Stage.KEEPING}

# Parts of stages.


def _volume(facts: Facts, record: Record) -> do.Remember | None:
    """Remember the volume; another one than before means that the medium has lost what was on it."""
    if facts.report is None or facts.report.volume == record.status.volume:
        return None
    if record.status.volume is None:
        return _remember(record, volume=facts.report.volume)
    # What the session wrote is gone; inputs come again, and an inventory that was made is void.
    steps = {step: time for step, time in record.status.steps.items() if step not in {FENCED, SEALED}}
    loss = f"{stamp(facts.now)}: the storage was lost with everything that the session had written until then"
    losses = [*record.status.losses, loss][-32:]
    return _remember(record, volume=facts.report.volume, losses=losses, steps=steps)


def _storage(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Have the storage there; its pod is needed until everything is safe."""
    storage = facts.storage
    wanted = [Piece.SESSION_KEY, Piece.SERVER_TLS, Piece.AGENT_TLS, Piece.SERVICE, Piece.AGENT_SERVICE]
    if record.spec.class_snapshot.storage.volume is not None:
        wanted.append(Piece.VOLUME)
    yield from (do.MakePiece(piece) for piece in wanted if piece not in storage.pieces or piece in storage.expiring)
    if Piece.SESSION_KEY in storage.pieces and Piece.CONFIG not in storage.pieces:
        yield do.MakePiece(Piece.CONFIG)
    if storage.pod is None and all(piece in storage.pieces for piece in (*wanted, Piece.CONFIG)):
        yield do.MakePiece(Piece.POD)
    if storage.pod is not None and storage.pod.over:
        yield do.DropPiece(Piece.POD, storage.pod.uid)
    if storage.volume is not None and storage.volume.volume is not None and storage.volume.retained is False:
        yield do.RetainVolume(storage.volume.volume, retain=True)


def _address(facts: Facts, record: Record) -> do.SetPublic | None:
    if record.spec.public is not None or facts.public_address is None:
        return None
    return do.SetPublic(facts.public_address)


def _catalogue(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Have the RSE there, the ledger first."""
    if facts.ledger is None or not facts.rse_asked:
        return
    if not facts.ledger:
        yield do.EnsureLedger()
    if record.spec.public is not None and (facts.rse is None or not facts.rse.complete):
        yield do.EnsureRse()


def _work(facts: Facts) -> Iterable[do.Effect]:
    if facts.manifest is not None:
        yield do.SendManifest(facts.manifest)


def _arrived(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Register what has been staged since, as far as the class allows."""
    if facts.inputs is None or facts.registered is None or facts.rse is None or not facts.rse.complete:
        return
    files = [
        File(did, state.bytes, state.adler32)
        for state in facts.inputs
        if state.state == "staged" and (did := Did(state.scope, state.name)) not in facts.registered
    ]
    room = max(record.spec.class_snapshot.max_registered_replicas - len(facts.registered), 0)
    if files[:room]:
        yield do.Register(files[:room])


def _lost(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """After a loss: have nobody sent to what is not there, until it is there again."""
    if not record.status.losses or facts.replicas is None or (facts.inputs is None and facts.outputs is None):
        return
    staged = {Did(state.scope, state.name) for state in facts.inputs or () if state.state == "staged"}
    sealed = {Did(state.scope or "", state.name or "") for state in facts.outputs or () if state.state == "sealed"}
    here = staged | sealed
    if shown := sorted(did for did, state in facts.replicas.items() if state == "A" and did not in here):
        yield do.Suspend(shown)
    if back := sorted(did for did, state in facts.replicas.items() if state == "T" and did in here):
        yield do.Resume(back)


def _published(facts: Facts, record: Record) -> tuple[list[do.Effect], str]:
    """Bring what the session has published to safety, as at its end; the rule comes after the replicas here, too."""
    if facts.outputs is None or facts.copies is None or facts.registered is None:
        return [], ""
    if facts.rse is None or not facts.rse.complete:
        return [], ""
    groups = sealed_files(facts.outputs)
    copying = copying_of(groups, facts.copies, chosen_of(record.status))
    steps = next_steps(facts, record, groups, copying)
    return steps, "the copies of what was published" if steps or copying.moving or copying.wanted else ""


def _no_room(facts: Facts) -> tuple[Problem, ...]:
    """Compare what is to come with the volume, before a byte moves."""
    if facts.manifest is None or facts.report is None:
        return ()
    there = {total.name: total for total in facts.report.inputs}
    files = size = 0
    for name, entries in (facts.frozen or {}).items():
        staged = there.get(name)
        files += len(entries) - (staged.staged if staged else 0)
        size += sum(file.bytes for file in entries) - (staged.staged_bytes if staged else 0)
    space = facts.report.space
    if size <= space.bytes_free and (files <= space.inodes_free or not space.inodes):
        return ()
    what = (
        f"The inputs need {size} bytes and {files} inodes more, and the volume has {space.bytes_free} bytes and "
        f"{space.inodes_free} inodes free."
    )
    return (Problem(Reason.INPUTS_TOO_LARGE, what),)


def _stalled(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Name the inputs that the session waits for, and of which nothing has come for longer than their deadline."""
    if facts.report is None or record.status.session.ready_at is not None:
        return ()
    late = []
    totals = {total.name: total for total in facts.report.inputs}
    for entry in _request(record).inputs:
        total = totals.get(entry.name)
        idle = None if total is None else total.idle
        if idle is not None and idle >= parse_duration(entry.deadline).total_seconds():
            late += [f"{entry.name} ({entry.deadline})"] if not _enough(facts, record, entry.name) else []
    if not late:
        return ()
    said = "; ".join(f"{failure.what}: {failure.error}" for failure in facts.report.failures[:_SHOWN])
    what = f"Nothing of these inputs has arrived within their deadline: {', '.join(late)}. {said}".strip()
    return (Problem(Reason.STAGING_STALLED, what),)


def is_usable(facts: Facts, record: Record) -> bool:
    """Tell whether the session can read the inputs that it cannot start without, through its endpoint, now."""
    if facts.report is None or facts.manifest is not None or facts.unusable != "":
        return False
    if not all(_enough(facts, record, entry.name) for entry in record.status.inputs or ()):
        return False
    # While Rucio does not answer, the session goes on with what was true before.
    if facts.rse is None or facts.registered is None:
        return not facts.rse_asked and record.status.session.ready_at is not None
    # What arrives later does not interrupt a session that has begun.
    behind = record.status.session.ready_at is None and any(True for _ in _arrived(facts, record))
    return facts.rse.complete and not behind


def _enough(facts: Facts, record: Record, name: str) -> bool:
    """Tell whether as many files of an input are there as the session cannot start without."""
    if facts.report is None:
        return False
    percent = next(entry.minimum_percent for entry in _request(record).inputs if entry.name == name)
    files = next((entry.files for entry in record.status.inputs or () if entry.name == name), 0)
    staged = next((total.staged for total in facts.report.inputs if total.name == name), 0)
    return staged >= math.ceil(files * percent / 100)


def _awaited(facts: Facts, record: Record) -> str:
    if facts.storage.pod is None or not facts.storage.pod.ready:
        return "the storage pod"
    if facts.report is None:
        return "the agent of the buffer"
    if not all(_enough(facts, record, entry.name) for entry in record.status.inputs or ()):
        return "the inputs"
    if facts.unusable:
        return f"the endpoint: {facts.unusable}"
    return ""


def _seal_request(record: Record) -> SealRequest:
    return SealRequest(generation=GENERATION, record_id=record.spec.record_id, outputs=output_rules(record.spec))


def _unsealed(facts: Facts) -> tuple[Problem, ...]:
    """Name files of declared outputs that could not be sealed: nothing is destroyed while there is one."""
    failed = [state for state in facts.outputs or () if state.state in {"failed", "found"} and state.output is not None]
    if not failed:
        return ()
    said = "; ".join(f"{state.path}: {state.error or 'not sealed yet'}" for state in failed[:_SHOWN])
    return (Problem(Reason.SEALING_FAILED, f"{len(failed)} files were not sealed: {said}."),)


def _copy_problems(facts: Facts) -> tuple[Problem, ...]:
    failing = [copy for copy in facts.copies or () if copy.state != "verified" and copy.error]
    if not failing:
        return ()
    said = "; ".join(f"{copy.scope}:{copy.name} -> {copy.rse}: {copy.error}" for copy in failing[:_SHOWN])
    return (Problem(Reason.COPY_FAILED, f"{len(failing)} copies have failed so far: {said}"),)


def _outcome(facts: Facts, record: Record, given_up: Iterable[OutputState] = ()) -> Outcome:
    lost = set(given_up)
    kept = [state for state in facts.outputs or () if state.state == "sealed" and state not in lost]
    left = [state for state in facts.outputs or () if state.state != "sealed" and state not in lost]
    taken = {state.output for state in kept}
    said = [
        *record.status.losses,
        *(f"discarded: {state.path} ({state.bytes} bytes)" for state in facts.outputs or () if state in lost),
        *(f"{state.state}: {state.path} ({state.bytes} bytes)" for state in left),
    ]
    return Outcome(
        files=len(kept),
        bytes=sum(state.bytes for state in kept),
        datasets=sorted(
            {f"{entry.scope}:{entry.dataset}" for entry in _request(record).outputs if entry.name in taken}
        ),
        exceptions=[text[:512] for text in said[:100]],
    )


def _quarantine(facts: Facts, record: Record, decided: Plan) -> Plan:
    """Keep what is not safe in time, and give it up only by consent."""
    ended = when(record.status.session.ended_at)
    if ended is None or record.status.session.ready_at is None:
        return decided
    if any(isinstance(effect, do.Remember) and effect.status.safe_at for effect in decided.effects):
        return decided
    deadline = ended + parse_duration(_request(record).teardown.deadline)
    late = facts.now >= deadline
    given_up = _discarding(facts, record, decided, late=late)
    if given_up is not None:
        return given_up
    problems = (*decided.problems, *refused_consent(facts, record))
    if late:
        risk = decided.risk or _known_risk(record)
        what = f"{risk.files} output files ({risk.bytes} bytes) of {record.spec.rse_name} are not safe; they are kept."
        problems = (*problems, Problem(Reason.QUARANTINED, what))
        truth = _remember(record, quarantined_at=record.status.quarantined_at or stamp(facts.now), **_risky(risk))
        if truth.status != record.status:
            # Alone: it depends on no deed, and what is tried in vain each time must not keep it back.
            return replace(decided, effects=(truth,), problems=problems)
    wake = decided.wake if late else deadline
    return replace(decided, problems=problems, wake=wake)


def _discarding(facts: Facts, record: Record, decided: Plan, *, late: bool) -> Plan | None:
    """Carry out a consent: after a last try, and without Rucio's answer never."""
    consent = consent_of(facts, record)
    if consent is None:
        return None
    begun = when(record.status.steps.get(DISCARDING))
    if begun is None:
        steps = {**record.status.steps, DISCARDING: stamp(facts.now)}
        return replace(decided, effects=(_remember(record, steps=steps),))
    if facts.now < begun + LAST_TRY:
        return replace(decided, wake=begun + LAST_TRY)
    left = at_risk(facts, record)
    asked = facts.unsafe is not None and facts.unlocked is not None
    if left is None and late and facts.report is None:
        left, asked = (), True  # Nobody knows what there was, and it will not become safe any more.
    if left is None or not asked:
        return None
    lost = lost_of(left)
    discarded = Discarded(
        requested_by=consent.requested_by,
        at=stamp(facts.now),
        files=len(lost),
        bytes=sum(file.bytes for file in lost),
        digest=digest_of_lost(lost),
    )
    outcome = _outcome(facts, record, left)
    truth = _remember(record, discarded=discarded, safe_at=stamp(facts.now), outcome=outcome, **_risky(None))
    return Plan((do.WriteOff(lost), truth))


def _written_off(facts: Facts, record: Record) -> Plan | None:
    """Give up what was lost with the medium: the one exception to the rule that no last copy is destroyed."""
    consent = consent_of(facts, record)
    left = [did for did in facts.last_copies or () if did not in facts.given_up]
    if consent is None or not record.status.losses or not left:
        return None
    lost = lost_of((), {*facts.given_up, *left})
    before = record.status.discarded
    discarded = Discarded(
        requested_by=consent.requested_by,
        at=stamp(facts.now),
        files=len(lost),
        bytes=0 if before is None else before.bytes,
        digest=digest_of_lost(lost),
    )
    return Plan((do.WriteOff(lost), _remember(record, discarded=discarded)))


def _known_risk(record: Record) -> Risk:
    return Risk(record.status.files_at_risk or 0, record.status.bytes_at_risk or 0)


def _risky(risk: Risk | None) -> dict[str, object]:
    return {
        "files_at_risk": None if risk is None else risk.files,
        "bytes_at_risk": None if risk is None else risk.bytes,
    }


def _not_yet(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say what forbids to destroy anything."""
    wrong = []
    if last := [did for did in facts.last_copies or () if did not in facts.given_up]:
        wrong.append(Problem(Reason.LAST_COPY, f"{record.spec.rse_name} holds the last copy of {_some(last)}."))
    lost = sorted({did for group in (facts.unsafe or {}).values() for did in group} - facts.given_up)
    if lost:
        wrong.append(Problem(Reason.LAST_COPY, f"No longer safe at their destination: {_some(lost)}."))
    for rule in facts.foreign_rules or ():
        if not rule.only_here:
            what = f"Rule {rule.id} of account {rule.account!r} on {rule.did} locks files on {record.spec.rse_name}."
            wrong.append(Problem(Reason.FOREIGN_RULE, what))
    return tuple(wrong)


def _deregister(facts: Facts, effects: list[do.Effect]) -> Plan:
    if facts.replicas is None or facts.foreign_rules is None or facts.rse is None:
        return Plan(tuple(effects), waiting="Rucio")
    ended = [do.ExpireRule(rule.id) for rule in facts.foreign_rules if rule.only_here]
    shown = [did for did, state in facts.replicas.items() if state != "B"]
    if shown and not facts.foreign_rules:
        effects.append(do.Hide(shown))
    if not facts.rse.deletable:
        effects.append(do.AllowDeletion())
    if facts.replicas:
        return Plan((*effects, *ended), waiting=f"Rucio's reaper: {len(facts.replicas)} replicas remain")
    return Plan((*effects, do.DeleteRse()), waiting="Rucio's counters")


def _release(facts: Facts, record: Record) -> tuple[do.Effect, ...]:
    """Let a VolatileRSE go that is being deleted, once nothing is at risk or its deadline is over."""
    request, status = facts.request, record.status
    if request is None or not request.deleting or not request.held or status.session.ended_at is None:
        return ()
    ended = session_state(status.session).ended_at
    deadline = parse_duration(_request(record).teardown.deadline)
    late = ended is not None and facts.now >= ended + deadline
    if (status.safe_at or request.namespace_terminating or late) and not facts.session.remains:
        return (do.ReleaseRequest(),)
    return ()


def _session(facts: Facts, record: Record, *, usable: bool) -> SessionState:
    gone = facts.request is None or facts.request.deleting
    asked = facts.request is not None and facts.request.spec is not None and facts.request.spec.end_requested
    seen = Observation(
        now=facts.now,
        usable=usable,
        pods_running=facts.session.running,
        pods_finished=facts.session.finished,
        deleting=gone,
        requested=asked,
    )
    return advance(session_state(record.status.session), seen, limits_of(record))


def limits_of(record: Record) -> Limits:
    """Read the session's times."""
    session = _request(record).session
    return Limits(
        start_timeout=parse_duration(session.start_timeout),
        ttl=parse_duration(session.ttl),
        end_grace=parse_duration(session.end_grace),
    )


def warns_at(state: SessionState, record: Record) -> datetime | None:
    """Tell from when on a session is warned of its latest end."""
    end = latest_end(state, record)
    return None if end is None else end - parse_duration(_request(record).session.end_warning)


def latest_end(state: SessionState, record: Record) -> datetime | None:
    """Tell when a session ends at the latest, as far as it has come."""
    limits = limits_of(record)
    if state.ready_at is None:
        return None
    return state.ready_at + (limits.ttl if state.started_at else min(limits.ttl, limits.start_timeout))


def _wake(facts: Facts, state: SessionState, record: Record) -> datetime | None:
    limits = limits_of(record)
    times = [latest_end(state, record), warns_at(state, record)]
    if state.last_seen_at is not None:
        times.append(state.last_seen_at + limits.end_grace)
    if state.ready_at is not None and continuous_outputs(record.spec):
        times.append(facts.now + _WATCHING)
    return min((time for time in times if time is not None and time > facts.now), default=None)


def _remember(record: Record, **changes: object) -> do.Remember:
    status = RSERecordStatus.model_validate(record.status.model_copy(update=changes).model_dump())
    return do.Remember(status.model_copy(update={"phase": stage_of(status).value}))


def _foreign_object(what: str) -> Problem:
    return Problem(Reason.FOREIGN_OBJECT, f"{what} is not the operator's.")


def _request(record: Record) -> VolatileRSESpec:
    return record.spec.claims[0].request


def _some(dids: Sequence[Did]) -> str:
    named = ", ".join(str(did) for did in dids[:_SHOWN])
    return named if len(dids) <= _SHOWN else f"{named} and {len(dids) - _SHOWN} more"
