"""The user's API server: VolatileRSEs of a namespace, and errors in words."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDOUT_CHANNEL, WSClient, get_websocket_url
from urllib3.exceptions import HTTPError
from websocket import WebSocketBadStatusException, WebSocketException

from volatile_rse.api.conditions import Actor
from volatile_rse.api.crds import GROUP, VERSION
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.kubeconfig import Place

__all__ = ["FIELD_MANAGER", "Object", "Server", "Unreadable", "Written"]

Object = Mapping[str, Any]
Written = Callable[[bytes], object]
"""Takes what a program writes, as it comes."""

FIELD_MANAGER = "vrse"
_CONNECT, _READ = 10, 30
"""Seconds until somebody must have answered, and until the next byte."""
_WATCH = 240
"""Seconds of one watch."""
_PAUSE = 1.0
"""Seconds between two watches at least."""
_OK = range(200, 300)
_NOT_FOUND, _GONE = 404, 410
_KIND = "volatilerses"
_ERROR = "ERROR"
"""Type of the event by which a watch ends that cannot go on."""
_GROUP = f"/apis/{GROUP}/{VERSION}"
_MERGE = "application/merge-patch+json"
_FORMS = (dict, list)
_CHUNK = 1 << 16
_SHOWN = 512
"""Characters of an answer that is none of Kubernetes."""
_EDIT = "bind the ClusterRole edit (or view, to look only) to this user in the namespace."
"""What lets a user do what most commands do."""
_LOOK = 1.0
"""Seconds that a program may write nothing until it is looked whether the connection to it is there."""
_PING = 30.0
"""Seconds between two questions whether somebody is at the other end; also, nothing between takes it for idle then."""
_DEAF = 60.0
"""Seconds until such a question must have been answered."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What this user may not read."""

    what: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: dict[str, Any]
    """Empty if it is no object."""
    text: str
    """What is said where it is none of Kubernetes."""

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", "")) if self.body.get("kind") == "Status" else ""

    @property
    def message(self) -> str:
        said = self.body.get("message") if self.body.get("kind") == "Status" else ""
        return str(said or self.text or f"HTTP status {self.status}")

    @property
    def about(self) -> Mapping[str, Any]:
        details = self.body.get("details")
        return details if isinstance(details, Mapping) else {}


