"""An API server that a kubeconfig leads to: HTTP before the fake cluster in which the operator itself works."""

from __future__ import annotations

import base64
import hashlib
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import yaml
from pydantic import ValidationError

from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_cluster import play_controllers
from volatile_rse.api.crds import KINDS, crd
from volatile_rse.api.injection import TENANT
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service

ME = "alice@example.org"
_KINDS = {
    "volatilerses": "VolatileRSE",
    "volatilerseclasses": "VolatileRSEClass",
    "rucioconnections": "RucioConnection",
    "namespaces": "Namespace",
    "services": "Service",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
}
_STATUS = 3
"""Channel on which the end of a program is told."""
Body = dict[str, Any]
Answer = tuple[int, Body | bytes]
Execute = Callable[[list[str]], tuple[bytes, bytes, bytes]]
"""Program -> what it writes, its errors, and what Kubernetes says of its end."""


def refusal(status: int, reason: str, message: str, **details: str) -> Answer:
    """Give the answer of an API server that refuses something."""
    return status, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "details": details}


def installation() -> dict[str, Body]:
    """Give what an installed operator has: kinds, a Deployment, a Lease, an authority, a namespace that is enabled."""
    settings = {"VOLATILE_RSE_NAME": "volatile-rse", "VOLATILE_RSE_BUFFERS": "bufs"}
    environment = [{"name": name, "value": value} for name, value in settings.items()]
    container = {"name": "operator", "image": "operator:1", "env": environment, "livenessProbe": {}}
    selector = {"app.kubernetes.io/name": "volatile-rse"}
    template = {"metadata": {"labels": selector}, "spec": {"serviceAccountName": "op", "containers": [container]}}
    deployment = {
        "metadata": {"name": "volatile-rse", "namespace": "volatile-rse"},
        "spec": {"selector": {"matchLabels": selector}, "template": template},
        "status": {"readyReplicas": 1},
    }
    lease = {"holderIdentity": "pod-1", "renewTime": "2030-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}
    of = "/apis/rbac.authorization.k8s.io/v1/namespaces/alice/rolebindings"
    kinds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    return {
        "/version": {"gitVersion": "v1.34.4"},
        "/apis/apps/v1/deployments": {"items": [deployment]},
        "/apis/apps/v1/namespaces/volatile-rse/deployments": {"items": [deployment]},
        "/api/v1/namespaces/volatile-rse/pods": {"items": [operator_pod("pod-1")]},
        "/apis/coordination.k8s.io/v1/namespaces/volatile-rse/leases/volatile-rse": {"spec": lease},
        "/api/v1/namespaces/volatile-rse/configmaps/volatile-rse-ca": {"data": {"ca.crt": "PEM"}},
        of: {"items": [{"roleRef": {"name": "volatile-rse-sessions"}}]},
        **{f"{kinds}/{crd(kind)['metadata']['name']}": crd(kind) for kind in KINDS},
    }


def operator_pod(name: str, state: str = "running", *, ready: bool = True) -> Body:
    """Give a pod of the operator."""
    status = {"name": "operator", "ready": ready, "state": {state: {}}}
    return {"metadata": {"name": name}, "status": {"containerStatuses": [status]}}


def exited(code: int) -> bytes:
    """Give what Kubernetes says of the end of a program."""
    cause = {"reason": "ExitCode", "message": str(code)}
    failed = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
    return json.dumps(failed if code else {"metadata": {}, "status": "Success"}).encode()


def begin(small: Small) -> None:
    """Let a world be looked at in which nobody has asked for anything yet."""
    if not hasattr(small, "record_id"):
        small.record_id = "abcdefghij"


def try_classes(small: Small) -> None:
    """Have the operator try connection and class, and its empty server run."""
    begin(small)
    service = Service(small.world(), threads=0)
    for _ in range(2):
        service.sweep()
        service.try_classes()
        play_controllers(small.cluster)
        small.clock.turn(timedelta(seconds=15))


class ApiServer:
    """Serves one world; while somebody watches, the world goes on.

    Attributes
    ----------
    asked
        Method, path with query, and body of each request.
    answers
        What is answered instead, by the begin of ``METHOD path``; of several, the last one again and again.
    denied
        Verbs and kinds that this user may not.
    steps
        Steps that a world goes while it is watched, at most.
    """

    def __init__(self, small: Small) -> None:
        self.small = small
        self.asked: list[tuple[str, str, Body]] = []
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.denied: set[tuple[str, str]] = set()
        self.steps = 60
        self.others: dict[str, Body] = installation()
        """Path -> an object that is not of the world."""
        self.meanwhile: Callable[[], object] = lambda: None
        """What else happens at each step of a watch."""
        self.execute: Execute = lambda _argv: (b"", b"", exited(0))
        """What a program in a pod does."""
        self.pinged: Callable[[], bool] = lambda: True
        """Tells whether a ping is answered."""
        # Its pods get by a label what their session has.
        small.cluster.merge(Ref("Namespace", None, "alice"), {"metadata": {"labels": {TENANT: "true"}}})
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                outer.handle(self)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # noqa: N815 (as its base has it)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing of clients that have gone."""

        self._works = threading.Lock()
        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def settle(self) -> None:
        """Wait until nobody works on the world but the test."""
        with self._works:
            pass

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        with self._works:
            self._handle(request)

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else {}
        self.asked.append((request.command, request.path, body))
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        asked = f"{request.command} {request.path}"
        canned = next((answer for begin, answer in self.answers.items() if asked.startswith(begin)), None)
        if isinstance(canned, list):
            canned = canned.pop(0) if len(canned) > 1 else canned[0]
        if canned is None and query.get("watch"):
            self._watch(request, query)
            return
        if canned is None and request.headers.get("Upgrade") == "websocket":
            self._run(request, parse_qs(parts.query)["command"])
            return
        status, told = canned or self._answer(request.command, [unquote(p) for p in parts.path.split("/")], query, body)
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        request.send_response_only(status)
        request.send_header("Date", format_datetime(self.small.clock.now(), usegmt=True))
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _answer(self, method: str, parts: list[str], query: Mapping[str, str], body: Body) -> Answer:
        if parts[-1] == "selfsubjectreviews":
            return 201, {"kind": "SelfSubjectReview", "metadata": {}, "status": {"userInfo": {"username": ME}}}
        if parts[-1] == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            kind = "/".join(filter(None, (asked["resource"], asked["subresource"])))
            return 201, {**body, "status": {"allowed": (asked["verb"], kind) not in self.denied}}
        if (other := self.others.get("/".join(parts))) is not None:
            return 200, other
        ref = _ref_of(parts)
        if ref.namespace is not None and self.small.cluster.get(Ref("Namespace", None, ref.namespace)) is None:
            if method == "POST":
                return refusal(404, "NotFound", f'namespaces "{ref.namespace}" not found', kind="namespaces")
            return refusal(404, "NotFound", "not found", name=ref.name)
        if method == "POST":
            return self._create(ref, body, dry="dryRun" in query)
        if not ref.name:
            return 200, {"items": list(self.small.cluster.list(ref.kind, ref.namespace)), "metadata": {}}
        found = self.small.cluster.get(ref)
        if found is None:
            return refusal(404, "NotFound", f'{ref.kind} "{ref.name}" not found', name=ref.name, kind=ref.kind)
        if method == "DELETE":
            self.small.cluster.delete(ref, body["preconditions"]["uid"])
            return 200, {"kind": "Status", "status": "Success"}
        return 200, dict(found if method == "GET" else self.small.cluster.merge(ref, body))

    def _create(self, ref: Ref, body: Body, *, dry: bool) -> Answer:
        try:
            spec = VolatileRSESpec.model_validate(body["spec"]).dump()
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            return refusal(422, "Invalid", f"spec.{where}: {error.errors()[0]['msg']}")
        whole = {**body, "metadata": {"namespace": ref.namespace, **body["metadata"]}, "spec": spec}
        if dry:
            return 201, whole
        made = self.small.cluster.create(whole)
        return (201, dict(made)) if made else refusal(409, "AlreadyExists", "exists", name=body["metadata"]["name"])

    def _run(self, request: BaseHTTPRequestHandler, argv: list[str]) -> None:
        """Run a program in a pod: a frame for each thing that it says, by the protocol of the API server."""
        key = request.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        request.send_response(101)
        request.send_header("Upgrade", "websocket")
        request.send_header("Connection", "Upgrade")
        request.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())  # noqa: S324 (so the protocol says)
        request.send_header("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        request.end_headers()
        request.close_connection = True
        threading.Thread(target=self._listen, args=(request.connection,), daemon=True).start()
        for channel, data in enumerate(self.execute(argv), 1):
            # Never more than a part of a line at once.
            for at in range(0, len(data), 100):
                part = bytes([channel]) + data[at : at + 100]
                request.wfile.write(bytes([0x82, len(part)]) + part)
            if not data and channel == _STATUS:
                return
        request.wfile.write(bytes([0x88, 2, 3, 0xE8]))

    def _listen(self, connection: socket.socket) -> None:
        """Hear a client, of which each frame is small: pings, until it goes."""
        stream = b""
        with suppress(OSError):
            while part := connection.recv(1024):
                stream += part
                while len(stream) > 1 and len(stream) >= (size := 6 + (stream[1] & 0x7F)):
                    if stream[0] == 0x89 and self.pinged():
                        connection.sendall(b"\x8a\x00")
                    stream = stream[size:]

    def _watch(self, request: BaseHTTPRequestHandler, query: Mapping[str, str]) -> None:
        ref = Ref("VolatileRSE", "alice", query["fieldSelector"].removeprefix("metadata.name="))
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        version = query["resourceVersion"]
        for event in self._events(ref, version):
            line = json.dumps(event).encode() + b"\n"
            request.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            if _has_gone(request.connection):
                request.close_connection = True
                return
        request.wfile.write(b"0\r\n\r\n")

    def _events(self, ref: Ref, version: str) -> Iterator[Body]:
        last = self.small.cluster.get(ref)
        for _ in range(self.steps):
            self.meanwhile()
            body = self.small.cluster.get(ref)
            if body is None:
                yield {"type": "DELETED", "object": last}
                return
            if body["metadata"]["resourceVersion"] != version:
                last, version = body, body["metadata"]["resourceVersion"]
                yield {"type": "MODIFIED", "object": body}
            if body["spec"].get("dryRun"):
                self._judge(body)
            else:
                self.small.step()

    def _judge(self, body: Mapping[str, Any]) -> None:
        """Have the operator look at a dry run, which is another request than that of the world."""
        metadata = body["metadata"]
        begin(self.small)
        record_id = identify(self.small.settings.instance, metadata["uid"]).record_id
        Reconciler(self.small.world()).visit(record_id, (metadata["namespace"], metadata["name"]))


def _has_gone(connection: socket.socket) -> bool:
    """Tell whether who has seen enough has closed the connection; most do so at once."""
    readable, _, _ = select.select([connection], [], [], 0.05)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)


def _ref_of(parts: list[str]) -> Ref:
    """Read a path such as ``/apis/group/version/namespaces/NAMESPACE/KIND/NAME``."""
    where = parts[4:] if parts[1] == "apis" else parts[3:]
    namespace = None
    if where[0] == "namespaces" and len(where) > 2:
        namespace, where = where[1], where[2:]
    return Ref(_KINDS[where[0]], namespace, where[1] if len(where) > 1 else "")


@contextmanager
def serving(small: Small) -> Iterator[ApiServer]:
    made = ApiServer(small)
    try:
        yield made
    finally:
        made.close()


def kubeconfig(path: Path, url: str, namespace: str | None = "alice", **user: object) -> Path:
    """Write a kubeconfig with one context, ``test``."""
    context = {"cluster": "test", "user": "test"} | ({} if namespace is None else {"namespace": namespace})
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": "t", **user}}],
        "contexts": [{"name": "test", "context": context}],
    }
    path.write_text(yaml.safe_dump(body))
    return path
