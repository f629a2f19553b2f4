"""The cluster through the API server: plain REST on computed paths, without discovery.

Nothing is repeated here: the reconciler does that, with fresh facts.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_incluster_config, load_kube_config
from urllib3.exceptions import HTTPError

from volatile_rse.adapters.https import told
from volatile_rse.api.conditions import Reason
from volatile_rse.api.crds import GROUP, KINDS, VERSION
from volatile_rse.ports.cluster import Cluster, Object, Ref
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["FIELD_MANAGER", "RESOURCES", "KubernetesCluster", "Resource"]

FIELD_MANAGER = "volatile-rse"
_TIMEOUT = 30
_PAGE = 500
_OK = range(200, 300)
_NOT_FOUND, _CONFLICT = 404, 409
_TRANSIENT = {408, 410, 425, 429, *range(500, 600)}
"""Also 410: the list went on changing for so long that it must be read again from its beginning."""
_MESSAGE = 1024
"""Characters of an Event's message that the API server takes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API server keeps a kind."""

    api_version: str
    plural: str
    namespaced: bool = True
    status: bool = True
    """Whether ``status`` is a subresource."""

    def path(self, namespace: str | None, *parts: str) -> str:
        """Compute the path of a collection, an object or its subresource."""
        root = "api" if "/" not in self.api_version else "apis"
        scope = ["namespaces", namespace] if self.namespaced and namespace is not None else []
        return "/" + "/".join(quote(part, safe="/") for part in [root, self.api_version, *scope, self.plural, *parts])


