"""What the catalogue's client makes of a server that answers strangely; the contract suite shows the real one."""

from __future__ import annotations

import gc
import json
import re
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from rucio.client.baseclient import BaseClient
from rucio.common.exception import DuplicateRule, InvalidRSEExpression, RSEProtocolNotSupported
from rucio.rse import rsemanager

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer
from volatile_rse.adapters.rucio.answers import source_pfns, why_no_destination
from volatile_rse.adapters.rucio.doors import ordered
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec, SecretKeys
from volatile_rse.domain.catalogue import Did, File, RuleState, Term
from volatile_rse.ports.errors import RefusedError, UnreachableError

AUTHORITY = LocalAuthority(*LocalAuthority.create())
LOGIN = "/auth/userpass"
FLAGS = {"deterministic": True, "availability_read": True, "availability_write": True, "availability_delete": True}
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
    named: str = "davs://site/"
    """What it puts before a name for its PFN."""

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


@contextmanager
def serving(state: Server, tmp_path: Path, *, tls: bool = True) -> Iterator[Server]:
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
                body = "{" + ",".join(f'"{name}": "{state.named}{name}"' for name in names) + "}"
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
    if tls:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    state.port = listening.server_port
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        state.over.set()
        listening.shutdown()
        thread.join()
        listening.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(Server(), tmp_path) as state:
        yield state


