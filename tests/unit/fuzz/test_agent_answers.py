"""Whatever an agent or a site answers: models of the protocol, or an error of the port."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests

from tests.unit.fuzz.answers import altered, places_of, values_for
from tests.unit.fuzz.hostile import TEXTS, shown
from volatile_rse.adapters import https
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.api.agent import FenceRequest
from volatile_rse.api.schema import ApiModel
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.credentials import KeyPair
from volatile_rse.ports.errors import PortError

_GATE = {"mode": "open", "generation": 0}
_FILE = {"version": 1, "scope": "user.alice", "name": "f", "bytes": 1, "adler32": "00000001"}
_RIGHT: Mapping[str, tuple[Callable[[Buffer], object], Mapping[str, Any]]] = {
    "report": (
        lambda agent: agent.report(),
        {
            "api": "v1", "version": 1, "volume": "0" * 32, "manifest": "a", "desired": _GATE, "actual": _GATE,
            "inputs": [{"name": "in", "files": 1, "staged": 1, "bytes": 1, "stagedBytes": 1, "idle": 1}],
            "seal": {"generation": 1, "state": "running", "error": "x", "idle": 1},
            "outputs": [{"claim": "c", "name": "kept", "files": 1, "bytes": 1}],
            "copies": {"files": 1, "verified": 1, "bytes": 1}, "failures": [{"what": "f", "error": "e"}],
            "space": {"bytes": 1, "bytesFree": 1, "inodes": 1, "inodesFree": 1}, "stagingRate": 1,
            "unmatched": ["x"], "knows": ["outputs"], "newer": {"a": [1]},
        },
    ),
    "fence": (lambda agent: agent.fence(FenceRequest(generation=1)), _GATE),
    "inputs": (
        lambda agent: agent.inputs(),
        {"items": [_FILE | {"path": "/store/f", "state": "staged", "error": "e"}], "next": 1},
    ),
    "outputs": (
        lambda agent: agent.outputs(),
        {
            "items": [
                _FILE | {"claim": "c", "path": "kept/a", "state": "sealed", "output": "kept", "storePath": "/store/f"}
            ],
            "next": 1,
        },
    ),
    "copies": (
        lambda agent: agent.copies(),
        {
            "items": [
                {"version": 1, "scope": "s", "name": "f", "rse": "R", "pfn": "davs://h/f", "state": "wanted"}
                | {"attempts": 1}
            ],
            "next": 1,
        },
    ),
}  # fmt: skip
_BODIES = (b"", b"\xff\xfe", b"null", b"7", b'"x"', b"[]", b"{}", b"[" * 100_000, b'{"a":' * 100_000, b"<html>", b"NaN")


class Session(requests.Session):
    """Answers each call so."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._given = status, body, headers

    def request(self, *_args: Any, **_named: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer._content, headers = self._given
        answer.raw = io.BytesIO(self._given[1])
        answer.headers.update(headers)
        return answer


@contextmanager
def answering(
    patch: pytest.MonkeyPatch, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> Iterator[None]:
    with patch.context() as patched:
        patched.setattr(https, "session", lambda *_args: Session(status, body, headers or {}))
        yield


def agent() -> AgentClient:
    return AgentClient(("host", 1), "name", "bundle", KeyPair("c", "k"))


@pytest.mark.parametrize("name", _RIGHT)
def test_a_right_answer_is_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ask, right = _RIGHT[name]
    with answering(monkeypatch, 200, json.dumps(right).encode()):
        assert isinstance(ask(agent()), ApiModel)


@pytest.mark.parametrize("name", _RIGHT)
def test_no_answer_of_an_agent_is_more_than_a_port_s_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ask, right = _RIGHT[name]
    for place, kind in places_of(right):
        for value in values_for(kind):
            case = f"{name}{list(place)} is {shown(value)}"
            if isinstance(value, int) and value > 10**300:
                data = json.dumps(altered(right, place, 4711)).replace("4711", "9" * 5000).encode()
            else:
                data = json.dumps(altered(right, place, value)).encode()
            try:
                with answering(monkeypatch, 200, data):
                    found = ask(agent())
                assert all(abs(number) < 1 << 63 for number in numbers_of(found)), case
            except PortError:
                pass
            except Exception as error:
                error.add_note(case)
                raise


def numbers_of(found: object) -> Iterator[int]:
    match found:
        case ApiModel():
            for field in type(found).model_fields:
                yield from numbers_of(getattr(found, field))
        case list():
            for entry in found:
                yield from numbers_of(entry)
        case int():
            yield found


@pytest.mark.parametrize("name", _RIGHT)
@pytest.mark.parametrize("status", [200, 302, 400, 404, 500, 503])
def test_what_is_no_answer_of_the_protocol_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, status: int) -> None:
    for body in _BODIES:
        with answering(monkeypatch, status, body), pytest.raises(PortError):
            _RIGHT[name][0](agent())


@pytest.mark.parametrize("following", [0, -1, 5])
def test_pages_come_to_an_end(monkeypatch: pytest.MonkeyPatch, following: int) -> None:
    ask, right = _RIGHT["outputs"]
    del ask
    body = json.dumps({**right, "next": following}).encode()
    with answering(monkeypatch, 200, body), pytest.raises(PortError):
        agent().outputs(after=5)


@pytest.mark.parametrize("length", [*TEXTS, "²", "٣", "1" * 5000, "+1", "1_0", "0x10"])
def test_a_length_is_a_number_or_none(monkeypatch: pytest.MonkeyPatch, length: str) -> None:
    for status, said in ((200, {"Content-Length": length}), (206, {"Content-Range": f"bytes 0-0/{length}"})):
        with answering(monkeypatch, status, b"", said), suppress(PortError):
            assert 0 <= (XrootdEndpoints("").size("davs://h/f", "token", None) or 0) < 1 << 63


@pytest.mark.parametrize("text", [*TEXTS, "h:99999", "[::1", "h:x", "h\x00"])
def test_no_url_token_or_trust_is_more_than_a_port_s_error(text: str) -> None:
    doors = XrootdEndpoints("")
    asks: tuple[Callable[[], object], ...] = (
        lambda: doors.size(f"davs://{text}/f", "token", None),
        lambda: doors.size("davs://127.0.0.1:1/f", text, None),
        lambda: doors.size("davs://127.0.0.1:1/f", "token", text),
        lambda: doors.can_write("127.0.0.1", 1, text, "token"),
        lambda: doors.can_write("127.0.0.1", 1, "/outbox/", text),
        lambda: doors.can_write(f"127.0.0.1{text}", 1, "/outbox/", text),
    )
    for ask in asks:
        with pytest.raises(PortError):
            ask()
    with suppress(PortError):
        assert doors.can_read("127.0.0.1", 1, text, text)


@pytest.mark.parametrize("text", [*TEXTS])
def test_no_credential_of_a_buffer_is_more_than_a_port_s_error(text: str) -> None:
    for client in (
        AgentClient(("127.0.0.1", 1), "name", text, KeyPair("c", "k")),
        AgentClient(("127.0.0.1", 1), text, "", KeyPair(text, text)),
        AgentClient((text, 1), text, text, KeyPair(text, text)),
    ):
        with pytest.raises(PortError):
            client.report()
