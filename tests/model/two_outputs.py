"""A small world with two inputs and two outputs: to be copied, told from others, and walked by a list of words."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event, Lock
from typing import Any

from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.small_world import CLUSTER_AUTHORITY, OUT, REQUEST, Killed, Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.builders.objects import name_of, record_name
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Facts, Piece
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.memory import _Remembering
from volatile_rse.reconcile.world import World

__all__ = ["ACTIONS", "Restless", "Snapshot", "act", "begin", "copied", "digest", "end", "snapshot"]

LIVE = Did("user.alice", "live")
_INPUTS = (Did("user.alice", "in.0"), Did("user.alice", "more.0"))
_DATASETS = (Did("user.alice", "in"), Did("user.alice", "more"))
_POD = Ref("Pod", "alice", "job")
_NAMESPACE = Ref("Namespace", None, "alice")
_FREEZE = 120
"""Steps within which everything has to end once all is well again."""
_FOR_EVER = 1 << 30
_MINUTE, _HOURS = timedelta(seconds=70), timedelta(hours=3)
"""Past ``endGrace`` and the last try of a discard; past ``startTimeout``, ``ttl`` and the deadline."""


@dataclass
class Restless(Small):
    """The small world with all that may happen to it."""

    inputs: int = 1
    lost: set[str] = field(default_factory=set)
    """Files that were on a volume that is lost, and nowhere else."""
    has_token: bool = False
    """The session was given its token: it may use it for as long as the door takes it."""
    _deadly: type | tuple[type, ...] = ()
    """After the next effect of these kinds the operator dies."""
    _cutting: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.catalogue.add_files(_DATASETS[1], "SITE-A", [File(_INPUTS[1], 200, "00000001")])
        self.apply = self._judged

    def _judged(self, world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if isinstance(effect, do.WriteOff):
            # What is safe in this moment may not be given up, whoever consents.
            self.given_up = tuple(path for path in self.written if not self.is_kept(path))
        judge(self, effect)
        execute(world, connections, facts, effect)
        self.has_token |= isinstance(effect, do.IssueSession)
        self.catalogue.down |= self._cutting and isinstance(effect, do.Remember)
        if isinstance(effect, self._deadly):
            raise Killed

    # What is owed, of two outputs.

    @property
    def owed(self) -> tuple[str, ...]:
        """What has to be kept: all but what was given up, or lost before it was safe."""
        return tuple(path for path in super().owed if path not in self.lost)

    def is_kept(self, *paths: str, dataset: Did = OUT, rses: tuple[str, ...] = ()) -> bool:
        """Ask for each output at its own destination."""
        live = [path for path in paths if path.startswith("live/")]
        others = [path for path in paths if path not in live]
        return super().is_kept(*others, dataset=dataset, rses=rses) and super().is_kept(
            *live, dataset=LIVE, rses=("SITE-A",)
        )

    def kept_rules(self) -> frozenset[str]:
        """Give the rules that hold outputs."""
        return super().kept_rules() | self.catalogue.rules(LIVE)

    # What may happen; False: it cannot happen now.

    def step_all(self) -> bool:
        self.step()
        return True

    def operator_only(self) -> bool:
        self.visit()
        return True

    def one_effect(self) -> bool:
        """The operator dies after its next effect."""
        return self._dies_after(object)

    def one_truth(self) -> bool:
        """The operator dies after the next truth that it writes."""
        return self._dies_after((do.CreateRecord, do.Remember))

    def rucio_goes_with_a_truth(self) -> bool:
        """Rucio stops answering in the middle of a visit: when the operator has written its next truth."""
        before = self.catalogue.down
        self._cutting = True
        self.visit()
        self._cutting = False
        return self.catalogue.down and not before

    def _dies_after(self, kinds: type | tuple[type, ...]) -> bool:
        self._deadly = kinds
        self.visit()
        self._deadly = ()
        return True

    def others_only(self) -> bool:
        self.others()
        return True

    def operator_restarts(self) -> bool:
        known = self._reconciler is not None
        self.forget()
        return known

    def pod_starts(self) -> bool:
        possible = self.has_session() and self.cluster.get(_POD) is None
        if possible:
            self.start_pod()
        return possible

    def pod_ends(self) -> bool:
        body = self.cluster.get(_POD)
        runs = body is not None and (body.get("status") or {}).get("phase") != "Succeeded"
        if runs:
            self.end_pod()
        return runs

    def write_file(self) -> bool:
        return self._put("kept/", self.buffer.write)

    def publish_file(self) -> bool:
        return self._put("live/", self.buffer.publish)

    def _put(self, folder: str, put: Callable[[str, str, bytes], None]) -> bool:
        """Write as a session can: with its token, through an open door, until the inventory is made."""
        number = sum(path.startswith(folder) for path in self.written)
        sealed = "sealed" in (self.truth.get("steps") or {})
        if not self.has_token or self.buffer.gate.mode != "open" or number > 1 or sealed:
            return False
        path = f"{folder}{number}"
        put(self.uid, path, path.encode())
        self.written = (*self.written, path)
        return True

    def end_requested(self) -> bool:
        body = self.cluster.get(REQUEST)
        possible = body is not None and not body["spec"].get("endRequested")
        if possible:
            self.patch(REQUEST, endRequested=True)
        return possible

    def deleted(self) -> bool:
        body = self.cluster.get(REQUEST)
        possible = body is not None and "deletionTimestamp" not in body["metadata"]
        if possible:
            self.delete()
        return possible

    def owner_discards(self) -> bool:
        body = self.cluster.get(REQUEST)
        possible = body is not None and not body["spec"].get("teardown", {}).get("discard")
        if possible:
            self.patch(REQUEST, teardown={"discard": {"rse": self.rse, "requestedBy": "alice"}})
        return possible

    def namespace_deleted(self) -> bool:
        body = self.cluster.get(_NAMESPACE)
        possible = body is not None and "deletionTimestamp" not in body["metadata"]
        if body is not None and possible:
            self.cluster.delete(_NAMESPACE, body["metadata"]["uid"])
        return possible

    def foreign_rule(self) -> bool:
        with self.peeking():
            shown = self.catalogue.replicas(self.rse, self.ledger).get(_INPUTS[0]) == "A"
        possible = shown and not self._theirs()
        if possible:
            self.catalogue.add_rule(_INPUTS[0], "bob", [self.rse, "SITE-A"])
        return possible

    def foreign_rule_ends(self) -> bool:
        theirs = self._theirs()
        with self.peeking():
            for rule in theirs:
                self.catalogue.expire_rule(rule)
        return bool(theirs)

    def _theirs(self) -> list[str]:
        catalogue = self.catalogue
        foreign = {id_: rule for id_, rule in catalogue._rules.items() if rule.account == "bob"}
        return [id_ for id_, rule in foreign.items() if not catalogue._has_ended(rule)]

    def input_lost(self) -> bool:
        there = ("SITE-A", _INPUTS[0]) in self.catalogue._replicas
        if there:
            self.catalogue.lose("SITE-A", _INPUTS[0])
        return there

    def input_back(self) -> bool:
        absent = ("SITE-A", _INPUTS[0]) not in self.catalogue._replicas
        if absent:
            self.catalogue.add_files(_DATASETS[0], "SITE-A", [File(_INPUTS[0], 100, "00000000")])
        return absent

    def rucio_down(self) -> bool:
        before, self.catalogue.down = self.catalogue.down, True
        return not before

    def rucio_up(self) -> bool:
        before, self.catalogue.down = self.catalogue.down, False
        return before

    def buffer_down(self) -> bool:
        before, self.buffer.down = self.buffer.down, True
        return not before

    def buffer_up(self) -> bool:
        before, self.buffer.down = self.buffer.down, False
        return before

    def destinations_full(self) -> bool:
        before, self._failing = self._failing, _FOR_EVER
        return before <= 0

    def destinations_take(self) -> bool:
        before, self._failing = self._failing, 0
        return before > 0

    def agent_restarts(self) -> bool:
        self.buffer.restart()
        return True

    def volume_lost(self) -> bool:
        """The bytes go, once; what was nowhere else is lost with them."""
        first = self.buffer.volume.startswith("0")
        if first:
            self.lost |= {path for path in self.written if not self.is_kept(path)}
            self.buffer.lose_volume()
        return first

    def storage_pod_deleted(self) -> bool:
        there = self.cluster.get(Ref("Pod", "bufs", name_of(self.record_id, Piece.POD))) is not None
        if there:
            self.drop(Piece.POD)
            self.buffer.restart()
        return there

    def a_minute(self) -> bool:
        self.clock.turn(_MINUTE)
        return True

    def hours(self) -> bool:
        self.clock.turn(_HOURS)
        return True


ACTIONS: dict[str, Callable[[Restless], bool]] = {
    action.__name__: action
    for action in (
        Restless.step_all, Restless.operator_only, Restless.one_effect, Restless.one_truth, Restless.others_only,
        Restless.operator_restarts, Restless.pod_starts, Restless.pod_ends, Restless.write_file,
        Restless.publish_file, Restless.end_requested, Restless.deleted, Restless.owner_discards,
        Restless.namespace_deleted, Restless.foreign_rule, Restless.foreign_rule_ends, Restless.input_lost,
        Restless.input_back, Restless.rucio_down, Restless.rucio_goes_with_a_truth, Restless.rucio_up,
        Restless.buffer_down, Restless.buffer_up,
        Restless.destinations_full, Restless.destinations_take, Restless.agent_restarts, Restless.volume_lost,
        Restless.storage_pod_deleted, Restless.a_minute, Restless.hours,
    )
}  # fmt: skip
"""All that may happen, by its word."""


def begin() -> Restless:
    """Begin with a request: two inputs, one output kept at the session's end, and one as it is published."""
    small = Restless()
    outputs = [
        {"name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name}
        | {"destination": {"rseExpression": "SITE-B"}},
        {"name": "live", "path": "live/**", "scope": LIVE.scope, "dataset": LIVE.name, "register": "Continuous"}
        | {"destination": {"rseExpression": "SITE-A"}},
    ]
    small.request(
        session={"endGrace": "10s", "ttl": "2h", "startTimeout": "1h"},
        inputs=[{"name": did.name, "did": str(did)} for did in _DATASETS],
        outputs=outputs,
        teardown={"deadline": "1h"},
    )
    return small


def act(small: Restless, *words: str) -> bool:
    """Let things happen one after the other; tell whether the last could."""
    possible = True
    for word in words:
        possible = ACTIONS[word](small)
    return possible


def end(small: Restless, ended: set[bytes] | None = None) -> None:
    """Let all be well again, and the VolatileRSE be deleted: everything must end, with every output kept.

    Parameters
    ----------
    ended
        States that were met on the way to a good end: where one of them is met again, so is its end. It grows.
    """
    for word in ("rucio_up", "buffer_up", "destinations_take", "foreign_rule_ends", "input_back", "deleted"):
        act(small, word)
    passed: list[bytes] = []

    def is_known() -> bool:
        if ended is None:
            return False
        passed.append(digest(small))
        return passed[-1] in ended

    if not _closes(small, is_known):
        assert small.is_kept(*small.owed), f"I1: {small.owed}"
        ends_well(small)
        rests(small)
    if ended is not None:
        ended.update(passed)


def _closes(small: Restless, is_known: Callable[[], bool]) -> bool:
    """See it closed; tell whether that is known before."""

    def is_over() -> bool:
        return (small.is_closed_or_never() and small.is_gone) or is_known()

    try:
        small.until(is_over, _FREEZE)
    except AssertionError:
        # What is lost for good, and was known, is told until somebody gives it up: this, and nothing else.
        told = "last copy" in small.message or "no discard has acknowledged" in small.message
        if not small.lost or not told or small.truth.get("freedAt"):
            raise
        consent = {"rse": small.rse, "requestedBy": "admin"}
        small.patch(Ref("RSERecord", None, record_name(small.record_id)), discard=consent)
        small.until(is_over, _FREEZE)
    return not (small.is_closed_or_never() and small.is_gone)


# Copies.

Snapshot = bytes
_AUTHORITY = LocalAuthority(*CLUSTER_AUTHORITY)


def _remembering(state: dict[str, Any]) -> _Remembering:
    made = _Remembering.__new__(_Remembering)
    made.__dict__.update(state)
    return made


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, LocalAuthority):
            return _authority, ()
        if isinstance(obj, type(Lock())):
            return Lock, ()
        if isinstance(obj, Event):
            return _event, (obj.is_set(),)
        if type(obj) is _Remembering:
            return _remembering, (vars(obj),)
        return NotImplemented


