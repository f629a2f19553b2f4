"""A session's objects as a pod has them mounted, and a buffer that speaks https as XRootD does."""

from __future__ import annotations

import base64
import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from volatile_rse.adapters.authority import LocalAuthority, hashed_name
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.session import (
    lease_data,
    listing_data,
    listing_of,
    session_config,
    session_secret,
    status_data,
    store_path,
    token_scope,
)
from volatile_rse.builders.storage import session_audience, session_issuer
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.credentials import TokenClaims

SETTINGS = Settings(name="test", instance="test.1", namespace="ops", buffers="bufs", buffer_image="buffer:1")
FILES = [File(Did("user.alice", name), 1500, "0000000a") for name in ("a.root", "b.root")]
INPUTS = {"dimuon": FILES, "other": [File(Did("cms", "/store/c d.root"), 7, "", "0" * 32)]}
OUTBOX, PUBLISH, LEASES = "/outbox/u-1", "/publish/u-1", "/lease/u-1"
OUTPUT = {
    "name": "histograms", "path": "histograms/**", "scope": "user.alice", "dataset": "out",
    "destination": {"rseExpression": "SITE-B"},
}  # fmt: skip


def record(*, continuous: bool = True) -> RSERecordSpec:
    request = {
        "className": "standard", "account": "alice", "capacity": "1Gi",
        "inputs": [{"name": "dimuon", "did": "user.alice:x"}, {"name": "other", "did": "cms:y"}],
        "outputs": [OUTPUT | ({"register": "Continuous"} if continuous else {})],
    }  # fmt: skip
    connection = {
        "server": "https://rucio.example.org", "account": "ops", "userpass": {"secretName": "login"},
        "ledgerScope": "vrse",
    }  # fmt: skip
    return RSERecordSpec.model_validate(
        {
            "recordId": "abcdefghij", "rseName": "VRSE-ABCDEFGHIJ", "instance": "test.1",
            "ledger": "vrse:vrse-abcdefghij.ledger", "capacity": "1Gi", "className": "standard",
            "classSnapshot": VolatileRSEClassSpec.example(), "connectionName": "rucio",
            "connectionSnapshot": connection,
            "public": {"host": "buffers.example.org", "rootPort": 30001, "davsPort": 30002},
            "claims": [{"uid": "u-1", "namespace": "alice", "name": "dimuon", "account": "alice", "request": request}],
        }
    )  # fmt: skip


