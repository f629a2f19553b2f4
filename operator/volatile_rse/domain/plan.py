"""Facts -> what to do next. Pure: the same facts always give the same plan, and a plan that was carried out is empty.

Each stage has one function. It gives all effects that the facts permit now; whatever has to be seen before the next
one may be done waits for the next look. At most one effect of a plan writes the record, and it is the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from volatile_rse.api.agent import Copies, CopyOrder, CopyTarget, OutputRule, OutputState, SealRequest
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import ChosenDestination, FrozenInput, Outcome, RSERecordSpec, RSERecordStatus
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.volatilerse import Output, VolatileRSESpec
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Facts, Piece, Record, Request
from volatile_rse.domain.frozen import digest_of, distinct
from volatile_rse.domain.identity import identify
from volatile_rse.domain.problems import Problem, problems_of_inputs, problems_of_request
from volatile_rse.domain.session import Limits, Observation, SessionState, advance
from volatile_rse.domain.stage import FENCED, SEALED, Stage, session_state, session_truth, stage_of, stamp

__all__ = ["GENERATION", "Plan", "is_usable", "limits_of", "plan", "sealed_files"]

GENERATION = 1
"""Of the fence: a session ends once."""

_SHOWN = 3
"""Files that a message names."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, what stands in the way, and when to look again."""

    effects: tuple[do.Effect, ...] = ()
    problems: tuple[Problem, ...] = ()
    waiting: str = ""
    """What has to happen first, elsewhere."""
    wake: datetime | None = None
    """A time at which the facts change by themselves."""


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
    if not request.held:
        return Plan(effects=(do.HoldRequest(),))
    return Plan(effects=(do.CreateRecord(_record(request, request.spec, facts, instance)),))


