"""Whether a pod would get by its label what its session has: tried by a pod that is never made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volatile_rse.api.conditions import Reason
from volatile_rse.api.injection import SIDECAR, TENANT
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.cluster import Cluster, Ref

__all__ = ["NONE", "WELL", "problems_of_injection"]

_NAME = "volatile-rse-probe"
_GET = "what its session has"
WELL = "A pod with the label of a session gets what the session has (dry run)."
NONE = "This installation has none (VOLATILE_RSE_INJECTION): pods mount by hand what their session has."


def problems_of_injection(cluster: Cluster, settings: Settings) -> tuple[Problem, ...]:
    """Try it in the buffers' namespace, which has the label of tenants' for this alone.

    Raises
    ------
    PortError
        The API server does not answer, or refuses such a pod.
    """
    namespace = cluster.get(Ref("Namespace", None, settings.buffers))
    labels = {} if namespace is None else namespace["metadata"].get("labels") or {}
    if labels.get(TENANT) != "true":
        what = (
            f"Namespace {settings.buffers} lacks the label {TENANT}=true: it cannot be tried whether pods get {_GET}."
        )
        return (Problem(Reason.INJECTION_MISSING, what),)
    if is_injected(cluster.admitted(_pod(settings))):
        return ()
    where = f"in a namespace with the label {TENANT}=true"
    what = f"A pod with the label {SESSION_LABEL} {where} does not get {_GET} (dry run)."
    return (Problem(Reason.INJECTION_MISSING, what),)


def is_injected(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod has the sidecar."""
    containers = (pod.get("spec") or {}).get("initContainers") or ()
    return any(container.get("name") == SIDECAR for container in containers)


def _pod(settings: Settings) -> dict[str, Any]:
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "probe", "image": settings.buffer_image, "securityContext": closed}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": settings.buffers, "name": _NAME, "labels": {SESSION_LABEL: _NAME}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }
