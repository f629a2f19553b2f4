"""What a pod gets that bears the session's label and nothing else: the one function of it.

The webhook carries it out. The policies of manifests/injection-policy.yaml say the same in CEL, and are held to it by
tests that ask a real API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from volatile_rse.api.injection import (
    CONFIG,
    FILES,
    GATE,
    KEEP_ENV,
    KEPT_PATTERN,
    KEYS,
    MOUNTS,
    NAME_PATTERN,
    NOBODY,
    OFFLOADED,
    PROGRAM,
    RUN,
    SIDECAR,
    TOKEN,
    TOKEN_FILE,
    TOKEN_ITSELF,
    WAIT,
)
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import session_name

__all__ = ["inject", "is_offloaded", "session_of"]

Object = Mapping[str, Any]
_VARIABLES = (*KEYS, *FILES, TOKEN_ITSELF)
_SMALL = {"cpu": "20m", "memory": "8Mi"}


class _Pod(NamedTuple):
    """What a pod says for all of its containers."""

    given: str
    """Name of the session's objects."""
    stated: int | None
    """Uid of containers that state none; None: that of their image."""
    uid: int
    """Of the sidecar."""
    keeps: str
    """Annotation."""


def session_of(pod: Object) -> str | None:
    """Give the VolatileRSE that a pod's label names; None: none that can be."""
    name = (pod["metadata"].get("labels") or {}).get(SESSION_LABEL, "")
    return name if re.fullmatch(NAME_PATTERN, name) else None


def inject(pod: Object, image: str, *, usable: bool = False) -> dict[str, Any]:
    """Give a pod what its session has; what it says itself stays, and what it has already is not added twice.

    Parameters
    ----------
    image
        Of the sidecar.
    usable
        Its buffer is usable already: it need not wait.
    """
    name = session_of(pod)
    if name is None or is_offloaded(pod):
        return dict(pod)
    spec = dict(pod["spec"])
    waits = (pod["metadata"].get("annotations") or {}).get(WAIT) != "false"
    inits: Sequence[Object] = spec.get("initContainers") or ()
    injected = any(container["name"] == SIDECAR for container in inits)
    others = [gate for gate in spec.pop("schedulingGates", None) or () if gate["name"] != GATE]
    before = [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]
    is_new = waits and not injected and not spec.get("nodeName")
    if not usable and (GATE in before or is_new):
        others.append({"name": GATE})
    if others:
        spec["schedulingGates"] = others
    known = {volume["name"] for volume in spec.get("volumes") or ()}
    ours = [volume for volume in _volumes(session_name(name), optional=not waits) if volume["name"] not in known]
    spec["volumes"] = [*(spec.get("volumes") or ()), *ours]
    told = _Pod(session_name(name), *_uids(spec), (pod["metadata"].get("annotations") or {}).get(KEEP_ENV, ""))
    spec["containers"] = [_given(container, told) for container in spec["containers"]]
    inside = [container if container["name"] == SIDECAR else _given(container, told) for container in inits]
    spec["initContainers"] = inside if injected else [_sidecar(image, told.uid, waits=waits), *inside]
    return {**pod, "spec": spec}


def is_offloaded(pod: Object) -> bool:
    """Tell whether a pod is a job of a batch system."""
    return any(entry.get("key") == OFFLOADED for entry in pod["spec"].get("tolerations") or ())


def _uids(spec: Object) -> tuple[int | None, int]:
    """Give the uid that counts for containers which state none, and that of the sidecar."""
    pod = (spec.get("securityContext") or {}).get("runAsUser")
    stated = [_stated(container) for container in spec["containers"]]
    return pod, next((uid for uid in (pod, *stated) if uid is not None), NOBODY)


def _stated(container: Object) -> int | None:
    uid: int | None = (container.get("securityContext") or {}).get("runAsUser")
    return uid


def _volumes(given: str, *, optional: bool) -> Iterator[dict[str, Any]]:
    yield {"name": CONFIG, "configMap": {"name": given, "optional": optional}}
    yield {"name": TOKEN, "secret": {"secretName": given, "optional": optional}}
    yield {"name": RUN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def _given(container: Object, pod: _Pod) -> dict[str, Any]:
    """Add mounts and variables to a container, where it has none of its own."""
    mounts, env = list(container.get("volumeMounts") or ()), list(container.get("env") or ())
    names, paths = {mount["name"] for mount in mounts}, {mount["mountPath"] for mount in mounts}
    mounts += [
        {"name": name, "mountPath": path, "readOnly": True}
        for name, path in MOUNTS.items()
        if name not in names and path not in paths
    ]
    own = {entry["name"] for entry in env} | _kept(container["name"], pod.keeps)
    stated = _stated(container)
    # Clients read a token's file only if it is their own; a variable that is no good wins over a file that is.
    can_read = (pod.stated if stated is None else stated) == pod.uid
    env += [
        _variable(key, pod.given)
        for key in _VARIABLES
        if key not in own and (not key.startswith(TOKEN_ITSELF) or _gets(key, own, can_read=can_read))
    ]
    return {**container, "volumeMounts": mounts, "env": env}


def _kept(container: str, said: str) -> set[str]:
    """Name the variables that a container keeps of its own, where nobody can see them: these would win over them."""
    names = {word.removeprefix(f"{container}/") for word in re.findall(KEPT_PATTERN, said)}
    return {*names, *_VARIABLES} if "*" in names else names


def _gets(key: str, own: set[str], *, can_read: bool) -> bool:
    """Tell whether a container gets this one of the two ways to a token; never both, and none beside its own."""
    has_own = any(name.startswith(TOKEN_ITSELF) for name in own)
    return not has_own and key == (TOKEN_FILE if can_read else TOKEN_ITSELF)


def _variable(key: str, given: str) -> dict[str, Any]:
    if key in FILES:
        return {"name": key, "value": FILES[key]}
    kind, name = ("secretKeyRef", "token") if key == TOKEN_ITSELF else ("configMapKeyRef", key)
    return {"name": key, "valueFrom": {kind: {"name": given, "key": name, "optional": True}}}


def _sidecar(image: str, uid: int, *, waits: bool) -> dict[str, Any]:
    """Make the container that keeps token and authorities, and ends with the others."""
    is_there = ["/bin/busybox", "test", "-s", FILES[TOKEN_FILE]]
    return {
        "name": SIDECAR,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(PROGRAM),
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": {"command": is_there if waits else ["/bin/busybox", "true"]},
            "periodSeconds": 1,
            "failureThreshold": 600,
        },
        "resources": {"requests": dict(_SMALL), "limits": dict(_SMALL)},
        "securityContext": {
            "runAsUser": uid,
            "runAsNonRoot": uid != 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": CONFIG, "mountPath": MOUNTS[CONFIG], "readOnly": True},
            {"name": TOKEN, "mountPath": MOUNTS[TOKEN], "readOnly": True},
            {"name": RUN, "mountPath": MOUNTS[RUN]},
        ],
    }