@pytest.fixture
def catalogue(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RucioCatalogue:
    monkeypatch.setattr(BaseClient, "_back_off", lambda *_: None)
    url = f"https://localhost:{server.port}"
    spec = RucioConnectionSpec(
        server=url,
        account="ops",
        userpass=SecretKeys(secret_name="login"),
        ledger_scope="vrse",
        budget=Budget(timeout=2, calls_per_second=1000),
    )
    return RucioCatalogue(RucioServer(spec, ("ops", "secret"), AUTHORITY.bundle(), tmp_path))


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
@pytest.mark.parametrize("path", [LOGIN, "/dids/user.alice/f"], ids=["login", "call"])
def test_a_server_that_sends_on_to_another_one_has_nothing_sent_there(
    server: Server, catalogue: RucioCatalogue, tmp_path: Path, path: str, *, tls: bool
) -> None:
    with serving(Server(), tmp_path, tls=tls) as other:
        where = f"{'https' if tls else 'http'}://localhost:{other.port}"
        server.answers[path] = (307, {"Location": f"{where}/stolen"}, "")
        with pytest.raises(RefusedError, match=f"sends on to {where}") as caught:
            catalogue.dataset(Did("user.alice", "f"))
        assert caught.value.reason is Reason.CREDENTIAL_MISMATCH
        assert other.seen == []


def test_a_server_may_send_on_to_itself(server: Server, catalogue: RucioCatalogue) -> None:
    server.answers["/there"] = server.answers[LOGIN]
    server.answers[LOGIN] = (307, {"Location": "/there"}, "")
    with pytest.raises(UnreachableError):
        catalogue.dataset(Did("user.alice", "f"))
    assert "/there" in server.seen


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


def test_a_password_that_rucio_repeats_is_not_told(server: Server, catalogue: RucioCatalogue) -> None:
    said = {"ExceptionClass": "CannotAuthenticate", "ExceptionMessage": "ops and secret do not match"}
    server.answers[LOGIN] = (401, said, "x")
    with pytest.raises(RefusedError, match=r"ops and \(secret\) do not match"):
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
    about = {**FLAGS, "lfn2pfn_algorithm": "of_this_site", "protocols": []}
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
    about = {**FLAGS, "deterministic": True, "lfn2pfn_algorithm": algorithm}
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
    about = {**FLAGS, "lfn2pfn_algorithm": "identity", "protocols": protocols}
    server.answers["/rses/SITE-A"] = (200, {"Content-Type": "application/json"}, json.dumps(about))
    did = Did("user.alice", "f")
    assert catalogue.pfns("SITE-A", [did]) == {did: f"davs://site/{did}"}


def door(host: str, write: int | None, read: int | None = None, *, port: int = 443) -> dict[str, Any]:
    about = {"scheme": "davs", "hostname": host, "port": port, "prefix": "/data/"}
    about |= {"domains": {"wan": {"read": read, "write": write}}}
    return about | {"impl": "rucio.rse.protocols.gfal.Default"}


@pytest.mark.parametrize("algorithm", ["identity", "of_this_site"])
@pytest.mark.parametrize(
    ("doors", "hosts"),
    [
        ([door("a", None), door("b", 1)], ("b", "b")),
        ([door("a", 0), door("b", 1)], ("a", "a")),
        ([door("b", 0), door("a", 1)], ("b", "b")),
        ([door("a", 3), door("b", 2)], ("b", "b")),
        ([door("a", 1, 1), door("b", 1, 1)], ("a", "a")),
        ([door("b", 1, 1), door("a", 1, 1)], ("a", "a")),
        ([door("a", 1, 2), door("b", 2, 1)], ("b", "b")),
        ([door("a", 1, 1), door("b", 2, 0)], ("b", "b")),
        ([door("a", 1, 2), door("b", None, 1)], ("a", "b")),
        ([door("a", 1, None), door("b", 2, 3)], ("b", "b")),
        ([door("a", 2, 1), door("b", 1, 1)], ("b", "b")),
        ([door("a", 1), door("b", 2)], ("a", "a")),
        ([door("a", 0) | {"domains": {"lan": {"read": 1, "write": 1}}}, door("b", 7, 7)], ("b", "b")),
        ([door("a", 0) | {"domains": None}, door("b", 7, 7)], ("b", "b")),
    ],
    ids=[
        "null is never", "0 is first", "0 is first, by whatever host", "the lowest", "equal", "equal, in any order",
        "where it is listed", "where it is listed: 0", "listed by what is read-only", "not listed by the first",
        "both are listed", "read by none", "of a LAN alone", "of no domain",
    ],
)  # fmt: skip
def test_copies_go_where_rucio_lists_them_and_are_looked_for_there(
    server: Server,
    catalogue: RucioCatalogue,
    doors: list[dict[str, Any]],
    hosts: tuple[str, str],
    algorithm: str,
) -> None:
    written, looked = hosts
    about = {**FLAGS, "lfn2pfn_algorithm": algorithm, "protocols": doors}
    server.answers["/rses/SITE-A"] = (200, {"Content-Type": "application/json"}, json.dumps(about))
    server.named = "davs://a:443/data/user/alice/"
    did = Did("user.alice", "f")
    name = "f" if algorithm == "identity" else "user.alice:f"
    for _ in range(2):
        assert catalogue.pfns("SITE-A", [did]) == {did: f"davs://{written}:443/data/user/alice/{name}"}
        assert catalogue.read_pfns("SITE-A", [did]) == {did: f"davs://{looked}:443/data/user/alice/{name}"}


@pytest.mark.parametrize("domain", ["wan", "lan"])
@pytest.mark.parametrize("operation", ["read", "write", "delete", "third_party_copy_read", "third_party_copy_write"])
def test_protocols_are_ordered_as_by_the_release_of_rucio_at_hand(operation: str, domain: str) -> None:
    """Which number means never, and which is the first, has changed between its releases."""
    if domain == "lan" and operation.startswith("third"):
        return
    for ranks in product([None, 0, 1, 9], repeat=4):
        wide = [{domain: {operation: rank}} for rank in ranks]
        doors = [door(host, None) | {"domains": domains} for host, domains in zip("abcd", wide, strict=True)]
        try:
            theirs = rsemanager.get_protocols_ordered({"protocols": doors}, operation, "davs", domain)
        except RSEProtocolNotSupported:
            theirs = []
        assert ordered({"protocols": doors}, operation, domain=domain) == theirs


def site(**changes: Any) -> dict[str, Any]:
    about = {"deterministic": True, "volatile": False, "staging_area": False, "rse_type": "DISK"}
    return {**about, "availability_write": True, "protocols": [door("site", 1)], **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"deterministic": False}, "not deterministic"),
        ({"volatile": True}, "volatile"),
        ({"staging_area": True}, "staging area"),
        ({"rse_type": "TAPE"}, "TAPE"),
        ({"availability_write": False}, "availability_write is False"),
        ({"protocols": []}, "no davs protocol"),
        ({"protocols": [door("site", 1) | {"scheme": "root"}]}, "no davs protocol"),
        ({"protocols": [door("site", None, 1)]}, "read-only"),
        ({"protocols": [door("site", 0)]}, ""),
        ({"protocols": [door("site", None), door("other", 2)]}, ""),
        ({"rse_type": "TAPE", "deterministic": False}, "not deterministic.*, it is TAPE"),
    ],
)
def test_what_keeps_no_outputs_is_told_by_what_it_is(changes: dict[str, Any], why: str) -> None:
    said = why_no_destination(site(**changes))
    assert re.search(why, said) if why else not said


