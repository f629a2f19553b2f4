from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import requests

from tests.unit.agent.conftest import CLAIM, TOKEN, Site, fence, input_file, leave, manifest, request, until
from volatile_rse.adapters import https
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.agent import listening as listening_module
from volatile_rse.agent import service
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.listening import listening
from volatile_rse.agent.service import application, tls_context
from volatile_rse.api.agent import Copies, CopyOrder, CopyTarget, FenceRequest, GateState
from volatile_rse.ports.credentials import KeyPair
from volatile_rse.ports.errors import RefusedError, UnreachableError

HOUR = timedelta(hours=1)


@pytest.fixture
def port(buffer: Buffer, authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Serve the buffer in a thread."""
    monkeypatch.setenv("VOLATILE_RSE_TLS_SECONDS", "0.05")
    _install(buffer, authority)
    context = tls_context(buffer.places)
    told: Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Queue()
    line = socket.create_server(("127.0.0.1", 0))

    async def serve() -> None:
        over = asyncio.Event()
        async with listening(application(buffer, context), context, line):
            told.put((asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    loop, over = told.get(timeout=5)
    yield line.getsockname()[1]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    line.close()


def _install(buffer: Buffer, authority: LocalAuthority) -> None:
    pair = authority.server(["127.0.0.1"], HOUR)
    buffer.places.tls.mkdir(exist_ok=True)
    for name, text in (("ca.crt", authority.bundle()), ("tls.crt", pair.certificate), ("tls.key", pair.key)):
        (buffer.places.tls / name).write_text(text)


@pytest.fixture
def pair(authority: LocalAuthority) -> KeyPair:
    return authority.client("operator", HOUR)


@pytest.fixture
def client(port: int, authority: LocalAuthority, pair: KeyPair) -> AgentClient:
    return AgentClient(("127.0.0.1", port), "127.0.0.1", authority.bundle(), pair)


class Raw:
    """A client that may send what it likes."""

    def __init__(self, port: int, authority: LocalAuthority, pair: KeyPair) -> None:
        self._session = https.session(authority.bundle(), pair)
        self._url = f"https://127.0.0.1:{port}"

    def __call__(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self._session.request(method, self._url + path, timeout=5, **arguments)


@pytest.fixture
def raw(port: int, authority: LocalAuthority, pair: KeyPair) -> Raw:
    return Raw(port, authority, pair)


def test_the_operators_client_leads_a_buffer_from_manifest_to_copies(
    client: AgentClient, buffer: Buffer, site: Site
) -> None:
    assert client.report().manifest is None
    client.send_manifest(manifest(site, input_file(site, b"data")))
    until(lambda: client.report().inputs[0].staged == 1)
    assert client.report().manifest == "1" * 64
    assert (buffer.places.namespace / "publish" / CLAIM).is_dir()
    assert [item.state for item in client.inputs().items] == ["staged"]
    leave(buffer, "out.root")
    assert client.fence(FenceRequest(generation=1)) == GateState(mode="fenced", generation=1)
    assert client.report().actual.mode == "down"
    with pytest.raises(RefusedError, match="fence first"):
        client.seal(request())
    fence(buffer)
    client.seal(request())
    until(lambda: (seal := client.report().seal) and seal.state == "done")
    [output] = client.outputs().items
    assert output.scope
    assert output.name
    target = CopyTarget(rse="SITE", pfn=site.url("/out"))
    client.copy(Copies(copies=[CopyOrder(scope=output.scope, name=output.name, destinations=[target])]))
    until(lambda: client.report().copies.verified == 1)
    assert client.copies().items[0].pfn == target.pfn
    assert site.files["/out"] == b"result"


def test_a_report_waits_for_the_next_change(raw: Raw, buffer: Buffer) -> None:
    version = raw("GET", "/v1/report").json()["version"]
    began = time.monotonic()
    assert raw("GET", f"/v1/report?after={version}&wait=1").json()["version"] == version
    assert time.monotonic() - began > 0.9
    threading.Timer(0.1, fence, [buffer]).start()
    answer = raw("GET", f"/v1/report?after={version}&wait=4").json()
    assert answer["version"] > version
    assert answer["desired"]["mode"] == "fenced"
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/manifest", b"{", 400),
        ("PUT", "/v1/manifest", b'{"digest": "x", "claims": []}', 400),
        ("POST", "/v1/fence", b'{"generation": 0}', 400),
        ("POST", "/v1/fence", b"\xff\xfe", 400),
        ("GET", "/v1/inputs?after=x", b"", 400),
        ("GET", f"/v1/inputs?after={'9' * 30}", b"", 400),
        ("GET", f"/v1/report?after={'9' * 400}", b"", 400),
        ("GET", "/v1/nothing", b"", 404),
        ("DELETE", "/v1/manifest", b"", 405),
    ],
)
def test_errors_say_who_must_act(raw: Raw, method: str, path: str, body: bytes, status: int) -> None:
    answer = raw(method, path, data=body)
    assert answer.status_code == status
    assert set(answer.json()) == {"what", "object", "actor", "remedy"}


def test_a_refused_manifest_does_not_repeat_its_secrets(raw: Raw) -> None:
    body = {"digest": "1" * 64, "claims": ["no/claim"], "credentials": {"host": TOKEN}, "trust": [TOKEN]}
    assert TOKEN not in raw("PUT", "/v1/manifest", json=body).text


def test_an_older_fence_is_a_conflict(raw: Raw) -> None:
    assert raw("POST", "/v1/fence", json={"generation": 2}).json() == {"mode": "fenced", "generation": 2}
    assert raw("POST", "/v1/fence", json={"generation": 1}).status_code == 409


def test_a_defect_shows_no_traceback(raw: Raw, buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise KeyError(TOKEN)

    monkeypatch.setattr(buffer, "report", broken)
    answer = raw("GET", "/v1/report")
    assert (answer.status_code, answer.json()["what"]) == (500, "KeyError")


@pytest.mark.parametrize("who", ["nobody", "a server of the same authority", "a client of another authority"])
def test_nobody_else_is_served(port: int, authority: LocalAuthority, who: str) -> None:
    other = LocalAuthority(*LocalAuthority.create())
    pairs = {"a server of the same authority": authority.server(["buffer"], HOUR)}
    pairs["a client of another authority"] = other.client("operator", HOUR)
    session = https.session(authority.bundle(), pairs.get(who))
    with pytest.raises(requests.ConnectionError):
        session.get(f"https://127.0.0.1:{port}/v1/report", timeout=5)


def test_a_replaced_certificate_is_taken(buffer: Buffer, port: int, authority: LocalAuthority, pair: KeyPair) -> None:
    other = LocalAuthority(*LocalAuthority.create())
    strict = AgentClient(("127.0.0.1", port), "127.0.0.1", other.bundle(), pair)
    with pytest.raises(UnreachableError):
        strict.report()
    _install(buffer, other)
    (buffer.places.tls / "ca.crt").write_text(authority.bundle())

    def taken() -> bool:
        try:
            return strict.report().version >= 0
        except UnreachableError:
            return False

    until(taken)


def test_thousands_that_say_nothing_keep_the_operator_out_for_no_longer_than_a_handshake(
    port: int, client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening_module, "_HANDSHAKE", 1.0)
    with ExitStack() as held:
        for _ in range(300):
            held.enter_context(socket.create_connection(("127.0.0.1", port)))
        until(lambda: _answers(client), 10)


def test_of_those_that_say_nothing_few_are_held_and_none_for_long(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "_HANDSHAKE", 1.0)
    with ExitStack() as held:
        lines = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(160)]
        until(lambda: sum(_is_closed(line) for line in lines) >= 160 - 128)
        until(lambda: all(_is_closed(line) for line in lines))


def _is_closed(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return not line.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _answers(client: AgentClient) -> bool:
    try:
        return bool(client.report())
    except UnreachableError:
        return False


def test_a_body_that_drips_is_not_waited_for(
    port: int, authority: LocalAuthority, pair: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_SLOWEST", 0.2)
    (tmp_path / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.create_default_context(cadata=authority.bundle())
    context.load_cert_chain(tmp_path / "pair.pem")
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1") as line:
        line.sendall(b"PUT /v1/manifest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert line.recv(4096).startswith(b"HTTP/1.1 408")
