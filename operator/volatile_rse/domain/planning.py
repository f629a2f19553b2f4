"""Facts -> what to do next. Pure: the same facts always give the same plan, and a plan that was carried out is empty.

Each stage has one function. It gives all effects that the facts permit now; whatever has to be seen before the next
one may be done waits for the next look. At most one effect of a plan writes the record: the last one, or, where it
depends on no other, the first.

What ends a buffer is decided by the least that has to be known, before all else and without it: the end of the session
(``plan_end``), the fence, the quarantine, and when the VolatileRSE may go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import Naming, VolatileRSEClassSpec
from volatile_rse.domain import effects as do
from volatile_rse.domain.ending import closed, draining, fencing, hiding, keeping, order_fence
from volatile_rse.domain.eviction import held_or_freed
from volatile_rse.domain.facts import Facts, Record, Request
from volatile_rse.domain.identity import identify
from volatile_rse.domain.lifetime import certain_end, deleted_at
from volatile_rse.domain.limits import problem_of_namespace, problem_of_owner
from volatile_rse.domain.mending import said_of_mending
from volatile_rse.domain.naming import ledger_name, rse_name
from volatile_rse.domain.plan import Plan, remember
from volatile_rse.domain.problems import Problem, problem_of_name, problem_of_quarantine, problems_of_request
from volatile_rse.domain.provision import noticed_volume
from volatile_rse.domain.quarantine import is_late, keep_in_quarantine, quarantined
from volatile_rse.domain.serving import preparing, serving
from volatile_rse.domain.stage import Stage, session_truth, stage_of
from volatile_rse.domain.tenants import Namespace
from volatile_rse.domain.told import words_of

__all__ = ["plan", "plan_end", "problems_of_admission", "record_of", "takes_no_more"]

_NOTES = 32
"""Of what could not be read, the latest ones."""


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
    if facts.unseen is not None:
        return _unseen(facts, record, facts.unseen)
    decided = _decided(facts, record)
    before: list[do.Effect] = []
    if record.status.session.ended_at is not None and facts.session.remains:
        before.append(do.RevokeSession())
    # No deed but these is waited for: what is tried in vain each time must not hold who may go.
    before += _release(facts, record)
    due = deleted_at(facts, record)
    # After all else: a site that refuses it must not hold what is written and drained.
    finished = (do.DeleteRequest(),) if due is not None and facts.now >= due else ()
    if due is not None and not finished:
        decided = replace(decided, wake=due if decided.wake is None else min(due, decided.wake))
    effects = (*before, *decided.effects, *held_or_freed(facts, _record_after(record, decided)), *finished)
    decided = replace(decided, effects=effects, problems=facts.problems + decided.problems)
    return _telling(facts, record, decided)


def _telling(facts: Facts, record: Record, decided: Plan) -> Plan:
    """Have the session's status file say how it stands, last of all: nothing rests on it."""
    report = facts.report
    if report is None or "status" not in report.knows or stage_of(record.status) not in _TOLD:
        return decided
    if record.status.session.ready_at is None:
        # Nobody has a token yet.
        return decided
    try:
        words = words_of(facts, record, decided)
    except Exception as error:  # noqa: BLE001 (handed on, to be logged with its traceback)
        return replace(decided, faults=(*decided.faults, error))
    if report.told == words.digest:
        return decided
    return replace(decided, effects=(*decided.effects, do.TellSession(words)))


def _record_after(record: Record, decided: Plan) -> Record:
    """Give the record as it will be: a pod is held or freed upon the truth that is written just before."""
    written = [effect.status for effect in decided.effects if isinstance(effect, do.Remember)]
    return replace(record, status=written[-1]) if written else record


def plan_end(facts: Facts, instance: str) -> Plan:
    """Decide what a glimpse at request and record is enough for: that a session has ended.

    It comes before everything else is asked, so that nothing that anybody answers can keep it back.
    """
    record = facts.record
    if record is None or record.spec.instance != instance:
        return Plan()
    if record.unreadable:
        note = said_of_mending(record.unreadable, facts.now)
        return Plan(effects=(remember(record, mended=[*record.status.mended, note][-_NOTES:]),))
    if stage_of(record.status) not in _BEFORE_END or (ended := certain_end(facts, record)) is None:
        return Plan()
    return Plan(effects=(remember(record, session=session_truth(ended)),))


def _decided(facts: Facts, record: Record) -> Plan:
    """Decide by stage; of a part that fails, what does not depend on it is decided all the same."""
    stage = stage_of(record.status)
    try:
        if stage in _WITH_STORAGE and (noticed := noticed_volume(facts, record)):
            return Plan(effects=(noticed,))
        decided = _STAGES[stage](facts, record)
    except Exception as error:  # noqa: BLE001 (handed on, to be logged with its traceback)
        fence = order_fence(facts, record) if stage is Stage.FENCING else ()
        decided = Plan(fence, (_fault(record, error),), faults=(error,))
    if stage not in _AT_RISK:
        return decided
    try:
        return keep_in_quarantine(facts, record, decided)
    except Exception as error:  # noqa: BLE001 (as above)
        told = (*decided.problems, _fault(record, error))
        return quarantined(facts, record, replace(decided, problems=told, faults=(*decided.faults, error)))


def _fault(record: Record, error: Exception) -> Problem:
    # Words of an error may repeat what is secret: the log of the operator has them.
    what = f"A fault of the operator ({type(error).__name__}) ended a part of what it decides about {record.name}."
    return Problem(Reason.OPERATOR_FAULT, what)


