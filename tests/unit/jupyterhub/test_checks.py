from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.log import app_log
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from traitlets import Any as AnyValue
from traitlets.config import Config, Configurable

from volatile_rse.jupyterhub.checks import Found, Rucio


class Catalogue(HTTPServer):
    """Knows one dataset, and whom it has given a token."""

    tokens: list[str]
    answers: dict[str, tuple[int, bytes]]
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Catalogue

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/auth/userpass":
            good = self.headers["X-Rucio-Password"] == "secret" and self.headers["X-Rucio-Account"] == "hub"
            token = f"token-{len(self.server.tokens)}"
            self.send_response(200 if good else 401)
            if good:
                self.server.tokens.append(token)
                self.send_header("X-Rucio-Auth-Token", token)
            self.end_headers()
            return
        known = self.headers["X-Rucio-Auth-Token"] in self.server.tokens[-1:]
        status, body = self.server.answers.get(self.path, (404, b"")) if known else (401, b"")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    with Catalogue(("127.0.0.1", 0), Handler) as server:
        server.tokens, server.answers, server.asked = [], {}, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def rucio(catalogue: Catalogue, folder: Path, said: str = "secret\n") -> Rucio:
    (folder / "password").write_text(said)
    address = f"http://127.0.0.1:{catalogue.server_port}/"
    return Rucio(address, account="hub", username="hub", password_file=str(folder / "password"))


def asked(check: Rucio, *dids: str) -> list[Found | None]:
    async def run() -> list[Found | None]:
        return [await check(did) for did in dids]

    return asyncio.run(run())


class WithoutContexts(AsyncHTTPClient):
    """As that of curl."""

    def fetch_impl(self, *_: Any) -> None:
        message = "ssl_options not supported in curl_httpclient"
        raise ValueError(message)


PATH = "/dids/user.alice/nano?dynamic_depth=FILE"


@pytest.mark.parametrize(
    ("status", "answer", "found"),
    [
        (
            200,
            {"type": "DATASET", "length": 4, "bytes": 8 * 1024**2},
            Found(found=True, said="dataset, 4 files, 8.0 MiB"),
        ),
        (200, {"type": "FILE", "length": 1, "bytes": 10}, Found(found=True, said="file, 1 file, 10 B")),
        (200, {"type": "CONTAINER", "length": None, "bytes": None}, Found(found=True, said="container")),
        (200, {"type": "X" * 9000}, Found(found=True, said="x" * 40)),
        (404, {}, Found(found=False, said="does not exist in Rucio, or the hub may not see it")),
        (500, {}, None),
        (302, {}, None),
        (200, ["odd"], None),
        (200, {"type": 3}, None),
    ],
)
def test_what_is_told_of_a_did(
    catalogue: Catalogue, tmp_path: Path, status: int, answer: Any, found: Found | None
) -> None:
    catalogue.answers[PATH] = (status, json.dumps(answer).encode())
    assert asked(rucio(catalogue, tmp_path), "user.alice:nano") == [found]


def test_an_answer_that_is_no_json_tells_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.answers[PATH] = (200, b"<html>")
    assert asked(rucio(catalogue, tmp_path), "user.alice:nano") == [None]


def test_names_of_all_experiments_are_asked_for_as_they_are(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.answers["/dids/cms//DY/Run3/NANO%23b?dynamic_depth=FILE"] = (200, b'{"type": "DATASET"}')
    assert asked(rucio(catalogue, tmp_path), "cms:/DY/Run3/NANO#b") == [Found(found=True, said="dataset")]


def test_a_login_is_kept_and_made_anew_when_it_counts_no_more(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.answers[PATH] = (200, b'{"type": "DATASET"}')
    check = rucio(catalogue, tmp_path)
    assert None not in asked(check, "user.alice:nano", "user.alice:nano")
    assert catalogue.asked.count("/auth/userpass") == 1
    catalogue.tokens.append("another")
    assert None not in asked(check, "user.alice:nano")
    assert catalogue.asked.count("/auth/userpass") == 2


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Read Tornado's log where it is written: a hub made in this process keeps it, and Dask raises its level."""
    before = app_log.level
    app_log.setLevel(logging.WARNING)
    app_log.addHandler(caplog.handler)
    yield caplog
    app_log.removeHandler(caplog.handler)
    app_log.setLevel(before)


def test_a_catalogue_that_refuses_or_is_away_tells_nothing(
    catalogue: Catalogue, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    assert asked(rucio(catalogue, tmp_path, "wrong"), "a:b") == [None]
    assert asked(rucio(catalogue, tmp_path, "wr\nong"), "a:b") == [None]
    assert "HTTP 401" in log.text, "an admin sees why"
    assert "ong" not in log.text
    away = Rucio("http://127.0.0.1:9", account="hub", token_file=str(tmp_path / "none"))
    assert asked(away, "a:b") == [None]
    (tmp_path / "token").write_text("t")
    assert asked(Rucio("http://127.0.0.1:9", account="hub", token_file=str(tmp_path / "token")), "a:b") == [None]


def test_a_hub_that_asks_by_curl_elsewhere_asks_rucio_all_the_same(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.answers[PATH] = (200, b'{"type": "DATASET"}')
    # What a hub with pycurl has configured for all its parts.
    monkeypatch.setattr(AsyncHTTPClient, "_Configurable__impl_class", WithoutContexts)
    assert asked(rucio(catalogue, tmp_path), "user.alice:nano") == [Found(found=True, said="dataset")]


def test_a_slow_rucio_takes_no_place_of_the_hubs(catalogue: Catalogue, tmp_path: Path) -> None:
    async def run() -> AsyncHTTPClient:
        (tmp_path / "token").write_text("t")
        check = Rucio(f"http://127.0.0.1:{catalogue.server_port}", account="hub", token_file=str(tmp_path / "token"))
        assert check._client() is check._client()
        await check("a:b")
        assert check._client() is not AsyncHTTPClient()
        return check._client()

    assert isinstance(asyncio.run(run()), SimpleAsyncHTTPClient)


def test_all_servers_of_a_hub_have_one_login() -> None:
    check = Rucio("https://x", "hub")
    server = type("Server", (Configurable,), {"vrse_check": AnyValue(config=True)})
    assert server(config=Config({"Server": {"vrse_check": check}})).vrse_check is check


def test_no_token_is_shown() -> None:
    assert "token" not in repr(Rucio("https://x", "hub", _token="secret")).replace("token_file", "")
