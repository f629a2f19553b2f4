"""A cluster in memory that keeps the API server's rules as far as the operator relies on them."""

from __future__ import annotations

import base64
import itertools
import marshal
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar

from volatile_rse.adapters.kubernetes import RESOURCES
from volatile_rse.api.conditions import Reason
from volatile_rse.api.schema import fault_of_label
from volatile_rse.api.text import EVENT, visible
from volatile_rse.ports.cluster import ANY, Listing, Object, Ref, Scope, Source, WatchEvent, bears
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["FakeCluster", "FakeEvent", "Write", "play_controllers"]

_NODE_PORTS = range(30000, 32768)
_NO_PORTS = "failed to allocate a nodePort: range is full"
_PROTECTION = "kubernetes.io/pvc-protection"
"""Finalizer of every claim: it goes after the pods that use it."""
_OF_NAMESPACE = "kubernetes.io/metadata.name"
"""Label of every namespace: its name, whatever anybody writes there."""
_CONFIG_MAP = 1 << 20
"""Bytes of data that one takes."""
_SYSTEM_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp")
_WITHOUT_GENERATION = {
    "ConfigMap",
    "Secret",
    "Event",
    "Lease",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
}


T = TypeVar("T")


class _Change(NamedTuple):
    """What a watch may have to tell."""

    version: int
    ref: Ref
    before: Object | None
    """Labels that it had; None: it was not there."""
    body: Object
    gone: bool


@dataclass(frozen=True, slots=True)
class Write:
    """One change that was asked for and accepted."""

    verb: Literal["create", "apply", "merge", "delete"]
    ref: Ref
    subresource: str | None = None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class FakeEvent:
    """What a call of ``event`` said."""

    about: Ref
    type_: str
    reason: str
    message: str


def _unchanged(body: Object) -> Object:
    return body


def _random_uid() -> str:
    """Give a UID as the API server does; a function of the module, so that a world can be pickled."""
    return str(uuid.uuid4())


