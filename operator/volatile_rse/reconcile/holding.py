"""Classes and connections are held while buffers use them, and let go when the last one is closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from volatile_rse.builders.objects import IN_USE
from volatile_rse.ports.cluster import Cluster, Ref
from volatile_rse.reconcile.reading import is_closed, spec_of

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
    return {str(spec_of(body).get(_NAMED_BY[kind])) for body in records if not is_closed(body)}


def release_unused(cluster: Cluster, records: Iterable[Object]) -> None:
    """Let go what is being deleted and that no buffer uses any more; hold what an earlier version left unheld.

    Raises
    ------
    Exception
        The first that failed; the others were done.
    """
    found, failed = list(records), list[Exception]()
    for kind in _NAMED_BY:
        used = used_by(found, kind)
        for body in cluster.list(kind):
            try:
                _hold_or_release(cluster, body, is_used=body["metadata"]["name"] in used)
            except Exception as error:  # noqa: BLE001 (raised below)
                failed.append(error)
    if failed:
        raise failed[0]


def _hold_or_release(cluster: Cluster, body: Object, *, is_used: bool) -> None:
    if "deletionTimestamp" in body["metadata"] and is_held(body) and not is_used:
        without(cluster, body, IN_USE)
    elif is_used and not is_held(body):
        hold(cluster, Ref(body["kind"], None, body["metadata"]["name"]))


def without(cluster: Cluster, body: Object, *finalizers: str) -> None:
    """Take finalizers from an object."""
    metadata = body["metadata"]
    left = [name for name in metadata.get("finalizers", []) if name not in finalizers]
    ref = Ref(body["kind"], metadata.get("namespace"), metadata["name"])
    cluster.merge(ref, {"metadata": {"finalizers": left, "resourceVersion": metadata["resourceVersion"]}})
