"""Two sessions in one world: one meets what is hostile, and the other one must not notice."""

from __future__ import annotations

import copy
import logging
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from tests.unit.fuzz.cheap import LentCluster, RememberingAuthority, digest_of
from tests.unit.reconcile.small_world import CLUSTER_AUTHORITY, given
from volatile_rse.adapters.clock import FakeClock
from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.adapters.fake_cluster import play_controllers
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.api.volatilerseclass import SITE_TOKENS, VolatileRSEClassSpec
from volatile_rse.builders.objects import RECORD, hosts_of, name_of, record_name
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.identity import identify
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.queue import KeyedQueue
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.world import Login, World

__all__ = ["FILES", "Session", "Two", "Wrap"]

FILES = ("kept/a", "kept/b")
_EVENTS = ("VolatileRSE", "RSERecord", "VolatileRSEClass", "RucioConnection", "Pod")
_SWEEP = timedelta(seconds=60)
_SERVICE = "volatile_rse.reconcile.service"

_TOKENS = {f"site-{letter}.example.org": "token" for letter in "ab"}

Wrap = Callable[[Any], Any]
"""Puts something hostile before a port."""


def _same(port: Any) -> Any:
    return port


@dataclass
class Session:
    """One VolatileRSE, its owner, its pod and its storage."""

    name: str
    """Of namespace, class, connection and account."""
    record_id: str = ""
    uid: str = ""
    buffer: FakeBuffer = field(default_factory=FakeBuffer)
    volume: str = ""
    wrote: bool = False
    stays: bool = False
    """Its pod runs on."""
    failing: bool = False
    """Its destination takes nothing."""
    took: int = 0
    """Steps until its record was closed."""

    @property
    def ref(self) -> Ref:
        """Its VolatileRSE."""
        return Ref("VolatileRSE", self.name, "run")

    @property
    def record(self) -> Ref:
        """Its RSERecord."""
        return Ref("RSERecord", None, record_name(self.record_id))

    @property
    def job(self) -> Ref:
        """Its pod."""
        return Ref("Pod", self.name, "job")

    @property
    def dataset(self) -> Did:
        """What its outputs are attached to."""
        return Did(f"user.{self.name}", "out")

    @property
    def rse(self) -> str:
        """Its RSE in Rucio."""
        return f"VRSE-{self.record_id.upper()}"

    def spec(self) -> dict[str, Any]:
        """Give what it asks for."""
        destination = {"rseExpression": "SITE-B"}
        output = {"name": "kept", "path": "kept/**", "scope": f"user.{self.name}", "dataset": "out"}
        return {
            "className": self.name,
            "minimumDurability": "Pod",
            "account": self.name,
            "capacity": "1Gi",
            "session": {"endGrace": "1s"},
            "inputs": [{"name": "in", "did": f"user.{self.name}:in"}],
            "outputs": [output | {"destination": destination}],
        }


