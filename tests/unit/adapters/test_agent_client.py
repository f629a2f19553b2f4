"""The client of the agent against a small server over real mutual TLS."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.api.agent import FenceRequest, Manifest, OutputRule, Report, SealRequest, SiteTokens
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.errors import RefusedError, UnreachableError

DAY = timedelta(days=1)
AUTHORITY = LocalAuthority(*LocalAuthority.create())


@dataclass
class Agent:
    port: int = 0
    status: int = 200
    body: bytes = b"{}"
    seen: list[tuple[str, str, Any]] = field(default_factory=list)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    state = Agent()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.seen.append((self.command, self.path, json.loads(data) if data else None))
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None: ...

    pair = AUTHORITY.server(["localhost"], DAY)
    (tmp_path / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    context.load_verify_locations(cadata=AUTHORITY.bundle())
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def client(agent: Agent, authority: LocalAuthority = AUTHORITY, name: str = "localhost") -> AgentClient:
    return AgentClient(("127.0.0.1", agent.port), name, authority.bundle(), AUTHORITY.client("operator", DAY))


def test_a_manifest_carries_its_secrets_and_no_nulls(agent: Agent) -> None:
    tokens = SiteTokens(read=SecretStr("token"), paths=["/cms"], plain_redirects=True)
    manifest = Manifest(digest="a" * 64, claims=["c"], credentials={"site": tokens, "open": SiteTokens()})
    client(agent).send_manifest(manifest)
    ((method, path, body),) = agent.seen
    assert (method, path) == ("PUT", "/v1/manifest")
    shown = {"site": {"read": "token", "paths": ["/cms"], "plainRedirects": True}, "open": {}}
    assert body == {"digest": "a" * 64, "claims": ["c"], "credentials": shown}
    assert Manifest.model_validate(body) == manifest


def test_answers_are_parsed(agent: Agent) -> None:
    agent.body = b'{"mode": "fenced", "generation": 3}'
    assert client(agent).fence(FenceRequest(generation=3)).generation == 3
    agent.body = b'{"items": []}'
    assert client(agent).outputs(after=7).items == []
    assert [seen[:2] for seen in agent.seen] == [("POST", "/v1/fence"), ("GET", "/v1/outputs?after=7&limit=1000")]


def test_a_refusal_repeats_the_agent_s_words(agent: Agent) -> None:
    agent.status = 409
    words = {"what": "older fence", "object": "the gate", "actor": "Nobody", "remedy": "Read again."}
    agent.body = json.dumps(words).encode()
    with pytest.raises(RefusedError, match=r"the gate: older fence\. Read again\.") as caught:
        client(agent).fence(FenceRequest(generation=3))
    assert caught.value.reason is Reason.BUFFER_REFUSED


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"hello"), (200, b"{}"), (500, b"oops"), (302, b""), (500, b"[" * 100_000), (200, b"[" * 100_000)],
    ids=["words", "nothing", "a defect", "a redirection", "a deep error", "a deep answer"],
)
def test_what_is_not_the_protocol_is_refused(agent: Agent, status: int, body: bytes) -> None:
    agent.status, agent.body = status, body
    with pytest.raises(RefusedError, match=f"localhost at 127.0.0.1:{agent.port}"):
        client(agent).report()


def test_a_long_error_in_no_known_encoding_costs_no_time(agent: Agent) -> None:
    agent.status, agent.body = 500, bytes(range(256)) * 100_000
    began = time.monotonic()
    with pytest.raises(RefusedError) as caught:
        client(agent).report()
    assert len(caught.value.what) < 1024
    assert time.monotonic() - began < 5


def test_not_now_is_unreachable(agent: Agent) -> None:
    agent.status = 503
    with pytest.raises(UnreachableError) as caught:
        client(agent).report()
    assert caught.value.reason is Reason.BUFFER_UNREACHABLE


def test_a_stranger_gets_no_manifest(agent: Agent) -> None:
    other = LocalAuthority(*LocalAuthority.create())
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        client(agent, other).send_manifest(Manifest(digest="a" * 64, claims=[]))
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        client(agent, name="somebody-else").report()
    assert agent.seen == []


def test_the_environment_does_not_decide_whom_we_trust(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text(AUTHORITY.bundle())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:1")
    with pytest.raises(UnreachableError):
        client(agent, LocalAuthority(*LocalAuthority.create())).report()
    agent.body = b'{"items": []}'
    assert client(agent).inputs().items == []


@pytest.mark.parametrize(
    ("status", "readable", "writable"), [(200, True, True), (403, False, False), (401, False, False)]
)
def test_endpoints_tell_what_a_token_may(agent: Agent, status: int, *, readable: bool, writable: bool) -> None:
    agent.status = status
    door = XrootdEndpoints(AUTHORITY.bundle())
    why = door.can_read("localhost", agent.port, "/store/a b", "t")
    assert (why is None) == readable
    assert why is None or f"gave {status}" in why
    assert door.can_write("localhost", agent.port, "/outbox/c/", "t") == writable
    assert agent.seen[0][:2] == ("GET", "/store/a%20b")
    probes = {path for method, path, _ in agent.seen[1:]}
    assert len(probes) == 1
    assert [method for method, *_ in agent.seen[1:]] == (["PUT", "DELETE"] if writable else ["PUT"])


@pytest.mark.parametrize("status", [404, 500, 302])
def test_an_answer_that_does_not_tell_is_no_refusal(agent: Agent, status: int) -> None:
    agent.status = status
    with pytest.raises(UnreachableError, match=f"gave {status}"):
        XrootdEndpoints(AUTHORITY.bundle()).can_write("localhost", agent.port, "/outbox/c", "t")


TOKEN = "eyJhbGciOiJFUzI1NiJ9." + "e" * 300


@pytest.mark.parametrize("token", [TOKEN, "short-token"])
def test_what_a_server_repeats_of_a_token_is_not_told(agent: Agent, token: str) -> None:
    agent.status, agent.body = 403, f"\x1b[31mWho is Bearer {token}? \N{RIGHT-TO-LEFT OVERRIDE}".encode()
    why = XrootdEndpoints(AUTHORITY.bundle()).can_read("localhost", agent.port, "/store/a", token) or ""
    assert why.endswith("gave 403 \\x1b[31mWho is Bearer (secret)" + ("? \\u202e" if token != TOKEN else ""))
    agent.status = 500
    with pytest.raises(UnreachableError) as caught:
        XrootdEndpoints(AUTHORITY.bundle()).can_write("localhost", agent.port, "/outbox/a/", token)
    assert token[:16] not in str(caught.value)
    manifest = Manifest(digest="a" * 64, claims=["c"], credentials={"site": SiteTokens(write=SecretStr(token))})
    with pytest.raises(RefusedError, match=r"Bearer \(secret\)") as refused:
        client(agent).send_manifest(manifest)
    assert token[:16] not in str(refused.value)


@pytest.mark.parametrize("trust", ["", "\N{GREEK SMALL LETTER TAU}", "no certificate"])
def test_authorities_that_are_none_are_no_answer(agent: Agent, trust: str) -> None:
    with pytest.raises(UnreachableError):
        XrootdEndpoints("").size(f"davs://localhost:{agent.port}/a", "t", trust)


RECORDED = Path(__file__).with_name("report-v1.json")
"""Made by the models of commit f47224d, before the protocol grew: pods of its time may still run."""


def test_a_report_of_the_first_agent_is_understood(agent: Agent) -> None:
    agent.body = RECORDED.read_bytes()
    report = client(agent).report()
    assert (report.api, report.desired.mode, report.inputs[0].staged) == ("v1", "open", 2)


def test_what_a_newer_agent_adds_is_ignored(agent: Agent) -> None:
    answer = json.loads(RECORDED.read_text())
    plain = Report.model_validate(answer)
    answer["news"] = {"a": 1}
    answer["inputs"][0]["news"] = [1]
    answer["copies"]["news"] = None
    agent.body = json.dumps(answer).encode()
    assert client(agent).report() == plain


@pytest.mark.parametrize("change", [{"api": "v2"}, {"api": "v2", "news": 1}, {"version": -1, "news": 1}])
def test_another_protocol_is_refused_whatever_it_adds(agent: Agent, change: dict[str, Any]) -> None:
    agent.body = json.dumps(json.loads(RECORDED.read_text()) | change).encode()
    with pytest.raises(RefusedError, match="protocol v1") as caught:
        client(agent).report()
    assert caught.value.reason is Reason.BUFFER_REFUSED


def test_orders_leave_out_what_an_older_agent_may_not_know(agent: Agent) -> None:
    rule = OutputRule(claim="c", name="kept", patterns=["**"], scope="user.alice", dataset="out")
    client(agent).seal(SealRequest(generation=1, record_id="abcdefghij", outputs=[rule]))
    ((_, _, body),) = agent.seen
    assert set(body) == {"generation", "recordId", "outputs"}
    assert set(body["outputs"][0]) == {"claim", "name", "patterns", "scope", "dataset"}
