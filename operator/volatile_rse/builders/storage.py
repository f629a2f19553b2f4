"""The objects of a buffer's storage: its pod, volume, Services, Secrets and ConfigMaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volatile_rse.api.agent import AGENT_PORT, CONFIG, DATA, DAVS_PORT, PROBE, ROOT_PORT, RUN, TLS, UID
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.volatilerseclass import Amounts, ContainerResources, Pods, VolatileRSEClassSpec
from volatile_rse.builders.objects import (
    AT_RISK,
    DISCARDED,
    DRAIN,
    FINALIZER,
    KINDS,
    MANAGED,
    NOT_AFTER,
    RECORD,
    added_name,
    discarded_name,
    labels_of,
    name_of,
    new_object,
    record_name,
)
from volatile_rse.builders.packed import pack, unpack
from volatile_rse.builders.xrootd import BUFFER_FILES, Issuer, ServerSettings, buffer_files, drain_files
from volatile_rse.domain.catalogue import File
from volatile_rse.domain.discard import read_lost, write_lost
from volatile_rse.domain.facts import Lost, Piece
from volatile_rse.domain.frozen import digest_of, read_lines, write_lines
from volatile_rse.domain.naming import drain_name
from volatile_rse.domain.settings import Settings

__all__ = [
    "AGENT",
    "SERVER",
    "XROOTD",
    "MemoryShares",
    "added_maps",
    "discarded_maps",
    "drain_objects",
    "drain_service",
    "inputs_maps",
    "keys",
    "memory_shares",
    "operator_issuer",
    "pod",
    "public_service",
    "read_discarded",
    "read_inputs",
    "session_audience",
    "session_issuer",
    "tls_data",
    "volume",
    "xrootd_data",
]

SERVER, AGENT = "server.", "agent."
"""Before the names of certificates and keys: whose they are."""
XROOTD = "xrootd."
"""Before the names of the files of XRootD's configuration."""
_AUTHORITIES = "ca.crt"
_INPUTS, _DISCARDED = "inputs.jsonl.gz", "discarded.jsonl.gz"
_ROLE = "volatilerse.io/role"
_TMP = "64Mi"
_GRACE = 10
"""Seconds that the pod has to end: XRootD needs a fraction of one."""


def session_issuer(record: RSERecordSpec) -> str:
    """Name the issuer of the session's tokens; it need not exist."""
    return f"https://{record.record_id}.sessions.invalid/"


def operator_issuer(record: RSERecordSpec) -> str:
    """Name the issuer of the tokens by which the operator shows that the buffer takes writes."""
    return f"https://{record.record_id}.operator.invalid/"


def session_audience(record: RSERecordSpec) -> str:
    """Name the buffer in tokens."""
    return f"https://{record.record_id}.buffers.invalid"


def keys(settings: Settings, record: RSERecordSpec, data: Mapping[str, str], *, not_after: str) -> dict[str, Any]:
    """Make the Secret of the buffer: one object for its two containers, each of which sees its own keys only."""
    body = _of_record(settings, record, Piece.KEYS, {"type": "Opaque", "stringData": dict(data)})
    body["metadata"]["annotations"] = {NOT_AFTER: not_after}
    return body


def tls_data(certificate: str, key: str, authorities: str, role: str = "") -> dict[str, str]:
    """Give the keys of a TLS Secret; of one that has several certificates, with their role before them."""
    return {f"{role}tls.crt": certificate, f"{role}tls.key": key, _AUTHORITIES: authorities}


def xrootd_data(record: RSERecordSpec, jwks: Callable[[str], Mapping[str, Any]]) -> dict[str, str]:
    """Give the configuration of the buffer's XRootD.

    Parameters
    ----------
    jwks
        Gives the public keys of an issuer of tokens.
    """
    session, operator = session_issuer(record), operator_issuer(record)
    probe = (PROBE.rpartition("/")[0],)
    issuers = [
        Issuer(name="session", url=session, jwks=jwks(session)),
        Issuer(name="operator", url=operator, jwks=jwks(operator), paths=probe, fenced_paths=probe),
    ]
    server = ServerSettings(site=record.rse_name, audience=session_audience(record), issuers=issuers)
    return {f"{XROOTD}{name}": text for name, text in buffer_files(server).items()}


