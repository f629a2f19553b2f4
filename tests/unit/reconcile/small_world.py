"""A small world of fakes that keep the real services' promises, and the ways in which a session may go."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.clock import FakeClock
from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.adapters.fake_cluster import FakeCluster, play_controllers
from volatile_rse.api.conditions import Reason
from volatile_rse.api.injection import TENANT
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.api.volatilerseclass import SITE_TOKENS, VolatileRSEClassSpec
from volatile_rse.builders.injection import inject
from volatile_rse.builders.objects import (
    KINDS,
    agent_host,
    discarded_name,
    hosts_of,
    name_of,
    record_name,
    session_name,
)
from volatile_rse.builders.session import store_path
from volatile_rse.builders.storage import read_discarded
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.discard import dids_of
from volatile_rse.domain.facts import Facts, Lost, Piece
from volatile_rse.domain.identity import identify
from volatile_rse.domain.settings import Settings
from volatile_rse.domain.stage import Stage
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.ports.telemetry import Silence, Telemetry
from volatile_rse.reconcile import faults
from volatile_rse.reconcile.adoption import Adoption, adopt
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.reading import read_service
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.scopes import lasts, scopes
from volatile_rse.reconcile.world import Login, World

CLUSTER_AUTHORITY = LocalAuthority.create()
REQUEST = Ref("VolatileRSE", "alice", "run")
OUT = Did("user.alice", "out")
LOGIN = {"username": "ops", "password": "secret", "server": "https://rucio.example.org"}
Apply = Callable[[World, Connections, Facts, do.Effect], None]


def given(name: str) -> dict[str, Any]:
    """Give a pod its session's Secret, as injection does for a pod that does not wait."""
    secret = {"secretName": session_name(name), "optional": True}
    return {"volumes": [{"name": "volatilerse-token", "secret": secret}]}


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class _Judged(BaseException):
    """A test has found something wrong: the operator, which survives every fault, must not catch this."""