class Server:
    """What a person may ask of the API server, in one namespace."""

    def __init__(self, place: Place) -> None:
        self._client = ApiClient(place.configuration)
        self._host = str(place.configuration.host)
        self.namespace, self.named = place.namespace, place.named
        self.date = ""
        """The API server's time at its last answer, as HTTP has it."""

    def get(self, name: str) -> Object:
        """Read one VolatileRSE."""
        return self._accepted(self._call("GET", self._path(name)), "read", self._named(name)).body

    def list(self, *, everywhere: bool = False) -> list[Object]:
        """List the VolatileRSEs of the namespace, or of all."""
        path = f"{_GROUP}/{_KIND}" if everywhere else self._path()
        what = "VolatileRSEs of all namespaces" if everywhere else f"VolatileRSEs of namespace {self.namespace}"
        found: list[Object] = []
        query = {"limit": "500"}
        while True:
            page = self._accepted(self._call("GET", path, query), "list", what).body
            found += [{"apiVersion": f"{GROUP}/{VERSION}", "kind": "VolatileRSE"} | item for item in page["items"]]
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return found
            query["continue"] = str(following)

    def create(self, body: Object, *, dry_run: bool) -> Object:
        """Create a VolatileRSE, or have it judged only; fields that the kind does not have are refused."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        answer = self._call("POST", self._path(), query, body)
        return self._accepted(answer, "create", self._named(str(body["metadata"]["name"]))).body

    def delete(self, body: Object) -> None:
        """Delete this very VolatileRSE; fine if it is gone."""
        metadata = body["metadata"]
        options = {"preconditions": {"uid": metadata["uid"]}}
        answer = self._call("DELETE", self._path(metadata["name"]), body=options)
        if answer.status not in _OK and answer.status != _NOT_FOUND:
            raise self._error(answer, "delete", self._named(metadata["name"]))

    def change(self, body: Object, spec: Object, *, version: str | None = None) -> Object:
        """Change fields of this very VolatileRSE.

        Parameters
        ----------
        version
            Of it; if it has another one by now, nothing is changed.
        """
        metadata = body["metadata"]
        known = {"uid": metadata["uid"]} | ({} if version is None else {"resourceVersion": version})
        patch = {"metadata": known, "spec": spec}
        answer = self._call("PATCH", self._path(metadata["name"]), {"fieldManager": FIELD_MANAGER}, patch, _MERGE)
        return self._accepted(answer, "change", self._named(metadata["name"])).body

    def who(self) -> str:
        """Give the name that Kubernetes knows this user by."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = self._call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=body)
        reviewed = self._accepted(answer, "ask", "who you are (SelfSubjectReview)").body
        return str(reviewed["status"]["userInfo"]["username"])

    def read(self, kind: str, name: str) -> Object | Unreadable | None:
        """Read a VolatileRSEClass, a RucioConnection or a Namespace; None if there is none of that name."""
        path = {
            "VolatileRSEClass": f"{_GROUP}/volatilerseclasses",
            "RucioConnection": f"{_GROUP}/rucioconnections",
            "Namespace": "/api/v1/namespaces",
        }[kind]
        answer = self._call("GET", f"{path}/{_part(name)}")
        if answer.reason == "Forbidden":
            return Unreadable(f"{kind} {name}")
        if answer.reason == "NotFound" and answer.about.get("name"):
            return None
        return self._accepted(answer, "read", f"{kind} {name}").body

    def look(self, path: str, what: str) -> Object | Unreadable | None:
        """Read whatever a path names; None if there is nothing.

        Parameters
        ----------
        what
            What is asked for.
        """
        answer = self._call("GET", path)
        if answer.status in _OK and answer.body:
            return answer.body
        if answer.reason == "Forbidden":
            return Unreadable(what)
        if answer.status == _NOT_FOUND:
            return None
        raise self._error(answer, "read", what)

    def make(self, path: str, body: Object, what: str, *, right: str) -> Object:
        """Create whatever a path is for.

        Parameters
        ----------
        right
            What lets a user do so: what an admin must do where it is refused.
        """
        return self._accepted(self._call("POST", path, body=body), "create", what, right).body

    def may(self, verb: str, kind: str, namespace: str) -> bool:
        """Tell whether this user may do so; yes, where nobody says: then it is seen when it is done.

        Parameters
        ----------
        kind
            Of the core group, such as ``pods`` or ``pods/log``.
        """
        resource, _, part = kind.partition("/")
        asked = {"verb": verb, "resource": resource, "subresource": part, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        answer = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
        said = answer.body.get("status") if answer.status in _OK else None
        return not isinstance(said, Mapping) or said.get("allowed") is not False

    def drop(self, path: str, what: str, *, version: str | None, right: str) -> None:
        """Delete what a path names; fine if it is gone.

        Parameters
        ----------
        version
            Of it; if it has another one by now, it stays.
        """
        body = None if version is None else {"preconditions": {"resourceVersion": version}}
        answer = self._call("DELETE", path, body=body)
        if answer.status not in _OK and answer.status != _NOT_FOUND:
            raise self._error(answer, "delete", what, right)

    def log(self, path: str, what: str, *, container: str, right: str) -> bytes:
        """Read what a container has written."""
        with self._answering():
            request = self._request("GET", f"{path}/log", {"container": container})
            response: Any = self._client.call_api(*request, _request_timeout=(_CONNECT, _READ))
            data = bytes(response.read())
        if response.status not in _OK:
            raise self._error(_answer(response.status, data), "read", what, right)
        return data

    def execute(
        self, path: str, argv: Sequence[str], what: str, streams: tuple[Written, Written], *, right: str
    ) -> int:
        """Run a program in a container that runs, and hand over what it writes; give its exit code.

        Parameters
        ----------
        path
            Of the pod, with a query that names the container.
        streams
            Of what it writes, and of its errors.
        """
        path, _, container = path.partition("?")
        query = [
            ("container", container),
            ("stdout", "true"),
            ("stderr", "true"),
            *(("command", word) for word in argv),
        ]
        _, url, headers, *_ = self._request("GET", f"{path}/exec")
        client = self._connected(f"{url}?{urlencode(query)}", headers, what, right)
        pulse = _Pulse(client.sock)
        while client.is_open():
            # A connection that breaks has no word about the end, which is told then.
            try:
                client.update(timeout=_LOOK)
                pulse.beat()
            except (WebSocketException, OSError):
                # Nobody is there who would say good-bye.
                client.sock.shutdown()
                break
            _hand_over(client, streams)
        client.close()
        # What came at last.
        _hand_over(client, streams)
        return _exit_code(client.read_channel(ERROR_CHANNEL), what)

    def _connected(self, url: str, headers: Mapping[str, str], what: str, right: str) -> Any:  # noqa: ANN401 (untyped)
        with self._answering():
            try:
                address = get_websocket_url(url)  # type: ignore[no-untyped-call]
                return WSClient(self._client.configuration, address, headers, False, binary=True)  # type: ignore[no-untyped-call]
            except WebSocketBadStatusException as error:
                answer = _answer(error.status_code, error.resp_body or b"")
                raise self._error(answer, "run", what, right) from error
            except WebSocketException as error:
                raise OSError(str(error)) from error

    def watch(self, name: str, until: float | None = None) -> Iterator[Object | None]:
        """Give a VolatileRSE as it is, and again whenever it has changed; None once it is gone.

        Parameters
        ----------
        until
            By ``time.monotonic``: then it ends.
        """
        first = body = self.get(name)
        while True:
            begun = time.monotonic()
            yield body
            for event in self._events(name, str(body["metadata"]["resourceVersion"]), until):
                yield event["object"]
                if event["type"] == "DELETED":
                    yield None
                    return
            if until is not None and time.monotonic() >= until:
                return
            # A watch that ends at once, again and again, must not become a storm of requests.
            time.sleep(max(0.0, begun + _PAUSE - time.monotonic()))
            again = self._again(name)
            if again is None or again["metadata"]["uid"] != first["metadata"]["uid"]:
                # It went between two watches, whatever has its name now.
                yield None
                return
            body = again

    def _again(self, name: str) -> Object | None:
        answer = self._call("GET", self._path(name))
        return None if answer.reason == "NotFound" else self._accepted(answer, "read", self._named(name)).body

    def _events(self, name: str, version: str, until: float | None) -> Iterator[Mapping[str, Any]]:
        left = _WATCH if until is None else max(1, min(_WATCH, math.ceil(until - time.monotonic())))
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(left),
        }
        with self._answering():
            request = self._request("GET", self._path(), query)
            response = self._client.call_api(*request, _request_timeout=(_CONNECT, left + _READ)).response
        try:
            if response.status not in _OK:
                answer = _answer(response.status, response.read(_CHUNK))
                if answer.status != _GONE:
                    self._accepted(answer, "watch", self._named(name))
                return
            for event in _events_of(response.stream(_CHUNK, decode_content=True)):
                if event["type"] == _ERROR:
                    # What is too old is read anew.
                    return
                yield event
                if until is not None and time.monotonic() >= until:
                    return
        except (HTTPError, OSError):
            # A watch that breaks is no answer to anything: whether the server is there, the next call says.
            return
        finally:
            response.close()

    def _path(self, *name: str) -> str:
        parts = "".join(f"/{_part(part)}" for part in name)
        return f"{_GROUP}/namespaces/{_part(self.namespace)}/{_KIND}{parts}"

    def _named(self, name: str) -> str:
        return f"VolatileRSE {self.namespace}/{name}"

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> tuple[Any, Any, Any, Any, Any]:
        return self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=None if body is None else dict(body),
            auth_settings=["BearerToken"],
        )

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> _Answer:
        with self._answering():
            request = self._request(method, path, query, body, content_type)
            response: Any = self._client.call_api(*request, _request_timeout=(_CONNECT, _READ))
            answer = _answer(response.status, response.read())
            self.date = str(response.getheader("Date") or "")
            return answer

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (HTTPError, ApiException, OSError) as error:
            what = f"The API server {self._host} does not answer: {' '.join(str(error).split())}."
            action = "see that this machine reaches it, and that the kubeconfig names it (kubectl cluster-info)."
            raise CommandError(what, Actor.USER, action, Exit.UNANSWERED) from error

    def _accepted(self, answer: _Answer, verb: str, what: str, right: str = _EDIT) -> _Answer:
        if answer.status in _OK and isinstance(answer.body.get("items" if verb == "list" else "metadata"), _FORMS):
            return answer
        raise self._error(answer, verb, what, right)

    def _error(self, answer: _Answer, verb: str, what: str, right: str = _EDIT) -> CommandError:
        said = answer.message.rstrip(".")
        if answer.status in {429, *range(500, 600)}:
            told = f"The API server {self._host} cannot {verb} {what} now: {answer.status} {said}."
            action = "repeat the command; ADMIN: look at the API server if it stays so."
            return CommandError(told, Actor.USER, action, Exit.UNANSWERED)
        if answer.status in _OK:
            told = f"What answers at {self._host} is no API server of Kubernetes: {said}."
            return CommandError(told, Actor.USER, "see which server the kubeconfig names (kubectl cluster-info).")
        if answer.status == _NOT_FOUND:
            return self._not_found(answer, said, what)
        match answer.status, answer.reason:
            case 401, _:
                told = f"The API server {self._host} does not know you: {said}."
                return CommandError(told, Actor.USER, "log in again, as for kubectl (kubectl auth whoami).")
            case 403, "Forbidden" if " cannot " in said:
                return CommandError(f"You may not {verb} {what}: {said}.", Actor.ADMIN, right)
            case 409, "AlreadyExists":
                told = f"{what} exists already."
                return CommandError(told, Actor.USER, "choose another name, or delete it once its session is over.")
            case 409, _:
                told = f"{what} was changed meanwhile: {said}."
                return CommandError(told, Actor.USER, "repeat the command.", Exit.UNANSWERED)
        told = f"The API server refuses to {verb} {what}: {said}."
        return CommandError(told, Actor.USER, "change what the message names.")

    def _not_found(self, answer: _Answer, said: str, what: str) -> CommandError:
        """Tell an object that is not there from a namespace, a kind or an API server that is not."""
        if answer.about.get("kind") == "namespaces":
            told = f"There is no namespace {self.namespace}."
            return CommandError(told, Actor.USER, "choose one that exists (-n).")
        if answer.about.get("name"):
            told = f"There is no {what}."
            return CommandError(told, Actor.USER, "see `vrse list`, and choose namespace (-n) and cluster (--context).")
        told = f"The API server {self._host} does not have the kind VolatileRSE ({said})."
        action = "install the operator there (docs/install.md). USER: see that --context names the right cluster."
        return CommandError(told, Actor.ADMIN, action)