def _event(is_set: bool) -> Event:  # noqa: FBT001 (as it was pickled)
    made = Event()
    if is_set:
        made.set()
    return made


def _authority() -> LocalAuthority:
    return _AUTHORITY


def snapshot(small: Restless) -> Snapshot:
    """Freeze a world, with all that its operator remembers."""
    for journal in (small.cluster.journal, small.cluster.events, small.applied, small.buffer.journal):
        journal.clear()
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(small)
    return zlib.compress(stream.getvalue(), 1)


def copied(frozen: Snapshot) -> Restless:
    """Make a world of its own."""
    small: Restless = pickle.loads(zlib.decompress(frozen))  # noqa: S301 (its own bytes)
    return small


# What tells two states apart.

_SECONDS = (0, 10, 30, 3600, 7200)
"""Ages of a time that differ: the session's and the teardown's limits."""
_VARYING = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)"
    r"|(?P<number>'(?:resourceVersion|generation|nodePort)': '?\d+'?|\bversion=\d+|/[0-9a-f]{2}/[0-9a-f]{2}/)"
    r"|(?P<name>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|rule-\d+-\d+|[0-9a-f]{32,64})"
)


def digest(small: Restless) -> bytes:
    """Tell a state by what may decide: names that are random, numbers that only grow and exact times do not."""
    names: dict[str, str] = {}
    now = small.clock.now()

    def plain(found: re.Match[str]) -> str:
        if found["time"]:
            return _age(datetime.fromisoformat(found["time"]), now)
        if found["name"]:
            return names.setdefault(found["name"], f"name {len(names)}")
        return ""

    text = repr(list(_state(small, now))).replace(small.record_id, "id").replace(small.record_id.upper(), "ID")
    return hashlib.sha256(_VARYING.sub(plain, text).encode()).digest()


