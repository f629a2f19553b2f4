"""The cluster through the API server: plain REST on computed paths, without discovery.

Nothing is repeated here: the reconciler does that, with fresh facts.
"""

from __future__ import annotations

import base64
import json
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast
from urllib.parse import quote

from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.config import load_incluster_config, load_kube_config
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from volatile_rse.adapters import https
from volatile_rse.adapters.view import is_kept, slim
from volatile_rse.api.conditions import Reason
from volatile_rse.api.crds import GROUP, KINDS, VERSION
from volatile_rse.api.schema import LARGEST
from volatile_rse.api.text import EVENT, visible
from volatile_rse.domain.times import is_time
from volatile_rse.ports.cluster import ANY, Listing, Object, Ref, Scope, Source, WatchEvent
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["FIELD_MANAGER", "RESOURCES", "KubernetesCluster", "Resource"]

FIELD_MANAGER = "volatile-rse"
_CONNECT, _TIMEOUT = 10, 30
"""Seconds until it is connected with, and for which the API server may be silent."""
_DEADLINE = 60
"""Seconds until its whole answer is there."""
_MOST = 1 << 30
"""Bytes of an answer: a page of the greatest objects that it keeps has less."""
_PAGE, _PAGE_OF_PODS = 500, 100
"""Objects of one answer; a pod may be large, and is somebody else's."""
_PAGES, _LISTING = 2000, 300.0
"""Pages of a list, and seconds for all of them: no list that the operator asks for has a million objects."""
_OK = range(200, 300)
_NOT_FOUND, _CONFLICT = 404, 409
_TRANSIENT = {408, 410, 425, 429, *range(500, 600)}
"""Also 410: the list went on changing for so long that it must be read again from its beginning."""
_NO_PORTS = "failed to allocate a nodePort: range is full"
_VERBS: Mapping[str, str] = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
_ALL = "*"
"""In the place of a name: all of a kind, as messages say it."""
_WATCH = 300
"""Seconds of one watch; bookmarks come each minute, so that one that is silent for longer is broken."""
_SILENT = 90.0
_CONNECTIONS = 64
"""That are kept: one for each thread that asks, and one for each watch, or others would begin with a handshake."""
_CHUNK, _LONGEST = 1 << 16, 1 << 24
"""Bytes that are read at once, and of one event: an object has less than 3 MB."""
_TYPES = {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}
_SHOWN = 60
_MESSAGE = 1024
"""Characters of an Event's message that the API server takes."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API server keeps a kind."""

    api_version: str
    plural: str
    namespaced: bool = True
    status: bool = True
    """Whether ``status`` is a subresource."""
    optional: bool = False
    """Whether an API server may not know it: then there is none of it."""

    def path(self, namespace: str | None, *parts: str) -> str:
        """Compute the path of a collection, an object or its subresource."""
        root = "api" if "/" not in self.api_version else "apis"
        scope = ["namespaces", namespace] if self.namespaced and namespace is not None else []
        # A name is one part, whatever it is made of: it must not lead anywhere else.
        return "/" + "/".join(
            [
                root,
                self.api_version,
                *(quote(part, safe="", errors="surrogatepass") for part in [*scope, self.plural, *parts]),
            ]
        )


def _of_admission(version: str, plural: str) -> Resource:
    place = f"admissionregistration.k8s.io/{version}"
    return Resource(place, plural, namespaced=False, status=False, optional=True)


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
    "Job": Resource("batch/v1", "jobs"),
    "Lease": Resource("coordination.k8s.io/v1", "leases", status=False),
    "MutatingWebhookConfiguration": _of_admission("v1", "mutatingwebhookconfigurations"),
    **{
        f"MutatingAdmissionPolicyBinding.{version}": _of_admission(version, "mutatingadmissionpolicybindings")
        for version in ("v1", "v1beta1")
    },
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
    def lacks_ports(self) -> bool:
        """Tell that no NodePort is left: the API server calls this an error of its own."""
        return self.reason == "InternalError" and _NO_PORTS in self.message

    @property
    def another(self) -> bool:
        """Tell that a patch named another UID than the object has."""
        details = self.body.get("details")
        causes = details.get("causes") if isinstance(details, Mapping) else ()
        listed = causes if isinstance(causes, list) else ()
        named = [cause.get("field") for cause in listed if isinstance(cause, Mapping)]
        return self.reason == "Invalid" and "metadata.uid" in named


