"""The running reconciler: threads that work on the queue, and the sweep that forgets nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, ParamSpec, TypeVar

from volatile_rse.api.conditions import Condition, Reason, Status, conditions_by_type
from volatile_rse.api.rucioconnection import Budget, RucioConnectionStatus
from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.text import EVENT, visible
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import RECORD
from volatile_rse.domain.facts import Record
from volatile_rse.domain.identity import identify
from volatile_rse.domain.limits import surplus
from volatile_rse.domain.node_ports import are_enough, problem_of_node_ports
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import Stage, has_expired, stage_of, stamp
from volatile_rse.domain.status import STALLING
from volatile_rse.domain.tenants import faults_of_tenancy
from volatile_rse.domain.times import is_time
from volatile_rse.ports import deadline
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import PortError, RefusedError
from volatile_rse.ports.telemetry import Holding, Whose
from volatile_rse.reconcile.admission import keep_certificate
from volatile_rse.reconcile.class_status import ClassProbes
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.gates import Gates
from volatile_rse.reconcile.holding import release_unused
from volatile_rse.reconcile.kept import give_kept
from volatile_rse.reconcile.lease import LeaseLostError, guarded
from volatile_rse.reconcile.queue import KeyedQueue, Owner
from volatile_rse.reconcile.reading import (
    bytes_told,
    read_class,
    read_connection,
    read_record,
    record_id_of,
    spec_of,
    status_of,
)
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.searching import search
from volatile_rse.reconcile.usage import holder_of, node_ports_of
from volatile_rse.reconcile.world import World

__all__ = ["Service"]

_log = logging.getLogger(__name__)

Object = Mapping[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

_VISIT, _LONGEST, _PREPARING = 60.0, 300.0, 900.0
"""Seconds for all of a visit; doubled for a buffer whose last one they did not suffice for, up to what the others are.