def _record(request: Request, spec: VolatileRSESpec, facts: Facts, instance: str) -> RSERecordSpec:
    identity = identify(instance, request.uid)
    class_, connection = facts.class_, facts.connection
    return RSERecordSpec.model_validate(
        {
            "record_id": identity.record_id,
            "rse_name": identity.rse,
            "instance": instance,
            "ledger": f"{connection.ledger_scope if connection else ''}:{identity.ledger}",
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
    effects = [*_storage(facts, record), *_catalogue(facts, record), *_work(facts), *_arrived(facts)]
    # A session that is over gets nothing: its namespace may refuse new objects, and its end must be written.
    if usable and record.status.session.ready_at and session.ended_at is None and not facts.session.objects:
        effects.append(do.IssueSession())
    truth = session_truth(session)
    if truth != record.status.session:
        effects.append(_remember(record, session=truth))
    elif address := _address(facts, record):
        effects.append(address)
    problems = () if not facts.session.foreign else (_foreign_object(facts.session.foreign),)
    return Plan(tuple(effects), problems, _awaited(facts, record), _deadline(session, record))


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
        effects.append(_remember(record, steps={**record.status.steps, SEALED: stamp(facts.now)}))
        return Plan(tuple(effects))
    wrong: tuple[Problem, ...] = ()
    if seal is not None and seal.state == "failed":
        wrong = (Problem(Reason.SEALING_FAILED, f"The inventory of the outbox failed: {seal.error or 'no reason'}."),)
    if seal is None or seal.state == "failed":
        effects.append(do.Seal(_seal_request(record)))
    return Plan(tuple(effects), wrong, "the inventory of the outbox")


def _keeping(facts: Facts, record: Record) -> Plan:
    effects = [*_storage(facts, record), *_work(facts)]
    if facts.outputs is None or facts.registered is None or facts.copies is None:
        return Plan(tuple(effects), waiting="the agent of the buffer and Rucio")
    by_output = sealed_files(facts.outputs)
    files = [file for group in by_output.values() for file in group]
    if missing := [file for file in files if file.did not in facts.registered]:
        return Plan((*effects, *_catalogue(facts, record), do.Register(missing)))
    ordered, verified = _copies(facts, record, by_output)
    if ordered:
        return Plan((*effects, do.Copy(Copies(copies=ordered))), _copy_problems(facts), "the copies")
    if not verified:
        return Plan(tuple(effects), _copy_problems(facts), "the copies")
    if kept := _keep(facts, record, by_output):
        return Plan((*effects, *kept), waiting="the rules of the outputs")
    if facts.unsafe is None or facts.unlocked is None:
        return Plan(tuple(effects), waiting="Rucio")
    if wrong := _unsealed(facts):
        return Plan((*effects, do.Seal(_seal_request(record))), wrong)
    return Plan((*effects, _remember(record, safe_at=stamp(facts.now), outcome=_outcome(facts, record, by_output))))


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
        return Plan(problems=wrong)
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


def _arrived(facts: Facts) -> Iterable[do.Effect]:
    """Register what has been staged since."""
    if facts.inputs is None or facts.registered is None or facts.rse is None or not facts.rse.complete:
        return
    files = [
        File(did, state.bytes, state.adler32)
        for state in facts.inputs
        if state.state == "staged" and (did := Did(state.scope, state.name)) not in facts.registered
    ]
    if files:
        yield do.Register(files)


def is_usable(facts: Facts, record: Record) -> bool:
    """Tell whether the session can read all its inputs through its endpoint now."""
    if facts.report is None or facts.manifest is not None or facts.unusable != "":
        return False
    if not _all_staged(facts, record):
        return False
    # While Rucio does not answer, the session goes on with what was true before.
    if facts.rse is None or facts.registered is None:
        return not facts.rse_asked and record.status.session.ready_at is not None
    registered = len(facts.registered) >= len(distinct(facts.frozen or {}))
    return facts.rse.complete and registered


def _all_staged(facts: Facts, record: Record) -> bool:
    if facts.report is None:
        return False
    staged = {total.name: total.staged for total in facts.report.inputs}
    return all(staged.get(entry.name, 0) >= entry.files for entry in record.status.inputs or ())


def _awaited(facts: Facts, record: Record) -> str:
    if facts.storage.pod is None or not facts.storage.pod.ready:
        return "the storage pod"
    if facts.report is None:
        return "the agent of the buffer"
    if not _all_staged(facts, record):
        return "the inputs"
    if facts.unusable:
        return f"the endpoint: {facts.unusable}"
    return ""


def _seal_request(record: Record) -> SealRequest:
    claim = record.spec.claims[0]
    rules = [
        OutputRule(
            claim=claim.uid, name=output.name, patterns=[output.path], scope=output.scope, dataset=output.dataset
        )
        for output in claim.request.outputs
    ]
    return SealRequest(generation=GENERATION, record_id=record.spec.record_id, outputs=rules)


def sealed_files(states: Sequence[OutputState]) -> dict[str, list[File]]:
    """Group the sealed files by output."""
    groups: dict[str, list[File]] = {}
    for state in states:
        if state.state != "sealed" or state.output is None or state.scope is None or state.name is None:
            continue
        file = File(Did(state.scope, state.name), state.bytes, state.adler32 or "")
        groups.setdefault(state.output, []).append(file)
    return groups


def _copies(facts: Facts, record: Record, by_output: Mapping[str, Sequence[File]]) -> tuple[list[CopyOrder], bool]:
    """Give the copies to order, and whether all copies are verified."""
    states = {(copy.rse, Did(copy.scope, copy.name)): copy.state for copy in facts.copies or ()}
    orders, verified = [], True
    for output, rses in _chosen(record).items():
        for file in by_output.get(output, ()):
            targets = [(rse, file.did) for rse in rses]
            verified &= all(states.get(target) == "verified" for target in targets)
            missing = [
                target for target in targets if states.get(target, "failed") == "failed" and target in facts.pfns
            ]
            if missing:
                pfns = [CopyTarget(rse=rse, pfn=facts.pfns[rse, did]) for rse, did in missing]
                orders.append(CopyOrder(scope=file.did.scope, name=file.did.name, destinations=pfns))
    return orders, verified


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


def _keep(facts: Facts, record: Record, by_output: Mapping[str, Sequence[File]]) -> list[do.Effect]:
    """Attach what is verified, and hold it by rules only when Rucio knows every replica."""
    if facts.unsafe is None or facts.unlocked is None:
        return []
    account, chosen = record.spec.claims[0].account, _chosen(record)
    effects: list[do.Effect] = []
    for output in _outputs(record):
        unsafe = set(facts.unsafe.get(output.name, ()))
        files = [file for file in by_output.get(output.name, ()) if file.did in unsafe]
        dataset = Did(output.scope, output.dataset)
        if files:
            effects.append(do.EnsureDataset(dataset, account))
            effects += [do.Attach(dataset, rse, files) for rse in chosen[output.name]]
        elif output.name in facts.unlocked and by_output.get(output.name):
            lifetime = output.destination.lifetime
            seconds = None if lifetime is None else int(parse_duration(lifetime).total_seconds())
            effects.append(do.EnsureRule(dataset, account, chosen[output.name], seconds))
    return effects


def _outcome(facts: Facts, record: Record, by_output: Mapping[str, Sequence[File]]) -> Outcome:
    files = [file for group in by_output.values() for file in group]
    left = [state for state in facts.outputs or () if state.state != "sealed"]
    outputs = [output for output in _outputs(record) if by_output.get(output.name)]
    return Outcome(
        files=len(files),
        bytes=sum(file.bytes for file in files),
        datasets=sorted({f"{output.scope}:{output.dataset}" for output in outputs}),
        exceptions=[*record.status.losses, *(f"{state.state}: {state.path} ({state.bytes} bytes)" for state in left)][
            :100
        ],
    )


def _not_yet(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say what forbids to destroy anything."""
    wrong = []
    if facts.last_copies:
        wrong.append(
            Problem(Reason.LAST_COPY, f"{record.spec.rse_name} holds the last copy of {_some(facts.last_copies)}.")
        )
    lost = sorted({did for group in (facts.unsafe or {}).values() for did in group})
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
    seen = Observation(
        now=facts.now,
        usable=usable,
        pods_running=facts.session.running,
        pods_finished=facts.session.finished,
        deleting=gone,
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


def _deadline(state: SessionState, record: Record) -> datetime | None:
    limits = limits_of(record)
    times: list[tuple[datetime | None, timedelta]] = [
        (state.ready_at, limits.ttl),
        (state.last_seen_at, limits.end_grace),
    ]
    if state.started_at is None:
        times.append((state.ready_at, limits.start_timeout))
    return min((time + span for time, span in times if time is not None), default=None)


def _remember(record: Record, **changes: object) -> do.Remember:
    status = RSERecordStatus.model_validate(record.status.model_copy(update=changes).model_dump())
    return do.Remember(status.model_copy(update={"phase": stage_of(status).value}))


def _foreign_object(what: str) -> Problem:
    return Problem(Reason.FOREIGN_OBJECT, f"{what} is not the operator's.")


def _request(record: Record) -> VolatileRSESpec:
    return record.spec.claims[0].request


def _outputs(record: Record) -> list[Output]:
    return _request(record).outputs


def _chosen(record: Record) -> dict[str, list[str]]:
    return {entry.output: entry.rses for entry in record.status.destinations or ()}


def _some(dids: Sequence[Did]) -> str:
    named = ", ".join(str(did) for did in dids[:_SHOWN])
    return named if len(dids) <= _SHOWN else f"{named} and {len(dids) - _SHOWN} more"