class KubernetesCluster(Source):
    """A real cluster.

    Parameters
    ----------
    asked
        Told of each request before it is sent: its verb, as roles name it, and the kind.
    """

    def __init__(self, client: ApiClient, asked: Callable[[str, str], None] = lambda _verb, _kind: None) -> None:
        self._client = client
        self._asked = asked
        required = ssl.CERT_REQUIRED if client.configuration.verify_ssl else ssl.CERT_NONE
        context = https.bound_context(create_urllib3_context(cert_reqs=required))
        client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = context

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str | None = None,
        asked: Callable[[str, str], None] = lambda _verb, _kind: None,
    ) -> KubernetesCluster:
        """Use the pod's service account, or a kubeconfig."""
        configuration = Configuration()
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), context, client_configuration=configuration, persist_config=False
            )
        configuration.retries = 0
        configuration.connection_pool_maxsize = _CONNECTIONS
        return cls(ApiClient(configuration), asked)

    def identity(self) -> str:
        """Give the UID of the namespace ``kube-system``."""
        ref = Ref("Namespace", None, "kube-system")
        body = _accepted(self._call("GET", _path(ref), ref), "GET", ref).body
        return str(_sound(body, "GET", ref)["metadata"]["uid"])

    def get(self, ref: Ref) -> Object | None:
        """Read one object, fresh; None if there is none."""
        answer = self._call("GET", _path(ref), ref)
        is_unknown = answer.status == _NOT_FOUND and RESOURCES[ref.kind].optional
        return None if answer.absent or is_unknown else _sound(_accepted(answer, "GET", ref).body, "GET", ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects, page by page."""
        selector = ",".join(key if value == ANY else f"{key}={value}" for key, value in sorted((labels or {}).items()))
        return self._listed(kind, namespace, {"labelSelector": selector} if selector else {}, _sound).objects

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object of a kind."""
        return tuple(read(body) for body in self.list(kind))

    def listing(self, scope: Scope) -> Listing:
        """List the objects of a scope, with the version from which to watch."""

        def pruned(body: dict[str, Any], verb: str, about: Ref) -> Object | None:
            found = _if_sound(body, verb, about)
            return None if found is None else slim(scope.prune(found))

        return self._listed(scope.kind, scope.namespace, _selectors(scope), pruned)

    def _listed(
        self,
        kind: str,
        namespace: str | None,
        selectors: Mapping[str, str],
        read: Callable[[dict[str, Any], str, Ref], Object | None],
    ) -> Listing:
        resource, version = RESOURCES[kind], ""
        query: dict[str, str | int] = {"limit": _PAGE_OF_PODS if kind == "Pod" else _PAGE, **selectors}
        what, path = Ref(kind, namespace, _ALL), resource.path(namespace)
        objects: list[Object] = []
        until = time.monotonic() + _LISTING
        for _ in range(_PAGES):
            if time.monotonic() > until:
                _doubt(f"LIST {what}", f"the list has no end after {_LISTING:g} s")
            page = _accepted(self._call("GET", path, what, query=query), "LIST", what).body
            items, following = _page_of(page, what)
            # The list is of one moment: that of its first page.
            version = version or _version_of(page)
            # Items of built-in kinds come without their type.
            typed = ({"apiVersion": resource.api_version, "kind": kind} | item for item in items)
            objects += [body for item in typed if (body := read(item, "LIST", what)) is not None]
            if not following:
                break
            if following == query.get("continue"):
                _doubt(f"LIST {what}", "the list has no end: it goes on where it was")
            query["continue"] = following
        else:
            _doubt(f"LIST {what}", f"the list has no end after {_PAGES} pages")
        return Listing(tuple(objects), version)

    def watch(self, scope: Scope, version: str) -> Iterator[WatchEvent]:
        """Give what changes in a scope from a version on."""
        resource, what = RESOURCES[scope.kind], Ref(scope.kind, scope.namespace, scope.name or "*")
        query = {
            **_selectors(scope),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH),
        }
        self._asked("watch", scope.kind)
        request = self._client.param_serialize(
            "GET",
            resource.path(scope.namespace),
            query_params=list(query.items()),
            header_params={"Accept": "application/json"},
            auth_settings=["BearerToken"],
        )
        with _watching(scope):
            response = self._client.call_api(*request, _request_timeout=(_TIMEOUT, _SILENT)).response
            if response.status not in _OK:
                answer = _answer(response.status, response.read(_MESSAGE))
                response.close()
                _doubt(f"WATCH {what}", f"{answer.status} {answer.message}")
        return self._events(scope, what, response)

    @staticmethod
    def _events(scope: Scope, what: Ref, response: BaseHTTPResponse) -> Iterator[WatchEvent]:
        resource = RESOURCES[scope.kind]
        with _watching(scope):
            try:
                for line in _lines(response.stream(_CHUNK, decode_content=True), what):
                    if (event := _event_of(line, what, resource, scope.kind)) is not None:
                        yield event
            finally:
                # What is left of it would be read by whoever has the connection next.
                response.close()

    def admitted(self, body: Object) -> Object:
        """Give an object as it would be stored, by a dry run."""
        ref, query = _ref(body), {"fieldManager": FIELD_MANAGER, "dryRun": "All"}
        answer = self._call("POST", RESOURCES[ref.kind].path(ref.namespace), ref, query=query, body=body)
        # What was not stored has no version.
        return _sound(_accepted(answer, "CREATE", ref).body, "CREATE", ref, stored=False)

    def create(self, body: Object) -> Object | None:
        """Create an object, and give it; None if one of that name exists."""
        ref = _ref(body)
        path = RESOURCES[ref.kind].path(ref.namespace)
        answer = self._call("POST", path, ref, query={"fieldManager": FIELD_MANAGER}, body=body)
        if answer.status == _CONFLICT and answer.reason == "AlreadyExists":
            return None
        return _sound(_accepted(answer, "CREATE", ref).body, "CREATE", ref)

    def apply(self, body: Object) -> Object:
        """Server-side apply, taking over fields that others set."""
        query: dict[str, str | int] = {"fieldManager": FIELD_MANAGER, "force": "true"}
        ref = _ref(body)
        answer = self._call(
            "PATCH", _path(ref), ref, query=query, body=body, content_type="application/apply-patch+yaml"
        )
        return _sound(_accepted(answer, "APPLY", ref).body, "APPLY", ref)

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> Object:
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
        return _sound(_accepted(answer, "PATCH", ref).body, "PATCH", ref)

    def delete(self, ref: Ref, uid: str) -> Object | None:
        """Delete this very object; fine if it is gone or another bears its name."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        answer = self._call("DELETE", _path(ref), ref, body=options)
        if answer.absent or answer.status == _CONFLICT:
            return None
        body = _accepted(answer, "DELETE", ref).body
        # What is gone at once is answered by a Status, or by how it was last.
        return _sound(body, "DELETE", ref) if body.get("kind") == ref.kind and is_kept(body) else None

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
            "message": visible(message, EVENT),
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
        self._asked("list" if about.name == _ALL and method == "GET" else _VERBS[method], about.kind)
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=None if body is None else dict(body),
                auth_settings=["BearerToken"],
            )
            with https.bounded(_DEADLINE, _MOST):
                # The first of them counts before there is a socket of ours, whose waits are bounded anyway.
                single = min(_CONNECT, https.left()), min(_TIMEOUT, https.left())
                response = self._client.call_api(*request, _request_timeout=single)
                https.expect(response.getheader("Content-Length"))  # type: ignore[no-untyped-call]
                data = response.read()  # type: ignore[no-untyped-call]
        except (HTTPError, ApiException, OSError) as error:
            message = f"The API server did not answer {method} {about}: {error}"
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, message) from error
        except (AttributeError, ValueError, TypeError, RecursionError) as error:
            # What cannot be written into a request has not left this process.
            message = f"{method} {about} cannot be asked: {type(error).__name__}: {error}"
            raise RefusedError(Reason.CLUSTER_REFUSED, message) from error
        answer = _answer(response.status, data)
        if answer.message:
            # Whoever admits objects may repeat what it refuses.
            secrets = () if body is None or about.kind != "Secret" else _secrets(body)
            answer = replace(answer, message=https.told(answer.message, *secrets))
        if answer.lacks_ports:
            message = f"The API server refused {method} {about}: {answer.status} {answer.message}"
            raise RefusedError(Reason.NODE_PORTS_EXHAUSTED, message)
        if answer.status in _TRANSIENT:
            message = f"The API server cannot serve {method} {about} now: {answer.status} {answer.message}"
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, message)
        return answer


def _path(ref: Ref, *parts: str) -> str:
    if ref.name in {"", ".", ".."}:
        # A client or a server would take it for a step in the path.
        raise RefusedError(Reason.CLUSTER_REFUSED, f"{ref.kind} {ref.namespace}: {ref.name!r} is no name")
    return RESOURCES[ref.kind].path(ref.namespace, ref.name, *parts)


def _ref(body: Object) -> Ref:
    metadata = body["metadata"]
    return Ref(body["kind"], metadata.get("namespace"), metadata.get("name") or metadata["generateName"] + "*")


def _answer(status: int, data: bytes) -> _Answer:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
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


@contextmanager
def _watching(scope: Scope) -> Iterator[None]:
    try:
        yield
    except (HTTPError, ApiException, OSError) as error:
        message = f"The watch of {scope} broke: {error}"
        raise UnreachableError(Reason.CLUSTER_UNREACHABLE, message) from error


def _selectors(scope: Scope) -> dict[str, str]:
    labels = {} if scope.label is None else {"labelSelector": scope.label}
    return labels if scope.name is None else {**labels, "fieldSelector": f"metadata.name={scope.name}"}


def _version_of(page: Mapping[str, Any]) -> str:
    metadata = page.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, Mapping) else None
    return version if isinstance(version, str) else ""


def _lines(chunks: Iterator[bytes], what: Ref) -> Iterator[bytes]:
    """Cut a stream into its lines, none of which is longer than any object may be."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        if len(rest) > _LONGEST:
            _doubt(f"WATCH {what}", f"a line has more than {_LONGEST} bytes")
        *whole, last = rest.split(b"\n")
        rest = bytearray(last)
        yield from (bytes(line) for line in whole if line)


