"""Names, labels and outer form of the objects that belong to a buffer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.settings import Settings

__all__ = [
    "AT_RISK",
    "CLAIM",
    "DIGEST",
    "DISCARDED",
    "DRAIN",
    "FINALIZER",
    "IN_USE",
    "KINDS",
    "MANAGED",
    "NOT_AFTER",
    "RECORD",
    "added_name",
    "agent_host",
    "discarded_name",
    "hosts_of",
    "labels_of",
    "name_of",
    "new_object",
    "record_name",
    "session_name",
]

FINALIZER = "volatilerse.io/outputs-safe"
IN_USE = "volatilerse.io/in-use"
"""Finalizer of classes and connections."""
RECORD = "volatilerse.io/record"
CLAIM = "volatilerse.io/claim"
AT_RISK = "volatilerse.io/at-risk"
"""Label of storage pods that the PodDisruptionBudget of manifests/operator.yaml lets nobody evict: ``true``."""
DIGEST = "volatilerse.io/digest"
"""Annotation of what the operator has written into a user's namespace."""
NOT_AFTER = "volatilerse.io/not-after"
"""Annotation: end of the life of a certificate, or of a token."""
DRAIN = "volatilerse.io/drain"
DISCARDED = "volatilerse.io/discarded"
"""Label of the list of what a record has given up."""
MANAGED: Mapping[str, str] = {"app.kubernetes.io/managed-by": "volatile-rse"}

KINDS: Mapping[Piece, str] = {
    Piece.KEYS: "Secret",
    Piece.INPUTS: "ConfigMap",
    Piece.SERVICE: "Service",
    Piece.VOLUME: "PersistentVolumeClaim",
    Piece.POD: "Pod",
}

_VERSIONS = {"Deployment": "apps/v1", "VolatileRSE": "volatilerse.io/v1alpha1", "RSERecord": "volatilerse.io/v1alpha1"}
_PLAIN = {Piece.SERVICE, Piece.VOLUME, Piece.POD}


def record_name(record_id: str) -> str:
    """Name the RSERecord."""
    return f"vrse-{record_id}"


def name_of(record_id: str, piece: Piece) -> str:
    """Name an object of a buffer."""
    name = record_name(record_id)
    return name if piece in _PLAIN else f"{name}-{piece.value}"


def added_name(record_id: str, entry: str, digest: str) -> str:
    """Name the list of an input that was added while the session lived: another list has another name."""
    told = hashlib.sha256(f"{entry} {digest}".encode()).hexdigest()[:16]
    return f"{name_of(record_id, Piece.INPUTS)}-added-{told}"


def agent_host(record_id: str) -> str:
    """Name the agent in its certificate; nobody resolves it, since the operator knows the pod's address."""
    return f"{record_name(record_id)}-agent"


def session_name(name: str) -> str:
    """Name the Secret and the ConfigMap of a VolatileRSE."""
    return f"{name}-vrse"


def labels_of(record: RSERecordSpec) -> dict[str, str]:
    """Label an object of a buffer."""
    return {**MANAGED, RECORD: record.record_id}


def discarded_name(record_id: str) -> str:
    """Name the list of what was discarded; it stays as long as the record."""
    return f"{record_name(record_id)}-discarded"


def hosts_of(settings: Settings, service: str) -> list[str]:
    """Give the names by which a Service is reached inside the cluster, the one for clients first."""
    return [f"{service}.{settings.buffers}.svc", f"{service}.{settings.buffers}.svc.cluster.local", service]


def new_object(
    kind: str, namespace: str | None, name: str, labels: Mapping[str, str], content: Mapping[str, Any]
) -> dict[str, Any]:
    """Make an object."""
    metadata: dict[str, Any] = {"name": name, "labels": dict(labels)}
    if namespace is not None:
        metadata["namespace"] = namespace
    return {"apiVersion": _VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata, **content}
