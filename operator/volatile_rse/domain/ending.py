"""The stages after a session: nobody writes, outputs are made safe, the RSE goes. Each waits for the one before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from volatile_rse.api.agent import Report, SealRequest
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import Outcome
from volatile_rse.api.schema import LARGEST
from volatile_rse.api.text import WORDS, visible
from volatile_rse.domain import effects as do
from volatile_rse.domain.discard import is_unacknowledged, refused_consent
from volatile_rse.domain.facts import Facts, Piece, Record
from volatile_rse.domain.outputs import (
    at_risk,
    chosen_of,
    copying_of,
    destinations_of,
    is_output,
    kept_again,
    next_steps,
    output_rules,
    pending_rules,
    refused_datasets,
    sealed_files,
    taken_paths,
)
from volatile_rse.domain.plan import SHOWN, Plan, Risk, remember, risky, some_of
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.provision import have_rse, have_storage, hide_lost, send_work
from volatile_rse.domain.quarantine import outcome_of, write_off
from volatile_rse.domain.stage import EMPTIED, REVERTED, SEALED, stamp, when
from volatile_rse.domain.times import later
from volatile_rse.domain.versions import own_of, same_of

__all__ = ["GENERATION", "closed", "draining", "fencing", "hiding", "keeping", "order_fence"]

GENERATION = 1
"""Of the fence: a session ends once."""
_OVERDUE = timedelta(minutes=5)
"""From a session's end until a fence that was ordered, and has not come, needs somebody."""


def fencing(facts: Facts, record: Record) -> Plan:
    """Have nobody write any more, see that it is so, and have the inventory made."""
    if record.status.session.ready_at is None:
        # No token was ever given: nobody can have written.
        now = stamp(facts.now)
        steps = {**record.status.steps, SEALED: now}
        said = record.status.session.end_message
        outcome = Outcome(files=0, bytes=0, exceptions=[f"never begun: {said}"] if said else [])
        return Plan(effects=(remember(record, steps=steps, safe_at=now, outcome=outcome),))
    # The fence first: it must not wait for Rucio.
    effects = [*have_storage(facts, record), *order_fence(facts, record), *hide_lost(facts, record)]
    report = facts.report
    if report is None:
        return Plan(tuple(effects), waiting="the agent of the buffer")
    if report.desired.mode == "fenced" and report.actual.mode == "fenced" and facts.writable is False:
        return _sealing(facts, report, record, effects)
    wrong: tuple[Problem, ...] = ()
    if report.actual.mode == "fenced" and facts.writable:
        what = f"{record.spec.rse_name} is fenced, and yet its session's token can write."
        wrong = (Problem(Reason.BUFFER_REFUSED, what),)
    elif report.desired.mode == "fenced" and _is_overdue(facts, record):
        what = f"{record.spec.rse_name} is to take no more writes since its session has ended, and is not fenced yet."
        wrong = (Problem(Reason.FENCE_LATE, what),)
    return Plan(tuple(effects), wrong, "the fence")


def order_fence(facts: Facts, record: Record) -> tuple[do.Effect, ...]:
    """Have nobody write any more, by the least that has to be known: the report of the agent."""
    if record.status.session.ready_at is None or facts.report is None or facts.report.desired.mode == "fenced":
        return ()
    return (do.Fence(GENERATION),)


def _is_overdue(facts: Facts, record: Record) -> bool:
    ended = when(record.status.session.ended_at)
    return ended is not None and facts.now >= later(ended, _OVERDUE)


def _sealing(facts: Facts, report: Report, record: Record, effects: list[do.Effect]) -> Plan:
    """Have the inventory made of what nobody can change any more, as was seen just now."""
    seal = report.seal
    if seal is not None and seal.state == "done":
        # Files that could not be sealed do not keep the others back: they are tried again until all is safe.
        now = stamp(facts.now)
        steps = {**record.status.steps, SEALED: now}
        if _is_empty(report) and not record.status.losses:
            outcome = outcome_of(replace(facts, outputs=()), record)
            return Plan((*effects, remember(record, steps=steps, safe_at=now, outcome=outcome, **risky(None))))
        found = [total for total in report.outputs if total.name is not None]
        risk = Risk(
            sum(total.sealed + total.failed for total in found), min(sum(total.bytes for total in found), LARGEST)
        )
        effects.append(remember(record, steps=steps, **risky(risk)))
        return Plan(tuple(effects))
    wrong: tuple[Problem, ...] = ()
    if seal is not None and seal.state == "failed":
        wrong = (Problem(Reason.SEALING_FAILED, f"The inventory of the outbox failed: {seal.error or 'no reason'}."),)
    if seal is None or seal.state == "failed":
        effects.append(do.Seal(_seal_request(record)))
    return Plan(tuple(effects), wrong, "the inventory of the outbox")


