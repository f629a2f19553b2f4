from __future__ import annotations

import itertools
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.unit.agent.conftest import Child, until
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.agent import supervisor
from volatile_rse.agent.front import Front
from volatile_rse.agent.places import Places
from volatile_rse.agent.watch import Hearing, Watch, answers, restarts

HERE = "127.0.0.1"
SECONDS = 0.5
"""That an answer may take here."""


class Wedged:
    """A server by https that takes connections, and serves them as long as it is well."""

    def __init__(self, folder: Path, authority: LocalAuthority) -> None:
        self.well = threading.Event()
        self.well.set()
        self.drips = False
        self.asked = 0
        self._watches: list[Watch] = []
        made = self

        class Handler(BaseHTTPRequestHandler):
            def do_OPTIONS(self) -> None:
                made.asked += 1
                made.well.wait(5)
                self.send_response(403)
                self.send_header("Content-Length", "1000" if made.drips else "0")
                self.end_headers()
                while made.drips:
                    self.wfile.write(b"x")
                    time.sleep(SECONDS / 10)

            def log_message(self, *_: object) -> None:
                pass

        pair = authority.server(["127.0.0.1"], timedelta(hours=1))
        (folder / "pair.pem").write_text(pair.certificate + pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "pair.pem")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Clients hang up here.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.well.set()
        for watch in self._watches:
            watch.end()
        self._server.shutdown()
        self._server.server_close()

    def watch(self) -> Watch:
        self._watches.append(Watch(lambda: answers(self.port, SECONDS, HERE), interval=0.02))
        return self._watches[-1]


@pytest.fixture
def wedged(tmp_path: Path, authority: LocalAuthority) -> Iterator[Wedged]:
    made = Wedged(tmp_path, authority)
    yield made
    made.close()


def test_four_questions_in_a_row_without_an_answer_are_the_end() -> None:
    hearing = Hearing().after(answered=True)
    for answered in (False, False, False, True, False, False, False):
        hearing = hearing.after(answered=answered)
        assert not hearing.is_lost
    assert hearing.after(answered=False).is_lost


def test_what_has_answered_nothing_yet_has_longer() -> None:
    hearing = Hearing()
    for _ in range(11):
        hearing = hearing.after(answered=False)
        assert not hearing.is_lost
    assert hearing.after(answered=False).is_lost


def test_a_refusal_is_an_answer_and_a_taken_connection_is_none(wedged: Wedged) -> None:
    assert answers(wedged.port, host=HERE)
    wedged.well.clear()
    assert not answers(wedged.port, SECONDS, HERE)
    wedged.close()
    assert not answers(wedged.port, host=HERE)


def test_an_answer_that_comes_byte_by_byte_is_none(wedged: Wedged) -> None:
    wedged.drips = True
    began = time.monotonic()
    assert not answers(wedged.port, SECONDS, HERE)
    assert time.monotonic() - began < 4 * SECONDS
    wedged.drips = False
    assert answers(wedged.port, host=HERE)


def test_a_server_that_wedges_is_ended_and_counted(wedged: Wedged, places: Places) -> None:
    child, watch, ticks = Child(places), wedged.watch(), []

    def tick() -> None:
        ticks.append(len(child.done))
        if wedged.asked >= 3:
            wedged.well.clear()

    assert supervisor.wait_for_end(places, child, Front(places.run), watch, tick) != 0
    assert child.done == ["stop"]
    assert wedged.asked >= 3 + 4
    assert restarts(places) == 1


def test_who_is_asked_to_end_kills_nobody(wedged: Wedged, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    child, watch = Child(places), wedged.watch()
    watch.start()
    until(lambda: wedged.asked)
    wedged.well.clear()
    until(lambda: watch.is_lost)
    monkeypatch.setattr(watch, "start", lambda: None)
    monkeypatch.setattr(signal, "sigtimedwait", lambda *_: signal.SIGTERM)
    assert supervisor.wait_for_end(places, child, Front(places.run), watch, lambda: None) == 0
    assert child.done == []
    assert restarts(places) == 0


def test_a_question_that_waits_for_its_answer_does_not_delay_the_next_one() -> None:
    asked: list[float] = []

    def ask() -> bool:
        asked.append(time.monotonic())
        time.sleep(0.2)
        return False

    watch = Watch(ask, interval=0.2)
    watch.start()
    until(lambda: len(asked) == 4)
    watch.end()
    # The shortest: this machine may be busy.
    assert min(later - earlier for earlier, later in itertools.pairwise(asked)) < 0.3
