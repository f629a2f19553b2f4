"""Adding to a pod that a spawner has made: what is there already stays."""

from __future__ import annotations

from typing import Any

__all__ = ["extend"]


def extend(pod: Any, added: dict[str, Any]) -> None:  # noqa: ANN401 (a V1Pod)
    """Add labels, annotations and volumes to a pod, mounts and environment to its first container.

    Parameters
    ----------
    pod
        Of ``kubernetes_asyncio``; changed.
    added
        As ``pods.additions`` gives it.
    """
    metadata, spec, container = pod.metadata, pod.spec, pod.spec.containers[0]
    metadata.labels = {**(metadata.labels or {}), **added["labels"]}
    metadata.annotations = {**(metadata.annotations or {}), **added["annotations"]}
    spec.volumes = _with(spec.volumes, added["volumes"], "name")
    container.volume_mounts = _with(container.volume_mounts, added["mounts"], "mountPath")
    container.env = [_longer(entry, added["environment"]) for entry in container.env or ()]
    container.env = _with(container.env, added["environment"], "name")


def _with(found: list[Any] | None, added: list[dict[str, Any]], key: str) -> list[Any]:
    there = list(found or ())
    taken = {_value(entry, key) for entry in there}
    return [*there, *(entry for entry in added if entry[key] not in taken)]


def _longer(entry: Any, added: list[dict[str, Any]]) -> Any:  # noqa: ANN401
    """Append to a list of folders that the container has already."""
    for more in added:
        text = _value(entry, "value")
        if _value(entry, "name") == more["name"] and isinstance(text, str):
            return {"name": more["name"], "value": f"{text}:{more['value']}"}
    return entry


def _value(entry: Any, key: str) -> object:  # noqa: ANN401
    if isinstance(entry, dict):
        return entry.get(key)
    return getattr(entry, {"mountPath": "mount_path"}.get(key, key), None)
