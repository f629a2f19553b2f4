"""A small HTTPS server for the API server's questions: bounded in what it reads, and in how many it hears at once."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["WebhookServer"]

_log = logging.getLogger(__name__)
_SILENCE = 5.0
"""Seconds that a connection may say nothing: longer the API server does not wait."""
_LARGEST = 4 << 20
"""Bytes of a question: an object has less than 3 MB, and it comes twice at most."""
_AT_ONCE = 64
"""Connections; who comes beyond waits until one is over."""


class WebhookServer(ThreadingHTTPServer):
    """Answers POST by a function, and GET (probes) by ``ok``.

    Parameters
    ----------
    pair
        Folder with ``tls.crt`` and ``tls.key``; what is new there counts for the next connection.
    answer
        Raises ValueError for a question that is none.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], pair: Path, answer: Callable[[bytes], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.answer = answer
        self._pair = pair
        self._loaded: tuple[int, ...] = ()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        self._load()
        super().__init__(address, _Handler)

    def _load(self) -> None:
        """Read certificate and key if they are others by now."""
        paths = (self._pair / "tls.crt", self._pair / "tls.key")
        found = tuple(path.stat().st_mtime_ns for path in paths)
        if found != self._loaded:
            self._context.load_cert_chain(*paths)
            self._loaded = found

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Hear one connection in a thread of its own, once there is room."""
        self._free.acquire()
        super().process_request(request, client_address)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Shake hands here, where nobody else waits for it."""
        try:
            assert isinstance(request, socket.socket)  # noqa: S101 (of TCP; the other kind is of UDP)
            request.settimeout(_SILENCE)
            try:
                self._load()
                secure = self._context.wrap_socket(request, server_side=True)
            except (OSError, ValueError) as error:
                _log.info("a connection is closed: %s", error)
                self.shutdown_request(request)
                return
            super().process_request_thread(secure, client_address)
        finally:
            self._free.release()

    def handle_error(self, _request: object, client_address: object) -> None:
        """Say that a connection broke; nothing else is lost by that."""
        _log.info("a connection of %s broke", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENCE
    server: WebhookServer

    def do_GET(self) -> None:
        """Say that the process serves."""
        self._say(HTTPStatus.OK, b"ok\n", "text/plain")

    def do_POST(self) -> None:
        """Answer a question."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()) or int(length) > _LARGEST:
            self._say(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"a question has a length, and less than 4 MiB\n", "text/plain"
            )
            return
        try:
            answer = self.server.answer(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            self._say(HTTPStatus.BAD_REQUEST, f"{type(error).__name__}\n".encode(), "text/plain")
        else:
            self._say(HTTPStatus.OK, answer, "application/json")

    def _say(self, status: HTTPStatus, body: bytes, type_: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: whoever asks is answered."""
