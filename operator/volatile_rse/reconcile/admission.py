"""The webhook: what it answers when the API server asks about a pod, and the certificate by which it is asked."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from volatile_rse.api.conditions import ConditionType, conditions_by_type
from volatile_rse.api.injection import INJECTION
from volatile_rse.builders.injection import inject, session_of
from volatile_rse.builders.objects import MANAGED, NOT_AFTER, new_object
from volatile_rse.builders.storage import tls_data
from volatile_rse.domain.settings import Settings
from volatile_rse.domain.stage import stamp
from volatile_rse.domain.times import later
from volatile_rse.ports import deadline
from volatile_rse.ports.cluster import Cluster, Ref
from volatile_rse.ports.errors import PortError
from volatile_rse.reconcile.reading import is_good
from volatile_rse.reconcile.world import World

__all__ = ["SERVICE", "answered", "keep_certificate"]

_log = logging.getLogger(__name__)

Object = Mapping[str, Any]
SERVICE = "volatile-rse-webhook"
"""Of the webhook; its Secret with the certificate has the name, too."""
_LOOK = 1.5
"""Seconds to learn whether a buffer is usable already: the API server waits 5 s for all of it."""
_LIFETIME = timedelta(days=90)


def answered(cluster: Cluster, image: str, asked: bytes) -> bytes:
    """Answer an AdmissionReview about a pod: it is allowed whatever comes of this.

    Parameters
    ----------
    cluster
        To learn whether the pod's buffer is usable; where that cannot be learned, the pod waits.
    image
        Of the sidecar.

    Raises
    ------
    ValueError
        It is no AdmissionReview.
    """
    try:
        request = json.loads(asked)["request"]
        answer: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    except (TypeError, KeyError) as error:
        message = "this is no AdmissionReview"
        raise ValueError(message) from error
    try:
        patch = _patch(cluster, image, request)
    except (KeyError, TypeError, AttributeError) as error:
        # The API server sends pods that are whole. Whatever else this is: it is no reason to refuse it.
        _log.warning("a pod is left as it is, since it cannot be read: %r", error)
    else:
        if patch:
            encoded = base64.b64encode(json.dumps(patch).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": encoded}
    kind = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return json.dumps({**kind, "response": answer}).encode()


def _patch(cluster: Cluster, image: str, request: Object) -> list[dict[str, Any]]:
    pod = request["object"]
    name = session_of(pod)
    usable = name is not None and _is_usable(cluster, str(request.get("namespace")), name)
    spec = inject(pod, image, usable=usable)["spec"]
    return [] if spec == pod["spec"] else [{"op": "replace", "path": "/spec", "value": spec}]


def _is_usable(cluster: Cluster, namespace: str, name: str) -> bool:
    """Tell whether a session can begin now; whoever cannot be asked has not said so."""
    try:
        with deadline.within(_LOOK):
            body = cluster.get(Ref("VolatileRSE", namespace, name))
    except PortError as error:
        _log.warning("%s/%s: a pod of it waits, since it cannot be read: %s", namespace, name, error.what)
        return False
    if body is None or "deletionTimestamp" in body["metadata"]:
        return False
    usable = conditions_by_type(body.get("status")).get(ConditionType.USABLE.value, {})
    return usable.get("status") == "True"


def keep_certificate(world: World) -> None:
    """Give the webhook a certificate that lasts, and have the API server trust it; where there is none, do nothing.

    Raises
    ------
    PortError
        The API server does not answer, or refuses.
    """
    cluster, settings, ours = world.cluster, world.settings, world.authority.bundle()
    ref = Ref("MutatingWebhookConfiguration", None, INJECTION[0])
    configuration = cluster.get(ref)
    if configuration is None:
        return
    secret = cluster.get(Ref("Secret", settings.namespace, SERVICE))
    if secret is None or not is_good(secret, ours, world.clock.now()):
        cluster.apply(_certificate(world, settings))
    trusted = base64.b64encode(ours.encode()).decode()
    hooks = configuration.get("webhooks") or []
    if any(hook["clientConfig"].get("caBundle") != trusted for hook in hooks):
        changed = [{**hook, "clientConfig": {**hook["clientConfig"], "caBundle": trusted}} for hook in hooks]
        version = {"resourceVersion": configuration["metadata"]["resourceVersion"]}
        cluster.merge(ref, {"metadata": version, "webhooks": changed})


def _certificate(world: World, settings: Settings) -> dict[str, Any]:
    names = [f"{SERVICE}.{settings.namespace}.svc", f"{SERVICE}.{settings.namespace}.svc.cluster.local", SERVICE]
    pair = world.authority.server(names, _LIFETIME)
    data = tls_data(pair.certificate, pair.key, world.authority.bundle())
    body = new_object("Secret", settings.namespace, SERVICE, MANAGED, {"type": "Opaque", "stringData": data})
    body["metadata"]["annotations"] = {NOT_AFTER: stamp(later(world.clock.now(), _LIFETIME))}
    return body
