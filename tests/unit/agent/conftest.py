from __future__ import annotations

import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places
from volatile_rse.agent.xrootd import Server
from volatile_rse.api.agent import GateState, InputFile, Manifest, OutputRule, SealRequest, SiteTokens

TOKEN = "token-of-the-site"
POOL = "uuid=for-the-pool-alone"
"""Ends URLs that a pool answers without a token."""
RECORD = "abcdefgh23"
CLAIM = "claim-1"


def adler32(data: bytes) -> str:
    return f"{zlib.adler32(data):08x}"


def until(true: Callable[[], object], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class Site:
    """A storage site by https: files, checksums, ranges, a token, and faults.

    Parameters
    ----------
    tls
        Without, it is a pool by plain http, which asks for no token.
    """

    def __init__(self, folder: Path, authority: LocalAuthority, *, tls: bool = True) -> None:
        self.folder = folder
        self.files: dict[str, bytes] = {}
        self.token = TOKEN
        """The one that opens it."""
        self.log: list[str] = []
        self.cut: dict[str, int] = {}
        """Path -> bytes after which the connection breaks, once."""
        self.held: dict[str, tuple[int, threading.Event]] = {}
        """Path -> bytes after which the answer stands still until something happens."""
        self.dripping: dict[str, float] = {}
        """Path -> seconds from one byte of the answer to the next."""
        self.endless: set[str] = set()
        """Paths whose answer has no end, whatever is asked."""
        self.moved: dict[str, str] = {}
        """Path -> URL that it is redirected to."""
        self.gets_moved: dict[str, str] = {}
        """The same, for GETs alone."""
        self.moves = 307
        """Status of its redirections."""
        self.digests: bool | str = True
        """Whether it tells checksums, or what it tells instead."""
        self.lengths: str | None = ""
        """What it says in HEADs instead of the length; None: nothing."""
        self.homeless = 0
        """What it says to uploads into directories that are not there; 0: it makes them."""
        self.folders = {"/", "/store/"}
        self.read_together = self.reading = 0
        """GETs that are being answered, at most and now."""
        self.shown: list[str | None] = []
        """Tokens of what is logged."""
        self.tls = tls
        self.asked = 0
        """Questions for a digest that are being answered."""
        self.asked_together = 0
        self.spoil = 0
        """Uploads that will be stored wrong."""
        self.bundle = authority.bundle()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))
        self._server.daemon_threads = True
        if tls:
            pair = authority.server(["localhost", "127.0.0.1"], timedelta(hours=1))
            (folder / "site.pem").write_text(pair.certificate + pair.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "site.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def url(self, path: str) -> str:
        return f"davs://localhost:{self._server.server_address[1]}{path}"

    def address(self, path: str, host: str = "localhost") -> str:
        """Give a URL as a redirection has it."""
        return f"http{'s' if self.tls else ''}://{host}:{self._server.server_address[1]}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        if self.path in self.site.endless:
            # Header after header.
            self._pour(b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n")
        elif (data := self._data()) is not None:
            if "Want-Digest" in self.headers:
                self.site.asked += 1
                self.site.asked_together = max(self.site.asked_together, self.site.asked)
                time.sleep(0.002)
                self.site.asked -= 1
            told = f"adler32={zlib.adler32(data):x}" if self.site.digests is True else self.site.digests
            self._begin(200, len(data), {"Digest": told} if told else {})

    def _pour(self, begin: bytes, more: bytes) -> None:
        self.site.log.append(f"{self.command} {self.path} pours")
        self.close_connection = True
        try:
            self.wfile.write(begin)
            while True:
                self.wfile.write(more * 100)
        except OSError:
            self.site.log.append(f"{self.command} {self.path} was broken off")

    def _drip(self, data: bytes) -> None:
        try:
            for byte in data:
                self.wfile.write(bytes([byte]))
                time.sleep(self.site.dripping[self.path])
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        if self.path in self.site.endless:
            self._pour(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000))
            return
        if (data := self._data()) is None:
            return
        self.site.reading += 1
        self.site.read_together = max(self.site.read_together, self.site.reading)
        try:
            self._give(data)
        finally:
            self.site.reading -= 1

    def _give(self, data: bytes) -> None:
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self._begin(206 if begin else 200, len(data) - begin, {})
        if self.path in self.site.dripping:
            self._drip(data[begin:])
            return
        cut = self.site.cut.pop(self.path, None)
        if self.path in self.site.held:
            size, event = self.site.held[self.path]
            self.wfile.write(data[begin:size])
            event.wait(60)
            begin = max(begin, size)
        self.wfile.write(data[begin:][:cut])
        self.close_connection = self.close_connection or cut is not None

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed() or self._redirected():
            return
        if self.path in self.site.endless:
            self._pour(b"HTTP/1.1 201 Created\r\n\r\n", bytes(1000))
            return
        if self.site.homeless and self._above() not in self.site.folders:
            self._begin(self.site.homeless, 0, {})
            return
        self.site.spoil -= 1
        self.path = self.path.partition("?")[0]
        self.site.files[self.path] = data if self.site.spoil < 0 else b"!" + data[1:]
        self._begin(201, 0, {})

    def do_MKCOL(self) -> None:
        if not self._allowed():
            return
        if self.path in self.site.folders:
            self._begin(405, 0, {})
        elif self._above() not in self.site.folders:
            self._begin(409, 0, {})
        else:
            # Who comes second finds it there.
            time.sleep(0.01)
            status = 405 if self.path in self.site.folders else 201
            # Before the answer: who reads it goes on below.
            self.site.folders.add(self.path)
            self._begin(status, 0, {})

    def _above(self) -> str:
        return f"{self.path.rstrip('/').rpartition('/')[0]}/"

    def do_DELETE(self) -> None:
        if self._data() is not None:
            del self.site.files[self.path]
            self._begin(204, 0, {})

    def _data(self) -> bytes | None:
        if not self._allowed() or self._redirected():
            return None
        self.path = self.path.partition("?")[0]
        data = self.site.files.get(self.path)
        if data is None:
            self._begin(404, 0, {})
        return data

    def _allowed(self) -> bool:
        self.site.log.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        self.site.shown.append(self.headers.get("Authorization"))
        # Pools know whom their door has sent by what stands in the URL.
        allowed = self.headers.get("Authorization") == f"Bearer {self.site.token}" or self.path.endswith(f"?{POOL}")
        if not self.site.tls:
            allowed = True
        if not allowed:
            self._begin(403, 0, {})
        return allowed

    def _redirected(self) -> bool:
        moved = {**self.site.moved, **(self.site.gets_moved if self.command == "GET" else {})}
        where = moved.get(self.path)
        if where is not None:
            words = b"It is elsewhere."
            self._begin(self.site.moves, len(words), {"Location": where})
            self.wfile.write(words if self.command != "HEAD" else b"")
        return where is not None

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        size: str | None = str(length)
        if self.command == "HEAD" and self.site.lengths != "":
            size = self.site.lengths
        for name, value in {**headers, **({} if size is None else {"Content-Length": size})}.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture(scope="session")
def authority() -> LocalAuthority:
    return LocalAuthority(*LocalAuthority.create())


@pytest.fixture
def site(tmp_path: Path, authority: LocalAuthority) -> Iterator[Site]:
    made = Site(tmp_path, authority)
    yield made
    made.close()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(data=tmp_path / "data", run=tmp_path / "run", config=tmp_path / "config", tls=tmp_path / "tls")
    made.make()
    return made


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Places]:
    """Give a volume of 8 MiB."""
    data = tmp_path / "tiny"
    data.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(data)]
    if (done := subprocess.run(argv, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"this machine mounts nothing: {done.stderr.strip()}")
    made = Places(data=data, run=tmp_path / "run", config=tmp_path / "config", tls=tmp_path / "tls")
    made.make()
    yield made
    subprocess.run(["umount", "--lazy", str(data)], check=True)


class Child(Server):
    """A server that does nothing, and remembers what is done to it."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.done: list[str] = []

    def start(self, configuration: str, *, forget_uploads: bool) -> None:
        self.done.append(f"start {configuration}{' forgetful' if forget_uploads else ''}")

    def stop(self) -> None:
        self.done.append("stop")

    def reap(self) -> int | None:
        return None


@pytest.fixture
def buffer(places: Places) -> Iterator[Buffer]:
    made = Buffer(places, first=0.02)
    made.start()
    yield made
    made.stop()


def input_file(site: Site, data: bytes, name: str = "f.root", *sources: str) -> InputFile:
    path = f"/store/user/alice/{name}"
    site.files.setdefault(path, data)
    return InputFile(
        scope="user.alice", name=name, entries=["data"], path=path, bytes=len(data), adler32=adler32(data),
        sources=list(sources) or [site.url(path)],
    )  # fmt: skip


def manifest(
    site: Site, *files: InputFile, digest: str = "1" * 64, hosts: Sequence[str] = ("localhost",), **tokens: Any
) -> Manifest:
    opens = SiteTokens(read=SecretStr(site.token), write=SecretStr(site.token), **tokens)
    credentials = dict.fromkeys(hosts, opens)
    return Manifest(digest=digest, claims=[CLAIM], inputs=list(files), credentials=credentials, trust=site.bundle)


def fence(buffer: Buffer, generation: int = 1) -> None:
    buffer.gate.fence(generation)
    buffer.gate.reached(GateState(mode="fenced", generation=generation))


def leave(buffer: Buffer, path: str | bytes, data: bytes = b"result") -> Path:
    """Write into the outbox as a session does."""
    text = path.decode(errors="surrogateescape") if isinstance(path, bytes) else path
    target = buffer.places.namespace / "outbox" / CLAIM / text
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return target


def request(*patterns: str, dataset: str = "user.alice.out", generation: int = 1) -> SealRequest:
    rule = OutputRule(claim=CLAIM, name="out", patterns=list(patterns) or ["**"], scope="user.alice", dataset=dataset)
    return SealRequest(generation=generation, record_id=RECORD, outputs=[rule])


def seal(buffer: Buffer, *patterns: str) -> None:
    buffer.sealing.order(request(*patterns))
    buffer.sealing.join()
