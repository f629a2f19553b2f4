"""What kopf does later, while the process waits for its Lease: it answers the liveness probe, and ends when told."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["every_address", "waiting"]


def every_address(own: str) -> str:
    """Give the address to listen on so that probes reach it: all of the kind that the pod's own address is of.

    Parameters
    ----------
    own
        The pod's address, at which its node asks; empty if it is not known.
    """
    return "::" if ":" in own else "0.0.0.0"  # noqa: S104 (the node's kubelet and Prometheus come from elsewhere)


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    """Seconds that a connection may say nothing."""

    def do_GET(self) -> None:
        """Say that the process lives."""
        body = b"waiting for the Lease\n"
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: a probe is no news."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)


def _end(*_: object) -> None:
    raise SystemExit


@contextmanager
def waiting(port: int, host: str) -> Iterator[int]:
    """Answer probes until the Lease is ours; the port is free again afterwards. Gives the port."""
    # Linux tells the first process of a container only what it handles: it would be killed at the end of its grace,
    # and may have taken the Lease by then.
    before = signal.signal(signal.SIGTERM, _end)
    server = _Server((host, port))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="waiting", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        signal.signal(signal.SIGTERM, before)
