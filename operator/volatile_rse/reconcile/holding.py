"""Classes and connections are held while buffers use them, and let go when the last one is closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from volatile_rse.api.rserecord import RSERecordStatus
from volatile_rse.builders.objects import IN_USE
from volatile_rse.domain.stage import Stage, stage_of
from volatile_rse.ports.cluster import Cluster, Ref

__all__ = ["hold", "is_held", "release_unused", "used_by", "without"]

Object = Mapping[str, Any]
_NAMED_BY = {"VolatileRSEClass": "className", "RucioConnection": "connectionName"}


def is_held(body: Object) -> bool:
    """Tell whether our finalizer is on it."""
    return IN_USE in body["metadata"].get("finalizers", ())


def hold(cluster: Cluster, ref: Ref) -> None:
    """Put our finalizer on a class or a connection; one that is gone or going is left."""
    body = cluster.get(ref)
    if body is None or is_held(body) or "deletionTimestamp" in body["metadata"]:
        return
    metadata = body["metadata"]
    finalizers = [*metadata.get("finalizers", []), IN_USE]
    cluster.merge(ref, {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}})


def used_by(records: Iterable[Object], kind: str) -> set[str]:
    """Name the classes, or the connections, of buffers that are not closed."""
    return {
        body["spec"][_NAMED_BY[kind]]
        for body in records
        if stage_of(RSERecordStatus.model_validate(body.get("status") or {})) is not Stage.CLOSED
    }


def release_unused(cluster: Cluster, records: Iterable[Object]) -> None:
    """Let go what is being deleted and that no buffer uses any more; hold what an earlier version left unheld."""
    found = list(records)
    for kind in _NAMED_BY:
        used = used_by(found, kind)
        for body in cluster.list(kind):
            is_used = body["metadata"]["name"] in used
            if "deletionTimestamp" in body["metadata"] and is_held(body) and not is_used:
                without(cluster, body, IN_USE)
            elif is_used and not is_held(body):
                hold(cluster, Ref(kind, None, body["metadata"]["name"]))


def without(cluster: Cluster, body: Object, *finalizers: str) -> None:
    """Take finalizers from an object."""
    metadata = body["metadata"]
    left = [name for name in metadata.get("finalizers", []) if name not in finalizers]
    ref = Ref(body["kind"], metadata.get("namespace"), metadata["name"])
    cluster.merge(ref, {"metadata": {"finalizers": left, "resourceVersion": metadata["resourceVersion"]}})