@dataclass
class Bank:
    """Rucio's answers about the limits of one account."""

    admin: object = None
    limit: float = 1000
    used: int = 100
    everywhere: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    space: int | None = None

    def list_account_attributes(self, _account: str) -> Iterator[Any]:
        # As the client gives them: one list.
        yield [{"key": "admin", "value": self.admin}, {"key": "country", "value": "it"}]

    def get_local_account_usage(self, _account: str) -> Iterator[Any]:
        yield {"rse": "SITE-A", "bytes": self.used, "bytes_limit": self.limit}
        yield {"rse": "SITE-B", "bytes": 50, "bytes_limit": 0}

    def get_global_account_limits(self, _account: str) -> dict[str, Any]:
        return self.everywhere

    def list_rse_attributes(self, _rse: str) -> dict[str, Any]:
        return self.attributes

    def list_rses(self, expression: str) -> Iterator[Any]:
        assert expression == "mock"
        if not self.attributes.get("mock"):
            raise InvalidRSEExpression
        yield {"rse": "SITE-A"}

    def get_rse_limits(self, _rse: str) -> Iterator[Any]:
        yield {} if self.space is None else {"MaxSpaceAvailable": self.space}

    def get_rse_usage(self, _rse: str, filters: object) -> Iterator[Any]:
        assert filters == {"source": "rucio"}
        yield {"source": "rucio", "used": 70}


