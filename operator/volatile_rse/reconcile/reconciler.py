"""gather -> plan -> apply -> status for one buffer, until nothing is left to do now."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from volatile_rse.api.conditions import REMEDIES, Actor, Condition, ConditionType, Reason
from volatile_rse.api.text import MESSAGE, visible
from volatile_rse.api.volatilerse import Endpoint, VolatileRSEStatus
from volatile_rse.builders.objects import record_name
from volatile_rse.builders.session import endpoint
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Facts
from volatile_rse.domain.plan import Plan
from volatile_rse.domain.planning import plan, plan_end
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import Stage, stage_of, when
from volatile_rse.domain.status import status_of
from volatile_rse.domain.times import is_time, later
from volatile_rse.ports import deadline
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError
from volatile_rse.ports.telemetry import Telemetry
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.faults import failed as failed_call
from volatile_rse.reconcile.faults import log_fault, problem_of
from volatile_rse.reconcile.finality import Grounds, grounds_of
from volatile_rse.reconcile.gather import glimpse, look_at_objects, look_closely, look_least
from volatile_rse.reconcile.lease import LeaseLostError, is_destructive
from volatile_rse.reconcile.reading import spec_of
from volatile_rse.reconcile.world import World

__all__ = ["Reconciler"]

_log = logging.getLogger(__name__)

_ROUNDS = 50
"""Looks at the world in one visit: more than any chain of effects needs."""
_DEEDS, _WORDS = 15.0, 10.0
"""Seconds of a visit that its looks leave to what is done upon them, and that its status has at least."""
_LOOK = 10.0
"""Seconds that must be left to another look, or it is not begun."""
_POLL = 1.5
"""Seconds until the next look while something is awaited; half as much again each time that nothing has changed."""
_IMPATIENT = 0.5
"""The same of a new buffer, whose session somebody waits for."""
_YOUTH = timedelta(seconds=20)
_SLOWEST = 10.0
_OF_DAEMONS = 30.0
"""As slow as it gets: with the own agent, and with Rucio's daemons."""
_FIRST, _LAST = 2.0, 60.0
"""Seconds until the next visit after a failure; doubled each time."""
_DOUBLINGS = 10
_BLINKS = 2
"""Visits in a row that may fail because somebody does not answer, before that is said of the buffer."""
_PROGRESS = timedelta(seconds=10)
"""Between two writes of numbers and words that decide nothing."""
_SILENCE = timedelta(seconds=2)
"""Of a visit that goes on, between two words about it: most end earlier, and say what has come of it."""
_NO_TIME = datetime.min.replace(tzinfo=UTC)
_EVENTS = (
    ConditionType.OUTPUTS_SAFE,
    ConditionType.SESSION_ACTIVE,
    ConditionType.READY,
    ConditionType.USABLE,
    ConditionType.STALLED,
)
"""Conditions that people wait for; of several that change in one moment, the first tells most."""
_PROGRESSING = {"conditions", "inputs", "outputs", "unmatched"}
_PROMPT = {*(type_.value for type_ in _EVENTS), ConditionType.DELETING.value}
"""Conditions whose news are written at once; all others say how far it is, or why one of these is as it is."""
_TOLD_ALREADY = {ConditionType.READY, ConditionType.USABLE}
"""They follow the others, whose news are not told again of them."""
_UPON_OTHERS = do.Remember | do.ReleaseRequest | do.SwapService | do.FreePod
"""Effects that rest upon what stands before them in a plan."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    facts: Facts
    plan: Plan


@dataclass(slots=True)
class _Memory:
    """What a process remembers of a buffer; nothing is decided by it but when to look and to write."""

    failures: int = 0
    """Visits in a row that failed."""
    look: tuple[bytes | None, float] = (None, _POLL)
    """What was seen last while it waits, and after how many seconds it is looked at again."""
    said: datetime | None = None
    """When progress was last written."""
    unsaid: tuple[str, datetime] | None = None
    """Stage of a record whose message is not written yet, and since when."""
    stage: Stage | None = None
    """In which it was seen last."""


class Reconciler:
    """Brings buffers to where they shall be, one visit at a time; a visit may be cut off anywhere.

    Parameters
    ----------
    apply
        Carries out one effect; tests put their own in its place, which fails where they like.
    """

    def __init__(self, world: World, apply: Callable[[World, Connections, Facts, do.Effect], None] = execute) -> None:
        self._world = world
        self._apply = apply
        self._connections = Connections(world)
        self._memories: defaultdict[str, _Memory] = defaultdict(_Memory)

    def keep(self, alive: set[str]) -> None:
        """Forget all other buffers; one that comes back is looked at as a new one."""
        for record_id in set(self._memories) - alive:
            self._memories.pop(record_id, None)
        self._connections.keep(alive)

    def stage(self, record_id: str) -> Stage | None:
        """Give the stage in which a buffer was seen last; None: it had none, or was not seen."""
        memory = self._memories.get(record_id)
        return None if memory is None else memory.stage

    def visit(self, record_id: str, known: tuple[str, str] | None) -> float | None:
        """Do what can be done for a buffer now.

        Parameters
        ----------
        known
            Namespace and name of its VolatileRSE, if they are known otherwise than by its record.

        Returns
        -------
        float | None
            Seconds until the next visit; None: only an event or the sweep calls for one.
        """
        try:
            outcome = self._converge(record_id, known)
            with deadline.at_least(_WORDS):
                all_said = self._say(record_id, outcome)
        except PortError as error:
            named = {"record": record_id, "reason": error.reason.value}
            _log.warning("%s: %s: %s", record_id, error.reason.value, error.what, extra=named)
            self._world.telemetry.faulted("visit")
            if self._memories[record_id].failures >= _BLINKS and error.reason is not Reason.CHANGED_MEANWHILE:
                self._say_failure(record_id, known, failed_call(error))
            return self._backoff(record_id)
        except LeaseLostError:
            raise
        except Exception as error:
            # Words of an error may repeat what is secret: the log of the operator has them.
            what = f"A fault of the operator ({type(error).__name__}) ended its visit to this buffer."
            self._say_failure(record_id, known, Problem(Reason.OPERATOR_FAULT, what))
            raise
        wake = self._until_wake(outcome)
        if outcome.plan.problems:
            return min(self._backoff(record_id), wake or _LAST)
        self._memories[record_id].failures = 0
        if not outcome.plan.waiting:
            self._memories[record_id].look = (None, _POLL)
            later = _PROGRESS.total_seconds()
            return wake if all_said else min(wake or later, later)
        poll = self._poll(record_id, outcome)
        return min(poll, wake or poll)

    def _say_failure(self, record_id: str, known: tuple[str, str] | None, why: Problem) -> None:
        """Tell of a visit that failed, where people look, as far as that can be written."""
        with deadline.at_least(_WORDS):
            try:
                facts = replace(glimpse(self._world, record_id, known), unseen=why)
            except PortError as error:
                _log.warning("%s: its status cannot be read: %s", record_id, error.what, extra={"record": record_id})
                return
            outcome = _Outcome(facts, Plan(problems=(why,)))
            for say in (self._say_request, self._say_record):
                try:
                    say(record_id, outcome)
                except Exception as error:  # noqa: BLE001 (what is told first is what went wrong before)
                    _log.warning("%s: its status cannot be written: %r", record_id, error, extra={"record": record_id})

    def _poll(self, record_id: str, outcome: _Outcome) -> float:
        """Look less often at what does not change; whatever does change brings the shortest time back."""
        facts = outcome.facts
        # Of thousands of files nothing but a digest is kept.
        seen = hashlib.sha256(repr(replace(facts, now=_NO_TIME)).encode()).digest()
        before, poll = self._memories[record_id].look
        draining = facts.record is not None and stage_of(facts.record.status) is Stage.DRAINING
        if before == seen:
            poll = min(poll * 1.5, _OF_DAEMONS if draining else _SLOWEST)
        else:
            poll = _IMPATIENT if _is_young(facts) else _POLL
        self._memories[record_id].look = (seen, poll)
        return poll

    def _converge(self, record_id: str, known: tuple[str, str] | None) -> _Outcome:
        before: tuple[do.Effect, ...] | None = None
        refused: tuple[Problem, ...] = ()
        said = self._world.clock.now()
        for _ in range(_ROUNDS):
            facts, decided = self._decide(record_id, known, before)
            for fault in decided.faults:
                log_fault(self._world.telemetry, fault, f"{record_id}: a part of what is decided")
            if not decided.effects or decided.effects == before:
                return _Outcome(facts, replace(decided, problems=(*refused, *decided.problems)))
            last = _is_last_word(facts, decided)
            if last or self._world.clock.now() >= said + _SILENCE:
                # Who watches sees how far it is, also in a visit that takes long.
                self._say_meanwhile(record_id, _Outcome(facts, decided), at_once=last)
                said = self._world.clock.now()
            failed = self._carry_out(record_id, facts, decided)
            if isinstance(failed, UnreachableError):
                return _Outcome(facts, replace(decided, problems=(*decided.problems, failed_call(failed))))
            changed = failed is not None and failed.reason is Reason.CHANGED_MEANWHILE
            # What is refused for one file does not keep the others back: they go on as far as they can.
            refused = () if failed is None or changed else (failed_call(failed),)
            before = None if changed else decided.effects
            if deadline.left() <= _DEEDS + _LOOK:
                # The next visit has all its time for the next look, which would know less than this one does.
                break
        told = (*refused, *decided.problems)
        return _Outcome(facts, replace(decided, problems=told, waiting=decided.waiting or "the next visit"))

    def _decide(
        self, record_id: str, known: tuple[str, str] | None, before: tuple[do.Effect, ...] | None
    ) -> tuple[Facts, Plan]:
        """Decide what to do; what cannot be taken back is decided upon what the API server says now.

        However long the looks take, what is decided upon them can be done: the fence above all.
        """
        facts = self._glimpse(self._world, record_id, known)
        if self._world.fresh is None:
            return self._decide_upon(self._world, record_id, facts, before)
        facts, decided = self._decide_upon(self._world, record_id, facts, before)
        grounds = grounds_of(facts, decided)
        if decided.effects == before or grounds is None or self._is_so(record_id, known, facts, grounds):
            return facts, decided
        live = self._world.live()
        # The time that looks leave is that of what is decided upon them, which this is part of.
        return self._decide_upon(live, record_id, glimpse(live, record_id, known), before)

    def _glimpse(self, world: World, record_id: str, known: tuple[str, str] | None) -> Facts:
        with deadline.sparing(_DEEDS):
            facts = glimpse(world, record_id, known)
        self._memories[record_id].stage = None if facts.record is None else stage_of(facts.record.status)
        return facts

    def _is_so(self, record_id: str, known: tuple[str, str] | None, facts: Facts, grounds: Grounds) -> bool:
        """Tell whether the cluster is now as it was seen; then Rucio and the agent need not be asked twice."""
        live = self._world.live()
        try:
            now = glimpse(live, record_id, known)
            if (facts.request, facts.record) != (now.request, now.record):
                return False
            now = look_at_objects(live, self._connections, now, storage=grounds.storage, session=grounds.session)
        except Exception:  # noqa: BLE001 (what it means is judged by the look at everything, which meets it, too)
            return False
        same_storage = not grounds.storage or facts.storage == now.storage
        return same_storage and (not grounds.session or facts.session == now.session)

    def _decide_upon(
        self, world: World, record_id: str, facts: Facts, before: tuple[do.Effect, ...] | None
    ) -> tuple[Facts, Plan]:
        """Decide on the end before anything but request and record is looked at; if there is none, look at the rest."""
        instance = world.settings.instance
        end = plan_end(facts, instance)
        # One that cannot be written keeps nothing else back.
        if end.effects and end.effects != before:
            return facts, end
        try:
            with deadline.sparing(_DEEDS):
                facts = look_closely(world, self._connections, facts)
        except UnreachableError as error:
            self._end_at_least(record_id, facts, failed_call(error))
            raise
        return facts, plan(facts, instance)

    def _end_at_least(self, record_id: str, facts: Facts, why: Problem) -> None:
        """Have a session that is over fenced, and its request released in time, also while the rest does not answer."""
        if facts.record is None or facts.record.status.session.ended_at is None:
            return
        least = replace(look_least(self._world, self._connections, facts), unseen=why)
        self._carry_out(record_id, least, plan(least, self._world.settings.instance))

    def _say_meanwhile(self, record_id: str, outcome: _Outcome, *, at_once: bool) -> None:
        """Tell how far it is; what keeps that from being written keeps nothing else back, and is told at the end."""
        try:
            self._say_request(record_id, outcome, at_once=at_once)
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 (logged)
            problem = problem_of(
                self._world.telemetry, error, f"{record_id}: its status could not be made", Reason.OPERATOR_FAULT
            )
            _log.warning("%s: its status cannot be written: %s", record_id, problem.what, extra={"record": record_id})

    def _carry_out(self, record_id: str, facts: Facts, decided: Plan) -> PortError | None:
        """Apply all effects that can be; give what went wrong first."""
        failed: PortError | None = None
        unattached: set[Did] = set()
        for effect in decided.effects:
            if failed is not None and isinstance(effect, _UPON_OTHERS):
                # A truth is not written upon a deed that failed, and nobody is turned away or let in upon it.
                continue
            if isinstance(effect, do.EnsureRule) and effect.dataset in unattached:
                # A rule before its replicas would start transfers.
                continue
            name = type(effect).__name__
            named = {"record": record_id, "effect": name}
            try:
                # What an effect reads itself, before it destroys, is read anew, too.
                world = self._world.live() if is_destructive(effect) else self._world
                self._apply(world, self._connections, facts, effect)
            except LeaseLostError:
                raise
            except Exception as error:  # noqa: BLE001 (logged with its traceback)
                # An effect that fails, however it does, keeps none back that does not depend on it.
                why = _failure_of(self._world.telemetry, error, f"{name} of {record_id} failed")
                self._world.telemetry.applied(name, failed=True)
                reason = why.reason.value
                _log.warning("%s: %s: %s: %s", record_id, name, reason, why.what, extra={**named, "reason": reason})
                failed = failed or why
                unattached |= {effect.dataset} if isinstance(effect, do.Attach) else set()
            else:
                self._world.telemetry.applied(name, failed=False)
                self._tell_times(facts, effect)
                _log.info("%s: %s", record_id, _shown(effect), extra=named)
        return failed

    def _tell_times(self, facts: Facts, effect: do.Effect) -> None:
        """Tell how long people waited, in the moment in which it is decided."""
        if not isinstance(effect, do.Remember) or facts.record is None or facts.record.partial:
            return
        before, after, class_name = facts.record.status, effect.status, facts.record.spec.class_name
        if facts.record.created is not None and after.session.ready_at and not before.session.ready_at:
            self._world.telemetry.became_ready(class_name, (facts.now - facts.record.created).total_seconds())
        ended = when(after.session.ended_at)
        if after.safe_at and not before.safe_at and ended is not None and after.session.ready_at:
            self._world.telemetry.became_safe(class_name, (facts.now - ended).total_seconds())

    def _backoff(self, record_id: str) -> float:
        memory = self._memories[record_id]
        # A number that grows for days would not be one of floating point any more.
        delay = min(_FIRST * 2.0 ** min(memory.failures, _DOUBLINGS), _LAST)
        memory.failures += 1
        return delay * random.uniform(0.8, 1.2)  # noqa: S311 (spreads retries, hides nothing)

    def _until_wake(self, outcome: _Outcome) -> float | None:
        if outcome.plan.wake is None:
            return None
        return max((outcome.plan.wake - self._world.clock.now()).total_seconds(), 0.5)

    # Status.

    def _say(self, record_id: str, outcome: _Outcome) -> bool:
        """Write what has come of a visit; tell whether nothing is left to be said later."""
        all_said, unseen = self._say_request(record_id, outcome), outcome.facts.unseen
        if unseen is not None and unseen.reason is Reason.RECORD_UNREADABLE:
            self._say_unreadable(record_id, unseen)
        else:
            self._say_record(record_id, outcome)
        return all_said

    def _say_request(self, record_id: str, outcome: _Outcome, *, at_once: bool = False) -> bool:
        """Write what is to be read by people, where it differs from what stands there.

        Returns
        -------
        bool
            Nothing is left to be said later.
        """
        facts = outcome.facts
        endpoints: list[Endpoint] = []
        if facts.record is not None and not facts.record.partial:
            root, davs = endpoint(self._world.settings, facts.record.spec)
            endpoints = [Endpoint(protocol="root", url=root), Endpoint(protocol="davs", url=davs)]
        status = self._status(record_id, outcome, endpoints)
        if status is None or facts.request is None:
            return True
        ref = Ref("VolatileRSE", facts.request.namespace, facts.request.name)
        body = self._world.cluster.get(ref)
        if body is None or body["metadata"]["uid"] != facts.request.uid:
            return True
        old = _said_before(body)
        new = _keep_times(status, old)
        if all(old.get(key) == value for key, value in new.items()):
            return True
        late = at_once and _files(old | new) != _files(old)
        if not late and _gist(old | new) == _gist(old) and not self._may_say(record_id):
            return False
        self._world.cluster.merge(ref, {"status": new}, subresource="status")
        self._memories[record_id].said = self._world.clock.now()
        self._tell(body, new, old)
        return True

    def _status(self, record_id: str, outcome: _Outcome, endpoints: Sequence[Endpoint]) -> VolatileRSEStatus | None:
        """Make the status; where that fails, one that says so."""
        try:
            return status_of(outcome.facts, outcome.plan, endpoints)
        except Exception as error:  # noqa: BLE001 (logged with its traceback)
            why = problem_of(
                self._world.telemetry, error, f"{record_id}: its status could not be made", Reason.OPERATOR_FAULT
            )
        told = replace(outcome.plan, problems=(*outcome.plan.problems, why))
        return status_of(replace(outcome.facts, unseen=why), told, endpoints)

    def _may_say(self, record_id: str) -> bool:
        """Tell whether mere progress may be written again."""
        said = self._memories[record_id].said
        return said is None or self._world.clock.now() >= said + _PROGRESS

    def _say_record(self, record_id: str, outcome: _Outcome) -> None:
        record = outcome.facts.record
        if record is None or record.spec.instance != self._world.settings.instance:
            return
        said = " ".join(problem.message for problem in outcome.plan.problems)
        if not said and outcome.plan.waiting:
            said = f"Waiting for {outcome.plan.waiting}."
        message = visible(said, MESSAGE)
        phase = stage_of(record.status).value
        if message == (record.status.message or "") and record.status.phase == phase:
            self._memories[record_id].unsaid = None
            return
        if not outcome.plan.waiting or record.status.phase != phase or self._lasts(record_id, phase):
            self._memories[record_id].unsaid = None
            patch = {"status": {"message": message, "phase": phase}}
            self._world.cluster.merge(Ref("RSERecord", None, record.name), patch, subresource="status")

    def _say_unreadable(self, record_id: str, why: Problem) -> None:
        """Tell on a record of ours that it cannot be read: it may be all that is left to say so."""
        ref = Ref("RSERecord", None, record_name(record_id))
        body, message = self._world.cluster.get(ref), visible(why.message, MESSAGE)
        if body is None or spec_of(body).get("instance") != self._world.settings.instance:
            return
        if (body.get("status") or {}).get("message") != message:
            self._world.cluster.merge(ref, {"status": {"message": message}}, subresource="status")
            self._world.cluster.event(body, type_="Warning", reason=why.reason.value, message=message)

    def _lasts(self, record_id: str, phase: str) -> bool:
        """Tell whether a stage waits for so long already that it is worth a write: most are over in a moment."""
        now = self._world.clock.now()
        before, since = self._memories[record_id].unsaid or ("", now)
        self._memories[record_id].unsaid = phase, since if before == phase else now
        return before == phase and now >= since + _PROGRESS

    def _tell(self, body: Mapping[str, Any], new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
        """Write an Event where a condition that people wait for has changed, or is bad from the beginning."""
        before = {entry["type"]: entry for entry in old.get("conditions") or ()}
        told: dict[str, str] = {}
        for type_ in _EVENTS:
            entry = next(entry for entry in new["conditions"] if entry["type"] == type_)
            was = before.get(type_, {})
            remedy = REMEDIES.get(Reason(entry["reason"]))
            bad = remedy is not None and remedy.actor is not Actor.NOBODY
            # That something is not there yet is no news, neither at first nor later.
            if not bad and (not was or was["status"] == entry["status"] == "False"):
                continue
            # Good news need telling once, and each thing that is wrong.
            news = entry["reason"] if bad else entry["status"]
            if news in told and (type_ in _TOLD_ALREADY or not was or entry["message"] == told[news]):
                continue
            if (was.get("status"), was.get("reason")) != (entry["status"], entry["reason"]):
                told[news] = entry["message"]
                kind = "Warning" if bad else "Normal"
                about = f"{type_}={entry['status']}: {entry['message'] or entry['reason']}"
                self._world.cluster.event(body, type_=kind, reason=entry["reason"], message=about)


def _failure_of(telemetry: Telemetry, error: Exception, where: str) -> PortError:
    if isinstance(error, PortError):
        return error
    problem = problem_of(telemetry, error, where, Reason.OPERATOR_FAULT)
    return RefusedError(problem.reason, problem.what)


def _is_last_word(facts: Facts, decided: Plan) -> bool:
    """Tell whether only this look knows of the files: the next stage does not ask for them any more."""
    if facts.outputs is None or facts.record is None:
        return False
    stage = stage_of(facts.record.status)
    return any(isinstance(effect, do.Remember) and stage_of(effect.status) is not stage for effect in decided.effects)


def _is_young(facts: Facts) -> bool:
    """Tell whether somebody may be sitting before a session that begins."""
    created = facts.record.created if facts.record is not None else None
    return created is not None and facts.now < later(created, _YOUTH) and not facts.session.objects


def _said_before(body: Mapping[str, Any]) -> dict[str, Any]:
    """Give what stands in a status, without conditions that are none: whoever may write it may write anything."""
    status = body.get("status")
    old = dict(status) if isinstance(status, Mapping) else {}
    listed = old.get("conditions")
    entries = listed if isinstance(listed, list) else ()
    old["conditions"] = [entry for entry in entries if isinstance(entry, Mapping) and _is_condition(entry)]
    return old


def _is_condition(entry: Mapping[str, Any]) -> bool:
    """Tell whether the API server would take a condition, which may be written back as it stands."""
    try:
        return is_time(Condition.model_validate(entry).last_transition_time)
    except ValidationError:
        return False


def _gist(status: Mapping[str, Any]) -> tuple[object, ...]:
    """Give what people and programs act upon."""
    conditions = [
        (entry["type"], entry["status"], entry["reason"])
        for entry in status.get("conditions") or ()
        if entry["type"] in _PROMPT
    ]
    return conditions, {key: value for key, value in status.items() if key not in _PROGRESSING}


def _files(status: Mapping[str, Any]) -> tuple[object, ...]:
    return status.get("outputs"), status.get("unmatched")


def _keep_times(status: VolatileRSEStatus, old: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the transition time of a condition whose status has not changed, and the conditions that nothing is said of.

    Every condition is there from the first visit on.
    """
    before = {entry["type"]: entry for entry in old.get("conditions") or ()}
    new = status.dump()
    said = {entry["type"]: entry for entry in new["conditions"]}
    unknown = next(iter(said.values())) | {"status": "Unknown", "reason": Reason.PENDING.value, "message": ""}
    kept = {type_.value: {**unknown, "type": type_.value} for type_ in ConditionType} | before | said
    new["conditions"] = [kept[type_.value] for type_ in ConditionType]
    for entry in new["conditions"]:
        was = before.get(entry["type"])
        if was is not None and was["status"] == entry["status"]:
            entry["lastTransitionTime"] = was["lastTransitionTime"]
    return new


def _shown(effect: do.Effect) -> str:
    match effect:
        case do.MakePiece() | do.DropPiece():
            return f"{type(effect).__name__} {effect.piece.value}"
        case do.Remember():
            return f"Remember {stage_of(effect.status).value}"
        case do.Register() | do.Attach() | do.Hide():
            return f"{type(effect).__name__} {len(effect.files)} files"
        case _:
            return type(effect).__name__
