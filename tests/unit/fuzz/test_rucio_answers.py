"""Whatever Rucio's client gives, in whatever place: the port gives values of its own types, or fails as a port does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.unit.fuzz.answers import altered, places_of, values_for
from tests.unit.fuzz.hostile import shown
from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer
from volatile_rse.adapters.rucio import catalogue as adapter
from volatile_rse.adapters.rucio.answers import input_of, lacking
from volatile_rse.adapters.rucio.shapes import ANSWERS
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec, SecretKeys
from volatile_rse.domain.catalogue import BufferRse, Did, File, LedgerOwner, Room, Standing
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import PortError

OUT, LEDGER, FILE = Did("user.alice", "out"), Did("vrse", "l"), Did("user.alice", "f")
BUFFER = BufferRse("VRSE-A", "host", 1, 2, {"vrse_instance": "i"})
LARGEST = (1 << 63) - 1
_RULE = {
    "id": "f00d", "account": "alice", "rse_expression": "SITE-B", "copies": 1, "locked": False, "scope": "user.alice",
    "name": "out", "comments": "outputs of a session", "state": "OK", "locks_ok_cnt": 1, "locks_stuck_cnt": 0,
    "expires_at": datetime(2100, 1, 1),  # noqa: DTZ001 (as the client gives it)
}  # fmt: skip
_DOOR = {
    "scheme": "davs", "hostname": "site", "port": 443, "prefix": "/x/", "impl": "rucio.rse.protocols.gfal.Default",
    "domains": {"wan": {"read": 1, "write": 1}}, "extended_attributes": None,
}  # fmt: skip
_RIGHT: Mapping[str, Any] = {
    "list_files": [
        {"scope": "user.alice", "name": "f", "bytes": 1, "adler32": "00000001"},
        {"scope": "user.alice", "name": "h", "bytes": 1, "adler32": None},
    ],
    "get_metadata_bulk": [{"scope": "user.alice", "name": "h", "bytes": 1, "adler32": None, "md5": "0" * 32}],
    "list_content": [{"scope": "user.alice", "name": "f", "bytes": 1, "adler32": "00000001", "type": "FILE"}],
    "get_did": {"type": "DATASET", "account": "alice", "open": True, "length": 1, "bytes": 1},
    "get_metadata": {"vrse_instance": "i", "vrse_record": "r", "vrse_maker": "m"},
    "list_dids": ["l"],
    "get_rse": {
        "rse": "SITE-B", "deterministic": True, "lfn2pfn_algorithm": "hash", "availability_read": True,
        "availability_write": True, "availability_delete": True, "volatile": False, "staging_area": False,
        "rse_type": "DISK", "protocols": [_DOOR],
    },
    "list_rse_attributes": {"vrse_instance": "i", "vrse_record": "r", "ISP": "i"},
    "list_rses": [
        {
            "rse": "SITE-B", "deterministic": True, "volatile": False, "staging_area": False, "rse_type": "DISK",
            "availability_write": True, "ISP": None,
        }
    ],
    "get_distance": [{"distance": 1}],
    "lfns2pfns": {"user.alice:f": "davs://site/f"},
    "get_rse_usage": [{"used": 0}],
    "get_rse_limits": {"MaxSpaceAvailable": 1},
    "list_replicas": [
        {
            "scope": "user.alice", "name": "f", "adler32": "00000001", "states": {"SITE-B": "AVAILABLE"},
            "rses": {"SITE-B": []}, "pfns": {"davs://site/f": {"rse": "SITE-B", "priority": 1, "domain": "wan"}},
        }
    ],
    "get_local_account_usage": [{"rse": "SITE-B", "bytes": 1, "bytes_limit": 10}],
    "get_global_account_limits": {"*": {"resolved_rses": ["SITE-B"], "limit": 10}},
    "list_account_attributes": [[{"key": "country", "value": "xx"}]],
    "list_scopes": ["vrse"],
    "add_replication_rule": ["f00d"],
    "list_did_rules": [_RULE],
    "list_associated_rules_for_file": [{"id": "f00d"}],
    "get_replication_rule": _RULE,
    "get_dataset_locks_by_rse": [{"rule_id": "f00d"}],
    "list_replica_locks": [{"scope": "user.alice", "name": "f", "rse": "SITE-B", "state": "OK"}],
}  # fmt: skip
"""Method of the client -> an answer as Rucio gives it; all others give True."""
_CALLS: Mapping[str, Callable[[Catalogue], object]] = {
    "ping": lambda port: port.ping(),
    "lacks": lambda port: port.lacks("vrse"),
    "folders": lambda port: port.folders(["site", "elsewhere"]),
    "resolve": lambda port: port.resolve(OUT),
    "sources": lambda port: port.sources([File(FILE, 1, "00000001")], "*", "SITE-A"),
    "barred": lambda port: port.barred([FILE], "*"),
    "ensure_ledger": lambda port: port.ensure_ledger(LEDGER, LedgerOwner("i", "r")),
    "ledgers": lambda port: port.ledgers("vrse", "i"),
    "ledgers_of": lambda port: port.ledgers_of("vrse", "r"),
    "take_ledger": lambda port: port.take_ledger(LEDGER, LedgerOwner("i", "r", "m"), LedgerOwner("j", "r")),
    "buffer": lambda port: port.buffer("VRSE-A"),
    "rse": lambda port: port.rse(BUFFER),
    "ensure_rse": lambda port: port.ensure_rse(BUFFER),
    "register": lambda port: port.register("VRSE-A", LEDGER, [File(FILE, 1, "00000001")]),
    "registered": lambda port: port.registered(LEDGER),
    "replicas": lambda port: port.replicas("SITE-B", LEDGER),
    "destinations": lambda port: port.destinations("*"),
    "doubt": lambda port: port.doubt("SITE-B"),
    "narrowed": lambda port: port.narrowed("alice", "SITE-B", Room(10, "x")),
    "pfns": lambda port: port.pfns("SITE-B", [FILE]),
    "read_pfns": lambda port: port.read_pfns("SITE-B", [FILE]),
    "rooms": lambda port: port.rooms("alice", ["SITE-B"]),
    "size": lambda port: port.size(OUT),
    "dataset": lambda port: port.dataset(OUT),
    "maker": lambda port: port.maker(OUT),
    "ensure_dataset": lambda port: port.ensure_dataset(OUT, "alice", "r"),
    "content": lambda port: port.content(OUT),
    "attach": lambda port: port.attach(OUT, "SITE-B", [File(FILE, 1, "00000001")]),
    "ensure_rule": lambda port: port.ensure_rule(OUT, "alice", ["SITE-B"], None),
    "unsafe": lambda port: port.unsafe([File(FILE, 1, "00000001")], ["SITE-B"]),
    "locked_by": lambda port: port.locked_by(OUT, "alice", ["SITE-B"], None, [FILE]),
    "rule_state": lambda port: port.rule_state(OUT, "alice", ["SITE-B"]),
    "held_at": lambda port: port.held_at(OUT, "alice"),
    "standing": lambda port: port.standing("VRSE-A", LEDGER),
    "foreign_rules": lambda port: port.foreign_rules("SITE-B", LEDGER),
    "expire_rule": lambda port: port.expire_rule("f00d"),
    "hide": lambda port: port.hide("VRSE-A", [FILE]),
    "suspend": lambda port: port.suspend("VRSE-A", [FILE]),
    "resume": lambda port: port.resume("VRSE-A", [FILE]),
    "allow_deletion": lambda port: port.allow_deletion("VRSE-A"),
    "delete_rse": lambda port: port.delete_rse("VRSE-A"),
    "expire_ledger": lambda port: port.expire_ledger(LEDGER),
    "ledger_exists": lambda port: port.ledger_exists(LEDGER),
}


class Client:
    """Answers as it is told; streams are iterators, as those of Rucio's client are."""

    def __init__(self, method: str = "", answer: object = None, **others: object) -> None:
        self._altered = method, answer
        self._right = {**_RIGHT, **others}
        self.asked: list[str] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: object, **_named: object) -> Any:
            self.asked.append(method)
            answer: Any = self._altered[1] if method == self._altered[0] else self._right.get(method, True)
            if args == ("SITE-B",) and method == "list_rse_attributes" and method != self._altered[0]:
                answer = {"tier": "2"}
            if isinstance(answer, BaseException):
                raise answer
            listing = method == "get_metadata_bulk" or (method[:5] == "list_" and method != "list_rse_attributes")
            streams = listing and isinstance(answer, list)
            return iter(answer) if streams else answer

        return call


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> RucioServer:
    keys = SecretKeys(secret_name="login")
    budget = Budget(calls_per_second=1000, concurrency=64)
    spec = RucioConnectionSpec(server="https://rucio", account="ops", userpass=keys, ledger_scope="vrse", budget=budget)
    made = RucioServer(spec, ("ops", "secret"), None, Path(tmp_path_factory.mktemp("rucio")))
    made._gate._pace = lambda began: None  # type: ignore[method-assign]  # noqa: ARG005 (its own signature)
    return made