class SmallBuffer:
    """Files by their path; a token; what was asked."""

    def __init__(self, folder: Path) -> None:
        self.authority = LocalAuthority(*LocalAuthority.create())
        self.files: dict[str, bytes] = {
            store_path(file.did): b"x" * file.bytes for files in INPUTS.values() for file in files
        }
        self.token = ""
        self.asked: list[str] = []
        self.answers: dict[str, int] = {}
        """Method -> what is answered whatever is asked."""
        pair = self.authority.server(["localhost"], timedelta(hours=1))
        (folder / "server.pem").write_text(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self._server = ThreadingHTTPServer(("localhost", 0), type("Handler", (_Handler,), {"buffer": self}))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Objects:
    """The Secret and the ConfigMap that the operator makes, mounted as the kubelet does."""

    def __init__(self, folder: Path, buffer: SmallBuffer, spec: RSERecordSpec | None = None) -> None:
        self.secret, self.config = folder / "vrse-secret", folder / "vrse"
        self._buffer, self._spec = buffer, spec or record()
        self._written = 0
        self.write_config()
        self.renew(timedelta(hours=9))

    def renew(self, life: timedelta) -> str:
        """Write a new token."""
        scope = token_scope(self._spec.claims[0], ["cms", "user.alice"])
        claims = TokenClaims(
            session_issuer(self._spec), "u-1", session_audience(self._spec), scope, datetime.now(UTC) + life
        )
        self._buffer.token = self._buffer.authority.token(claims)
        data = session_secret(self._spec, self._buffer.token)["data"]
        self._mount(self.secret, {key: base64.b64decode(value) for key, value in data.items()})
        return self._buffer.token

    def write_config(self, *authorities: str, long: bool = False, changed: Mapping[str, str] | None = None) -> None:
        """Write the ConfigMap, with more authorities or other values."""
        bundle = self._buffer.authority.bundle()
        more = {hashed_name(text): text for text in authorities}
        trusted = {"ca.crt": "".join((bundle, *authorities)), hashed_name(bundle): bundle, **more}
        data: dict[str, str] = session_config(SETTINGS, self._spec, "u-2", trusted, INPUTS)["data"]
        listing = listing_of(SETTINGS, self._spec, ["cms", "user.alice"])
        assert listing is not None
        data |= lease_data(self._spec.claims[0]) | status_data(self._spec.claims[0])
        data |= listing_data(listing) | {"VRSE_DAVS_URL": self._buffer.url, **(changed or {})}
        if long:
            self._buffer.files[listing.path] = data.pop("inputs.jsonl").encode()
        self._mount(self.config, {key: value.encode() for key, value in data.items()})

    def _mount(self, folder: Path, data: Mapping[str, bytes]) -> None:
        """Write all anew, and then turn one link."""
        self._written += 1
        now = folder / f"..2026_{self._written}"
        now.mkdir(parents=True)
        for key, content in data.items():
            (now / key).write_bytes(content)
            (now / key).chmod(0o644)
        link = folder / "..data_tmp"
        link.symlink_to(now.name)
        link.rename(folder / "..data")
        for old in {path.name for path in folder.iterdir() if path.is_symlink()} - {"..data", *data}:
            (folder / old).unlink()
        for key in data:
            if not (folder / key).is_symlink():
                (folder / key).symlink_to(f"..data/{key}")
        folder.chmod(0o777)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    buffer: SmallBuffer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self._allowed():
            return
        content = self.buffer.files.get(self._path)
        if content is None:
            self._answer(404, b"not there")
        elif wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or ""):
            first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            self._answer(206, content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
        else:
            self._answer(200, content, {"Accept-Ranges": "bytes"})

    def do_PUT(self) -> None:
        if self._allowed():
            self.buffer.files[self._path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(201)

    def do_DELETE(self) -> None:
        if self._allowed():
            self._answer(404 if self.buffer.files.pop(self._path, None) is None else 200)

    def do_MOVE(self) -> None:
        if not self._allowed():
            return
        # As XRootD does: the destination is what stands behind the host, and nothing of it is decoded.
        target = "/" + self.headers["Destination"].encode("latin-1").decode().split("/", 3)[3]
        if (content := self.buffer.files.pop(self._path, None)) is None:
            self._answer(404)
            return
        self.buffer.files[target] = content
        self._answer(201)

    def do_PROPFIND(self) -> None:
        if not self._allowed():
            return
        assert self.headers["Depth"] == "1"
        folder = self._path.rstrip("/")
        below = [path for path in self.buffer.files if path.startswith(f"{folder}/")]
        if not below:
            self._answer(404)
            return
        entries = {path[len(folder) + 1 :].partition("/")[0] for path in below}
        parts = [_response(folder, None)]
        parts += [_response(f"{folder}/{name}", self.buffer.files.get(f"{folder}/{name}")) for name in sorted(entries)]
        text = f'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">{"".join(parts)}</D:multistatus>'
        self._answer(207, text.encode())

    @property
    def _path(self) -> str:
        return unquote(self.path)

    def _allowed(self) -> bool:
        self.buffer.asked.append(f"{self.command} {self._path}")
        if (status := self.buffer.answers.get(self.command)) is not None:
            self._answer(status, b"as the test wants it")
            return False
        if self.headers["Authorization"] == f"Bearer {self.buffer.token}":
            return True
        self._answer(403)
        return False

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _response(path: str, content: bytes | None) -> str:
    kind = "<lp1:resourcetype><D:collection/></lp1:resourcetype>" if content is None else "<lp1:resourcetype/>"
    return (
        f'<D:response xmlns:lp1="DAV:"><D:href>{escape(path)}</D:href><D:propstat><D:prop>'
        f"<lp1:getcontentlength>{len(content or b'')}</lp1:getcontentlength>{kind}"
        "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )


def root_urls(files: Sequence[File]) -> list[str]:
    return [f"root://vrse-abcdefghij.bufs.svc:1094/{store_path(file.did)}" for file in files]