def _age(time: datetime, now: datetime) -> str:
    seconds = (now - time).total_seconds()
    return f"age {sum(seconds >= limit for limit in _SECONDS)}"


def _state(small: Restless, now: datetime) -> Iterable[object]:
    for ref, body in sorted(small.cluster._objects.items(), key=lambda item: str(item[0])):
        # The values are random keys, and what is made of the objects that are here.
        without = {"data": sorted(body.get("data", ())), "binaryData": sorted(body.get("binaryData", ()))}
        yield str(ref), body | without if ref.kind in {"Secret", "ConfigMap"} else body
    catalogue, buffer = small.catalogue, small.buffer
    yield catalogue.down, sorted(catalogue._locked), sorted(catalogue._deleted), sorted(catalogue._tombs)
    yield (
        sorted(catalogue._files.values()),
        sorted(catalogue._replicas.items()),
        sorted(catalogue._rses.items(), key=str),
    )
    for did, known in sorted(catalogue._collections.items()):
        yield did, sorted(known.members), known.open, known.expired, known.owner
    for id_, rule in catalogue._rules.items():
        yield id_, rule.did, rule.account, rule.rses, sorted(rule.locks), rule.ends is None, catalogue._has_ended(rule)
    yield buffer.down, buffer.volume[0], buffer._desired, buffer._actual, buffer._seal, sorted(buffer.sites.items())
    yield buffer._inputs, buffer._outputs, buffer._copies, sorted(buffer._published)
    manifest = buffer._manifest
    yield (
        None
        if manifest is None
        else (manifest.inputs, manifest.outputs, manifest.continuous, sorted(manifest.credentials))
    )
    yield small.written, sorted(small.lost), small.given_up, small.has_token, small._failing > 0
    yield from _remembered(small, now)


def _remembered(small: Restless, now: datetime) -> Iterable[object]:
    """Say what the operator works by without asking."""
    reconciler = small._reconciler
    yield reconciler is not None
    if reconciler is None:
        return
    cluster = reconciler._world.cluster
    if isinstance(cluster, CachedCluster):
        for ref, (until, body) in sorted(cluster._remembered.items()):
            yield ref, body == small.cluster.get(ref), now.timestamp() < until
    connections = reconciler._connections
    yield [due <= now for due, _ in connections._asked.values()]
    for _, memory in connections._memories.values():
        if isinstance(memory, _Remembering):
            for method, answers in sorted(memory._answers.items()):
                for asked, answer in sorted(answers.items()):
                    what = sorted(answer.what) if isinstance(answer.what, frozenset) else answer.what
                    yield method, asked.hex(), what, now < answer.until