def inputs_maps(
    settings: Settings, record: RSERecordSpec, inputs: Mapping[str, Iterable[File]]
) -> list[dict[str, Any]]:
    """Make the frozen list of inputs, in the order in which its objects are to be created."""
    first = _of_record(settings, record, Piece.INPUTS, {"immutable": True})
    return pack(first, _INPUTS, write_lines(inputs))


def added_maps(settings: Settings, record: RSERecordSpec, name: str, files: Sequence[File]) -> list[dict[str, Any]]:
    """Make the frozen list of an input that was added while the session lived: what is called so is never another."""
    first = _of_record(settings, record, Piece.INPUTS, {"immutable": True})
    first["metadata"]["name"] = added_name(record.record_id, name, digest_of(files))
    return pack(first, _INPUTS, write_lines({name: files}))


def read_inputs(
    body: Mapping[str, Any], read: Callable[[str], Mapping[str, Any] | None]
) -> dict[str, tuple[File, ...]]:
    """Read what ``inputs_maps`` made, from the last of it; ``read`` gives the others by their names."""
    return read_lines(unpack(body, _INPUTS, read))


def discarded_maps(settings: Settings, record: RSERecordSpec, uid: str, lost: Iterable[Lost]) -> list[dict[str, Any]]:
    """Make the list of what was given up; it is held like the record, whose UID is given, and goes with it."""
    labels = {**MANAGED, DISCARDED: record.record_id}
    first = new_object("ConfigMap", settings.buffers, discarded_name(record.record_id), labels, {})
    owner = {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "RSERecord",
        "name": record_name(record.record_id),
        "uid": uid,
    }
    first["metadata"] |= {"ownerReferences": [owner], "finalizers": [FINALIZER]}
    return pack(first, _DISCARDED, write_lost(lost))


def read_discarded(body: Mapping[str, Any], read: Callable[[str], Mapping[str, Any] | None]) -> tuple[Lost, ...]:
    """Read what ``discarded_maps`` made."""
    return read_lost(unpack(body, _DISCARDED, read))


def public_service(settings: Settings, record: RSERecordSpec, *, drained: bool = False) -> dict[str, Any]:
    """Make the Service that sessions and Rucio's daemons use; ports never change while its RSE lives."""
    if drained:
        selector = {DRAIN: drain_name(record.class_snapshot.exposure.public_host)}
    else:
        selector = {RECORD: record.record_id, _ROLE: "storage"}
    public = record.public
    ports = [
        _port("root", ROOT_PORT, None if public is None else public.root_port),
        _port("davs", DAVS_PORT, None if public is None else public.davs_port),
    ]
    spec = {"type": "NodePort", "selector": selector, "ports": ports}
    return _of_record(settings, record, Piece.SERVICE, {"spec": spec})


def volume(settings: Settings, record: RSERecordSpec, name: str | None = None) -> dict[str, Any]:
    """Make the claim of the storage volume; without owner, so that nobody's deletion takes bytes along.

    Parameters
    ----------
    name
        Of the PersistentVolume, if there is one already.
    """
    medium = record.class_snapshot.storage.volume
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": record.capacity}},
    }
    if medium is not None and medium.storage_class_name is not None:
        spec["storageClassName"] = medium.storage_class_name
    if name is not None:
        spec["volumeName"] = name
    return _of_record(settings, record, Piece.VOLUME, {"spec": spec})


