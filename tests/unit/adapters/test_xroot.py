"""What the root protocol's door may answer, and what is made of it."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from volatile_rse.adapters import xroot
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.ports.errors import RefusedError

AUTHORITY = LocalAuthority(*LocalAuthority.create())
TOKEN = "eyJhbGciOiJFUzI1NiJ9." + "e" * 300
AUTH, CLOSE, PROTOCOL, LOGIN, OPEN, READ, STAT = 3000, 3003, 3006, 3007, 3010, 3013, 3017
Answer = tuple[int, bytes]


def refusal(words: bytes, number: int = 3010) -> Answer:
    return 4003, struct.pack(">i", number) + words + b"\0"


@dataclass
class Door:
    """A server of the root protocol with one file, and what it is to do instead."""

    port: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    """Request -> what is answered instead."""
    instead: Callable[[socket.socket], None] | None = None
    """What is done with a connection instead of speaking the protocol."""
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    """Requests with their data."""
    name: str = "localhost"
    over: threading.Event = field(default_factory=threading.Event)

    def serve(self, listening: socket.socket, tmp: Path) -> None:
        while not self.over.is_set():
            with suppress(OSError):
                line, _ = listening.accept()
                with line:
                    (self.instead or (lambda line: self.speak(line, tmp)))(line)

    def speak(self, line: socket.socket, tmp: Path) -> None:
        assert exactly(line, 20) == struct.pack(">5i", 0, 0, 0, 4, 2012)
        line.sendall(struct.pack(">2sHi", b"\0\0", 0, 8) + struct.pack(">ii", 0x520, 1))
        number, _ = self.answer(line)
        if number != PROTOCOL or PROTOCOL in self.answers:
            return
        pair = AUTHORITY.server([self.name], timedelta(days=1))
        (tmp / "pair").write_text(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp / "pair")
        with context.wrap_socket(line, server_side=True) as secured:
            while True:
                self.answer(secured)

    def answer(self, line: socket.socket) -> tuple[int, bytes]:
        head = exactly(line, 24)
        stream, number, length = head[:2], *struct.unpack(">H16xi", head[2:])
        data = exactly(line, length)
        self.seen.append((number, data))
        usual = {
            PROTOCOL: struct.pack(">iI", 0x520, 0xC0000001),
            LOGIN: b"s" * 16 + b"&P=ztn,0:4096:\0",
            OPEN: b"hand",
            READ: b"x",
            STAT: b"1 0 19 1700000000\0",
        }
        status, body = self.answers.get(number, (0, usual.get(number, b"")))
        line.sendall(struct.pack(">2sHi", stream, status, len(body)) + body)
        return number, data


def exactly(line: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = line.recv(size - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Door(listening.getsockname()[1])
        thread = threading.Thread(target=made.serve, args=(listening, tmp_path), daemon=True)
        thread.start()
        yield made
        made.over.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", made.port)).close()
        thread.join(5)


def ask(door: Door, *paths: str, token: str = TOKEN, bundle: str = "") -> str | None:
    return xroot.unreadable(("localhost", door.port), paths or ("/store/a",), token, bundle or AUTHORITY.bundle())


def test_files_and_directories_are_read_over_one_connection(door: Door) -> None:
    assert ask(door, "/store/a", "/store/b", "/outbox/c/") is None
    wanted = [PROTOCOL, LOGIN, AUTH, OPEN, READ, CLOSE, OPEN, READ, CLOSE, STAT]
    assert [number for number, _ in door.seen] == wanted
    shown = dict(door.seen)[AUTH]
    assert shown == b"ztn\0\0T\0\0" + struct.pack(">H", len(TOKEN) + 1) + TOKEN.encode() + b"\0"
    assert [data for number, data in door.seen if number in {OPEN, STAT}] == [b"/store/a", b"/store/b", b"/outbox/c/"]


def test_an_empty_file_can_be_read(door: Door) -> None:
    door.answers[READ] = 0, b""
    assert ask(door) is None


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        (LOGIN, refusal(b"who are you?", 3030), "login at root://{} gave 3030 who are you?"),
        (AUTH, refusal(b"token expired", 3030), "token at root://{} gave 3030 token expired"),
        (AUTH, (4002, b"more"), "token at root://{} gave another question: more"),
        (OPEN, refusal(b"no such file", 3011), "open root://{}//store/a gave 3011 no such file"),
        (READ, refusal(b"I/O error", 3007), "read root://{}//store/a gave 3007 I/O error"),
        (
            OPEN,
            (4004, struct.pack(">i", 1094) + b"elsewhere"),
            "open root://{}//store/a gave a redirection to elsewhere",
        ),
        (OPEN, (4005, struct.pack(">i", 60) + b"busy"), "open root://{}//store/a gave an order to wait 60 s: busy"),
        (OPEN, (4001, b""), "open root://{}//store/a gave status 4001"),
        (LOGIN, (0, b"s" * 16 + b"&P=gsi,v:1"), "login at root://{} gave no way to show a token, it wants &P=gsi,v:1"),
        (PROTOCOL, (0, struct.pack(">iI", 0x520, 1)), "greeting root://{} gave no TLS, so that no token was shown"),
        (PROTOCOL, (0, b"x"), "greeting root://{} got no answer: "),
    ],
)
def test_what_fails_is_told_with_the_server_s_words(door: Door, number: int, answer: Answer, said: str) -> None:
    door.answers[number] = answer
    why = ask(door) or ""
    assert why.startswith(said.format(f"localhost:{door.port}")), why


@pytest.mark.parametrize("flags", [b"1 0 16 1700000000\0", b"", b"1 0", b"1 0 x 1"])
def test_what_is_no_directory_is_none(door: Door, flags: bytes) -> None:
    door.answers[STAT] = 0, flags
    assert (ask(door, "/outbox/c/") or "").startswith(f"stat root://localhost:{door.port}//outbox/c/ g")


@pytest.mark.parametrize("words", [TOKEN.encode(), b"Bearer " + TOKEN[:40].encode(), b"\x1b[31m " + TOKEN.encode()])
def test_what_a_server_repeats_of_a_token_is_not_told(door: Door, words: bytes) -> None:
    door.answers[OPEN] = refusal(words)
    why = ask(door) or ""
    assert "(secret)" in why
    assert TOKEN[:16] not in why
    assert "\x1b" not in why


def test_no_token_is_shown_to_a_stranger(door: Door) -> None:
    why = ask(door, bundle=LocalAuthority.create()[0]) or ""
    assert why.startswith(f"TLS of root://localhost:{door.port} got no answer: ")
    assert "CERTIFICATE_VERIFY_FAILED" in why
    door.name = "somebody-else"
    why = ask(door) or ""
    assert "Hostname mismatch" in why
    assert not {LOGIN, AUTH} & {number for number, _ in door.seen}


def _drip(line: socket.socket, what: bytes) -> None:
    with suppress(OSError):
        for byte in what:
            line.send(bytes([byte]))
            time.sleep(0.05)


_GREETING = struct.pack(">2sHi", b"\0\0", 0, 8) + struct.pack(">ii", 0x520, 1)
_PROTOCOL = struct.pack(">2sHi", b"\0\1", 0, 8) + struct.pack(">iI", 0x520, 0xC0000001)


def _silent(line: socket.socket) -> None:
    line.recv(1 << 10)
    line.settimeout(5)
    with suppress(OSError):
        while line.recv(1 << 10):
            pass


def _tls_drips(line: socket.socket) -> None:
    line.recv(1 << 10)
    line.sendall(_GREETING + _PROTOCOL)
    # The beginning of a record of TLS that never ends.
    _drip(line, b"\x16\x03\x03\x40\x00" + b"\2" * 200)


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (_silent, "greeting root://"),
        (lambda line: _drip(line, _GREETING[:8] + b"\0" * 200), "greeting root://"),
        (lambda line: _drip(line, b"\0" * 200), "greeting root://"),
        (_tls_drips, "TLS of root://"),
    ],
)
def test_a_silent_or_dripping_server_holds_nobody(
    door: Door, monkeypatch: pytest.MonkeyPatch, instead: Callable[[socket.socket], None], said: str
) -> None:
    monkeypatch.setattr(xroot, "_SECONDS", 0.4)
    door.instead = instead
    begin = time.monotonic()
    why = ask(door) or ""
    assert time.monotonic() - begin < 3
    assert why.startswith(said), why
    assert "got no answer" in why
    assert "timed out" in why or "it took longer than 0.4 s" in why


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 100, _GREETING[:4] + b"\x7f\xff\xff\xff", _GREETING]
)
def test_what_does_not_speak_the_protocol_is_no_answer(door: Door, said: bytes) -> None:
    def instead(line: socket.socket) -> None:
        line.recv(1 << 10)
        line.sendall(said)

    door.instead = instead
    why = ask(door) or ""
    assert why.startswith(f"greeting root://localhost:{door.port} g"), why


def test_a_server_that_sends_without_end_is_left(door: Door) -> None:
    door.answers[READ] = 0, b"x" * (xroot._MOST + 1)
    assert "more than anybody asked for" in (ask(door) or "")


def test_nobody_there_is_no_answer(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    why = xroot.unreadable(("127.0.0.1", port), ["/store/a"], TOKEN, AUTHORITY.bundle()) or ""
    assert why.startswith(f"connect root://127.0.0.1:{port} got no answer: ")
    del door


@pytest.mark.parametrize("host", ["", "h\x00", "a" * 70, "[::1", "."])
def test_a_host_that_is_none_is_no_answer(host: str) -> None:
    assert "got no answer" in (xroot.unreadable((host, 1), ["/store/a"], TOKEN, AUTHORITY.bundle()) or "")


@pytest.mark.parametrize("token", ["", "two words", "\N{GREEK SMALL LETTER TAU}"])
def test_what_is_no_token_is_told_before_anybody_is_asked(door: Door, token: str) -> None:
    with pytest.raises(RefusedError):
        ask(door, token=token)
    assert not door.seen


@pytest.mark.parametrize("bundle", ["none", "\N{GREEK SMALL LETTER TAU}"])
def test_authorities_that_are_none_are_no_answer(door: Door, bundle: str) -> None:
    assert "got no answer" in (ask(door, bundle=bundle) or "")