class _Faults(logging.Handler):
    """Hears of what the operator survives, and should not have had to."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None and record.exc_info[1] is not None:
            self.heard.append(record.exc_info[1])


_FAULTS = _Faults()
logging.getLogger(faults.__name__).addHandler(_FAULTS)


@dataclass
class Small:
    """One cluster, one catalogue, one buffer, and time."""

    inputs: int = 2
    applied: list[do.Effect] = field(default_factory=list)
    telemetry: Telemetry = field(default_factory=Silence)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.catalogue = FakeCatalogue()
        self.catalogue.now = self.clock.now
        self.buffer = FakeBuffer()
        self._fill_catalogue()
        self._install()
        self.apply: Apply = execute
        self.logins: list[Login] = []
        """What was sent to which server."""
        self.shown: list[tuple[str, str]] = []
        """URLs of sites that the operator has asked itself, and the token that it has shown."""
        self.written: tuple[str, ...] = ()
        self.given_up: tuple[str, ...] = ()
        """What of it somebody consented to lose; it counts once the record says so."""
        self.unreadable: dict[str, str] = {}
        """Path of an input on the buffer -> why it cannot be staged."""
        self.consents: set[str] = set()
        """RSEs of which an owner has given up what is not safe."""
        self.destinations: tuple[str, ...] = ("SITE-B",)
        self.volume = ""
        """PersistentVolume that its bytes are on."""
        self.may_go = False
        """The VolatileRSE may go before its outputs are safe: its deadline is over, or its namespace goes."""
        self.hears_every = 1
        """Visits from one word of the watches to the next: more than one where they are late."""
        self._visits = 0
        self.sweep_every = 1
        """Steps from one visit to the next: more than one where every event is lost."""
        self.at_each_stage: Callable[[Small], None] | None = None
        """What goes wrong whenever the record reaches a stage."""
        self._stages: set[object] = set()
        self._steps = 0
        self._outage = 0
        self._failing = 0
        self._reconciler: Reconciler | None = None
        self.foul = False
        """Something answers what cannot be: the operator survives faults, which are those of the test otherwise."""

    # What people do.

    def _fill_catalogue(self) -> None:
        for rse in ("SITE-A", "SITE-B"):
            self.catalogue.add_permanent(rse, f"{rse.lower()}.example.org", {"tier": "2"})
        files = [File(Did("user.alice", f"in.{number}"), 100 + number, f"{number:08}") for number in range(self.inputs)]
        self.catalogue.add_files(Did("user.alice", "in"), "SITE-A", files)

    def _install(self) -> None:
        self.cluster = FakeCluster("ops", "bufs", "alice", now=self.clock.now)
        self.settings = Settings(
            name="test", instance=f"test.{self.cluster.identity()}", namespace="ops", buffers="bufs", buffer_image="b:1"
        )
        self.cluster.merge(Ref("Namespace", None, "bufs"), {"metadata": {"labels": {TENANT: "true"}}})
        self.cluster.mutate = _injected
        tokens = {f"site-{letter}.example.org": "token" for letter in "ab"}
        made: list[tuple[str, str, dict[str, Any]]] = [
            ("Secret", "login", {"stringData": LOGIN}),
            ("Secret", "site-tokens", {"type": SITE_TOKENS, "stringData": tokens}),
        ]
        for kind, name, content in made:
            metadata = {"namespace": "ops", "name": name}
            self.cluster.create({"apiVersion": "v1", "kind": kind, "metadata": metadata, **content})
        class_ = VolatileRSEClassSpec.example() | {"storage": {"volume": {}}}
        connection = {
            "server": "https://rucio.example.org",
            "account": "ops",
            "userpass": {"secretName": "login"},
            "ledgerScope": "vrse",
        }
        for kind, name, spec in (("VolatileRSEClass", "standard", class_), ("RucioConnection", "rucio", connection)):
            body = {"apiVersion": "volatilerse.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            self.cluster.create(body)

    def use_memory(self) -> None:
        self.cluster.merge(
            Ref("VolatileRSEClass", None, "standard"), {"spec": {"storage": {"volume": None, "memory": {}}}}
        )

    def request(self, **spec: object) -> None:
        output = {
            "name": "kept",
            "path": "kept/**",
            "scope": OUT.scope,
            "dataset": OUT.name,
            "destination": {"rseExpression": "SITE-B"},
        }
        whole = {
            "className": "standard",
            "minimumDurability": "Pod",
            "account": "alice",
            "capacity": "1Gi",
            "session": {"endGrace": "1s"},
            "inputs": [{"name": "in", "did": "user.alice:in"}] if self.inputs else [],
            "outputs": [output],
            **spec,
        }
        metadata = {"namespace": REQUEST.namespace, "name": REQUEST.name}
        body = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "metadata": metadata, "spec": whole}
        self.cluster.create(body)
        uid = self.cluster.get(REQUEST)["metadata"]["uid"]  # type: ignore[index]
        self.uid = uid
        self.record_id = identify(self.settings.instance, uid).record_id

    def start_pod(self) -> None:
        metadata = {"namespace": "alice", "name": "job", "labels": {SESSION_LABEL: REQUEST.name}}
        spec = {"restartPolicy": "Never", "containers": [{"name": "analysis"}], **given(REQUEST.name)}
        self.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def begin(self) -> None:
        """Have a session whose pod runs, and has been seen once."""
        self.request()
        self.until(self.has_session)
        self.start_pod()
        self.step()

    def end_pod(self) -> None:
        self.cluster.finish(Ref("Pod", "alice", "job"))

    def delete(self) -> None:
        body = self.cluster.get(REQUEST)
        if body is not None:
            self.cluster.delete(REQUEST, body["metadata"]["uid"])

    def patch(self, ref: Ref, **spec: object) -> None:
        """Change a spec as a person does."""
        self.cluster.merge(ref, {"spec": spec})
        teardown = spec.get("teardown")
        if ref == REQUEST and isinstance(teardown, dict) and "discard" in teardown:
            self.consents.add(teardown["discard"]["rse"])

    def write(self, *paths: str) -> None:
        for path in paths:
            self.buffer.write(self.uid, path, path.encode())
        self.written = tuple(path for path in paths if path.startswith("kept/"))

    def fail_copies(self, steps: int) -> None:
        """Let the destination take nothing for some steps."""
        self._failing = steps

    def cut_rucio(self, steps: int) -> None:
        """Let Rucio answer nobody for some steps."""
        self.catalogue.down, self._outage = True, steps

    def renew(self) -> None:
        """Give the next session a storage pod of its own."""
        sites, self.buffer, self.volume = self.buffer.sites, FakeBuffer(), ""
        self.buffer.sites.update(sites)
        self._reconciler = None
        self._stages = set()

    def lose_cluster(self) -> str:
        """Begin anew in another cluster; give the instance that is lost with the old one."""
        lost = self.settings.instance
        sites, self.buffer, self.volume = self.buffer.sites, FakeBuffer(), ""
        self.buffer.sites.update(sites)
        self._install()
        self._reconciler = None
        return lost

    def adopt(self, instance: str) -> None:
        """Take over the RSE, as an admin does by hand."""
        adopt(self.world(), Connections(self.world()), Adoption(self.rse, instance, "standard"))

    def drop(self, *pieces: Piece) -> None:
        """Delete objects of the buffer by hand, and wait until its pod has ended."""
        for piece in pieces:
            ref = Ref(KINDS[piece], "bufs", name_of(self.record_id, piece))
            self.cluster.delete(ref, (self.cluster.get(ref) or {})["metadata"]["uid"])
        self.cluster.end_pods()

    def forget(self) -> None:
        """Let another process of the operator take over."""
        self._reconciler = None

    # What goes on by itself.

    def step(self) -> None:
        """Let the operator look once, and everybody else do their work."""
        if self._steps % self.sweep_every == 0:
            self.visit()
        self._steps += 1
        stage = self.truth.get("phase")
        if self.at_each_stage is not None and stage is not None and stage not in self._stages:
            self._stages.add(stage)
            self.at_each_stage(self)
        self._outage -= 1
        if self._outage == 0:
            self.catalogue.down = False
        self.others()

    def others(self) -> None:
        """Let everybody but the operator do their work."""
        play_controllers(self.cluster)
        self._mount()
        self._failing -= 1
        copies = self.buffer.copies().items if not self.buffer.down else []
        self.buffer.broken = {copy.pfn: "full" for copy in copies if self._failing > 0} | self.unreadable
        self.buffer.advance()
        self.catalogue.silent = set() if self.answers() else {self.rse}
        self.catalogue.run_daemons()
        self.clock.turn(timedelta(seconds=1))

    def _mount(self) -> None:
        """Have the bytes where the claim's volume is."""
        claim = self.cluster.get(Ref("PersistentVolumeClaim", "bufs", name_of(self.record_id, Piece.VOLUME)))
        if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
            return
        before, self.volume = self.volume, claim["spec"]["volumeName"]
        if before not in {"", self.volume}:
            self.buffer.lose_volume()

    def visit(self) -> None:
        """Let the operator look once."""
        if self._reconciler is None:
            self._reconciler = Reconciler(self.world(), self._counting)
        _FAULTS.heard.clear()
        self._visits += 1
        if self._visits % self.hears_every == 0 or self.hears_every == 1:
            self._follow(self._reconciler)
        try:
            self._reconciler.visit(self.record_id, (REQUEST.namespace or "", REQUEST.name))
        except Killed:
            # Another process takes over; it knows what the world knows.
            self._reconciler = None
        except _Judged as judged:
            raise judged.args[0] from None
        if _FAULTS.heard and not self.foul:
            raise _FAULTS.heard[0]

    def _follow(self, reconciler: Reconciler) -> None:
        """Let watches bring what has happened until now, unless nobody answers."""
        for reflector in getattr(reconciler._world.cluster, "reflectors", ()):
            with suppress(UnreachableError):
                reflector.follow()

    def until(self, seen: Callable[[], object], steps: int = 60) -> None:
        for _ in range(steps):
            if seen():
                return
            self.step()
        message = f"not within {steps} steps; the record says {self.message!r}"
        raise AssertionError(message)

    def _counting(self, world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        try:
            self.apply(world, connections, facts, effect)
        except AssertionError as wrong:
            raise _Judged(wrong) from wrong
        self.applied.append(effect)

    def world(self) -> World:
        inside = hosts_of(self.settings, name_of(self.record_id, Piece.SERVICE))[0]
        self.buffer.now = self.clock.now
        cluster = CachedCluster(self.cluster, scopes(self.settings), partial(lasts, self.settings), self._seconds)
        return World(
            settings=self.settings,
            cluster=cluster,
            fresh=cluster.live,
            authority=LocalAuthority(*CLUSTER_AUTHORITY, self.clock.now),
            endpoints=FakeEndpoints({inside: self.buffer, "buffers.example.org": self.buffer}, self.shown),
            clock=self.clock,
            connect=self._connect,
            buffer=self._agent_at,
            hashed_name=_hashed_name,
            telemetry=self.telemetry,
        )

    # Methods and no closures: a copy of the world has its own.

    def _seconds(self) -> float:
        return self.clock.now().timestamp()

    def _connect(self, login: Login) -> Catalogue:
        self.logins.append(login)
        return self.catalogue

    def _agent_at(self, address: str, name: str) -> Buffer:
        pod = self.cluster.get(Ref("Pod", "bufs", name_of(self.record_id, Piece.POD))) or {}
        now = (pod.get("status") or {}).get("podIP")
        if self.hears_every > 1 and address != now:
            # The operator does not know yet that this pod is gone.
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, f"Nobody answers at {address}")
        assert (address, name) == (now, agent_host(self.record_id))
        return self.buffer

    # What is seen.

    @property
    def record(self) -> dict[str, Any]:
        return dict(self.cluster.get(Ref("RSERecord", None, record_name(self.record_id))) or {})

    @property
    def truth(self) -> dict[str, Any]:
        return dict(self.record.get("status") or {})

    @property
    def message(self) -> str:
        return str(self.truth.get("message"))

    def is_closed(self) -> bool:
        return self.truth.get("phase") == Stage.CLOSED.value

    def is_closed_or_never(self) -> bool:
        """Tell whether it is closed, or was deleted before there was a record."""
        gone = self.cluster.get(REQUEST) is None
        return self.is_closed() or (gone and not self.record)

    @property
    def ledger(self) -> Did:
        return Did("vrse", f"vrse-{self.record_id}.ledger")

    @property
    def owed(self) -> tuple[str, ...]:
        """What has to be kept."""
        gone = self.given_up if self.truth.get("discarded") else ()
        return tuple(path for path in self.written if path not in gone)

    def owed_here(self, dids: Iterable[Did]) -> list[Did]:
        """Give those whose bytes are on the buffer, and that nobody has consented to lose."""
        down, self.buffer.down = self.buffer.down, False
        states = self.buffer.outputs().items
        self.buffer.down = down
        given_up = {(state.scope, state.name) for state in states if state.path in self.given_up}
        here = [did for did in dids if self.buffer.holds(store_path(did))]
        return [did for did in here if (did.scope, did.name) not in given_up]

    @property
    def discarded(self) -> frozenset[Did]:
        """What the stored list names."""
        return dids_of(self.written_off)

    @property
    def written_off(self) -> tuple[Lost, ...]:
        """What the stored list says was given up."""
        body = self._config_map(discarded_name(self.record_id))
        return () if body is None else read_discarded(body, self._config_map)

    def _config_map(self, name: str) -> Mapping[str, Any] | None:
        return self.cluster.get(Ref("ConfigMap", "bufs", name))

    def kept_rules(self) -> frozenset[str]:
        """Give the rules that hold outputs."""
        return self.catalogue.rules(OUT)

    def kept_volumes(self) -> int:
        """Count the volumes that outlive their claims."""
        volumes = self.cluster.list("PersistentVolume")
        return sum(body["spec"]["persistentVolumeReclaimPolicy"] == "Retain" for body in volumes)

    def is_drained(self) -> bool:
        """Tell whether the empty server stands behind the address, or nothing does any more."""
        service = self.cluster.get(Ref("Service", "bufs", name_of(self.record_id, Piece.SERVICE)))
        return service is None or read_service(service).drained

    def answers(self) -> bool:
        """Tell whether somebody stands behind the address of the RSE."""
        service = self.cluster.get(Ref("Service", "bufs", name_of(self.record_id, Piece.SERVICE)))
        public = self.record.get("spec", {}).get("public") or {}
        if service is None or read_service(service).davs_port != public.get("davsPort"):
            return False
        if not read_service(service).drained:
            return self.cluster.get(Ref("Pod", "bufs", name_of(self.record_id, Piece.POD))) is not None
        return any((body.get("status") or {}).get("readyReplicas") for body in self.cluster.list("Deployment", "bufs"))

    @property
    def is_gone(self) -> bool:
        """Whether the VolatileRSE is."""
        return self.cluster.get(REQUEST) is None

    def moment(self, truth: str) -> datetime:
        """Give the time of a truth of the record, also of one of its session: ``session.endedAt``."""
        part, _, name = truth.rpartition(".")
        return datetime.fromisoformat((self.truth[part] if part else self.truth)[name])

    def has_session(self) -> bool:
        return self.cluster.get(Ref("Secret", "alice", session_name(REQUEST.name))) is not None

    def condition(self, type_: str) -> dict[str, Any]:
        conditions = ((self.cluster.get(REQUEST) or {}).get("status") or {}).get("conditions") or []
        return next((entry for entry in conditions if entry["type"] == type_), {})

    @property
    def rse(self) -> str:
        return f"VRSE-{self.record_id.upper()}"

    @contextmanager
    def peeking(self) -> Iterator[None]:
        """Look into Rucio also while it answers nobody."""
        down, self.catalogue.down = self.catalogue.down, False
        try:
            yield
        finally:
            self.catalogue.down = down

    def publish_and_keep(self, path: str, **spec: object) -> None:
        """Have a running session whose published file is at its destination."""
        kept = {"name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name, "register": "Continuous"}
        self.request(outputs=[kept | {"destination": {"rseExpression": "SITE-B"}}], **spec)
        self.until(self.has_session)
        self.start_pod()
        self.until(lambda: self.truth["session"].get("startedAt"))
        self.buffer.publish(self.uid, path, path.encode())
        self.written = (path,)
        self.until(lambda: self.is_kept(path))

    def is_kept(self, *paths: str, dataset: Did = OUT, rses: tuple[str, ...] = ()) -> bool:
        """Tell whether Rucio says that these outputs are at their destination, in the dataset, under a rule."""
        if not paths:
            return True
        rses = rses or self.destinations
        with self.peeking():
            if not self.catalogue.registered(dataset):
                return False
            files = self.catalogue.resolve(dataset)
            held = self.catalogue.locked_by(dataset, "alice", list(rses))
            arrived = all(self._has_arrived(path, {file.adler32 for file in files}) for path in paths)
            return len(files) >= len(paths) and not self.catalogue.unsafe(files, rses) and held is not None and arrived

    def _has_arrived(self, path: str, declared: Collection[str]) -> bool:
        """Tell whether the destination's disk and the dataset hold the bytes that were written."""
        sums = {adler32 for _, adler32 in self.buffer.sites.values()}
        return f"{zlib.adler32(path.encode()):08x}" in sums.intersection(declared)

    def leftovers(self) -> list[str]:
        kinds = ("Pod", "Secret", "ConfigMap", "Service", "PersistentVolumeClaim")
        bodies = [body for kind in kinds for body in self.cluster.list(kind, "bufs")]
        ours = [body for body in bodies if "volatilerse.io/record" in body["metadata"].get("labels", {})]
        return [f"{body['kind']} {body['metadata']['name']}" for body in ours]


def _injected(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give a pod what it gets by its label, as the API server does."""
    return inject(body, "sidecar:1") if body["kind"] == "Pod" else body


def _hashed_name(_certificate: str) -> str:
    return "0123abcd.0"