def pod(settings: Settings, record: RSERecordSpec, *, held: bool = False) -> dict[str, Any]:
    """Make the storage pod: XRootD under its supervisor, and the agent, on one volume under one uid.

    Parameters
    ----------
    held
        Nobody may evict it.
    """

    def named(piece: Piece) -> str:
        return name_of(record.record_id, piece)

    data: dict[str, Any] = {"persistentVolumeClaim": {"claimName": named(Piece.VOLUME)}}
    if record.class_snapshot.storage.memory is not None:
        data = {"emptyDir": {"medium": "Memory", "sizeLimit": record.capacity}}
    volumes = [
        {"name": "data", **data},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "config", "secret": {"secretName": named(Piece.KEYS), "items": _items(XROOTD, BUFFER_FILES)}},
        {"name": "server-tls", "secret": {"secretName": named(Piece.KEYS), "items": _tls_items(SERVER)}},
        {"name": "agent-tls", "secret": {"secretName": named(Piece.KEYS), "items": _tls_items(AGENT)}},
        # Apart: what the agent writes there, sites' authorities among it, is nobody else's.
        {"name": "server-tmp", "emptyDir": {"sizeLimit": _TMP}},
        {"name": "agent-tmp", "emptyDir": {"sizeLimit": _TMP}},
    ]
    class_ = record.class_snapshot
    shares = memory_shares(class_, parse_quantity(record.capacity))
    data_mount = _mount("data", DATA)
    server_mounts = [
        data_mount,
        _mount("server-tmp", "/tmp"),  # noqa: S108 (a volume of this container alone)
        _mount("run", RUN),
        _mount("config", CONFIG, read=True),
        _mount("server-tls", TLS, read=True),
    ]
    agent_mounts = [
        data_mount,
        _mount("agent-tmp", "/tmp"),  # noqa: S108 (a volume of this container alone)
        _mount("agent-tls", TLS, read=True),
    ]
    xrootd = _container(
        settings,
        "xrootd",
        ["python3", "-m", "volatile_rse.agent.supervisor"],
        server_mounts,
        ports={"root": ROOT_PORT, "davs": DAVS_PORT},
        resources=_resources(class_.pods.resources.xrootd, shares.xrootd, shares.volume),
    )
    agent = _container(
        settings,
        "agent",
        ["python3", "-m", "volatile_rse.agent"],
        agent_mounts,
        ports={"agent": AGENT_PORT},
        resources=_resources(class_.pods.resources.agent, shares.agent, shares.volume),
    )
    body = _of_record(settings, record, Piece.POD, {"spec": _pod_spec([xrootd, agent], volumes, class_.pods)})
    body["metadata"]["labels"] |= {_ROLE: "storage", **({AT_RISK: "true"} if held else {})}
    return body