def _is_empty(report: Report) -> bool:
    """Tell whether the session has left nothing, not even what no output takes."""
    counts = ((total.files, total.open, total.sealed, total.torn, total.failed) for total in report.outputs)
    return "outputs" in report.knows and not any(any(count) for count in counts)


def keeping(facts: Facts, record: Record) -> Plan:
    """Bring every output to safety, each as far as it can come."""
    effects = [*have_storage(facts, record), *send_work(facts), *hide_lost(facts, record)]
    if record.status.destinations is None:
        # It could not be read, and is chosen anew: before it is, nothing is safe.
        chosen = () if facts.chosen is None else (remember(record, destinations=destinations_of(facts)),)
        return Plan((*effects, *chosen), waiting="the choice of destinations")
    if facts.outputs is None or facts.registered is None or facts.copies is None:
        return Plan(tuple(effects), waiting="the agent of the buffer and Rucio")
    groups = sealed_files(facts.outputs)
    copying = copying_of(own_of(groups, facts.versions), facts.copies, chosen_of(record.status))
    steps = next_steps(facts, record, groups, copying)
    if any(isinstance(step, do.Register) for step in steps):
        effects += have_rse(facts, record)
    left = at_risk(facts, record) or ()
    risk = Risk(len(left), min(sum(state.bytes for state in left), LARGEST))
    refused = refused_datasets(facts, record)
    told = (*refused, *taken_paths(facts), *_copy_problems(facts), *pending_rules(facts, record))
    if steps or copying.moving or (copying.wanted and not refused):
        return Plan((*effects, *steps), told, "the copies", risk=risk)
    if facts.unsafe is None or facts.unlocked is None:
        return Plan(tuple(effects), told, "the copies and Rucio", risk=risk)
    if wrong := _unsealed(facts):
        return Plan((*effects, do.Seal(_seal_request(record))), (*wrong, *refused, *taken_paths(facts)), risk=risk)
    if left:
        return Plan(tuple(effects), told, "the copies and the rules of the outputs", risk=risk)
    # A consent that was not needed is none to what happens from now on; what was lost may be what it was given for.
    consent = record.status.consent if record.status.losses else None
    outcome = outcome_of(facts, record)
    safe = remember(record, safe_at=stamp(facts.now), outcome=outcome, consent=consent, **risky(None))
    return Plan((*effects, safe), risk=risk)


def hiding(facts: Facts, record: Record) -> Plan:
    """Send nobody to the buffer any more; what forbids to destroy anything is looked for a last time here."""
    if not facts.rse_asked or facts.ledger is None:
        return Plan(waiting="Rucio")
    freed = remember(record, freed_at=stamp(facts.now))
    kept = record.status.outcome is not None and record.status.outcome.files > 0
    if facts.rse is None and (not kept or EMPTIED in record.status.steps):
        return Plan(effects=(freed,))
    # Where nothing was ever registered nobody is sent to, and nobody has to answer in the end.
    standing = facts.replicas != {} and facts.storage.service is not None and not facts.storage.service.drained
    if standing and not facts.storage.drain_ready:
        return Plan((do.MakeDrain(),), _no_empty_server(facts, record), "the empty server")
    if facts.replicas is None or facts.last_copies is None or facts.foreign_rules is None or facts.unsafe is None:
        # What is safe is asked once more before the storage goes, and only the agent knows what there is.
        return Plan(tuple(have_storage(facts, record)) if kept else (), waiting="the agent of the buffer and Rucio")
    if wrong := _not_yet(facts, record):
        # What must not be destroyed stays readable; what went with a former cluster or a volume cannot be.
        lost = record.spec.adopted_from is not None or EMPTIED in record.status.steps
        standing_by = _hide_all(facts) if lost else (*have_storage(facts, record), *_keep_again(facts, record))
        return write_off(facts, record) or Plan(tuple(standing_by), problems=(*refused_consent(facts, record), *wrong))
    if REVERTED in record.status.steps and facts.unlocked != frozenset():
        wrong = pending_rules(facts, record)
        return Plan(tuple(_keep_again(facts, record)), wrong, "the rules of the outputs")
    if facts.foreign_rules:
        return Plan(tuple(do.ExpireRule(rule.id) for rule in facts.foreign_rules), waiting="Rucio's judge-cleaner")
    if facts.storage.service is None and facts.replicas:
        # Rucio's reaper needs the address, and somebody who answers there.
        return Plan((do.MakePiece(Piece.SERVICE),), waiting="the address of the RSE")
    if shown := [did for did, state in facts.replicas.items() if state != "B"]:
        return Plan((do.Hide(shown),))
    # Hidden once more: it is refused if somebody's rule came in the moment before they were hidden.
    hidden = (do.Hide(list(facts.replicas)),) if facts.replicas else ()
    return Plan((*hidden, do.SwapService(), freed) if standing else (*hidden, freed))


