"""The webhook's server: over TLS, with a certificate that may change, and for whoever asks badly."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from volatile_rse.adapters import webhook
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.webhook import WebhookServer

LIFETIME = timedelta(days=1)


def write(folder: Path, authority: LocalAuthority) -> None:
    pair = authority.server(["localhost"], LIFETIME)
    (folder / "tls.crt").write_text(pair.certificate)
    (folder / "tls.key").write_text(pair.key)


@pytest.fixture
def authority() -> LocalAuthority:
    return LocalAuthority(*LocalAuthority.create())


@pytest.fixture
def server(tmp_path: Path, authority: LocalAuthority) -> Iterator[WebhookServer]:
    write(tmp_path, authority)

    def answer(asked: bytes) -> bytes:
        if asked == b"odd":
            raise ValueError(asked)
        return asked.upper()

    made = WebhookServer(("127.0.0.1", 0), tmp_path, answer)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(server: WebhookServer, authority: LocalAuthority, body: bytes | None, **headers: str) -> tuple[int, bytes]:
    context = ssl.create_default_context(cadata=authority.bundle())
    url = f"https://localhost:{server.server_port}/"
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310 (it is https)
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_question_is_answered_and_a_probe(server: WebhookServer, authority: LocalAuthority) -> None:
    assert ask(server, authority, b"pod") == (200, b"POD")
    assert ask(server, authority, None) == (200, b"ok\n")


def test_what_is_no_question_breaks_nothing(server: WebhookServer, authority: LocalAuthority) -> None:
    assert ask(server, authority, b"odd")[0] == 400
    assert ask(server, authority, b"x", **{"Content-Length": "99999999999"})[0] == 413
    assert ask(server, authority, b"x", **{"Content-Length": "-1"})[0] == 413
    with socket.create_connection(("127.0.0.1", server.server_port)) as plain:
        plain.sendall(b"POST / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            plain.recv(100)
    assert ask(server, authority, b"pod") == (200, b"POD")


def test_who_says_nothing_keeps_nobody_else_out(
    server: WebhookServer, authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_SILENCE", 0.2)
    silent = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(webhook._AT_ONCE + 8)]
    assert ask(server, authority, b"pod") == (200, b"POD")
    for each in silent:
        each.close()


def test_a_new_certificate_counts_for_the_next_connection(
    server: WebhookServer, authority: LocalAuthority, tmp_path: Path
) -> None:
    other = LocalAuthority(*LocalAuthority.create())
    write(tmp_path, other)
    assert ask(server, other, b"pod") == (200, b"POD")
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        ask(server, authority, b"pod")


def test_a_certificate_that_is_none_is_not_taken(
    server: WebhookServer, authority: LocalAuthority, tmp_path: Path
) -> None:
    (tmp_path / "tls.crt").write_text("none")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        ask(server, authority, b"pod")
    write(tmp_path, authority)
    assert ask(server, authority, b"pod") == (200, b"POD")