class FakeCluster(Source):
    """A cluster for one thread.

    Parameters
    ----------
    namespaces
        Exist from the beginning, as ``default`` does.
    now
        Stamps creations and deletions.
    uids
        Gives each object its UID.
    """

    def __init__(
        self,
        *namespaces: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        uids: Callable[[], str] = _random_uid,
    ) -> None:
        self.journal: list[Write] = []
        self.events: list[FakeEvent] = []
        self.down = False
        """Nothing answers while this is set."""
        self.ticks: list[Callable[[FakeCluster], None]] = []
        """Run by ``tick``: what kubelet, provisioner and other controllers would do."""
        self.mutate: Callable[[Object], Object] = _unchanged
        """What admission makes of an object that is created."""
        self._now = now
        self._uids = uids
        self._objects: dict[Ref, dict[str, Any]] = {}
        self._applied: dict[Ref, dict[str, Any]] = {}
        self._versions = itertools.count(1)
        self.node_ports: Sequence[int] = _NODE_PORTS
        """That Services can have."""
        self._last_port = _NODE_PORTS[-1]
        self._failures: list[tuple[PortError, bool]] = []
        self._changes: list[_Change] | None = None
        """What has happened since somebody began to watch."""
        self._oldest = 0
        for name in ("kube-system", "default", *namespaces):
            self._store(Ref("Namespace", None, name), {"apiVersion": "v1", "kind": "Namespace"})

    # What tests do.

    def tick(self) -> None:
        """Let the other controllers work once."""
        for hook in self.ticks:
            hook(self)

    def fail_next(self, error: PortError | None = None, *, after: bool = False) -> None:
        """Let the next write fail.

        Parameters
        ----------
        error
            By default the API server does not answer.
        after
            The write happens, only its answer is lost.
        """
        self._failures.append((error or _unreachable("the next write"), after))

    def collect_garbage(self) -> None:
        """Remove what was made for an owner that had gone by then."""
        alive = {stored["metadata"]["uid"] for stored in self._objects.values()}
        for ref, stored in list(self._objects.items()):
            owners = {owner["uid"] for owner in stored["metadata"].get("ownerReferences", ())}
            if owners and not owners & alive and ref in self._objects:
                self._end(ref)

    def end_pods(self) -> None:
        """Let kubelets end the pods that are being deleted."""
        for ref, stored in list(self._objects.items()):
            metadata = stored["metadata"]
            if ref.kind == "Pod" and "deletionTimestamp" in metadata and not metadata.get("finalizers"):
                self._remove(ref)

    def set_status(self, ref: Ref, status: Mapping[str, Any]) -> None:
        """Write a status as another controller does."""
        stored = self._objects[ref]
        changed = _copied(stored)
        _merge(changed.setdefault("status", {}), status)
        self._replace(ref, stored, changed)

    def finish(self, ref: Ref, *containers: str, code: int = 0) -> None:
        """Let containers of a pod end as its kubelet tells it; by default all of them, and the pod with them.

        Parameters
        ----------
        containers
            Which of them; the others run on.
        code
            With which they exit.
        """
        stored = self._objects[ref]
        names = [entry["name"] for entry in stored["spec"].get("containers", ())] or ["main"]
        ended = {"terminated": {"exitCode": code, "finishedAt": self.stamp()}}
        states = [
            {"name": name, "state": ended if name in (containers or names) else {"running": {}}} for name in names
        ]
        over = {"phase": "Failed" if code else "Succeeded"} if set(names) <= set(containers or names) else {}
        self.set_status(ref, {"containerStatuses": states, **over})

    def compact(self) -> None:
        """Forget what has happened, as etcd does every few minutes: watches have to begin anew."""
        self._changes, self._oldest = [], next(self._versions)

    @contextmanager
    def unchecked(self, ref: Ref) -> Iterator[dict[str, Any]]:
        """Change an object behind the back of all rules: what an older kind, or etcd itself, may hold."""
        body = self._objects[ref]
        before = _labels_of(body)
        yield body
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(ref, before, body)

    # The port.

    def identity(self) -> str:
        """Give the UID of the namespace ``kube-system``."""
        self._answers("identity")
        return str(self._objects[Ref("Namespace", None, "kube-system")]["metadata"]["uid"])

    def get(self, ref: Ref) -> Object | None:
        """Read one object; None if there is none."""
        self._answers(f"GET {ref}")
        return self._given(ref) if ref in self._objects else None

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects in the order of their names."""
        self._answers(f"LIST {kind}")
        wanted = labels or {}
        for key, value in wanted.items():
            if value != ANY and (fault := fault_of_label(key, value)):
                raise RefusedError(Reason.CLUSTER_REFUSED, f"The API server refused LIST {kind}: 400 {fault}")
        found = [
            (ref.namespace or "", ref.name, ref)
            for ref, stored in self._objects.items()
            if ref.kind == kind and namespace in {None, ref.namespace} and bears(wanted, stored)
        ]
        return tuple(self._given(ref) for *_, ref in sorted(found))

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object of a kind."""
        return tuple(read(body) for body in self.list(kind))

    def listing(self, scope: Scope) -> Listing:
        """List the objects of a scope, with the version from which to watch."""
        self._answers(f"LIST {scope}")
        self._changes = [] if self._changes is None else self._changes
        version = str(next(self._versions))
        found = [_copied(body) for ref, body in self._objects.items() if _is_in(scope, ref, _labels_of(body))]
        return Listing(tuple(found), version)

    def watch(self, scope: Scope, version: str) -> Iterator[WatchEvent]:
        """Give what has changed in a scope since a version; it ends with what is known now."""
        self._answers(f"WATCH {scope}")
        if int(version) < self._oldest:
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, f"WATCH {scope}: too old resource version: {version}")
        changes = self._changes or []
        since = changes[bisect_right(changes, int(version), key=lambda change: change.version) :]
        return _events_of(scope, since)

    def create(self, body: Object) -> Object | None:
        """Create an object, and give it; None if one of that name exists."""
        ref = _ref(body)
        with self._write(f"CREATE {ref}"):
            if ref in self._objects:
                return None
            self._store(ref, body)
            self.journal.append(Write("create", ref))
        return self._shown(ref, body)

    def admitted(self, body: Object) -> Object:
        """Give an object as it would be stored."""
        ref = _ref(body)
        with self._write(f"CREATE {ref}"):
            if ref in self._objects:
                message = f"The API server refused CREATE {ref}: 409 it exists already"
                raise RefusedError(Reason.CLUSTER_REFUSED, message)
            self._place(ref)
            uid = {"uid": self._uids(), "creationTimestamp": self.stamp()}
            made = _copied(_without_status(ref, body))
            made["metadata"] |= uid
            admitted: Object = _copied(self.mutate(made))
        return admitted

    def apply(self, body: Object) -> Object:
        """Server-side apply; lists are replaced, not merged by key."""
        ref = _ref(body)
        with self._write(f"APPLY {ref}"):
            stored = self._objects.get(ref)
            before = self._applied.get(ref, {}) if stored is not None else {}
            self._applied[ref] = _copied(dict(body))
            if stored is None:
                self._store(ref, body)
                self.journal.append(Write("apply", ref))
                return self._shown(ref, body)
            changed = _copied(stored)
            _merge(changed, _left_out(before, body))
            _merge(changed, _without_status(ref, body))
            self.journal.append(Write("apply", ref, changed=self._replace(ref, stored, changed)))
        return self._shown(ref, changed)

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> Object:
        """JSON merge patch."""
        with self._write(f"PATCH {ref}"):
            stored = self._objects.get(ref)
            metadata = patch.get("metadata", {})
            if stored is None or any(
                metadata.get(field, stored["metadata"][field]) != stored["metadata"][field]
                for field in ("uid", "resourceVersion")
            ):
                raise RefusedError(Reason.CHANGED_MEANWHILE, f"{ref} changed while it was worked on")
            changed = _copied(stored)
            if subresource == "status":
                _merge(changed, {"status": patch.get("status", {})})
            else:
                _merge(changed, _without_status(ref, patch))
            self.journal.append(Write("merge", ref, subresource, self._replace(ref, stored, changed)))
        return self._shown(ref, changed)

    def delete(self, ref: Ref, uid: str) -> Object | None:
        """Delete this very object; with finalizers it is only marked."""
        with self._write(f"DELETE {ref}"):
            stored = self._objects.get(ref)
            if stored is None or stored["metadata"]["uid"] != uid:
                return None
            self.journal.append(Write("delete", ref))
            self._end(ref)
        found: Object | None = _copied(self._objects.get(ref))
        return found

    def event(self, about: Object, *, type_: str, reason: str, message: str) -> None:
        """Remember an Event."""
        if not self.down:
            self.events.append(FakeEvent(_ref(about), type_, reason, visible(message, EVENT)))

    # The API server's rules.

    def _given(self, ref: Ref) -> Object:
        """Give an object to who reads it: his own copy."""
        given: Object = _copied(self._objects[ref])
        return given

    def _shown(self, ref: Ref, last: Object) -> Object:
        """Give an object as it is stored; of one that went with the write, how it was last."""
        if ref in self._objects:
            return self._given(ref)
        shown: Object = _copied(dict(last))
        return shown

    def _tell(self, ref: Ref, before: Object | None, body: Object, *, gone: bool = False) -> None:
        """Keep what has happened for those who watch."""
        if self._changes is not None:
            version = int(body["metadata"]["resourceVersion"])
            self._changes.append(_Change(version, ref, before, _copied(body), gone))

    def _answers(self, call: str) -> None:
        if self.down:
            raise _unreachable(call)

    @contextmanager
    def _write(self, call: str) -> Iterator[None]:
        self._answers(call)
        error, after = self._failures.pop(0) if self._failures else (None, False)
        if error is not None and not after:
            raise error
        yield
        if error is not None:
            raise error

    def _store(self, ref: Ref, body: Object) -> None:
        resource = RESOURCES.get(ref.kind)
        if resource is None or resource.namespaced != (ref.namespace is not None):
            raise RefusedError(Reason.CLUSTER_REFUSED, f"{ref}: no such kind, or wrong scope")
        self._place(ref)
        stored = _copied(_without_status(ref, body))
        metadata = {key: value for key, value in stored.get("metadata", {}).items() if key not in _SYSTEM_FIELDS}
        metadata |= {
            "name": ref.name,
            "uid": self._uids(),
            "resourceVersion": str(next(self._versions)),
            "creationTimestamp": self.stamp(),
        }
        if ref.kind not in _WITHOUT_GENERATION:
            metadata["generation"] = 1
        if resource.api_version.startswith("volatilerse.io") and resource.status:
            stored["status"] = {"observedGeneration": -1}
        if ref.kind == "PersistentVolumeClaim":
            metadata["finalizers"] = [*metadata.get("finalizers", []), _PROTECTION]
        stored["metadata"] = metadata
        self._admit(ref, stored)
        self._objects[ref] = stored
        self._tell(ref, None, stored)

    def _place(self, ref: Ref) -> None:
        namespace = self._objects.get(Ref("Namespace", None, ref.namespace or ""))
        if ref.namespace is not None and (namespace is None or "deletionTimestamp" in namespace["metadata"]):
            raise RefusedError(Reason.CLUSTER_REFUSED, f"{ref}: its namespace is absent or being deleted")

    def _replace(self, ref: Ref, stored: dict[str, Any], changed: dict[str, Any]) -> bool:
        changed["metadata"] |= {key: stored["metadata"][key] for key in _SYSTEM_FIELDS if key in stored["metadata"]}
        changed["metadata"]["name"] = ref.name
        for emptied in ("labels", "annotations", "finalizers"):
            if not changed["metadata"].get(emptied, True):
                del changed["metadata"][emptied]
        self._admit(ref, changed)
        if changed == stored:
            return False
        changed["metadata"]["resourceVersion"] = str(next(self._versions))
        if "generation" in changed["metadata"] and changed.get("spec") != stored.get("spec"):
            changed["metadata"]["generation"] += 1
        self._objects[ref] = changed
        self._tell(ref, _labels_of(stored), changed)
        if "deletionTimestamp" in changed["metadata"] and not changed["metadata"].get("finalizers"):
            self._remove(ref)
        return True

    def _admit(self, ref: Ref, stored: dict[str, Any]) -> None:
        if ref.kind == "Namespace":
            stored["metadata"].setdefault("labels", {})[_OF_NAMESPACE] = ref.name
        if ref.kind == "ConfigMap" and _size(stored) > _CONFIG_MAP:
            raise RefusedError(Reason.CLUSTER_REFUSED, f"{ref}: it has more than {_CONFIG_MAP} bytes")
        if ref.kind == "Secret":
            for key, value in stored.pop("stringData", {}).items():
                stored.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
        if ref.kind == "Service" and stored["spec"].get("type") in {"NodePort", "LoadBalancer"}:
            for port in stored["spec"]["ports"]:
                if "nodePort" not in port:
                    given = {other.get("nodePort") for other in stored["spec"]["ports"]}
                    port["nodePort"] = self._node_port(ref, port, given)

    def _node_port(self, ref: Ref, port: Mapping[str, Any], given: AbstractSet[object]) -> int:
        """Keep the number of a port that is applied again without one."""
        before = self._objects.get(ref, {}).get("spec", {}).get("ports", [])
        kept = [old["nodePort"] for old in before if old["port"] == port["port"] and "nodePort" in old]
        return int(kept[0]) if kept else self._free_port(ref, given)

    def _free_port(self, ref: Ref, given: AbstractSet[object]) -> int:
        """Give a port that no Service has, and if possible none had before."""
        bodies = (body for found, body in self._objects.items() if found.kind == "Service")
        used: set[object] = {port.get("nodePort") for body in bodies for port in body["spec"]["ports"]}
        later = [number for number in self.node_ports if number > self._last_port]
        for number in (*later, *self.node_ports):
            if number not in used | given:
                self._last_port = number
                return number
        message = f"The API server refused CREATE {ref}: 500 Internal error occurred: {_NO_PORTS}"
        raise RefusedError(Reason.NODE_PORTS_EXHAUSTED, message)

    def _end(self, ref: Ref) -> None:
        """Remove an object, or mark it while finalizers or what a namespace holds keep it."""
        stored = self._objects[ref]
        if "deletionTimestamp" not in stored["metadata"]:
            stored["metadata"]["deletionTimestamp"] = self.stamp()
            stored["metadata"]["resourceVersion"] = str(next(self._versions))
            if self._is_kept(ref, stored):
                self._tell(ref, _labels_of(stored), stored)
        if ref.kind == "Pod" and stored["spec"].get("nodeName") and not _is_over(stored):
            # Its kubelet says when it has ended.
            return
        for inner in self._held_by(ref):
            if inner in self._objects:
                self._end(inner)
        if not self._is_kept(ref, stored):
            self._remove(ref)

    def _is_kept(self, ref: Ref, stored: Object) -> bool:
        """Tell whether what is being deleted stays for a while."""
        is_running = ref.kind == "Pod" and stored["spec"].get("nodeName") and not _is_over(stored)
        return bool(stored["metadata"].get("finalizers") or self._held_by(ref) or is_running)

    def _held_by(self, ref: Ref) -> Sequence[Ref]:
        return [inner for inner in self._objects if ref.kind == "Namespace" and inner.namespace == ref.name]

    def _remove(self, ref: Ref) -> None:
        """Remove an object and, as the garbage collector does, what it owned."""
        gone = self._objects.pop(ref, None)
        if gone is None:
            return
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(ref, _labels_of(gone), gone, gone=True)
        owner = gone["metadata"]["uid"]
        for other, stored in list(self._objects.items()):
            owners = stored["metadata"].get("ownerReferences", [])
            if owners and all(item["uid"] == owner for item in owners):
                self._end(other)
        namespace = Ref("Namespace", None, ref.namespace or "")
        if "deletionTimestamp" in self._objects.get(namespace, gone)["metadata"] and namespace in self._objects:
            self._end(namespace)

    def stamp(self) -> str:
        """Give the time as Kubernetes writes it."""
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")