def _without_record(facts: Facts, instance: str) -> Plan:
    request = facts.request
    if request is None:
        return Plan()
    if facts.unseen is not None:
        # There may be a record, with outputs that are not safe.
        return Plan(problems=(facts.unseen,))
    if request.deleting:
        return Plan(effects=(do.ReleaseRequest(),) if request.held else ())
    if request.spec is None:
        return Plan(problems=(*facts.problems, Problem(Reason.INVALID_SPEC, request.invalid)))
    if request.tenant is None:
        return Plan(waiting=f"namespace {request.namespace}, which is not there")
    if request.spec.dry_run and request.previewed:
        return Plan()
    return _admitted(facts, request, request.spec, request.tenant, instance)


def _admitted(facts: Facts, request: Request, spec: VolatileRSESpec, tenant: Namespace, instance: str) -> Plan:
    wrong = problems_of_admission(request, spec, tenant, facts)
    if wrong or facts.problems or facts.class_ is None or facts.connection is None:
        return Plan(problems=facts.problems + wrong)
    return Plan(effects=() if spec.dry_run else _taken_up(request, spec, facts, instance))


def _taken_up(request: Request, spec: VolatileRSESpec, facts: Facts, instance: str) -> tuple[do.Effect, ...]:
    if not request.held:
        return (do.HoldRequest(),)
    if facts.unheld:
        return tuple(do.HoldUsed(kind, name) for kind, name in facts.unheld)
    return (do.CreateRecord(record_of(request, spec, facts, instance)),)


def problems_of_admission(
    request: Request, spec: VolatileRSESpec, tenant: Namespace, facts: Facts
) -> tuple[Problem, ...]:
    """Say why nothing is made for a request, before anything but the cluster is asked."""
    connected = facts.connection is not None
    wrong = problems_of_request(tenant, spec, facts.class_, connection_exists=connected)
    wrong = tuple(filter(None, (problem_of_name(request.name), *wrong)))
    if wrong or facts.problems or facts.class_ is None or not connected:
        return wrong
    closed_to_new = takes_no_more(request.namespace, spec, facts.class_, facts)
    return () if closed_to_new is None else (closed_to_new,)


def takes_no_more(namespace: str, spec: VolatileRSESpec, class_: VolatileRSEClassSpec, facts: Facts) -> Problem | None:
    """Say why a class that would take the request takes no further one now."""
    if full := problem_of_quarantine(spec.class_name, class_.quarantine, facts.quarantined, facts.now):
        return full
    if over := problem_of_namespace(namespace, spec, class_.limits.per_namespace, facts.usage):
        return over
    if over := problem_of_owner(namespace, spec, class_.limits.per_owner, facts.owner_usage):
        return over
    if not facts.going:
        return None
    what = f"{' and '.join(facts.going)} is being deleted and takes no new sessions."
    return Problem(Reason.UNKNOWN_CLASS, what)


def _unseen(facts: Facts, record: Record, why: Problem) -> Plan:
    """Decide about what cannot be looked at: its fence, its quarantine, and whether its VolatileRSE may go.

    A session that never could begin passes by its truths alone, and its record goes on alone.
    """
    stage, effects = stage_of(record.status), list[do.Effect]()
    if record.status.session.ready_at is None:
        decided = _STAGES[stage](facts, record).effects if stage is Stage.FENCING else ()
        effects += [effect for effect in decided if isinstance(effect, do.Remember)]
    elif stage is Stage.FENCING:
        effects += [do.RevokeSession(), *order_fence(facts, record)]
    told = Plan(tuple(effects), (why,))
    if stage in _AT_RISK and record.status.quarantined_at is None:
        told = quarantined(facts, record, told)
    return replace(told, effects=(*told.effects, *_release(facts, record)))


def record_of(request: Request, spec: VolatileRSESpec, facts: Facts, instance: str) -> RSERecordSpec:
    """Write the record of a request that is admitted."""
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
                    # The VolatileRSE was held before its namespace was read: as long as it is, that one stays.
                    "namespace_uid": None if request.tenant is None else request.tenant.uid,
                    "name": request.name,
                    "account": spec.account,
                    "request": spec,
                }
            ],
        }
    )


_STAGES: Mapping[Stage, Callable[[Facts, Record], Plan]] = {
    Stage.PREPARING: preparing,
    Stage.SERVING: serving,
    Stage.FENCING: fencing,
    Stage.KEEPING: keeping,
    Stage.HIDING: hiding,
    Stage.DRAINING: draining,
    Stage.CLOSED: closed,
}

_WITH_STORAGE = {Stage.PREPARING, Stage.SERVING, Stage.FENCING, Stage.KEEPING, Stage.HIDING}

_AT_RISK = {Stage.FENCING, Stage.KEEPING}

_TOLD = {Stage.SERVING, Stage.FENCING, Stage.KEEPING}
"""Stages in which a session, or what it has left running elsewhere, may want to know how it stands."""

_BEFORE_END = {Stage.PREPARING, Stage.SERVING}


def _release(facts: Facts, record: Record) -> tuple[do.Effect, ...]:
    """Let a VolatileRSE go that is being deleted, once nothing is at risk or its deadline is over."""
    request, status = facts.request, record.status
    if request is None or not request.deleting or not request.held or status.session.ended_at is None:
        return ()
    # That outputs are in quarantine is written down before.
    late = is_late(facts, record) and (status.quarantined_at or status.session.ready_at is None)
    if (status.safe_at or request.namespace_terminating or late) and not facts.session.remains:
        return (do.ReleaseRequest(),)
    return ()