def asked_by(server: RucioServer, name: str, client: Client) -> object:
    server._idle.clear()
    server._client = lambda: client  # type: ignore[method-assign]
    return _CALLS[name](RucioCatalogue(server))


def is_sound(value: object) -> bool:
    """Tell whether a value of the port is one that all others may rely on."""
    match value:
        case None | bool():
            return True
        case str():
            value.encode()
            return value.isprintable() and (not value.startswith(("davs", "https")) or bool(urlsplit(value).hostname))
        case int():
            return abs(value) <= LARGEST
        case Mapping():
            return all(is_sound(key) and is_sound(entry) for key, entry in value.items())
        case list() | tuple() | set() | frozenset():
            return all(is_sound(entry) for entry in value)
        case File():
            if value.lack:
                # Its name may be no text: nobody is asked for it.
                return is_sound(value.lack) and (value.bytes, value.adler32, value.md5) == (0, "", "")
            str(value.did).encode()
            sums = f"{value.adler32}:{value.md5}"
            return re.fullmatch(r"[0-9a-f]{8}:|:[0-9a-f]{32}", sums) is not None and 0 <= value.bytes <= LARGEST
        case Standing():
            return is_sound(value.states) and is_sound(value.last)
        case _:
            return all(is_sound(getattr(value, field)) for field in getattr(value, "__slots__", ()))