def _part(name: str) -> str:
    return quote(name, safe="")


class _Pulse:
    """Sees that somebody is at the other end of a connection on which a program may say nothing for long."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 (untyped)
        self._connection, self._receive = connection, connection.recv_data_frame
        connection.recv_data_frame = self._heard
        self._last = time.monotonic()
        """When it was asked last."""
        self._asked: float | None = None
        """Since when nothing was heard; None: it was not asked since."""

    def _heard(self, *args: object) -> object:
        found: object = self._receive(*args)
        self._asked = None
        return found

    def beat(self) -> None:
        """Ask whether somebody is there, if it is time; what has come must have been read before."""
        now = time.monotonic()
        if self._asked is not None and now > self._asked + _DEAF:
            message = "nobody answers"
            raise OSError(message)
        if now > self._last + _PING:
            self._connection.ping()
            self._last = now
            self._asked = now if self._asked is None else self._asked


def _hand_over(client: Any, streams: tuple[Written, Written]) -> None:  # noqa: ANN401 (untyped)
    """Write what has come; an error of who takes it is theirs."""
    for channel, write in zip((STDOUT_CHANNEL, STDERR_CHANNEL), streams, strict=True):
        data = b""
        # Where nothing has come, the connection is looked at again: if it breaks here, the next look says so.
        with suppress(WebSocketException, OSError):
            data = client.read_channel(channel)
        if data:
            write(data)


def _exit_code(data: bytes, what: str) -> int:
    """Read what Kubernetes says of the end of a program."""
    said = _answer(0, data)
    if said.body.get("status") == "Success":
        return 0
    causes = said.about.get("causes")
    for cause in causes if isinstance(causes, list) else ():
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdecimal():
            return int(cause["message"])
    if said.body:
        told = f"{what} did not run: {str(said.body.get('message')).rstrip('.')}."
        raise CommandError(told, Actor.ADMIN, "see the pod (kubectl describe), and repeat the command.")
    told = f"The connection to {what} ended too early: whether it has done its work nobody knows."
    raise CommandError(told, Actor.ADMIN, "repeat the command.", Exit.UNANSWERED)


def _answer(status: int, data: bytes) -> _Answer:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return _Answer(status, {}, " ".join(data[:_SHOWN].decode(errors="replace").split()))
    return _Answer(status, body, "") if isinstance(body, dict) else _Answer(status, {}, repr(body)[:_SHOWN])


def _events_of(chunks: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
    """Read events, one a line; the first that is none ends the watch."""
    left = b""
    for chunk in chunks:
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                return
            about = event.get("object") if isinstance(event, dict) else None
            if isinstance(about, dict) and (event.get("type") == _ERROR or isinstance(about.get("metadata"), dict)):
                yield event
