"""What stands before XRootD, and where XRootD listens behind it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.conftest import Child, until
from volatile_rse.agent import front, supervisor, xrootd
from volatile_rse.agent.front import PUBLIC, Front, Refused, configuration, refusals, told
from volatile_rse.agent.places import Places
from volatile_rse.agent.watch import Watch
from volatile_rse.agent.xrootd import INNER, Server

DAVS = """\
frontend davs
  bind 0.0.0.0:8443
  bind :::8443 v6only
  maxconn 2048
  stick-table type ipv6 size 16k expire 10m store conn_cur,conn_rate(10s)
  tcp-request connection reject if { dst 127.0.0.2 }
  tcp-request connection set-var(sess.client) src
  tcp-request connection track-sc0 src,ipmask(32,64)
  tcp-request connection reject if { fe_conn gt 0 } { sc0_conn_cur gt 1024 }
  tcp-request connection reject if { fe_conn gt 1024 } { sc0_conn_cur gt 128 }
  tcp-request connection reject if { fe_conn gt 1536 } { sc0_conn_cur gt 16 }
  tcp-request connection reject if { sc0_conn_rate gt 5000 }
  tcp-request connection track-sc1 int(1) table numbers
  tcp-request connection set-src sc_inc_gpc0(1),mod(16776704),add(2130706688)
  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_hello_type 1 }
  tcp-request content reject
  default_backend behind-davs
backend behind-davs
  source 127.0.0.2 usesrc clientip
  server davs 127.0.0.2:8443
"""
HANDSHAKE = "00000000" * 3 + "00000004" + "000007DC"
STATISTICS = """\
# pxname,svname,qcur,dreq,dcon,
root,FRONTEND,,90,0,
numbers,BACKEND,0,0,,
davs,FRONTEND,,2600,1576,
behind-davs,davs,0,,,
behind-davs,BACKEND,0,0,,

"""


def test_davs_begins_with_a_tls_hello_and_an_address_has_the_less_the_fuller_the_port_is() -> None:
    assert configuration(PUBLIC, Path("/run/front.sock"), ipv6=True).endswith(DAVS)


def test_root_begins_with_the_handshake_of_xrootd() -> None:
    text = configuration(PUBLIC, Path("/run/front.sock"), ipv6=False)
    assert f"content accept if {{ req.payload(0,20),hex -m str {HANDSHAKE} }}" in text
    assert ":::" not in text


def test_what_was_refused_is_told_by_port_and_reason() -> None:
    before, now = {"davs": Refused(too_many=1000, unknown=2600)}, refusals(STATISTICS)
    assert now == {"root": Refused(unknown=90), "davs": Refused(too_many=1576, unknown=2600)}
    assert told(PUBLIC, before, now) == [
        "root: 90 connections ended that did not begin with XRootD's handshake within 5 s",
        "davs: 576 connections refused, since their addresses had too many",
    ]
    assert told(PUBLIC, now, now) == []


def test_who_asks_whether_a_port_listens_is_not_told() -> None:
    assert told(PUBLIC, {"root": Refused(unknown=90)}, {"root": Refused(unknown=120)}) == []


PROGRAM = """#!{python}
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
given = [socket.socket(fileno=3 + index) for index in range(int(os.environ["LISTEN_FDS"]))]
while True:
    line, _ = given[0].accept()
    if len(line.recv(20)) == 20:
        line.sendall(bytes(16))
    line.close()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 (as what stands before XRootD)
        return int(other.getsockname()[1])


@pytest.fixture
def server(places: Places, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    program = tmp_path / "bin" / "xrootd"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    places.run.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    made = Server(places, (port,))
    yield made
    made.stop()


def test_xrootd_shares_its_port_and_is_reached_in_its_pod_alone(server: Server, port: int) -> None:
    with socket.socket() as before:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            before.setsockopt(socket.SOL_SOCKET, option, 1)
        before.bind(("0.0.0.0", port))  # noqa: S104 (as what stands before XRootD)
        before.listen()
        # Again and again, as a fence does, while that goes on listening.
        for _ in range(2):
            server.start("open.cfg", forget_uploads=False)
            before.setblocking(False)
            with pytest.raises(BlockingIOError):
                before.accept()
            with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                before.settimeout(1)
                assert before.accept()[1] == line.getsockname()
            server.stop()
            # Between two of them, nobody else takes what is meant for XRootD.
            with socket.create_connection((INNER, port), timeout=1):
                before.setblocking(False)
                with pytest.raises(BlockingIOError):
                    before.accept()


def test_a_front_that_ends_ends_the_container(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    child, ended = Child(places), Front(places.run)
    ended._pid = os.posix_spawnp("true", ["true"], os.environ)
    monkeypatch.setattr(signal, "sigtimedwait", lambda *_: None)
    watch = Watch(lambda: True)
    try:
        assert supervisor.wait_for_end(places, child, ended, watch, lambda: None) != 0
    finally:
        watch.end()
    assert child.done == ["stop"]


def test_a_front_that_somebody_has_buried_has_ended(places: Places) -> None:
    made = Front(places.run)
    assert not made.has_ended()
    made._pid = os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
    assert not made.has_ended()
    os.kill(made._pid, signal.SIGKILL)
    until(made.has_ended)
    xrootd.Server(places).reap()
    assert made.has_ended()
    made.stop()


def test_a_front_that_does_not_listen_is_said(places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "haproxy").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "haproxy").chmod(0o755)
    places.run.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(front, "_PATIENCE", 1.0)
    with pytest.raises(RuntimeError, match="HAProxy does not listen"):
        Front(places.run).start()