def _no_empty_server(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say why the cluster lets no pod of the empty server be, as with a quota that is used up."""
    if not facts.storage.drain_refused:
        return ()
    host = record.spec.class_snapshot.exposure.public_host
    what = f"The empty server of {host} has no pod: {visible(facts.storage.drain_refused, WORDS)}."
    return (Problem(Reason.CLUSTER_REFUSED, what),)


def _keep_again(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Have outputs again that Rucio has forgotten; what was begun once is not safe before its rules are."""
    if REVERTED in record.status.steps:
        yield from kept_again(facts, record)
    elif facts.found_again and record.status.outcome is not None:
        now = stamp(facts.now)
        said = f"{now}: Rucio no longer knew all output files; those that their destination has are registered again"
        outcome = record.status.outcome
        outcome = outcome.model_copy(update={"exceptions": [said, *outcome.exceptions][:100]})
        yield remember(record, steps={**record.status.steps, REVERTED: now}, outcome=outcome)


def _hide_all(facts: Facts) -> Iterable[do.Effect]:
    """Have nobody sent to what is lost for good."""
    if shown := [did for did, state in (facts.replicas or {}).items() if state == "A"]:
        yield do.Suspend(shown)


def draining(facts: Facts, record: Record) -> Plan:
    """Free the storage, and have Rucio forget the RSE."""
    if not facts.rse_asked or facts.ledger is None:
        # Nothing is destroyed while Rucio cannot be asked, not even what is decided already.
        return Plan(waiting="Rucio")
    effects: list[do.Effect] = []
    volume, outlived = facts.storage.volume, facts.storage.outlived
    pieces = facts.storage.pieces
    kept = facts.storage.going | {Piece.SERVICE}
    if volume is not None and volume.volume is not None and volume.retained:
        effects.append(do.RetainVolume(volume.volume, retain=False))
        # The claim goes once this is seen: without it nobody would know of a volume that stayed.
        kept |= {Piece.VOLUME}
    elif outlived is not None:
        effects.append(do.RetainVolume(outlived, retain=False))
    effects += [do.DropPiece(piece, uid) for piece, uid in pieces.items() if piece not in kept]
    effects += [do.DropLeftover(leftover) for leftover in facts.storage.leftovers]
    if facts.rse is not None:
        return _deregister(facts, record, effects)
    if facts.ledger:
        return Plan((*effects, do.ExpireLedger()), waiting="Rucio's undertaker")
    if Piece.SERVICE in pieces and Piece.SERVICE not in facts.storage.going:
        effects.append(do.DropPiece(Piece.SERVICE, pieces[Piece.SERVICE]))
    if not pieces and not facts.storage.leftovers and outlived is None:
        effects.append(remember(record, closed_at=stamp(facts.now)))
    return Plan(tuple(effects), waiting="the objects of the buffer to go")


def closed(facts: Facts, record: Record) -> Plan:
    """Let the record go once nothing asks for it."""
    # While the VolatileRSE exists, its record is what says that it never runs again.
    return Plan(effects=(do.ReleaseRecord(),) if record.held and facts.request is None else ())


def _seal_request(record: Record) -> SealRequest:
    return SealRequest(generation=GENERATION, record_id=record.spec.record_id, outputs=output_rules(record.spec))


def _unsealed(facts: Facts) -> tuple[Problem, ...]:
    """Name files of declared outputs that could not be sealed: nothing is destroyed while there is one."""
    failed = [state for state in facts.outputs or () if state.state in {"failed", "found"} and state.output is not None]
    if not failed:
        return ()
    said = "; ".join(f"{state.path}: {state.error or 'not sealed yet'}" for state in failed[:SHOWN])
    return (Problem(Reason.SEALING_FAILED, f"{len(failed)} files were not sealed: {said}."),)


def _copy_problems(facts: Facts) -> tuple[Problem, ...]:
    failing = [copy for copy in facts.copies or () if copy.state != "verified" and copy.error]
    if not failing:
        return ()
    said = "; ".join(f"{copy.scope}:{copy.name} -> {copy.rse}: {copy.error}" for copy in failing[:SHOWN])
    return (Problem(Reason.COPY_FAILED, f"{len(failing)} copies have failed so far: {said}"),)


def _not_yet(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say what forbids to destroy anything."""
    wrong = []
    # The dataset has it under another session's name.
    same = same_of(sealed_files(facts.outputs or ()), facts.versions)
    elsewhere = facts.given_up | {file.did for pairs in same.values() for file, _ in pairs}
    last = [did for did in facts.last_copies or () if did not in elsewhere]
    for reason, dids in (
        (Reason.LAST_COPY, [did for did in last if is_output(record, did)]),
        (Reason.LAST_COPY_OF_INPUT, [did for did in last if not is_output(record, did)]),
    ):
        if dids:
            wrong.append(Problem(reason, f"{record.spec.rse_name} holds the last copy of {some_of(dids)}."))
    lost = sorted({did for group in (facts.unsafe or {}).values() for did in group} - facts.given_up)
    # Nobody may take a replica from the buffer before it is freed: who does not know it has forgotten it.
    forgotten = [did for did in lost if did not in (facts.replicas or {})]
    if forgotten:
        what = f"Rucio no longer knows what was registered on {record.spec.rse_name}: {some_of(forgotten)}."
        wrong.append(Problem(Reason.CATALOGUE_REVERTED, what))
    elif lost:
        wrong.append(Problem(Reason.LAST_COPY, f"No longer safe at their destination: {some_of(lost)}."))
    if is_unacknowledged(record):
        wrong.append(Problem(Reason.STORAGE_LOST, _unacknowledged(record)))
    for rule in facts.foreign_rules or ():
        if not rule.only_here:
            what = f"Rule {rule.id} of account {rule.account!r} on {rule.did} locks files on {record.spec.rse_name}."
            wrong.append(Problem(Reason.FOREIGN_RULE, what))
    return tuple(wrong)


def _unacknowledged(record: Record) -> str:
    gone = f"{record.status.lost_files} output files ({record.status.lost_bytes} bytes) went with its storage"
    return f"{record.spec.rse_name} stays: {gone}, and no discard has acknowledged that."


def _answer_reaper(facts: Facts) -> Iterable[do.Effect]:
    """Have the empty server there, also after somebody has deleted a part of it: the reaper takes silence for no."""
    service = facts.storage.service
    if not facts.storage.drain_ready:
        yield do.MakeDrain()
    elif service is None:
        yield do.MakePiece(Piece.SERVICE)
    elif not service.drained:
        yield do.SwapService()


def _deregister(facts: Facts, record: Record, effects: list[do.Effect]) -> Plan:
    if facts.replicas is None or facts.foreign_rules is None or facts.rse is None:
        return Plan(tuple(effects), waiting="Rucio")
    ended = [do.ExpireRule(rule.id) for rule in facts.foreign_rules if rule.only_here]
    shown = [did for did, state in facts.replicas.items() if state != "B"]
    if shown and not facts.foreign_rules:
        effects.append(do.Hide(shown))
    if not facts.rse.deletable:
        effects.append(do.AllowDeletion())
    if facts.replicas:
        effects += _answer_reaper(facts)
        wrong = () if facts.storage.drain_ready else _no_empty_server(facts, record)
        return Plan((*effects, *ended), wrong, f"Rucio's reaper: {len(facts.replicas)} replicas remain")
    return Plan((*effects, do.DeleteRse()), waiting="Rucio's counters")
