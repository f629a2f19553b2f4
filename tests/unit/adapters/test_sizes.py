"""What a site's answers tell of a file's size: of the sorts of answers that sites give."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.ports.errors import UnreachableError

AUTHORITY = LocalAuthority(*LocalAuthority.create())
Said = tuple[int, Mapping[str, str]]
Size = Callable[..., int | None]

NONE: Said = (200, {})
ZERO: Said = (200, {"Content-Length": "0"})
PACKED: Said = (200, {"Content-Encoding": "gzip", "Content-Length": "23"})
FIRST: Said = (206, {"Content-Length": "1", "Content-Range": "bytes 0-0/1000"})


@pytest.fixture
def size(tmp_path: Path) -> Iterator[Size]:
    """Ask for a size where HEAD and GET are answered in a given way."""
    answers: dict[str, Said] = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status, headers = answers[self.command]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_HEAD = do_GET = answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None: ...

    pair = AUTHORITY.server(["localhost"], timedelta(days=1))
    (tmp_path / "pair.pem").write_text(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def ask(head: Said, get: Said) -> int | None:
        answers.update(HEAD=head, GET=get)
        return XrootdEndpoints("").size(f"davs://localhost:{server.server_port}/f", "t", AUTHORITY.bundle())

    yield ask
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("head", "get", "told"),
    [
        ((200, {"Content-Length": "1000"}), (500, {}), 1000),
        (NONE, FIRST, 1000),
        (ZERO, FIRST, 1000),
        (PACKED, FIRST, 1000),
        ((405, {}), FIRST, 1000),
        ((501, {}), FIRST, 1000),
        (NONE, (200, {"Content-Length": "1000"}), 1000),
        (ZERO, (416, {"Content-Range": "bytes */0"}), 0),
        (ZERO, (416, {}), 0),
        (ZERO, ZERO, 0),
        ((404, {}), FIRST, None),
        (ZERO, (404, {}), None),
    ],
)
def test_a_size_is_learned_by_head_or_else_by_the_first_byte(size: Size, head: Said, get: Said, told: int) -> None:
    assert size(head, get) == told


@pytest.mark.parametrize(
    ("head", "get"),
    [
        (NONE, NONE),
        (ZERO, PACKED),
        (NONE, (206, {"Content-Length": "1", "Content-Range": "bytes 0-0/*"})),
        (NONE, (206, {"Content-Length": "1000"})),
        (NONE, (302, {"Location": "http://localhost/f", "Content-Length": "0"})),
        ((302, {"Location": "http://localhost/f", "Content-Length": "0"}), FIRST),
        ((403, {"Content-Length": "10"}), FIRST),
        ((500, {}), FIRST),
        (ZERO, (403, {"Content-Length": "10"})),
        ((200, {"Content-Length": "many"}), NONE),
    ],
)
def test_what_does_not_tell_a_size_is_no_answer(size: Size, head: Said, get: Said) -> None:
    with pytest.raises(UnreachableError, match="no size"):
        size(head, get)