RESOURCES: Mapping[str, Resource] = {
    "ConfigMap": Resource("v1", "configmaps", status=False),
    "Event": Resource("v1", "events", status=False),
    "Namespace": Resource("v1", "namespaces", namespaced=False),
    "PersistentVolume": Resource("v1", "persistentvolumes", namespaced=False),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims"),
    "Pod": Resource("v1", "pods"),
    "Secret": Resource("v1", "secrets", status=False),
    "Service": Resource("v1", "services"),
    "Deployment": Resource("apps/v1", "deployments"),
    "Lease": Resource("coordination.k8s.io/v1", "leases", status=False),
} | {
    kind.name: Resource(f"{GROUP}/{VERSION}", kind.plural, kind.scope == "Namespaced", kind.status is not None)
    for kind in KINDS
}
"""The kinds that the operator uses."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    """Of a Kubernetes ``Status``; empty if the body is none."""
    message: str
    body: dict[str, Any]

    @property
    def absent(self) -> bool:
        """Tell that the object is not there: a path that the server does not know also gives 404."""
        return self.status == _NOT_FOUND and self.reason == "NotFound"

    @property
    def another(self) -> bool:
        """Tell that a patch named another UID than the object has."""
        causes = self.body.get("details", {}).get("causes", [])
        return self.reason == "Invalid" and any(cause.get("field") == "metadata.uid" for cause in causes)


class KubernetesCluster(Cluster):
    """A real cluster."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, context: str | None = None) -> KubernetesCluster:
        """Use the pod's service account, or a kubeconfig."""
        configuration = Configuration()
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), context, client_configuration=configuration, persist_config=False
            )
        configuration.retries = 0
        return cls(ApiClient(configuration))

    def identity(self) -> str:
        """Give the UID of the namespace ``kube-system``."""
        ref = Ref("Namespace", None, "kube-system")
        return str(_accepted(self._call("GET", _path(ref), ref), "GET", ref).body["metadata"]["uid"])

    def get(self, ref: Ref) -> Object | None:
        """Read one object, fresh; None if there is none."""
        answer = self._call("GET", _path(ref), ref)
        return None if answer.absent else _accepted(answer, "GET", ref).body

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects, page by page."""
        resource = RESOURCES[kind]
        query: dict[str, str | int] = {"limit": _PAGE}
        if labels:
            query["labelSelector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        what, path = Ref(kind, namespace, "*"), resource.path(namespace)
        objects: list[Object] = []
        while True:
            page = _accepted(self._call("GET", path, what, query=query), "LIST", what).body
            # Items of built-in kinds come without their type.
            objects += [{"apiVersion": resource.api_version, "kind": kind} | item for item in page["items"]]
            if not page["metadata"].get("continue"):
                return tuple(objects)
            query["continue"] = page["metadata"]["continue"]

    def create(self, body: Object) -> bool:
        """Create an object; False if one of that name exists."""
        ref = _ref(body)
        path = RESOURCES[ref.kind].path(ref.namespace)
        answer = self._call("POST", path, ref, query={"fieldManager": FIELD_MANAGER}, body=body)
        if answer.status == _CONFLICT and answer.reason == "AlreadyExists":
            return False
        _accepted(answer, "CREATE", ref)
        return True

    def apply(self, body: Object) -> None:
        """Server-side apply, taking over fields that others set."""
        query: dict[str, str | int] = {"fieldManager": FIELD_MANAGER, "force": "true"}
        ref = _ref(body)
        answer = self._call(
            "PATCH", _path(ref), ref, query=query, body=body, content_type="application/apply-patch+yaml"
        )
        _accepted(answer, "APPLY", ref)

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> None:
        """JSON merge patch.

        Raises
        ------
        RefusedError
            CHANGED_MEANWHILE: the object is another by now, or gone.
        """
        path = _path(ref, *([subresource] if subresource else []))
        query: dict[str, str | int] = {"fieldManager": FIELD_MANAGER}
        answer = self._call("PATCH", path, ref, query=query, body=patch, content_type="application/merge-patch+json")
        if answer.absent or answer.status == _CONFLICT or answer.another:
            raise RefusedError(Reason.CHANGED_MEANWHILE, f"{ref} changed while it was worked on: {answer.message}")
        _accepted(answer, "PATCH", ref)

    def delete(self, ref: Ref, uid: str) -> None:
        """Delete this very object; fine if it is gone or another bears its name."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        answer = self._call("DELETE", _path(ref), ref, body=options)
        if not answer.absent and answer.status != _CONFLICT:
            _accepted(answer, "DELETE", ref)

    def event(self, about: Object, *, type_: str, reason: str, message: str) -> None:
        """Write a Kubernetes Event; a failure is only logged."""
        metadata = about["metadata"]
        # Events about objects of the whole cluster live in this namespace, as those of Kubernetes do.
        namespace = metadata.get("namespace", "default")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name'][:200]}.", "namespace": namespace},
            "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"], **involved},
            "type": type_,
            "reason": reason,
            "message": message[:_MESSAGE],
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self.create(body)
        except PortError as error:
            _log.warning("no Event %s about %s: %s", reason, metadata["name"], error)

    def _call(  # noqa: PLR0913 - one HTTP request
        self,
        method: str,
        path: str,
        about: Ref,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> _Answer:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=None if body is None else dict(body),
                auth_settings=["BearerToken"],
            )
            response = self._client.call_api(*request, _request_timeout=_TIMEOUT)
            answer = _answer(response.status, response.read())  # type: ignore[no-untyped-call]
            if answer.message:
                # Whoever admits objects may repeat what it refuses.
                secrets = () if body is None or about.kind != "Secret" else _secrets(body)
                answer = replace(answer, message=told(answer.message, *secrets))
        except (HTTPError, ApiException, OSError) as error:
            message = f"The API server did not answer {method} {about}: {error}"
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, message) from error
        if answer.status in _TRANSIENT:
            message = f"The API server cannot serve {method} {about} now: {answer.status} {answer.message}"
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, message)
        return answer


def _path(ref: Ref, *parts: str) -> str:
    return RESOURCES[ref.kind].path(ref.namespace, ref.name, *parts)


def _ref(body: Object) -> Ref:
    metadata = body["metadata"]
    return Ref(body["kind"], metadata.get("namespace"), metadata.get("name") or metadata["generateName"] + "*")


def _answer(status: int, data: bytes) -> _Answer:
    try:
        body = json.loads(data)
    except ValueError:
        # "404 page not found", or a proxy's page.
        return _Answer(status, "", data[:_MESSAGE].decode(errors="replace").strip(), {})
    if not isinstance(body, dict):
        return _Answer(status, "", repr(body)[:_MESSAGE], {})
    if body.get("kind") != "Status":
        return _Answer(status, "", "", body)
    return _Answer(status, str(body.get("reason", "")), str(body.get("message", "")), body)


def _secrets(body: Object) -> Iterator[str]:
    """Give what a Secret holds, in both forms."""
    for text in (body.get("stringData") or {}).values():
        yield from (text, base64.b64encode(text.encode()).decode())
    for text in (body.get("data") or {}).values():
        yield from (text, base64.b64decode(text).decode(errors="replace"))


def _accepted(answer: _Answer, verb: str, about: Ref) -> _Answer:
    if answer.status not in _OK:
        message = f"The API server refused {verb} {about}: {answer.status} {answer.message}"
        raise RefusedError(Reason.CLUSTER_REFUSED, message)
    return answer
