"""A small world in which everybody reacts to what they find: the session, its owner, admins, the machine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from tests.unit.reconcile.scenarios import FILES
from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import name_of, record_name
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Piece
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.holding import release_unused
from volatile_rse.reconcile.reading import read_service, uid_of
from volatile_rse.reconcile.world import World

_PATIENCE = 15
"""Steps until a person has noticed that something is missing which nobody else can bring back."""
_SOON = 13
"""Steps within which it is told in the record: what is over in a moment is not worth a write."""
_JOB = Ref("Pod", "alice", "job")
_SETTINGS = Ref("ConfigMap", "alice", "run-vrse")
_PUBLIC = "buffers.example.org"
_ALICE = Ref("Namespace", None, "alice")
_INPUT = Did("user.alice", "in.0")
_BY_PEOPLE = {"Secret": "ops", "VolatileRSEClass": None, "RucioConnection": None}
"""What people have made, and would make again."""

_SESSION = {"startTimeout": "60s", "endGrace": "1s"}

_OUTPUT = {
    "name": "kept",
    "path": "kept/**",
    "scope": OUT.scope,
    "dataset": OUT.name,
    "destination": {"rseExpression": "SITE-B"},
}

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """How a session goes if nobody deletes anything."""

    name: str
    rests: str
    """Stage in which it goes unlike other ways."""
    memory: bool = False
    """Its bytes go with the storage pod."""
    failing: int = 0
    """Steps in which its outputs cannot be copied."""
    held: int = 0
    """Steps for which somebody's rule keeps the buffer in Hiding."""
    discards: bool = False
    """Its owner gives up what cannot be copied."""
    publishes: bool = False
    """It has kept at once what it writes."""
    silent: bool = False
    """Its agent stops answering for good, once Rucio knows what was written."""


class _InPod(FakeBuffer):
    """An agent that works only while its pod runs."""

    runs = False

    def advance(self) -> None:
        if self.runs:
            super().advance()


class _Doors(FakeEndpoints):
    """Doors that open where a Service leads to the pod, to tokens whose key the server was given."""

    def __init__(self, living: Living, buffers: Mapping[str, FakeBuffer]) -> None:
        super().__init__(buffers)
        self._living = living

    def is_refused(self, host: str, port: int, path: str, token: str) -> bool:
        if not self._living.is_served(host, port):
            raise _nobody(host)
        return super().is_refused(host, port, path, token) or not self._living.takes(token)

    def can_write(self, host: str, port: int, path: str, token: str) -> bool:
        if not self._living.is_served(host, port):
            raise _nobody(host)
        return super().can_write(host, port, path, token) and self._living.takes(token)


def _nobody(host: str) -> UnreachableError:
    return UnreachableError(Reason.BUFFER_UNREACHABLE, f"Nobody answers at {host}")