class Crowd:
    """Rucio's answers with a thousand RSEs, a hundred of which are buffers, and how often each was asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.replicas: list[Any] | None = None
        """Then SITE-000 is TAPE, and SITE-007 stages what is read."""
        self.made = [f"SITE-{number:03}" for number in range(900)] + [f"VRSE-{number:03}" for number in range(100)]

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.asked[method] += 1
            answer = getattr(self, f"_{method}")(*args, **kwargs)
            return iter(answer) if isinstance(answer, list) else answer

        return call

    def _list_rses(self, expression: str | None = None) -> list[Any]:
        if expression == "mock":
            raise InvalidRSEExpression
        columns = {"deterministic": True, "volatile": False, "staging_area": False, "rse_type": "DISK"}
        about = {} if expression else columns | {"availability_write": True}
        owner = {"ISP": f"a.{uuid.uuid4()}"}
        tape = {"rse_type": "TAPE"} if about and self.replicas is not None else {}
        return [
            {"rse": rse, **about, **(owner if about and rse[0] == "V" else {}), **(tape if rse == "SITE-000" else {})}
            for rse in self.made
        ]

    def _get_rse(self, rse: str) -> dict[str, Any]:
        return {**FLAGS, "rse": rse, "lfn2pfn_algorithm": "hash", "protocols": [door(rse.lower(), 1, 1)]}

    def _list_rse_attributes(self, rse: str) -> dict[str, Any]:
        return {"site": rse, "staging_required": rse == "SITE-007" and self.replicas is not None}

    def _get_rse_limits(self, _rse: str) -> list[Any]:
        return [{}]

    def _get_distance(self, rse: str, _near: str) -> list[Any]:
        return [{"distance": int(rse[-1])}]

    def _list_replicas(self, dids: list[dict[str, str]], **_: object) -> list[Any]:
        if self.replicas is not None:
            return self.replicas
        pfns = {f"davs://{rse}/x": {"rse": rse, "priority": 1, "domain": "wan"} for rse in ("SITE-007", "SITE-003")}
        return [{**did, "pfns": pfns} for did in dids]

    def _list_account_attributes(self, _account: str) -> list[Any]:
        return [[]]

    def _get_local_account_usage(self, _account: str) -> list[Any]:
        return [{"rse": rse, "bytes": 0, "bytes_limit": 1000} for rse in self.made]

    def _get_global_account_limits(self, _account: str) -> dict[str, Any]:
        return {}


def test_a_thousand_rses_are_asked_for_at_once(catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    monkeypatch.setattr(catalogue._server, "_client", lambda: crowd)
    found = catalogue.destinations("*")
    assert Counter(found.values()) == {"": 900, "it is the buffer of a session": 100}
    rooms = catalogue.rooms("alice", [rse for rse, why in found.items() if not why])
    assert {room.bytes for room in rooms.values()} == {1000}
    assert crowd.asked.total() <= 6, crowd.asked
    assert not {"get_rse", "list_rse_attributes", "get_rse_limits"} & set(crowd.asked)
    assert catalogue.doubt("SITE-000") == ""
    assert catalogue.narrowed("alice", "SITE-000", rooms["SITE-000"]).bytes == 1000
    assert crowd.asked.total() <= 9, crowd.asked


def test_of_a_thousand_rses_those_that_have_a_file_are_asked_about(
    catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd, files = Crowd(), [File(Did("user.alice", f"f{number}"), 1, "00000001") for number in range(50)]
    monkeypatch.setattr(catalogue._server, "_client", lambda: crowd)
    for _ in range(3):
        found = catalogue.sources(files, "*", "SITE-001")
        assert set(found.values()) == {("davs://SITE-003/x", "davs://SITE-007/x")}
    asked_singly = {"list_rse_attributes": 2, "get_distance": 2}
    assert crowd.asked == {"list_rses": 4, "list_replicas": 3, **asked_singly}


ARCHIVED = "davs://site-000:443/data/a.zip?xrdcl.unzip=f&x"
DISK, TAPE, STAGED = ({f"davs://{rse}/x": (rse, "wan")} for rse in ("SITE-001", "SITE-000", "SITE-007"))
ZIP = {ARCHIVED: ("SITE-001", "zip"), "root://a//x?xrdcl.unzip=f": ("SITE-002", "zip")}


@pytest.mark.parametrize(
    ("pfns", "states", "told"),
    [
        pytest.param(DISK, {"SITE-001": "AVAILABLE"}, (tuple(DISK), ""), id="disk"),
        pytest.param(TAPE, {"SITE-000": "AVAILABLE"}, ((), "on tape only, at SITE-000"), id="tape"),
        pytest.param(STAGED, {"SITE-007": "AVAILABLE"}, ((), "on tape only, at SITE-007"), id="staging_required"),
        pytest.param({}, {"SITE-000": "AVAILABLE"}, ((), "on tape only, at SITE-000"), id="tape without davs"),
        pytest.param({}, {"SITE-000": "COPYING"}, ((), ""), id="not there yet"),
        pytest.param({}, {}, ((), ""), id="nowhere"),
        pytest.param(
            TAPE | DISK, dict.fromkeys(("SITE-000", "SITE-001"), "AVAILABLE"),
            (tuple(DISK), "on tape only, at SITE-000"), id="tape and disk",
        ),
        pytest.param(
            ZIP, {"SITE-001": "AVAILABLE"},
            ((), "inside the archive davs://site-000:443/data/a.zip"), id="archive",
        ),
        pytest.param({ARCHIVED: ("VRSE-000", "zip")}, {"VRSE-000": "AVAILABLE"}, ((), ""), id="archive on a buffer"),
    ],
)  # fmt: skip
def test_what_is_on_tape_or_inside_an_archive_is_no_source(
    catalogue: RucioCatalogue,
    monkeypatch: pytest.MonkeyPatch,
    pfns: dict[str, tuple[str, str]],
    states: dict[str, str],
    told: tuple[tuple[str, ...], str],
) -> None:
    did, crowd, (sources, barred) = Did("user.alice", "f"), Crowd(), told
    about = {pfn: {"rse": rse, "priority": 1, "domain": domain} for pfn, (rse, domain) in pfns.items()}
    crowd.replicas = [{"scope": did.scope, "name": did.name, "pfns": about, "states": states}]
    monkeypatch.setattr(catalogue._server, "_client", lambda: crowd)
    assert catalogue.sources([File(did, 1, "00000001")], "*") == ({did: sources} if sources else {})
    found = catalogue.barred([did], "*")
    assert {key: str(where) for key, where in found.items()} == ({did: barred} if barred else {})


def test_an_rse_that_was_made_since_is_judged_by_what_it_is(
    catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd()
    monkeypatch.setattr(catalogue._server, "_client", lambda: crowd)
    catalogue.destinations("*")
    crowd.made += ["VRSE-NEW", "SITE-NEW"]
    found = catalogue.destinations("*")
    assert (found["VRSE-NEW"], found["SITE-NEW"]) == ("it is the buffer of a session", "")


@pytest.mark.parametrize(("domain", "is_source"), [("wan", True), (None, True), ("lan", False), ("zip", False)])
def test_what_is_for_a_lan_is_no_source(domain: str | None, is_source: bool) -> None:  # noqa: FBT001
    pfns = {"davs://a/x": {"rse": "A", "domain": domain}}
    assert source_pfns({"pfns": pfns}, {"A": 0}) == (("davs://a/x",) if is_source else ())


def everywhere(limit: float, *rses: str) -> dict[str, Any]:
    return {"tier=2": {"resolved_rses": list(rses), "resolved_rse_ids": [], "limit": limit}}


@pytest.mark.parametrize(
    ("bank", "bytes_", "by"),
    [
        pytest.param(Bank(), 900, "the limit of account 'alice' there", id="local"),
        pytest.param(Bank(limit=0), 0, "not set or 0", id="none"),
        pytest.param(Bank(limit=float("inf")), None, "", id="unlimited"),
        pytest.param(Bank(limit=-1), None, "", id="unlimited, as it is written"),
        pytest.param(Bank(used=5000), 0, "the limit of account", id="more than all"),
        pytest.param(Bank(everywhere=everywhere(500, "SITE-A", "SITE-B")), 350, "on 'tier=2'", id="global, all used"),
        pytest.param(Bank(everywhere=everywhere(100, "SITE-B")), 900, "there", id="global, of others"),
        pytest.param(Bank(everywhere=everywhere(float("inf"), "SITE-A")), 900, "there", id="global, unlimited"),
        pytest.param(Bank(limit=-1, everywhere=everywhere(500, "SITE-A")), 400, "on 'tier=2'", id="global alone"),
        pytest.param(Bank(everywhere=everywhere(10, "SITE-A")), 0, "on 'tier=2'", id="global, used up"),
        pytest.param(Bank(space=80), 10, "MaxSpaceAvailable", id="space"),
        pytest.param(Bank(space=-1), 900, "there", id="space without end"),
        pytest.param(Bank(space=10**6), 900, "there", id="space enough"),
        pytest.param(Bank(limit=0, space=80, admin=True), None, "", id="admin"),
        pytest.param(Bank(limit=0, admin=False), None, "", id="admin, whatever it says"),
        pytest.param(Bank(limit=-1, attributes={"restricted_write": True}), 0, "restricted_write", id="closed"),
        pytest.param(Bank(admin=True, attributes={"restricted_write": True}), None, "", id="closed to others"),
        pytest.param(Bank(limit=0, attributes={"mock": True}), None, "", id="mock"),
    ],
)
def test_what_may_be_locked_is_judged_as_rucio_judges_a_rule(
    catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch, bank: Bank, bytes_: int | None, by: str
) -> None:
    monkeypatch.setattr(catalogue._server, "_client", lambda: bank)
    room = catalogue.narrowed("alice", "SITE-A", catalogue.rooms("alice", ["SITE-A"])["SITE-A"])
    assert room.bytes == bytes_
    assert by in room.by if by else not room.by


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
        return {"length": 1, "type": "DATASET", "account": "alice"}

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


def test_each_call_has_a_client_for_itself_and_there_are_as_many_as_calls_run(
    catalogue: RucioCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = threading.Barrier(4)

    class Client:
        def __init__(self) -> None:
            made.append(self)
            self.used = threading.Lock()

        def meet(self) -> str:
            assert self.used.acquire(blocking=False), "two calls have one client"
            try:
                return f"met {calls.wait(10)}"
            finally:
                self.used.release()

    made: list[Client] = []
    told: list[str] = []
    monkeypatch.setattr(catalogue._server, "_client", Client)
    threads = [
        threading.Thread(target=lambda: told.append(catalogue._server.call("all", "meet")), daemon=True)
        for _ in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(told) == 32
    assert len(made) == 4, "the budget lets four run at once"