def drain_objects(
    settings: Settings, class_: VolatileRSEClassSpec, tls: Mapping[str, str], *, not_after: str
) -> tuple[dict[str, Any], ...]:
    """Make the empty server of a public host: Secret, ConfigMap, Deployment."""
    name = drain_name(class_.exposure.public_host)
    labels = {**MANAGED, DRAIN: name}
    volumes = [
        {"name": "data", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "config", "configMap": {"name": name}},
        {"name": "server-tls", "secret": {"secretName": name}},
    ]
    mounts = [_mount("data", DATA), _mount("run", RUN), _mount("config", CONFIG, read=True)]
    placement = class_.pods
    server = _container(
        settings,
        "xrootd",
        ["python3", "-m", "volatile_rse.agent.drain"],
        [*mounts, _mount("server-tls", TLS, read=True)],
        ports={"root": ROOT_PORT, "davs": DAVS_PORT},
        resources=_resources(placement.resources.xrootd, 0, 0),
    )
    deployment = {
        "replicas": 1,
        "selector": {"matchLabels": {DRAIN: name}},
        "template": {"metadata": {"labels": labels}, "spec": _pod_spec([server], volumes, placement)},
    }

    def made(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return new_object(kind, settings.buffers, name, labels, content)

    certificate = made("Secret", {"type": "Opaque", "stringData": dict(tls)})
    certificate["metadata"]["annotations"] = {NOT_AFTER: not_after}
    return certificate, made("ConfigMap", {"data": drain_files("drain")}), made("Deployment", {"spec": deployment})


def drain_service(settings: Settings, public_host: str) -> dict[str, Any]:
    """Make a Service of the empty server's own, by which the way from its public host is tried."""
    name = drain_name(public_host)
    spec = {"type": "NodePort", "selector": {DRAIN: name}, "ports": [_port("davs", DAVS_PORT, None)]}
    return new_object("Service", settings.buffers, name, {**MANAGED, DRAIN: name}, {"spec": spec})


def _of_record(settings: Settings, record: RSERecordSpec, piece: Piece, content: Mapping[str, Any]) -> dict[str, Any]:
    name = name_of(record.record_id, piece)
    return new_object(KINDS[piece], settings.buffers, name, labels_of(record), content)


def _items(prefix: str, names: Iterable[str]) -> list[dict[str, str]]:
    """Choose what one container sees of the buffer's Secret."""
    return [{"key": f"{prefix}{name}", "path": name} for name in names]


def _tls_items(role: str) -> list[dict[str, str]]:
    return [*_items(role, ("tls.crt", "tls.key")), *_items("", (_AUTHORITIES,))]


def _port(name: str, port: int, node_port: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {"name": name, "port": port, "targetPort": port, "protocol": "TCP"}
    return body if node_port is None else {**body, "nodePort": node_port}


def _mount(volume_name: str, path: str, *, read: bool = False) -> dict[str, Any]:
    return {"name": volume_name, "mountPath": path, **({"readOnly": True} if read else {})}


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """The pages of a memory volume, in bytes: the kernel charges each to the container that wrote it."""

    xrootd: int
    """That the server's request has for it."""
    agent: int
    """That the agent's request has for it: both together are the volume's size."""
    volume: int
    """By which each container's limit grows: it may be the one that writes everything."""


def memory_shares(class_: VolatileRSEClassSpec, capacity: int) -> MemoryShares:
    """Say what a volume of so many bytes takes of the memory of its pod's containers; one on disk takes none."""
    if class_.storage.memory is None:
        return MemoryShares(0, 0, 0)
    half = capacity // 2
    return MemoryShares(half, capacity - half, capacity)


def _resources(own: ContainerResources, requested: int, limited: int) -> dict[str, dict[str, str]]:
    """Say what is set aside and what is allowed, in bytes: a container's own need, and its share of the volume."""

    def amounts(said: Amounts, pages: int) -> dict[str, str]:
        found = {} if said.cpu is None else {"cpu": said.cpu}
        if said.memory is not None:
            found["memory"] = str(parse_quantity(said.memory) + pages) if pages else said.memory
        return found

    found = {"requests": amounts(own.requests, requested), "limits": amounts(own.limits, limited)}
    if requested and own.requests.memory is None:
        found["requests"]["memory"] = str(requested)
    return {name: amount for name, amount in found.items() if amount}


def _container(  # noqa: PLR0913 (each is a field of a container)
    settings: Settings,
    name: str,
    command: list[str],
    mounts: list[dict[str, Any]],
    *,
    ports: Mapping[str, int],
    resources: Mapping[str, Any],
) -> dict[str, Any]:
    probe = {"tcpSocket": {"port": next(iter(ports.values()))}, "periodSeconds": 2, "timeoutSeconds": 2}
    return {
        "name": name,
        "image": settings.buffer_image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "ports": [{"name": label, "containerPort": port} for label, port in ports.items()],
        "volumeMounts": mounts,
        "readinessProbe": probe,
        "resources": dict(resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _placement(pods: Pods) -> dict[str, Any]:
    """Say where a pod may run, as far as the class says it."""
    found: dict[str, Any] = {
        "nodeSelector": pods.node_selector,
        "tolerations": [toleration.dump() for toleration in pods.tolerations],
        "affinity": pods.affinity,
        "priorityClassName": pods.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in pods.image_pull_secrets],
    }
    return {field: value for field, value in found.items() if value}


def _pod_spec(containers: list[dict[str, Any]], volumes: list[dict[str, Any]], pods: Pods) -> dict[str, Any]:
    return {
        **_placement(pods),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        "volumes": volumes,
    }