def _events_of(scope: Scope, changes: Sequence[_Change]) -> Iterator[WatchEvent]:
    for change in changes:
        was = change.before is not None and _is_in(scope, change.ref, change.before)
        is_ = not change.gone and _is_in(scope, change.ref, _labels_of(change.body))
        if was or is_:
            yield WatchEvent("DELETED" if not is_ else "MODIFIED" if was else "ADDED", _copied(change.body))


def _labels_of(body: Object) -> Object:
    labels: Object = body["metadata"].get("labels") or {}
    return labels


def _is_in(scope: Scope, ref: Ref, labels: Object) -> bool:
    """Tell whether an object with such labels is in a scope."""
    if ref.kind != scope.kind or scope.namespace not in {None, ref.namespace}:
        return False
    return scope.name in {None, ref.name} and (scope.label is None or scope.label in labels)


def _is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def play_controllers(cluster: FakeCluster) -> None:
    """Do what provisioner, kubelet and controllers would: bind claims, start pods and deployments."""
    cluster.end_pods()
    cluster.collect_garbage()
    _unprotect(cluster)
    for volume in cluster.list("PersistentVolume"):
        _reclaim(cluster, volume)
    for claim in cluster.list("PersistentVolumeClaim"):
        _bind(cluster, claim)
    for number, pod in enumerate(cluster.list("Pod"), 1):
        if "status" not in pod and _can_start(cluster, pod["metadata"]["namespace"], pod["spec"]):
            ready = [{"type": "Ready", "status": "True", "lastTransitionTime": cluster.stamp()}]
            cluster.merge(_ref(pod), {"spec": {"nodeName": "node"}})
            cluster.set_status(_ref(pod), {"phase": "Running", "conditions": ready, "podIP": f"10.244.0.{number}"})
    for deployment in cluster.list("Deployment"):
        template = deployment["spec"].get("template", {}).get("spec", {})
        if _can_start(cluster, deployment["metadata"]["namespace"], template):
            cluster.set_status(_ref(deployment), {"readyReplicas": deployment["spec"].get("replicas", 1)})