def _event_of(line: bytes, what: Ref, resource: Resource, kind: str) -> WatchEvent | None:
    """Read one line of a watch; None: it tells of an object that is none, which keeps no other back.

    Raises
    ------
    UnreachableError
        It tells of an error, as of a version that is too old; or nobody can tell what it says.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    type_, body = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
    if type_ not in _TYPES or not isinstance(body, dict):
        message = body.get("message") if isinstance(body, dict) else ascii(line[:_SHOWN])
        _doubt(f"WATCH {what}", str(message)[:_MESSAGE])
    if type_ == "BOOKMARK":
        if not _version_of(body):
            _doubt(f"WATCH {what}", "a bookmark has no version")
        return WatchEvent("BOOKMARK", body)
    typed = _if_sound({"apiVersion": resource.api_version, "kind": kind} | body, "WATCH", what)
    return None if typed is None else WatchEvent(cast("Any", type_), typed)


def _if_sound(body: dict[str, Any], verb: str, about: Ref) -> dict[str, Any] | None:
    """Leave out one object that is none: whoever has made it must not hide all others."""
    try:
        return _sound(body, verb, about)
    except UnreachableError as error:
        _log.error("an object is left out: %s", error.what)
        return None


def _page_of(page: Mapping[str, Any], what: Ref) -> tuple[Sequence[dict[str, Any]], str]:
    """Give the items of one page, and what asks for the next one."""
    items, metadata = page.get("items"), page.get("metadata") or {}
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        _doubt(f"LIST {what}", "it has no items")
    following = metadata.get("continue") or "" if isinstance(metadata, Mapping) else None
    if not isinstance(following, str):
        _doubt(f"LIST {what}", "nobody can tell whether it goes on")
    return items, following


def _sound(body: dict[str, Any], verb: str, about: Ref, *, stored: bool = True) -> dict[str, Any]:
    """See that an object has what the API server gives every one: the rest of it is judged by who reads it.

    Raises
    ------
    UnreachableError
        CLUSTER_UNREACHABLE: something else answers in its place.
    """
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping):
        _doubt(f"{verb} {about}", "it has no metadata")
    asked = _METADATA if stored else {name: fits for name, fits in _METADATA.items() if name != "resourceVersion"}
    if wrong := next((name for name, fits in asked.items() if not fits(metadata.get(name))), ""):
        _doubt(f"{verb} {about}", f"metadata.{wrong} is {ascii(metadata.get(wrong))[:_SHOWN]}")
    if wrong := next((name for name in ("spec", "status", "data") if not _is_map(body.get(name))), ""):
        _doubt(f"{verb} {about}", f"{wrong} is {ascii(body[wrong])[:_SHOWN]}")
    return body


def _doubt(call: str, why: str) -> NoReturn:
    what = f"What answers {call} for the API server gives no such object: {why}"
    raise UnreachableError(Reason.CLUSTER_UNREACHABLE, what)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_map(value: object) -> bool:
    return value is None or isinstance(value, Mapping)


def _is_map_of_texts(value: object) -> bool:
    return value is None or (isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values()))


def _is_time(value: object) -> bool:
    return value is None or is_time(value)


def _are_owners(value: object) -> bool:
    owners = value if isinstance(value, list) else () if value is None else (None,)
    return all(
        # Whoever makes a pod writes what they like there: it is judged where it is used.
        isinstance(owner, Mapping) and all(isinstance(owner.get(key), str) for key in ("kind", "uid"))
        for owner in owners
    )


_METADATA: Mapping[str, Callable[[object], bool]] = {
    "name": _is_text,
    "uid": _is_text,
    "resourceVersion": _is_text,
    "namespace": lambda value: value is None or _is_text(value),
    "generation": lambda value: value is None or (isinstance(value, int) and 0 <= value <= LARGEST),
    "labels": _is_map_of_texts,
    "annotations": _is_map_of_texts,
    "finalizers": lambda value: value is None or (isinstance(value, list) and all(map(_is_text, value))),
    "creationTimestamp": _is_time,
    "deletionTimestamp": _is_time,
    "ownerReferences": _are_owners,
}
"""Field of every object's metadata -> whether a value can be one."""


def _accepted(answer: _Answer, verb: str, about: Ref) -> _Answer:
    if answer.status not in _OK:
        message = f"The API server refused {verb} {about}: {answer.status} {answer.message}"
        raise RefusedError(Reason.CLUSTER_REFUSED, message)
    return answer