def test_every_question_of_the_port_is_asked() -> None:
    assert set(_CALLS) == {name for name in vars(Catalogue) if not name.startswith("_")}


def test_every_call_of_the_client_has_its_shape() -> None:
    """A call whose answer nobody judges is read as if it were right."""
    texts = "".join(path.read_text() for path in Path(adapter.__file__).parent.glob("*.py"))
    called = re.findall(r"\.call\((?:[^()\"]|\([^()]*\)|\"[^\"]*\"(?=\s*,\s*\"))*?,\s*\"([a-z_0-9]+)\"", texts)
    assert {"list_files", "get_rse", "delete_protocols"} <= set(called)
    assert set(called) <= set(ANSWERS)


def test_right_answers_are_read(server: RucioServer) -> None:
    for name in _CALLS:
        assert is_sound(asked_by(server, name, Client()))


@pytest.mark.parametrize("name", _CALLS)
def test_no_answer_of_rucio_is_more_than_a_port_s_error(
    server: RucioServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    right, unforeseen = Client(), list[str]()
    asked_by(server, name, right)
    for method in sorted(set(right.asked) & set(_RIGHT)):
        for place, kind in places_of(_RIGHT[method]):
            for value in values_for(kind):
                answer = altered(_RIGHT[method], place, value)
                case = f"{method}{list(place)} is {shown(value)}"
                try:
                    assert is_sound(asked_by(server, name, Client(method, answer))), case
                except PortError:
                    unforeseen += [case] if caplog.records else []
                    caplog.clear()
                except Exception as error:
                    error.add_note(case)
                    raise
    assert not unforeseen, "only the last resort has caught it"


@pytest.mark.parametrize("name", _CALLS)
@pytest.mark.parametrize(
    "error",
    [StopIteration(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), RecursionError(), KeyError("x"), MemoryError()],
    ids=lambda error: type(error).__name__,
)
def test_what_the_client_itself_cannot_read_is_a_port_s_error(server: RucioServer, name: str, error: Exception) -> None:
    """An empty answer, one that is no text, one too deep to be parsed."""
    right = Client()
    asked_by(server, name, right)
    for method in sorted(set(right.asked)):
        try:
            told = str(asked_by(server, name, Client(method, error)))
        except PortError as named:
            told = named.what
        assert "cannot be" in told or (name, method) == ("folders", "get_rse"), "there one odd RSE is passed over"


@pytest.mark.parametrize(
    ("field", "value", "lack"),
    [
        ("bytes", -7, "has a size of -7"),
        ("bytes", 1 << 63, "has a size of 9223372036854775808"),
        ("bytes", None, "has no size"),
        ("adler32", "", "has neither an adler32 nor an md5 checksum"),
        ("adler32", None, "has neither an adler32 nor an md5 checksum"),
        ("adler32", "md5:0", "has the adler32 checksum 'md5:0', which is none"),
        ("name", "a\ud800", "has a name that is no text"),
    ],
)
def test_an_input_that_cannot_be_one_is_told_with_its_lack(
    server: RucioServer, field: str, value: object, lack: str
) -> None:
    good, other = _RIGHT["list_files"]
    bad = other | {"adler32": "00000001", field: value}
    with_no_md5 = [bad | {"md5": None}]
    found = asked_by(server, "resolve", Client("list_files", [good, bad], get_metadata_bulk=with_no_md5))
    assert found == tuple(sorted([input_of(good), lacking(Did("user.alice", bad["name"]), lack)]))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="volatile_rse")