def _unprotect(cluster: FakeCluster) -> None:
    """Let claims go that are being deleted, and that no scheduled pod uses."""
    used = {
        (pod["metadata"]["namespace"], claim)
        for pod in cluster.list("Pod")
        if pod["spec"].get("nodeName")
        for kind, claim in _mounted(pod["spec"])
        if kind == "PersistentVolumeClaim"
    }
    for claim in cluster.list("PersistentVolumeClaim"):
        metadata = claim["metadata"]
        if "deletionTimestamp" in metadata and (metadata["namespace"], metadata["name"]) not in used:
            others = [name for name in metadata.get("finalizers", []) if name != _PROTECTION]
            if others != metadata.get("finalizers", []):
                cluster.merge(_ref(claim), {"metadata": {"finalizers": others}})


def _mounted(spec: Object) -> Iterator[tuple[str, str]]:
    """Give kind and name of what a pod mounts and does not start without."""
    for volume in spec.get("volumes", ()):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        elif "secret" in volume and not volume["secret"].get("optional"):
            yield "Secret", volume["secret"]["secretName"]
        elif "configMap" in volume and not volume["configMap"].get("optional"):
            yield "ConfigMap", volume["configMap"]["name"]


def _can_start(cluster: FakeCluster, namespace: str, spec: Object) -> bool:
    """Tell whether all is there that a pod mounts: it waits for it, and never needs it again."""
    for kind, name in _mounted(spec):
        body = cluster.get(Ref(kind, namespace, name))
        if body is None or (kind == "PersistentVolumeClaim" and not _is_bound(body)):
            return False
    return True


