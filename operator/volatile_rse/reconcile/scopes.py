"""What the operator watches, what it keeps of that, and for how long it remembers what it may not watch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from volatile_rse.api.injection import INJECTION
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import KINDS, RECORD, session_name
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.cluster import Ref, Scope, nothing
from volatile_rse.reconcile.session_pods import secrets_of

__all__ = ["lasts", "scopes"]

Object = Mapping[str, Any]
_OWN = ("VolatileRSE", "RSERecord", "VolatileRSEClass", "RucioConnection")
_GIVEN = ("Secret", "ConfigMap")
"""Kinds of what a session is given."""
_CREDENTIALS = 10.0
"""Seconds for which a credential may be an old one."""
_SESSION = 1800.0
"""Seconds until it is noticed that somebody changed what a session was given, where nothing else happens in it."""
_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "ownerReferences",
)
_DEFAULT = "kubectl.kubernetes.io/default-container"
_STATUS = ("phase", "reason", "conditions", "containerStatuses", "initContainerStatuses")


def scopes(settings: Settings) -> tuple[Scope, ...]:
    """Give what is watched: our kinds, namespaces, the pods of sessions, what buffers are made of, and the webhook."""
    buffers = (Scope(kind, settings.buffers, RECORD) for kind in sorted(set(KINDS.values())))
    return (
        *(Scope(kind, concerns=_given if kind == "VolatileRSE" else nothing) for kind in _OWN),
        Scope("Namespace", prune=_outline),
        *buffers,
        Scope("PersistentVolume", label=RECORD),
        Scope("Pod", label=SESSION_LABEL, prune=_pod, concerns=_given_to_pod),
        Scope("MutatingWebhookConfiguration", name=INJECTION[0]),
    )


def lasts(settings: Settings, ref: Ref) -> float:
    """Tell for how many seconds an object may be remembered that is not watched; 0: not at all."""
    if ref.kind not in _GIVEN or ref.namespace == settings.buffers:
        return 0.0
    return _CREDENTIALS if ref.namespace == settings.namespace else _SESSION


def _given(request: Object) -> Iterable[Ref]:
    """Give what the session of a VolatileRSE was given."""
    metadata = request["metadata"]
    return [Ref(kind, metadata["namespace"], session_name(metadata["name"])) for kind in _GIVEN]


def _given_to_pod(pod: Object) -> Iterable[Ref]:
    metadata = pod["metadata"]
    name = (metadata.get("labels") or {}).get(SESSION_LABEL, "")
    return [Ref(kind, metadata["namespace"], session_name(name)) for kind in _GIVEN]


def _outline(body: Object) -> Object:
    """Keep the metadata of an object."""
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": body["metadata"]}


def _pod(body: Object) -> Object:
    """Keep of a session's pod what is read: whatever its environment holds is its user's own."""
    metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    annotations = metadata.get("annotations") or {}
    if _DEFAULT in annotations:
        kept["annotations"] = {_DEFAULT: annotations[_DEFAULT]}
    containers = [
        {key: entry[key] for key in ("name", "restartPolicy", "restartPolicyRules") if key in entry}
        for entry in spec.get("containers") or ()
    ]
    kept_of_spec = ("nodeName", "restartPolicy", "schedulingGates", "tolerations")
    bound = {key: spec[key] for key in kept_of_spec if key in spec}
    # Whichever way it gets a Secret: its name is all that is asked.
    bound["volumes"] = [{"secret": {"secretName": name}} for name in sorted(secrets_of(body))]
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "metadata": kept,
        "spec": {**bound, "containers": containers},
        "status": {key: status[key] for key in _STATUS if key in status},
    }
