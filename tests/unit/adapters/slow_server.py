"""A server that speaks TLS, and then as slowly, or as much, as it is told to."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from volatile_rse.adapters.authority import LocalAuthority

AUTHORITY = LocalAuthority(*LocalAuthority.create())
MANNERS = {
    "says nothing before TLS": b"",
    "sends a byte of the header now and then": b"H",
    "sends header after header": b"X-More: yes\r\n",
    "sends a byte of the body now and then": b"x",
    "never takes the request": b"",
}
"""What is sent again and again."""
_LOGIN = b"X-Rucio-Auth-Token: token\r\n"
_BEGIN = {
    "sends header after header": b"HTTP/1.1 200 OK\r\n",
    "sends a byte of the body now and then": b"HTTP/1.1 200 OK\r\n" + _LOGIN + b"Content-Length: 1000000\r\n\r\n",
    "sends more than anybody wants": b"HTTP/1.1 200 OK\r\n" + _LOGIN + b"Content-Length: 999999999999\r\n\r\n",
    "says that it is packed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
}
_PAUSE = 0.05


class SlowServer:
    """Each connection is served in a thread of its own, in one manner, until somebody ends it.

    Attributes
    ----------
    sent
        Bytes of bodies.
    taken
        Connections.
    """

    def __init__(self, folder: Path, manner: str) -> None:
        self.manner, self.sent, self.taken = manner, 0, 0
        pair = AUTHORITY.server(["localhost"], timedelta(days=1))
        (folder / "slow.pem").write_text(pair.certificate + pair.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "slow.pem")
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listening.close()
        for line in self._open:
            line.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(line)
            self.taken += 1
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        try:
            if self.manner == "says nothing before TLS":
                self._over.wait()
                return
            with self._context.wrap_socket(line, server_side=True) as secure:
                if self.manner == "never takes the request":
                    self._over.wait()
                    return
                secure.recv(65536)
                secure.sendall(_BEGIN.get(self.manner, b""))
                if self.manner == "says that it is packed":
                    self._over.wait()
                while self.manner == "sends more than anybody wants":
                    secure.sendall(bytes(1 << 16))
                    self.sent += 1 << 16
                while not self._over.wait(_PAUSE):
                    secure.sendall(MANNERS[self.manner])
        except OSError:
            return


@contextmanager
def slow_server(folder: Path, manner: str) -> Iterator[SlowServer]:
    made = SlowServer(folder, manner)
    try:
        yield made
    finally:
        made.close()