The last is for a buffer that resolves its inputs: nobody has written anything yet whose end could wait.
"""
_SLOW = 5.0
"""Seconds from which a visit counts as slow: the next one does not wait for a thread of the others."""
_PATIENCE = 10
"""Seconds for what is being done when the process shall end."""
_CLASSES = 15.0
"""Seconds between two looks for a class that has to be tried."""
_ORPHANS = 600.0
"""Seconds between two searches for orphans: one asks Rucio about each ledger."""
_WORD = 32
"""Letters of a phase."""


@dataclass(slots=True)
class _Found:
    """What one sweep has found."""

    stages: dict[Stage, int] = field(default_factory=lambda: dict.fromkeys(Stage, 0))
    unread: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("RSERecord", "VolatileRSEClass", "RucioConnection"), 0)
    )
    """Kind -> objects that cannot be read."""
    requests: dict[str, Object] = field(default_factory=dict)
    """Record -> status of its VolatileRSE."""
    phases: dict[str, tuple[object, str]] = field(default_factory=dict)
    """Record -> class, as somebody wrote it, and what people see of the buffer."""
    holdings: defaultdict[Whose, Holding] = field(default_factory=lambda: defaultdict(Holding))
    """By those whose record is not closed."""
    classes: set[str] = field(default_factory=set)
    """Names of all that there are."""
    expired: list[tuple[str, str]] = field(default_factory=list)
    """Name and UID of records that were kept for long enough."""
    closed: list[Record] = field(default_factory=list)
    """All other records of closed buffers."""

    def see(self, record_id: str, class_name: object, status: Object) -> None:
        """Add a VolatileRSE."""
        self.requests[record_id] = status
        self.phases[record_id] = class_name, _phase_of(status)

    def add(self, record: Record, stage: Stage) -> None:
        """Add its record."""
        record_id, status = record.spec.record_id, record.status
        if stage is Stage.CLOSED:
            self.phases.pop(record_id, None)
            return
        is_kept = status.quarantined_at is not None and status.safe_at is None
        _, phase = self.phases.get(record_id, ("", "Quarantined" if is_kept else stage.value))
        self.phases[record_id] = record.spec.class_name, phase
        claim = record.spec.claims[0]
        holding = self.holdings[Whose(record.spec.class_name, claim.namespace, claim.account)]
        if status.freed_at is None:
            holding.capacity += parse_quantity(record.spec.capacity)
        if status.safe_at is None:
            # Until the inventory the VolatileRSE alone says it; without one, it may be all that there is room for.
            told = bytes_told(self.requests.get(record_id, {}))
            unknown = parse_quantity(record.spec.capacity) if is_kept else 0
            known = unknown if told is None else told
            risk = known if status.bytes_at_risk is None else status.bytes_at_risk
            if status.session.ended_at is None:
                holding.running += risk
            else:
                holding.ended += risk


def _phase_of(status: Object) -> str:
    """Give the phase that people see; what is no word would end the sweep as a key, or all metrics as a label."""
    told = status.get("phase")
    is_word = isinstance(told, str) and told.isascii() and told.isalpha() and len(told) <= _WORD
    return str(told) if is_word else "Pending"


class Service:
    """Takes events, works on keys, sweeps.

    Parameters
    ----------
    threads
        Buffers that are worked on at the same time; a third as many more threads work on those whose visits take long.
    interval
        Seconds between two sweeps.
    check
        Called before everything destructive; raises if another process may be at work.
    awake
        Called before everything else that is done; raises if this process has stood still.
    """

    def __init__(
        self,
        world: World,
        *,
        threads: int = 24,
        interval: float = 60.0,
        check: Callable[[], None] = lambda: None,
        awake: Callable[[], None] = lambda: None,
    ) -> None:
        self._world = world
        self._check = check
        self._awake = awake
        self._reconciler = Reconciler(world, guarded(execute, check, awake))
        self._connections = Connections(world)
        self._probes = ClassProbes(world, self._connections)
        self._gates = Gates(world.cluster, world.clock.now)
        slow = -(-threads // 3)
        # An owner whose visits take long leaves a thread to others.
        self._queue = KeyedQueue(owner_of=self._owner_of, most=max(threads - 1, 1), most_slow=max(slow - 1, 1))
        self._interval = interval
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, str]] = {}
        self._records: dict[tuple[str, str], set[str]] = {}
        """Namespace and name of a VolatileRSE -> its record; also that of one deleted under this name a moment ago."""
        self._owners: dict[str, Owner] = {}
        """Record -> namespace and account for which it is worked on."""
        self._allowed: dict[str, float] = {}
        """Record -> seconds for its next visit, where an earlier one was cut off."""
        self._ending: set[str] = set()
        """Records whose session was seen to be asked to end."""
        self._fencing: set[str] = set()
        """Records that were seen in Fencing."""
        self._stopping = threading.Event()
        self._stirred = threading.Event()
        """The next sweep shall not wait."""
        self._class_changed = threading.Event()
        """Classes shall be looked through for one that has to be tried."""
        self._advanced = time.monotonic()
        """When the sweep last got on with its work."""
        self._searched = float("-inf")
        self._ports_are_low = False
        """This is told, and will be again once it was otherwise."""
        self._given: dict[str, float] = {}
        """Record -> when access to its outputs was given the last time, or could not be."""
        self._told: dict[str, int] = {}
        """UID of a class that has something wrong -> its generation of which that was told."""
        workers = [*((f"worker-{n}", False) for n in range(threads)), *((f"slow-{n}", True) for n in range(slow))]
        self._threads = [
            threading.Thread(target=self._work, args=(is_slow,), name=name, daemon=True) for name, is_slow in workers
        ]
        self._threads.append(threading.Thread(target=self._sweeps, name="sweep", daemon=True))
        # Beside the sweep, which a slow Rucio or a slow site must not hold up.
        self._beside = [
            threading.Thread(target=self._searches, name="search", daemon=True),
            threading.Thread(target=self._tries, name="classes", daemon=True),
        ]
        self._threads.append(threading.Thread(target=self._opens, name="gates", daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in (*self._threads, *self._beside):
            thread.start()

    def stop(self) -> bool:
        """End the threads; what a visit has begun, the next one finishes. False: some still work.

        The search and the trial of classes are not waited for: no buffer depends on them.
        """
        self._stopping.set()
        self._stirred.set()
        self._class_changed.set()
        self._queue.close()
        self._gates.close()
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(timeout=max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def healthy(self) -> bool:
        """Tell whether the sweep still runs; never whether Rucio answers."""
        return time.monotonic() - self._advanced < 10 * self._interval

    # Events.

    def saw(self, kind: str, body: Object) -> None:
        """Take note of an object that has appeared, changed or gone."""
        self._gates.saw(kind, body)
        match kind:
            case "VolatileRSE":
                record_id = self._learn(body)
                self._queue.add(record_id, urgent=self._begins_to_end(record_id, body))
            case "RSERecord":
                self._queue.add(self._learn_owner(body))
            case "VolatileRSEClass" | "RucioConnection":
                # Whoever waits for it is swept at once.
                self._visit_soon(self._known_in(None))
                self._class_changed.set()
                if "deletionTimestamp" in body["metadata"]:
                    self._stirred.set()
            case "MutatingWebhookConfiguration":
                # Until it has a certificate, pods of sessions start with nothing.
                self._stirred.set()
            case "Namespace":
                self._visit_soon(self._known_in(body["metadata"]["name"]))
            case _:
                self._saw_object(body)

    def _visit_soon(self, record_ids: Iterable[str]) -> None:
        for record_id in record_ids:
            self._queue.add(record_id)

    def _known_in(self, namespace: str | None) -> list[str]:
        """Give the records whose VolatileRSE is in a namespace; None: in any."""
        with self._lock:
            return [key for key, (where, _) in self._known.items() if namespace in {None, where}]

    def _learn(self, body: Object) -> str:
        metadata = body["metadata"]
        record_id = identify(self._world.settings.instance, metadata["uid"]).record_id
        with self._lock:
            known = self._known[record_id] = metadata["namespace"], metadata["name"]
            self._records.setdefault(known, set()).add(record_id)
            account = spec_of(body).get("account")
            self._owners[record_id] = metadata["namespace"], account if isinstance(account, str) else ""
        return record_id

    def _begins_to_end(self, record_id: str, body: Object) -> bool:
        """Tell once of a session that it is to end: it must not wait for those whose visits take long."""
        if "deletionTimestamp" not in body["metadata"] and spec_of(body).get("endRequested") is not True:
            return False
        return self._is_first(record_id, self._ending)

    def _is_first(self, record_id: str, seen: set[str]) -> bool:
        with self._lock:
            if record_id in seen:
                return False
            seen.add(record_id)
            return True

    def _learn_owner(self, body: Object) -> str:
        """Take note of whose a record is: its VolatileRSE may be gone."""
        record_id, holder = record_id_of(body), holder_of(body)
        if holder is not None:
            with self._lock:
                self._owners.setdefault(record_id, holder)
        return record_id

    def _owner_of(self, key: str) -> Owner:
        """Give the owner of a key; one that is not known is its own."""
        with self._lock:
            return self._owners.get(key, (key, ""))

    def _saw_object(self, body: Object) -> None:
        """Take note of a part of a buffer, or of a session's pod."""
        metadata = body["metadata"]
        labels = metadata.get("labels") or {}
        if metadata.get("namespace") in {None, self._world.settings.buffers}:
            if RECORD in labels:
                self._queue.add(labels[RECORD])
            return
        with self._lock:
            records = tuple(self._records.get((metadata["namespace"], labels.get(SESSION_LABEL, "")), ()))
        for record_id in records:
            self._queue.add(record_id)

    # Work.

    def _work(self, is_slow: bool) -> None:  # noqa: FBT001 (given to a thread)
        while (key := self._queue.take(slow=is_slow)) is not None:
            self._world.telemetry.waiting(self._queue.due(), self._queue.lateness())
            self._visit(key)

    def _visit(self, key: str) -> None:
        delay: float | None = self._interval
        began, failed = time.monotonic(), False
        with self._lock:
            known, allowed = self._known.get(key), self._allowed.get(key, _VISIT)
        longest = _PREPARING if self._reconciler.stage(key) is Stage.PREPARING else _LONGEST
        allowed = min(allowed, longest)
        try:
            with deadline.within(allowed) as visit:
                delay = self._reconciler.visit(key, known)
            self._allow(key, allowed, missed=visit.missed, is_quick=time.monotonic() - began < _SLOW)
        except Exception:  # noqa: BLE001 (logged with its traceback below)
            # A fault of ours on one buffer must not stop the others; the sweep comes back to it.
            _log.exception("%s: the visit failed", key, extra={"record": key})
            failed = True
        finally:
            took = time.monotonic() - began
            self._queue.done(key, slow=took >= _SLOW)
            self._world.telemetry.visited(took, failed=failed)
        if known is not None:
            # Nobody tells of what the visit has written itself, as that the buffer is usable.
            self._gates.add(known)
        if delay is not None:
            # Its first visit in that stage may have taken long by whatever it did before.
            is_fencing = self._reconciler.stage(key) is Stage.FENCING
            self._queue.add(key, delay, urgent=is_fencing and self._is_first(key, self._fencing))

    def _allow(self, key: str, allowed: float, *, missed: bool, is_quick: bool) -> None:
        """Set the time of the next visit: what takes longer than one would begin anew each time.

        What has sufficed is kept, or every other visit would be cut off; it costs the others nothing.
        """
        with self._lock:
            if missed:
                self._allowed[key] = 2 * allowed
            elif is_quick and allowed / 2 > _VISIT:
                self._allowed[key] = allowed / 2
            elif is_quick:
                self._allowed.pop(key, None)

    def _sweeps(self) -> None:
        while not self._stopping.is_set():
            self._part("sweep", self.sweep)
            self._stirred.wait(self._interval)
            self._stirred.clear()

    def _opens(self) -> None:
        while (key := self._gates.take()) is not None:
            self._part("gates", self._look_at_pods, key)

    def _look_at_pods(self, key: tuple[str, str]) -> None:
        self._awake()
        self._gates.look(key)

    def _searches(self) -> None:
        while not self._stopping.is_set():
            self._part("search", self.search)
            self._stopping.wait(self._interval)

    def _tries(self) -> None:
        while not self._stopping.is_set():
            self._part("class status", self.try_classes)
            self._part("kept outputs", self.give_kept)
            self._class_changed.wait(min(self._interval, _CLASSES))
            self._class_changed.clear()

    def give_kept(self) -> None:
        """Give access to what is not safe to those who ask for it."""
        ended = [body for body in self._world.cluster.list("RSERecord") if _has_ended(body)]
        names = {body["metadata"]["name"] for body in ended}
        # Who deletes it again and again has it made once a minute.
        soonest = time.monotonic() - self._interval
        self._given = {name: given for name, given in self._given.items() if name in names and given > soonest}
        for body in ended:
            self._check()
            name = body["metadata"]["name"]
            if name in self._given or self._part("kept outputs", give_kept, self._world, body) is False:
                continue
            # One whose agent is silent takes a minute each time, for which all others wait.
            self._given[name] = time.monotonic()

    def try_classes(self) -> None:
        """Try what the classes offer, each in its turn."""

        def goes_on() -> bool:
            self._check()
            return not self._stopping.is_set()

        self._probes.probe(goes_on)

    def _part(self, name: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Do a part of the round, or what concerns one object; whatever is wrong with it must not stop the others."""
        try:
            return call(*args, **kwargs)
        except LeaseLostError:
            raise
        except PortError as error:
            _log.warning("%s: %s: %s", name, error.reason.value, error.what)
            self._world.telemetry.faulted(name)
        except Exception:  # noqa: BLE001 (logged with its traceback below)
            _log.exception("%s: a fault of the operator", name)
            self._world.telemetry.faulted(name)
        return None

    def sweep(self) -> None:
        """Call for a visit to every buffer, and look at the connections."""
        began = time.monotonic()
        with self._lock:
            # What is seen from here on may be missing in the lists, and is alive all the same.
            before = set(self._known) | set(self._owners)
        found = _Found()
        for body in self._world.cluster.list("VolatileRSE"):
            self._part("request", self._see, body, found)
        alive = set(found.requests)
        records = self._world.cluster.list("RSERecord")
        for body in records:
            # One that nobody can make anything of is visited: that tells why, and on what.
            wanted = self._part("record", self._count, body, found)
            if wanted is not False:
                alive.add(self._learn_owner(body))
        self._forget(before - alive)
        self._reconciler.keep(alive)
        self._connections.keep(alive)
        for record_id in alive:
            self._queue.add(record_id)
        # Every buffer is visited: that is what keeps the operator alive, whatever becomes of the rest.
        self._advanced = began
        self._world.telemetry.waiting(self._queue.due(), self._queue.lateness())
        self._world.telemetry.held(found.holdings)
        self._part("node ports", self._count_ports, records)
        self._part("gates", self._gates.sweep)
        self._part("webhook", keep_certificate, self._world)
        for name, uid in found.expired:
            self._part("records", self._expire, name, uid)
        self._part("records", self._thin, found.closed)
        self._part("holding", self._release, records)
        self._part("classes", self._read_classes, found)
        self._count_phases(found)
        reachable = self._part("connections", self._try_all, found) or {}
        self._world.telemetry.unread(found.unread)
        self._world.telemetry.swept({stage.value: count for stage, count in found.stages.items()}, reachable)

    def _count_phases(self, found: _Found) -> None:
        """Tell the number of buffers of each class; of a class that there is not, nobody gets a series by asking."""
        known = found.classes | {whose.class_name for whose in found.holdings}
        phases = found.phases.values()
        self._world.telemetry.phased(
            Counter((name if isinstance(name, str) and name in known else "", phase) for name, phase in phases)
        )

    def _count_ports(self, records: Sequence[Object]) -> None:
        """Count the NodePorts of buffers, and warn before they are all given away, on every class that needs some."""
        ports = node_ports_of(records, self._world.settings.node_ports)
        self._world.telemetry.exposed(ports.used, ports.range)
        low = problem_of_node_ports(ports)
        if are_enough(ports):
            self._ports_are_low = False
        elif low is not None and not self._ports_are_low:
            _log.warning("%s: %s", low.reason.value, low.message, extra={"reason": low.reason.value})
            for body in self._world.cluster.list("VolatileRSEClass"):
                self._world.cluster.event(body, type_="Warning", reason=low.reason.value, message=low.message)
            self._ports_are_low = True

    def _try_all(self, found: _Found) -> dict[str, bool]:
        connections = self._world.cluster.list("RucioConnection")
        return {body["metadata"]["name"]: self._try(body, found) for body in connections}

    def _see(self, body: Object, found: _Found) -> None:
        found.see(self._learn(body), spec_of(body).get("className"), status_of(body))

    def _count(self, body: Object, found: _Found) -> bool:
        """Add a record to what was found; tell whether it wants a visit."""
        try:
            record = read_record(body, self._world.clock.now())
        except RefusedError:
            # Its visit tells why, and on what.
            found.unread["RSERecord"] += 1
            return True
        if record.unreadable:
            found.unread["RSERecord"] += 1
            return True
        stage = stage_of(record.status)
        found.stages[stage] += 1
        found.add(record, stage)
        if has_expired(record, self._world.clock.now()):
            found.expired.append((record.name, record.uid))
        elif stage is Stage.CLOSED:
            found.closed.append(record)
        return stage is not Stage.CLOSED or record.held

    def _forget(self, gone: Collection[str]) -> None:
        with self._lock:
            for record_id in gone:
                if (known := self._known.pop(record_id, None)) is not None:
                    self._records[known].discard(record_id)
                    if not self._records[known]:
                        del self._records[known]
                self._owners.pop(record_id, None)
                self._allowed.pop(record_id, None)
                self._ending.discard(record_id)
                self._fencing.discard(record_id)
        self._queue.forget(gone)

    def _expire(self, name: str, uid: str) -> None:
        self._check()
        self._world.cluster.delete(Ref("RSERecord", None, name), uid)

    def _thin(self, closed: Sequence[Record]) -> None:
        """Let closed records go of which their owner has too many: who makes and deletes in a loop fills no etcd."""
        for record in surplus(closed, self._world.clock.now()):
            claim = record.spec.claims[0]
            whose = f"{claim.namespace}/{claim.name} of account {claim.account}"
            _log.info("%s: its record goes early, there are newer ones of its owner: %s", record.name, whose)
            self._part("records", self._expire, record.name, record.uid)

    def _release(self, records: Sequence[Object]) -> None:
        self._check()
        release_unused(self._world.cluster, records)

    def _read_classes(self, found: _Found) -> None:
        """Tell of classes that cannot be read by Events; their status says it, too."""
        bodies = self._world.cluster.list("VolatileRSEClass")
        found.classes.update(body["metadata"]["name"] for body in bodies)
        staying = [body for body in bodies if "deletionTimestamp" not in body["metadata"]]
        self._world.telemetry.offered({body["metadata"]["name"]: _is_ready(body) for body in staying})
        told, self._told = self._told, {}
        for body in bodies:
            self._part("class", self._read_one, body, found, told)

    def _read_one(self, body: Object, found: _Found, told: Mapping[str, int]) -> None:
        """Tell of a class, once for each generation, that it cannot be read, or that some of its grants mean nobody."""
        try:
            faults = faults_of_tenancy(read_class(body).tenancy)
            wrong = f"VolatileRSEClass {body['metadata']['name']}: {'; '.join(faults)}." if faults else ""
        except RefusedError as error:
            found.unread["VolatileRSEClass"] += 1
            wrong = error.what
        if not wrong:
            return
        uid, version = body["metadata"]["uid"], body["metadata"].get("generation", 0)
        self._told[uid] = version
        if told.get(uid) != version:
            about = Problem(Reason.CONFIGURATION_INVALID, wrong)
            self._world.cluster.event(body, type_="Warning", reason=about.reason.value, message=about.message)

    def _try(self, body: Object, found: _Found) -> bool:
        """Look at a connection; a fault about one concerns no other."""
        reachable = self._part("connection", self._look_at, body, found)
        # Many servers that do not answer are no fault of this process.
        self._advanced = time.monotonic()
        return bool(reachable)

    def search(self) -> None:
        """Tell of what has no record; nothing is done about it."""
        if time.monotonic() - self._searched < _ORPHANS:
            return
        found = search(self._world, self._connections, self._world.settings.instance)
        self._searched = time.monotonic()
        for why in found.silent:
            _log.warning("search: there may be more: %s", why)
            self._world.telemetry.faulted("search")
        for orphan in found.orphans:
            _log.warning(
                "orphan: %s; nothing is done about it, see docs/operations.md",
                orphan,
                extra={"record": orphan.record_id},
            )
        self._world.telemetry.orphaned(len(found.orphans))

    def _look_at(self, body: Object, found: _Found) -> bool:
        """Say in a connection's status whether its server answers."""
        reachable, reason, message = True, "", "The server answers and takes the operator's credential."
        try:
            spec = read_connection(body)
            connection = spec.model_copy(update={"budget": spec.budget or Budget()})
            self._connections.of(connection, body["metadata"]["name"]).ping()
        except PortError as error:
            reachable, reason, message = False, error.reason.value, visible(error.what, EVENT)
            found.unread["RucioConnection"] += error.reason is Reason.CONFIGURATION_INVALID
        old, generation = status_of(body), body["metadata"].get("generation", 0)
        changed = old.get("reachable") is not reachable or not is_time(old.get("since"))
        since = stamp(self._world.clock.now()) if changed else old["since"]
        answers = _Said("True", "Answers", message) if reachable else _Said("False", reason, message)
        conditions = _conditions(answers, old, generation, since, stamp(self._world.clock.now()))
        status = RucioConnectionStatus(
            observed_generation=generation, reachable=reachable, since=since, message=message, conditions=conditions
        ).dump()
        if any(old.get(key) != value for key, value in status.items()):
            ref = Ref("RucioConnection", None, body["metadata"]["name"])
            self._world.cluster.merge(ref, {"status": status}, subresource="status")
        return reachable


class _Said(NamedTuple):
    """What a condition says."""

    status: Status
    reason: str
    message: str


def _conditions(answers: _Said, old: Object, generation: int, since: str, now: str) -> list[Condition]:
    """Say of a connection what ``kubectl wait``, and whoever knows the rules of kstatus, can wait for.

    Parameters
    ----------
    answers
        Whether it is reachable.
    old
        Its status so far.
    since
        From when on that is so.
    """
    stalls = answers.status == "False" and answers.reason in STALLING
    stalled = _Said("True", *answers[1:]) if stalls else _Said("False", Reason.NOT_STALLED.value, "")
    before = conditions_by_type(old).get("Stalled", {})
    is_old = before.get("status") == stalled.status and is_time(before.get("lastTransitionTime"))
    times = {"Ready": since, "Reachable": since, "Stalled": before["lastTransitionTime"] if is_old else now}
    return [
        Condition(
            type=type_,
            status=said.status,
            reason=said.reason,
            message=said.message,
            last_transition_time=times[type_],
            observed_generation=generation,
        )
        for type_, said in (("Ready", answers), ("Reachable", answers), ("Stalled", stalled))
    ]


def _is_ready(body: Object) -> bool:
    """Tell whether an object is, by its status, which anybody may have written."""
    return conditions_by_type(body.get("status")).get("Ready", {}).get("status") == "True"


def _has_ended(body: Object) -> bool:
    """Tell whether a session is over, and what it has left is not safe."""
    status = status_of(body)
    session = status.get("session")
    ended = isinstance(session, Mapping) and session.get("endedAt") is not None
    return ended and status.get("safeAt") is None and status.get("closedAt") is None