def _is_bound(claim: Object) -> bool:
    bound = (claim.get("status") or {}).get("phase") == "Bound"
    return bound and "deletionTimestamp" not in claim["metadata"]


def _reclaim(cluster: FakeCluster, volume: Object) -> None:
    """End a volume whose claim is gone; one that is retained stays, released, with the claim's UID."""
    holder = volume["spec"].get("claimRef") or {}
    claim = cluster.get(Ref("PersistentVolumeClaim", holder.get("namespace"), holder.get("name", "")))
    if "uid" not in holder or (claim is not None and claim["metadata"]["uid"] == holder["uid"]):
        return
    if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
        cluster.delete(_ref(volume), volume["metadata"]["uid"])
    else:
        cluster.set_status(_ref(volume), {"phase": "Released"})


def _bind(cluster: FakeCluster, claim: Object) -> None:
    """Give a claim a new volume, or the one that it names if that is free; else it stays pending."""
    metadata, name = claim["metadata"], claim["spec"].get("volumeName")
    ours = {"namespace": metadata["namespace"], "name": metadata["name"]}
    holder = {**ours, "uid": metadata["uid"]}
    if name is None:
        name = f"pvc-{metadata['uid']}"
        spec = {"persistentVolumeReclaimPolicy": "Delete", "claimRef": holder}
        cluster.create({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
        cluster.merge(_ref(claim), {"spec": {"volumeName": name}})
    volume = cluster.get(Ref("PersistentVolume", None, name))
    if volume is None and (claim.get("status") or {}).get("phase") == "Bound":
        cluster.set_status(_ref(claim), {"phase": "Lost"})
    held = None if volume is None else volume["spec"].get("claimRef")
    if volume is not None and held in (None, ours, holder):
        if held != holder:
            cluster.merge(_ref(volume), {"spec": {"claimRef": holder}})
        for ref in (_ref(volume), _ref(claim)):
            cluster.set_status(ref, {"phase": "Bound"})


def _size(config_map: Object) -> int:
    texts = (config_map.get("data") or {}).values()
    pieces = (config_map.get("binaryData") or {}).values()
    return sum(len(text.encode()) for text in texts) + sum(len(base64.b64decode(piece)) for piece in pieces)


def _copied(body: Any) -> Any:  # noqa: ANN401 (a JSON value)
    """Copy a JSON value, ten times faster than a deep copy of any object."""
    return marshal.loads(marshal.dumps(body))  # noqa: S302 (its own bytes)


def _ref(body: Object) -> Ref:
    return Ref(body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"])


def _unreachable(call: str) -> UnreachableError:
    return UnreachableError(Reason.CLUSTER_UNREACHABLE, f"The API server did not answer {call}: it is down")


def _without_status(ref: Ref, body: Object) -> dict[str, Any]:
    resource = RESOURCES.get(ref.kind)
    drop = resource is not None and resource.status
    return {key: value for key, value in body.items() if not (drop and key == "status")}


def _left_out(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Make the patch that removes what was applied before and is no more."""
    patch: dict[str, Any] = {}
    for key, value in before.items():
        if key not in now:
            patch[key] = None
        elif isinstance(value, Mapping) and isinstance(now[key], Mapping):
            patch[key] = _left_out(value, now[key])
    return patch


def _merge(target: dict[str, Any], patch: Mapping[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, Mapping):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value)
        else:
            target[key] = _copied(value)
