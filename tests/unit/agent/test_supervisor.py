"""The fence: what XRootD has open to write when it ends is torn, for good."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.agent.conftest import CLAIM, leave, request
from volatile_rse.agent import outbox, supervisor, xrootd
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.gate import Gate
from volatile_rse.agent.places import Places
from volatile_rse.agent.supervisor import Supervisor
from volatile_rse.agent.xrootd import Server
from volatile_rse.api.agent import GateState, OutputState

PROGRAM = """
import signal, sys, threading, time
from pathlib import Path
root = Path(sys.argv[1])
held = [open(root / name, "r+b", buffering=0) for name in ("whole", "patched", "moved", "gone", "new")]
reads = (root / "read").open("rb")
held.pop(0).close()
Path(root / "moved").rename(root / "sub")
Path(root / "gone").unlink()
elsewhere = open(sys.argv[2], "wb")
signal.signal(signal.SIGTERM, lambda *_: (root / "ended").touch())
def write():
    for number in range(10_000):
        held[0].write(b"more")
        time.sleep(0.001)
threading.Thread(target=write, daemon=True).start()
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""
STATES = {"whole": "sealed", "read": "sealed", "patched": "torn", "sub": "torn", "new": "torn"}


class Holding(Server):
    """A server that has files open, and may be seen to run; at its second start, it has none."""

    def __init__(self, places: Places, outside: Path) -> None:
        super().__init__(places)
        self._places = places
        self._outside = outside
        self.child: subprocess.Popen[str] | None = None
        self.configurations: list[str] = []

    def start(self, configuration: str, *, forget_uploads: bool) -> None:
        del forget_uploads
        self.configurations.append(configuration)
        if configuration == "open.cfg":
            argv = [sys.executable, "-c", PROGRAM, str(self._places.area("outbox", CLAIM)), str(self._outside)]
            self.child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            assert self.child.stdout
            assert self.child.stdout.readline() == "ready\n"
            self._pid = self.child.pid

    def reap(self) -> int | None:
        assert self.child
        code = self.child.poll()
        self._pid = None if code is not None else self._pid
        return code


@pytest.fixture
def server(places: Places, buffer: Buffer, tmp_path: Path) -> Iterator[Holding]:
    for path in ("whole", "read", "patched", "moved", "gone", "new"):
        leave(buffer, path)
    # As XRootD marks what it creates.
    (places.area("outbox", CLAIM) / "new").chmod(0o1600)
    made = Holding(places, tmp_path / "outside")
    yield made
    if made.child is not None:
        made.child.kill()
        made.child.wait()


def size(places: Places) -> int:
    return (places.area("outbox", CLAIM) / "patched").stat().st_size


def states(buffer: Buffer) -> dict[str, str]:
    return {state.path: state.state for state in buffer.ledger.every(OutputState).values()}


def test_what_is_open_to_write_at_the_fence_is_torn_whatever_comes_after_it(
    places: Places, buffer: Buffer, server: Holding, tmp_path: Path
) -> None:
    led = Supervisor(places, server)
    led.begin()
    assert Gate(places).actual().mode == "open"
    buffer.fence(1)
    led.follow()
    assert server.child
    assert server.child.returncode == -signal.SIGKILL, "it does nothing after it was held"
    buffer.fence(2)
    led.follow()
    again = Supervisor(places, Holding(places, tmp_path))
    again.begin()
    assert Gate(places).actual() == GateState(mode="fenced", generation=2)
    buffer.sealing.order(request("**", generation=2))
    buffer.sealing.join()
    assert states(buffer) == STATES
    outside = tmp_path / "outside"
    assert not outside.stat().st_mode & 0o1000, "what is none of the session's files is let alone"


def test_a_held_server_writes_nothing_more(places: Places, server: Holding, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start("open.cfg", forget_uploads=False)
    folder = places.area("outbox", CLAIM)
    server.hold()
    before = size(places)
    assert Path(f"/proc/{server._pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    assert sorted(str(handle.readlink()) for handle in server.written([folder])) == sorted(
        str(folder / name) for name in ("gone (deleted)", "new", "patched", "sub")
    )
    assert size(places) == before
    server.release()
    while size(places) == before:
        assert server.reap() is None
    # It does not listen to who asks it to end.
    monkeypatch.setattr(xrootd, "_PATIENCE", 0.1)
    server.stop()
    assert server._pid is None


def test_the_fence_waits_for_a_mark_that_cannot_be_made(
    places: Places, buffer: Buffer, server: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_AFTER_FAILURE", 0)
    led = Supervisor(places, server)
    led.begin()
    buffer.fence(1)

    def broken(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "sync", broken)
        led.follow()
        assert server.reap() is None
        assert Gate(places).actual().mode == "down"
        assert server.configurations == ["open.cfg"]
    before = size(places)
    while size(places) == before:
        assert server.reap() is None
    led.follow()
    assert Gate(places).actual().mode == "fenced"
    assert server.configurations == ["open.cfg", "fenced.cfg"]