class _Faults(logging.Handler):
    """What the operator itself calls a fault of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = (
                "" if place is None else f" at {place.tb_frame.f_code.co_filename.rsplit('/', 2)[-1]}:{place.tb_lineno}"
            )
            self.found.append(f"{record.getMessage()}: {type(error).__name__}: {str(error)[:120]}{where}")


class _OneLane(KeyedQueue):
    """A queue whose keys are never slow: how long a visit takes here tells how busy this machine is."""

    def done(self, key: str, *, slow: bool = False) -> None:
        del slow
        super().done(key)


class Two:
    """One cluster, one Rucio, two buffers, and the operator as it runs: events, queue, sweep."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.catalogue = FakeCatalogue()
        self.catalogue.now = self.clock.now
        self.victim, self.other = Session("alice"), Session("bob")
        self._objects = 0
        self.cluster = LentCluster("ops", "bufs", "alice", "bob", now=self.clock.now, uids=self._uid)
        self.settings = Settings(
            name="test", instance=f"test.{self.cluster.identity()}", namespace="ops", buffers="bufs", buffer_image="b:1"
        )
        self.steps = 0
        self.still = 0
        """Steps for which nothing has changed."""
        self.forged = False
        """Somebody has written what only an operator writes: nobody knows what becomes of the victim."""
        self.faults: list[str] = []
        self.consents: set[str] = set()
        """Sessions whose owners have given up what was not safe."""
        self._seen: dict[Ref, str] = {}
        self._swept: Any = None
        for rse in ("SITE-A", "SITE-B"):
            self.catalogue.add_permanent(rse, f"{rse.lower()}.example.org", {"tier": "2"})
        for session in (self.victim, self.other):
            self._install(session)

    def _uid(self) -> str:
        """Give the next UID: the same ones in each world, for nothing here is left to chance."""
        self._objects += 1
        return f"00000000-0000-4000-8000-{self._objects:012}"

    # The machinery of a case: nothing here may hold a thread or a lock, so that a world can be copied.

    def copied(self) -> Two:
        """Give the same world once more."""
        self.cluster.take_back()
        return copy.deepcopy(self)

    def digest(self) -> bytes:
        """Digest all that may have an influence on what becomes of it."""
        return digest_of(self)

    def done(self) -> int:
        """Count what was ever done to the cluster, the catalogue and the buffers."""
        told = len(self.cluster.events) + len(self.catalogue.journal) + len(self.victim.buffer.journal)
        return told + len(self.cluster.journal)

    def run(self, until: Callable[[Two], object], steps: int, **wraps: Wrap) -> bool:
        """Let everybody work until something is so; False: it did not come about.

        Parameters
        ----------
        wraps
            Port -> what is put before it, for the victim where there is one for each.
        """
        before: Mapping[str, Wrap] = defaultdict(lambda: _same, wraps)
        queue = _OneLane(lambda: self.clock.now().timestamp())

        def connect(login: Login) -> Catalogue:
            wrapped: Catalogue = (before["catalogue"] if "alice" in login.connection.server else _same)(self.catalogue)
            return wrapped

        def reached(address: str, name: str) -> Buffer:
            del name
            session = self._at(address)
            wrapped: Buffer = (before["buffer"] if session is self.victim else _same)(session.buffer)
            return wrapped

        world = World(
            settings=self.settings,
            cluster=before["cluster"](self.cluster),
            authority=before["authority"](RememberingAuthority(CLUSTER_AUTHORITY, self.clock.now)),
            endpoints=before["endpoints"](self._endpoints()),
            clock=self.clock,
            connect=connect,
            buffer=reached,
            hashed_name=lambda _certificate: "0123abcd.0",
        )
        service = Service(world, threads=0)
        service._queue = queue
        self._seen, self._swept, self.still = {}, None, 0
        log, faults = logging.getLogger(_SERVICE), _Faults()
        log.addHandler(faults)
        try:
            for _ in range(steps):
                if until(self):
                    return True
                self._step(service, queue)
            return bool(until(self))
        finally:
            log.removeHandler(faults)
            self.faults += faults.found

    def _step(self, service: Service, queue: KeyedQueue) -> None:
        now, written = self.clock.now(), len(self.cluster.journal)
        if self._swept is None or now >= self._swept + _SWEEP:
            self._swept = now
            service._part("sweep", service.sweep)
        self._tell(service)
        while queue.due():
            key = queue.take()
            assert key is not None
            service._visit(key)
        before = len(self.cluster.journal), len(self.catalogue.journal)
        self._others()
        self.steps += 1
        changed = any(write.changed for write in self.cluster.journal[written:])
        self.still = 0 if changed else self.still + 1
        quiet = before == (len(self.cluster.journal), len(self.catalogue.journal))
        due = min((due for due, _ in queue._waiting.values()), default=now.timestamp() + 1)
        sweep = self._swept + _SWEEP
        idle = min(due - now.timestamp(), (sweep - now).total_seconds())
        self.clock.turn(timedelta(seconds=max(1.0, idle if quiet and idle > 5 else 1.0)))

    def _tell(self, service: Service) -> None:
        """Hand events over, as kopf does: a handler that fails is logged, and that is all."""
        for kind in _EVENTS:
            for body in self.cluster.list(kind):
                ref = Ref(kind, body["metadata"].get("namespace"), body["metadata"]["name"])
                version = body["metadata"]["resourceVersion"]
                if self._seen.get(ref) != version:
                    self._seen[ref] = version
                    try:
                        service.saw(kind, body)
                    except Exception as error:  # noqa: BLE001 (what a fuzz looks for)
                        self.faults.append(f"event of {ref}: {type(error).__name__}: {error}")

    # What goes on by itself.

    def _others(self) -> None:
        play_controllers(self.cluster)
        silent = set()
        for session in (self.victim, self.other):
            self._mount(session)
            self._act(session)
            copies = session.buffer.copies().items
            session.buffer.broken = {copied.pfn: "full" for copied in copies if session.failing}
            session.buffer.advance()
            if not self._answers(session):
                silent.add(session.rse)
            if session.took == 0 and self.is_closed(session):
                session.took = self.steps
        self.catalogue.silent = silent
        self.catalogue.run_daemons()

    def _act(self, session: Session) -> None:
        """Play pod and program of the session, an act a step."""
        equipped = self.cluster.get(Ref("Secret", session.name, "run-vrse")) is not None
        job = self.cluster.get(session.job)
        namespace = self.cluster.get(Ref("Namespace", None, session.name)) or {"metadata": {"deletionTimestamp": ""}}
        if job is None:
            if equipped and not session.wrote and "deletionTimestamp" not in namespace["metadata"]:
                metadata = {"namespace": session.name, "name": "job", "labels": {SESSION_LABEL: "run"}}
                self.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": given("run")})
        elif not session.wrote and self._started(session):
            for path in (*FILES, "other/c"):
                session.buffer.write(session.uid, path, path.encode())
            session.wrote = True
        elif session.wrote and not session.stays and (job.get("status") or {}).get("phase") != "Succeeded":
            self.cluster.finish(session.job)

    def _started(self, session: Session) -> bool:
        truth = self.truth(session).get("session")
        return isinstance(truth, Mapping) and bool(truth.get("startedAt")) and session.buffer.gate.mode == "open"

    def _mount(self, session: Session) -> None:
        claim = self.cluster.get(Ref("PersistentVolumeClaim", "bufs", name_of(session.record_id, Piece.VOLUME)))
        if claim is None or (claim.get("status") or {}).get("phase") != "Bound":
            return
        before, session.volume = session.volume, claim["spec"]["volumeName"]
        if before not in {"", session.volume}:
            session.buffer.lose_volume()

    def _answers(self, session: Session) -> bool:
        """Tell whether somebody stands behind the address of an RSE."""
        service = self.cluster.get(Ref("Service", "bufs", name_of(session.record_id, Piece.SERVICE)))
        if service is None:
            return False
        if "volatilerse.io/drain" not in str(service["spec"].get("selector")):
            return self.cluster.get(Ref("Pod", "bufs", name_of(session.record_id, Piece.POD))) is not None
        return any((body.get("status") or {}).get("readyReplicas") for body in self.cluster.list("Deployment", "bufs"))

    # How it is set up.

    def _install(self, session: Session) -> None:
        name = session.name
        files = [File(Did(f"user.{name}", f"in.{number}"), 100 + number, f"{number:08}") for number in range(2)]
        self.catalogue.add_files(Did(f"user.{name}", "in"), "SITE-A", files)
        self._add_secret(f"login-{name}", "Opaque", self._login_of(session))
        self._add_secret(f"tokens-{name}", SITE_TOKENS, _TOKENS)
        class_ = VolatileRSEClassSpec.example() | {
            "connectionName": name,
            "exposure": {"publicHost": f"{name}.example.org"},
            "siteCredentials": {"secretName": f"tokens-{name}"},
            "tenancy": {"grants": [{"namespaces": [name], "accounts": [name], "scopes": [f"user.{name}"]}]},
        }
        connection = {
            "server": f"https://{name}.rucio.example.org",
            "account": "ops",
            "userpass": {"secretName": f"login-{name}"},
            "ledgerScope": "vrse",
        }
        for kind, spec in (("VolatileRSEClass", class_), ("RucioConnection", connection)):
            body = {"apiVersion": "volatilerse.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
            self.cluster.create(body)
        metadata = {"namespace": name, "name": "run"}
        body = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "metadata": metadata}
        self.cluster.create(body | {"spec": session.spec()})
        session.uid = (self.cluster.get(session.ref) or {})["metadata"]["uid"]
        session.record_id = identify(self.settings.instance, session.uid).record_id

    def add_named(self, session: Session, name: str) -> None:
        """Make what a buffer asks for by this name, whatever it is for."""
        if self.cluster.get(Ref("Secret", "ops", name)) is None:
            self._add_secret(name, SITE_TOKENS, {**self._login_of(session), **_TOKENS})
            metadata = {"namespace": "ops", "name": name}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": "authority"}}
            self.cluster.create(body)

    def _login_of(self, session: Session) -> dict[str, str]:
        server = f"https://{session.name}.rucio.example.org"
        return {"username": session.name, "password": "secret", "server": server}

    def _add_secret(self, name: str, type_: str, texts: Mapping[str, str]) -> None:
        metadata = {"namespace": "ops", "name": name}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "stringData": dict(texts)}
        self.cluster.create(body)

    def _endpoints(self) -> Endpoints:
        hosts = {}
        for session in (self.victim, self.other):
            hosts[hosts_of(self.settings, name_of(session.record_id, Piece.SERVICE))[0]] = session.buffer
            hosts[f"{session.name}.example.org"] = session.buffer
        return FakeEndpoints(hosts)

    def _at(self, address: str) -> Session:
        for session in (self.victim, self.other):
            pod = self.cluster.get(Ref("Pod", "bufs", name_of(session.record_id, Piece.POD))) or {}
            if (pod.get("status") or {}).get("podIP") == address:
                return session
        return self.victim

    # What is seen.

    def truth(self, session: Session) -> Mapping[str, Any]:
        """Give the status of its record."""
        return (self.cluster.get(session.record) or {}).get("status") or {}

    def is_closed(self, session: Session) -> bool:
        """Tell whether nothing of it is left."""
        body = self.cluster.get(session.record)
        return body is not None and bool(self.truth(session).get("closedAt"))

    def is_gone(self, session: Session) -> bool:
        """Tell whether its VolatileRSE is gone."""
        return self.cluster.get(session.ref) is None

    def is_kept(self, session: Session) -> bool:
        """Tell whether its outputs are at their destination, under a rule, with the bytes that were written."""
        if not session.wrote:
            return True
        catalogue = self.catalogue
        files = [file for file in catalogue.content(session.dataset) if file.did.scope == f"user.{session.name}"]
        sums = {f"{zlib.adler32(path.encode()):08x}" for path in FILES}
        there = {adler32 for _, adler32 in session.buffer.sites.values()}
        held = catalogue.locked_by(session.dataset, session.name, ["SITE-B"])
        safe = not catalogue.unsafe(files, ["SITE-B"])
        return sums <= {file.adler32 for file in files} and sums <= there and held is not None and safe

    def consent(self, session: Session) -> None:
        """Give up what is not safe: its owner, or an admin where there is no VolatileRSE any more."""
        discard = {"rse": session.rse, "requestedBy": session.name}
        self.consents.add(session.name)
        if self.cluster.get(session.ref) is not None:
            self.cluster.merge(session.ref, {"spec": {"teardown": {"discard": discard}}})
        elif self.cluster.get(session.record) is not None:
            self.cluster.merge(session.record, {"spec": {"discard": discard}})

    def delete(self, ref: Ref) -> None:
        """Delete an object as its owner does."""
        if (body := self.cluster.get(ref)) is not None:
            self.cluster.delete(ref, body["metadata"]["uid"])

    def leftovers(self, session: Session) -> list[str]:
        """Name what is left of a buffer."""
        kinds = ("Pod", "Secret", "ConfigMap", "Service", "PersistentVolumeClaim")
        found = [body for kind in kinds for body in self.cluster.list(kind, "bufs", {RECORD: session.record_id})]
        left = [f"{body['kind']} {body['metadata']['name']}" for body in found]
        left += [f"PersistentVolume {session.volume}"] if self._has_volume(session) else []
        left += [session.rse] if self.catalogue.has_rse(session.rse) else []
        return left

    def _has_volume(self, session: Session) -> bool:
        return bool(session.volume) and self.cluster.get(Ref("PersistentVolume", None, session.volume)) is not None
