"""Connections that say nothing, or begin and say no more; runs in a container of the buffer's image, by itself."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import sys
import time

GREETING = bytes.fromhex("00" * 12 + "00000004000007dc")
TLS_WANTED = bytes.fromhex("00010bbe" + "00000520" + "0603" + "00" * 14)
"""The request ``kXR_protocol``: from here on by TLS."""
PAUSE = 0.02


def hello(host: str) -> bytes:
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(received, sent, server_hostname=host).do_handshake()
    return sent.read()


def crowd(host: str, port: int, first: bytes, number: int) -> None:
    """Have so many connections for ever: for each that is closed, another one."""
    where = (socket.gethostbyname(host), port)
    lines = selectors.DefaultSelector()
    while True:
        for _ in range(min(number - len(lines.get_map()), 20)):
            fresh = socket.socket()
            fresh.setblocking(False)
            fresh.connect_ex(where)
            lines.register(fresh, selectors.EVENT_READ | selectors.EVENT_WRITE)
        for key, events in lines.select(0):
            line = key.fileobj
            assert isinstance(line, socket.socket)
            try:
                if events & selectors.EVENT_WRITE:
                    line.send(first)
                    lines.modify(line, selectors.EVENT_READ)
                elif not line.recv(65536):
                    raise ConnectionResetError
            except OSError:
                lines.unregister(line)
                line.close()
        time.sleep(PAUSE)


def main() -> None:
    host, port, what, number = sys.argv[1:]
    begins = {"nothing": b"", "hello": hello(host), "greeting": GREETING + TLS_WANTED}
    crowd(host, int(port), begins[what], int(number))


if __name__ == "__main__":
    main()