class Living(Small):
    """A session that goes its way, whatever happens to the objects around it."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way
        self.buffer = _InPod()
        self.lost: tuple[str, ...] = ()
        """What the session had written on bytes that are gone."""
        self.said: set[str] = set()
        """Whatever was told, in the record or in a condition."""
        self.stages: list[str] = []
        self._pod = ""
        self._mounts = ""
        """Texts that the storage pod mounts."""
        self._made = self._by_people()
        self._missed: dict[Ref, int] = {}
        self.at_moment: Callable[[], object] = lambda: None
        """Called before each effect and before each step."""
        self.deaf = 0
        """Steps for which no event reaches the operator."""
        self.cutting = 0
        """Steps for which Rucio will answer nobody, from the next step on."""
        self._session = self._session_of()
        self.may_go = way.silent
        self._untold: dict[str, tuple[str, int]] = {}
        """What people miss -> the stage, and for how many steps of it they have."""
        self._rule = ""
        self._waited = 0
        if way.memory:
            self.use_memory()
        register = {"register": "Continuous"} if way.publishes else {}
        teardown = {"deadline": "5s"} if way.silent else {}
        self.request(session=_SESSION, outputs=[_OUTPUT | register], teardown=teardown)

    # The machine.

    def world(self) -> World:
        world = super().world()
        buffer = world.buffer

        def reached(address: str, name: str) -> Buffer:
            if not self._runs():
                raise _nobody(address)
            return buffer(address, name)

        inside = f"{name_of(self.record_id, Piece.SERVICE)}.bufs.svc"
        doors = _Doors(self, {inside: self.buffer, _PUBLIC: self.buffer})
        return replace(world, buffer=reached, endpoints=doors)

    def _runs(self) -> bool:
        """Tell whether the storage pod that the agent knows runs."""
        pod = self.cluster.get(Ref("Pod", "bufs", name_of(self.record_id, Piece.POD)))
        return pod is not None and uid_of(pod) == self._pod

    def is_served(self, host: str = "", port: int = 0) -> bool:
        """Tell whether the Service leads to the storage pod, from outside by this port."""
        service = self.cluster.get(Ref("Service", "bufs", name_of(self.record_id, Piece.SERVICE)))
        if service is None or read_service(service).drained:
            return False
        ports = {read_service(service).davs_port, read_service(service).root_port}
        return self._runs() and (host != _PUBLIC or port in ports)

    def takes(self, token: str) -> bool:
        """Tell whether XRootD knows the key of a token."""
        head = token.partition(".")[0]
        kid = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
        return str(kid) in self._mounts

    def _kubelet(self) -> None:
        """Start the agent in a new pod, and bring to it what its Secrets and ConfigMaps say now."""
        pod = self.cluster.get(Ref("Pod", "bufs", name_of(self.record_id, Piece.POD)))
        started = pod is not None and (pod.get("status") or {}).get("phase") == "Running"
        if pod is not None and started and uid_of(pod) != self._pod:
            self._pod = uid_of(pod)
            self.buffer.restart()
            if self.way.memory and self._mounts:
                self.buffer.lose_volume()
                self._lose()
        self.buffer.runs = self._runs()  # type: ignore[attr-defined]
        if pod is not None and self.buffer.runs:  # type: ignore[attr-defined]
            self._mounts = "".join(self._texts(pod)) or self._mounts

    def _texts(self, pod: Object) -> Iterator[str]:
        for volume in pod["spec"].get("volumes", ()):
            secret, config = volume.get("secret") or {}, volume.get("configMap") or {}
            if secret and (body := self.cluster.get(Ref("Secret", "bufs", secret["secretName"]))):
                data = body.get("data") or {}
                named = [item["key"] for item in secret.get("items", ())] or list(data)
                yield from (base64.b64decode(data[key]).decode() for key in named if key in data)
            if config and (body := self.cluster.get(Ref("ConfigMap", "bufs", config["name"]))):
                yield from (body.get("data") or {}).values()

    def _lose(self) -> None:
        if self.written and not self.is_kept(*self.written):
            self.lost, self.written = self.written, ()

    # People.

    def visit(self) -> None:
        self.deaf -= 1
        if self.deaf < 0:
            super().visit()

    def step(self) -> None:
        before = self.volume
        self.at_moment()
        if self.cutting:
            self.cut_rucio(self.cutting)
            self.cutting = 0
        super().step()
        if self.way.discards and self.given_up and self.truth.get("phase") == "Keeping":
            # Nothing but time is waited for: a last try comes before a discard.
            self.clock.turn(timedelta(seconds=4))
        self._hear()
        if before not in {"", self.volume}:
            self._lose()
        self._kubelet()
        release_unused(self.cluster, self.cluster.list("RSERecord"))
        next(self._session, None)
        self._hold()
        self._give_up()
        self._bring_back()
        self._listen()

    def _session_of(self) -> Iterator[None]:
        """Play the session, one act a step: it writes once it can, and ends; what is over is nobody's any more."""
        while not self._is_equipped():
            if self.is_over_for_owner():
                return
            self._wait()
            yield
        if self.cluster.get(_ALICE) is None or "deletionTimestamp" in (self.cluster.get(_ALICE) or {})["metadata"]:
            return
        self.start_pod()
        yield
        while not (self.is_served() and self.truth["session"].get("startedAt")):
            if self.cluster.get(_JOB) is None:
                return
            yield
        try:
            self._put()
        except PermissionError:
            return
        yield
        # Whatever of it starts anew, as a notebook's kernel does, mounts them again.
        while not self._is_equipped():
            if self.is_over_for_owner():
                return
            self._wait()
            yield
        self.fail_copies(self.way.failing)
        if self.cluster.get(_JOB) is not None:
            self.end_pod()

    def _wait(self) -> None:
        """Have something told of the session, as the kubelet does of a pod that cannot mount what it needs."""
        if self.cluster.get(REQUEST) is not None and self.truth.get("session", {}).get("readyAt"):
            self.cluster.merge(REQUEST, {"metadata": {"annotations": {"waits": str(self.clock.now())}}})

    def _is_equipped(self) -> bool:
        return self.has_session() and self.cluster.get(_SETTINGS) is not None

    def _put(self) -> None:
        self.write(*FILES, "other/c")
        if self.way.publishes:
            self.buffer.publish(self.uid, FILES[0], FILES[0].encode())

    def _hold(self) -> None:
        """Keep the buffer for a while by a rule that also locks the input elsewhere."""
        if not self.way.held:
            return
        if not self._rule and self.has_session():
            self._rule = self.catalogue.add_rule(_INPUT, "bob", [self.rse, "SITE-A"])
        if self._rule and self.truth.get("phase") == "Hiding":
            self._waited += 1
        if self._rule and self._waited == self.way.held:
            with self.peeking():
                self.catalogue.expire_rule(self._rule)

    def _give_up(self) -> None:
        """Consent to what is lost, once it was told; or give up what cannot be copied."""
        told = "holds the last copy" in self.message or "no discard has acknowledged" in self.message
        if self.lost and not self.given_up and told:
            self.given_up = self.lost
            self._consent()
        if self.way.discards and self.written and not self.given_up and self.truth.get("phase") == "Keeping":
            with self.peeking():
                known = [did for did in self.catalogue.registered(self.ledger) if did.name.startswith("out.")]
            if len(known) < len(self.written):
                return
            self.buffer.down = self.way.silent
            self.given_up = self.written
            self._consent()
        if self.given_up and not self.truth.get("discarded") and self.cluster.get(REQUEST) is None:
            # What its owner said went with it.
            self._consent()

    def _consent(self) -> None:
        """Say it as its owner, or as an admin where there is no VolatileRSE any more."""
        discard = {"rse": self.rse, "requestedBy": "somebody"}
        if self.cluster.get(REQUEST) is not None:
            self.patch(REQUEST, teardown={"discard": discard})
        elif self.record and "discard" not in self.record["spec"]:
            self.patch(Ref("RSERecord", None, record_name(self.record_id)), discard=discard)

    def _by_people(self) -> dict[Ref, Object]:
        return {
            Ref(kind, namespace, body["metadata"]["name"]): body
            for kind, namespace in _BY_PEOPLE.items()
            for body in self.cluster.list(kind, namespace)
        }

    def _bring_back(self) -> None:
        """Make again what people have made, and what is asked for again."""
        if self.is_over():
            return
        for ref, body in self._made.items():
            self._missed[ref] = 0 if self.cluster.get(ref) else self._missed.get(ref, 0) + 1
            if self._missed[ref] > _PATIENCE:
                metadata = {key: body["metadata"][key] for key in ("name", "namespace") if key in body["metadata"]}
                self.cluster.create({**body, "metadata": metadata})

    def _hear(self) -> None:
        """See that people are told what they have to bring back."""
        stage = str(self.truth.get("phase"))
        for ref in self._made:
            before, steps = self._untold.get(ref.name, ("", 0))
            away = ref.kind == "Secret" and self.cluster.get(ref) is None and self._needs(ref.name, stage)
            self._untold[ref.name] = stage, (steps + 1 if before == stage and self.deaf < 0 else 1) if away else 0
            told = ref.name in f"{self.message} {self.condition('Stalled')}"
            assert self._untold[ref.name][1] < _SOON or told, f"nobody is told that {ref.name} is missing"

    def _needs(self, name: str, stage: str) -> bool:
        """Tell whether a buffer in this stage needs the login of Rucio, or the tokens of sites."""
        if name == "login":
            return stage in {"Preparing", "Serving", "Keeping", "Hiding", "Draining"}
        return stage == "Preparing" or (stage in {"Serving", "Keeping"} and self._runs() and not self.buffer.down)

    def _listen(self) -> None:
        self.said.add(self.message)
        body = self.cluster.get(REQUEST) or {}
        self.said |= {entry["message"] for entry in (body.get("status") or {}).get("conditions") or ()}
        phase = self.truth.get("phase")
        if phase and phase not in self.stages[-1:]:
            self.stages.append(phase)

    def is_over_for_owner(self) -> bool:
        return self.cluster.get(REQUEST) is None or bool(self.truth.get("session", {}).get("endedAt"))

    def is_over(self) -> bool:
        """Tell whether request and buffer have come to their end."""
        return self.is_gone and (not self.record or self.is_closed())

    def play(self, steps: int = 200) -> None:
        """Go the way to its end."""
        self._kubelet()
        for _ in range(steps):
            if self.is_over():
                return
            if self.is_closed():
                self.delete()
            self.step()
        message = f"not within {steps} steps; stages {self.stages}, the record says {self.message!r}"
        raise AssertionError(message)


WAYS = (
    Way("comes_and_goes", "Draining"),
    Way("copies_fail", "Keeping", failing=12),
    Way("held_by_a_rule", "Hiding", held=5),
    Way("in_memory", "Serving", memory=True),
    Way("published", "Serving", publishes=True),
    Way("discarded", "Hiding", failing=1000, discards=True),
    Way("discarded_unseen", "Keeping", failing=1000, discards=True, silent=True),
)
