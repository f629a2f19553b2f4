"""What the catalogue's client makes of a server that answers strangely; the contract suite shows the real one."""

from __future__ import annotations

import gc
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from rucio.client.baseclient import BaseClient
from rucio.common.exception import DuplicateRule

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer
from volatile_rse.adapters.rucio.answers import source_pfns
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec, SecretKeys
from volatile_rse.domain.catalogue import Did, RuleState, Term
from volatile_rse.ports.errors import RefusedError, UnreachableError

AUTHORITY = LocalAuthority(*LocalAuthority.create())
LOGIN = "/auth/userpass"
LONGEST_LINE = 4094
"""Of a request that gunicorn takes, by default."""


@dataclass
class Server:
    """What it answers by path: status, headers, body."""

    answers: dict[str, tuple[int, dict[str, str], str]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    manner: str = "well"
    """How it answers all but logins: ``hangs``, ``drips``, ``cuts`` a stream, gives no ``end`` of it."""
    over: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __post_init__(self) -> None:
        self.answers[LOGIN] = (200, {"X-Rucio-Auth-Token": "token"}, "")


def misbehave(state: Server, asked: BaseHTTPRequestHandler) -> None:
    asked.close_connection = True
    if state.manner == "hangs":
        state.over.wait(30)
        return
    asked.send_response(200)
    asked.send_header("Content-Type", "application/x-json-stream")
    if state.manner != "end":
        asked.send_header("Transfer-Encoding", "chunked")
    asked.end_headers()
    line = b'{"scope": "user.alice", "name": "f", "bytes": 1, "adler32": "00000001"}\n'
    if state.manner == "end":
        asked.wfile.write(line)
        return
    asked.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
    while state.manner == "drips" and not state.over.wait(0.1):
        try:
            asked.wfile.write(b"1\r\n \r\n")
        except OSError:
            return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.seen.append(self.path)
            path = urlsplit(self.path).path
            if state.manner != "well" and path != LOGIN:
                misbehave(state, self)
                return
            status, headers, body = state.answers.get(path, (404, {}, ""))
            if path.endswith("/lfns2pfns"):
                names = [value for key, value in parse_qsl(urlsplit(self.path).query) if key == "lfn"]
                body = "{" + ",".join(f'"{name}": "davs://site/{name}"' for name in names) + "}"
                status = 414 if len(self.requestline) > LONGEST_LINE else 200
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    pair = AUTHORITY.server(["localhost"], timedelta(days=1))
    (tmp_path / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    listening = ThreadingHTTPServer(("localhost", 0), Handler)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    state.port = listening.server_port
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield state
    state.over.set()
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def catalogue(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RucioCatalogue:
    monkeypatch.setattr(BaseClient, "_back_off", lambda *_: None)
    url = f"https://localhost:{server.port}"
    spec = RucioConnectionSpec(
        server=url,
        account="ops",
        userpass=SecretKeys(secret_name="login"),
        ledger_scope="vrse",
        budget=Budget(timeout=1, calls_per_second=1000),
    )
    return RucioCatalogue(RucioServer(spec, ("ops", "secret"), AUTHORITY.bundle(), tmp_path))


@pytest.mark.parametrize("body", ["", "no server behind this proxy", "<html>\nUnavailable: later\n</html>"])
def test_a_proxy_without_server_is_no_refusal(server: Server, catalogue: RucioCatalogue, body: str) -> None:
    server.answers[LOGIN] = (503, {}, body)
    with pytest.raises(UnreachableError) as caught:
        catalogue.ping()
    assert caught.value.reason is Reason.CATALOGUE_UNREACHABLE


@pytest.mark.parametrize("kind", ["CannotAuthenticate", "AccessDenied"])
def test_a_wrong_password_is_a_refusal(server: Server, catalogue: RucioCatalogue, kind: str) -> None:
    server.answers[LOGIN] = (401, {"ExceptionClass": kind, "ExceptionMessage": "wrong password"}, "x")
    with pytest.raises(RefusedError, match=f"{kind}.*wrong password"):
        catalogue.ping()


def test_a_server_without_database_is_no_refusal(server: Server, catalogue: RucioCatalogue) -> None:
    server.answers[LOGIN] = (500, {"ExceptionClass": "DatabaseException", "ExceptionMessage": "no connection"}, "x")
    with pytest.raises(UnreachableError, match="no connection"):
        catalogue.ping()


def test_half_an_answer_is_none(server: Server, catalogue: RucioCatalogue) -> None:
    server.answers["/dids/user.alice/f/files"] = (200, {"Content-Type": "application/x-json-stream"}, '{"scope": "us')
    with pytest.raises(UnreachableError):
        catalogue.resolve(Did("user.alice", "f"))


@pytest.mark.parametrize("length", [1, 60, 250])
def test_long_names_fit_into_the_questions(server: Server, catalogue: RucioCatalogue, length: int) -> None:
    about = {"deterministic": True, "lfn2pfn_algorithm": "of_this_site", "protocols": []}
    server.answers["/rses/SITE-A"] = (200, {"Content-Type": "application/json"}, json.dumps(about))
    names = [Did("user.alice", f"{number:03}" + "x" * length) for number in range(120)]
    assert catalogue.pfns("SITE-A", names) == {did: f"davs://site/{did}" for did in names}
    asked = len([path for path in server.seen if "lfns2pfns" in path])
    assert asked <= len(names) * (length + 30) / 3000 + 1


@pytest.mark.parametrize(
    ("algorithm", "scope", "path"),
    [
        ("hash", "user.alice", "user/alice/c0/c8/f0"),
        ("identity", "user.alice", "user/alice/f0"),
        ("identity", "cms.mc", "cms.mc/f0"),
    ],
)
def test_names_of_copies_cost_no_calls_where_the_algorithm_is_rucio_s_own(
    server: Server, catalogue: RucioCatalogue, algorithm: str, scope: str, path: str
) -> None:
    domains = {"wan": {"write": 1}}
    door = {"scheme": "davs", "hostname": "site", "port": 443, "prefix": "/data/", "domains": domains}
    about = {"deterministic": True, "lfn2pfn_algorithm": algorithm}
    about |= {"protocols": [door | {"impl": "rucio.rse.protocols.gfal.Default"}]}
    server.answers["/rses/SITE-A"] = (200, {"Content-Type": "application/json"}, json.dumps(about))
    files = [Did(scope, f"f{number}") for number in range(1000)]
    pfns = catalogue.pfns("SITE-A", files)
    assert len(pfns) == len(files)
    assert pfns[files[0]] == f"davs://site:443/data/{path}"
    slashes = Did(scope, "/store/x")
    assert algorithm == "hash" or catalogue.pfns("SITE-A", [slashes])[slashes].endswith(f"{path[:-3]}//store/x")
    assert not [asked for asked in server.seen if "lfns2pfns" in asked]


@pytest.mark.parametrize(
    "odd", [{"port": 0}, {"hostname": "https://site"}, {"extended_attributes": {"web_service_path": "/srm?SFN="}}]
)
def test_names_of_copies_are_asked_for_where_a_door_is_unusual(
    server: Server, catalogue: RucioCatalogue, odd: dict[str, Any]
) -> None:
    door = {"scheme": "davs", "hostname": "site", "port": 443, "prefix": "/data/", "domains": {"wan": {"write": 1}}}
    protocols = [door | {"impl": "rucio.rse.protocols.gfal.Default"} | odd]
    about = {"deterministic": True, "lfn2pfn_algorithm": "identity", "protocols": protocols}
    server.answers["/rses/SITE-A"] = (200, {"Content-Type": "application/json"}, json.dumps(about))
    did = Did("user.alice", "f")
    assert catalogue.pfns("SITE-A", [did]) == {did: f"davs://site/{did}"}


@pytest.mark.parametrize("manner", ["hangs", "drips", "cuts", "end"])
def test_no_call_takes_long_and_no_half_answer_counts(server: Server, catalogue: RucioCatalogue, manner: str) -> None:
    server.manner = manner
    began = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        catalogue.resolve(Did("user.alice", "f"))
    assert caught.value.reason is Reason.CATALOGUE_UNREACHABLE
    assert time.monotonic() - began < 5
    asked = len(server.seen)
    with pytest.raises(UnreachableError, match="left alone"):
        catalogue.ping()
    assert len(server.seen) == asked, "others shall not wait for their own timeouts"


def test_a_refusal_is_an_answer(server: Server, catalogue: RucioCatalogue) -> None:
    told = {"ExceptionClass": "AccessDenied", "ExceptionMessage": "no"}
    server.answers["/dids/user.alice/f/files"] = (401, told, "x")
    for _ in range(2):
        with pytest.raises(RefusedError, match="no"):
            catalogue.resolve(Did("user.alice", "f"))


def test_a_replica_at_an_address_that_is_none_is_no_source() -> None:
    good, bad = "davs://a.example.org/x", ("davs://[::1/x", "davs:///x", "davs://a/", f"davs://a/{'x' * 2040}")
    pfns = {pfn: {"rse": "A"} for pfn in (good, *bad)}
    assert source_pfns({"pfns": pfns}, {"A": 0}) == (good,)


def test_what_a_credential_needed_on_disk_goes_with_it(server: Server, tmp_path: Path) -> None:
    login = {"server": f"https://localhost:{server.port}", "account": "ops", "userpass": {"secretName": "login"}}
    spec = RucioConnectionSpec.model_validate({**login, "ledgerScope": "vrse"})
    private = tmp_path / "private"
    private.mkdir()
    for number in range(3):
        catalogue = RucioCatalogue(RucioServer(spec, ("ops", f"secret{number}"), AUTHORITY.bundle(), private))
        with pytest.raises(UnreachableError):
            catalogue.dataset(Did("user.alice", "f"))
        assert len(list(private.glob("rucio-*"))) >= 1
    del catalogue
    gc.collect()
    assert list(private.glob("rucio-*")) == []


def test_an_rse_that_is_gone_is_remembered_no_more(server: Server, catalogue: RucioCatalogue) -> None:
    absent = {"ExceptionClass": "RSENotFound", "ExceptionMessage": "no"}
    server.answers["/rses/VRSE-A"] = (404, absent, "x")
    server.answers["/rses/VRSE-A/attr/"] = (200, {"Content-Type": "application/json"}, '{"vrse_instance": "a"}')
    assert catalogue._rses.is_volatile("VRSE-A")
    assert "VRSE-A" in catalogue._rses._volatile
    catalogue.delete_rse("VRSE-A")
    assert "VRSE-A" not in catalogue._rses._volatile


DATASET = Did("user.alice", "out")


class Holding:
    """A client of a Rucio that has one rule."""

    def __init__(self, *, hours: float | None, **rule: object) -> None:
        now = datetime.now(UTC).replace(tzinfo=None)
        ends = None if hours is None else now + timedelta(hours=hours)
        held = {"id": "f00d", "account": "alice", "rse_expression": "SITE-B", "copies": 1, "locked": False}
        held |= {"scope": DATASET.scope, "name": DATASET.name, "comments": "outputs of a session", "state": "OK"}
        self.rule = {**held, "locks_ok_cnt": 1, "locks_stuck_cnt": 0, "expires_at": ends} | rule
        self.changed: list[object] = []

    def add_replication_rule(self, *_: object, **__: object) -> None:
        raise DuplicateRule

    def list_did_rules(self, *_: object) -> Iterator[dict[str, Any]]:
        yield self.rule

    def get_did(self, *_: object) -> dict[str, Any]:
        return {"length": 1}

    def list_replica_locks(self, rule: str) -> Iterator[dict[str, Any]]:
        assert rule == "f00d"
        for name, state in (("a", "OK"), ("b", "STUCK")):
            yield {"scope": DATASET.scope, "name": name, "rse": "SITE-B", "state": state}

    def update_replication_rule(self, rule: str, options: dict[str, Any]) -> bool:
        assert rule == "f00d"
        self.changed.append(options)
        return True


@pytest.mark.parametrize(
    ("hours", "lifetime", "changed"),
    [
        (None, None, []),
        (None, 3600, []),
        (24, 3600, []),
        (23.5, 24 * 3600, []),
        (1, 24 * 3600, [{"lifetime": 24 * 3600}]),
        (1, None, [{"lifetime": None}]),
    ],
)
def test_a_rule_of_ours_is_lengthened_where_it_ends_too_early(
    catalogue: RucioCatalogue,
    monkeypatch: pytest.MonkeyPatch,
    hours: float | None,
    lifetime: int | None,
    changed: list[object],
) -> None:
    client = Holding(hours=hours)
    monkeypatch.setattr(catalogue._server, "_client", lambda: client)
    held = catalogue.locked_by(DATASET, "alice", ["SITE-B"], Term(lifetime, datetime.now(UTC)))
    assert held == (None if changed else "f00d")
    assert catalogue.ensure_rule(DATASET, "alice", ["SITE-B"], lifetime) == "f00d"
    assert client.changed == changed


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (Holding(hours=1, comments=None), "no operator has made it"),
        (Holding(hours=-1), "has ended"),
    ],
)
def test_a_rule_that_is_not_to_be_changed_is_named(
    catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch, client: Holding, said: str
) -> None:
    monkeypatch.setattr(catalogue._server, "_client", lambda: client)
    with pytest.raises(
        RefusedError, match=f"Rule f00d of account 'alice' for user.alice:out on SITE-B .*{said}"
    ) as told:
        catalogue.ensure_rule(DATASET, "alice", ["SITE-B"], None)
    assert told.value.reason is Reason.RULE_INSUFFICIENT
    assert client.changed == []


def test_a_rule_that_has_ended_holds_nothing(catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue._server, "_client", lambda: Holding(hours=-1))
    assert catalogue.locked_by(DATASET, "alice", ["SITE-B"]) is None


@pytest.mark.parametrize(
    ("files", "held"), [((), None), (("a",), "f00d"), (("b",), None), (("a", "b"), None), (("c",), None)]
)
def test_files_whose_locks_are_ok_are_held_whatever_the_rule_lacks(
    catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...], held: str | None
) -> None:
    monkeypatch.setattr(catalogue._server, "_client", lambda: Holding(hours=None, state="STUCK", locks_stuck_cnt=1))
    dids = [Did(DATASET.scope, name) for name in files]
    assert catalogue.locked_by(DATASET, "alice", ["SITE-B"], None, dids) == held
    assert catalogue.rule_state(DATASET, "alice", ["SITE-B"]) == RuleState("f00d", "STUCK", 1, 1, 1)
    assert catalogue.rule_state(DATASET, "bob", ["SITE-B"]) is None
    assert catalogue.held_at(DATASET, "alice") == {"SITE-B"}
    assert catalogue.held_at(DATASET, "bob") == frozenset()
