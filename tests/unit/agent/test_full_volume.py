"""A session may fill its volume: what runs there starts again, can be emptied, fenced and sealed."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from tests.unit.agent.conftest import CLAIM, Child, Site, leave, manifest, seal, until
from volatile_rse.agent import ballast, buffer, gate
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.gate import Gate, GateError
from volatile_rse.agent.ledger import Ledger
from volatile_rse.agent.places import Places
from volatile_rse.agent.supervisor import Supervisor
from volatile_rse.agent.watch import count_restart, restarts
from volatile_rse.api.agent import GateState, OutputState

OPEN, FENCED = GateState(mode="open", generation=0), GateState(mode="fenced", generation=1)


def supervisor(places: Places) -> Supervisor:
    return Supervisor(places, Child(places))


def fill(places: Places) -> Path:
    """Write as a session does, until nothing more can be written."""
    path = places.namespace / "outbox" / CLAIM / "greedy.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 20, 4096, 1):
        with pytest.raises(OSError, match="No space left"):
            _write(descriptor, b"x" * size)
    os.close(descriptor)
    return path


def _write(descriptor: int, data: bytes) -> None:
    while True:
        os.write(descriptor, data)


def room(places: Places) -> int:
    path = places.control / "ballast"
    return path.stat().st_size if path.exists() else 0


def test_everything_starts_again_on_a_full_volume_and_what_is_deleted_makes_room(tiny: Places, site: Site) -> None:
    first, led = Buffer(tiny), supervisor(tiny)
    led.begin()
    first.keep_room()
    first.take(manifest(site))
    greedy = fill(tiny)
    # Both end without a word, and whatever waited for room takes it.
    again, server = Buffer(tiny), supervisor(tiny)
    fill(tiny)
    server.begin()
    count_restart(tiny)
    again.take(manifest(site))
    report = again.report()
    assert (report.actual, report.desired, report.manifest) == (OPEN, OPEN, "1" * 64)
    assert report.version > 0
    assert report.space.bytes_free == 0
    greedy.unlink()
    leave(again, "h.root")
    again.keep_room()
    assert room(tiny) > 80_000
    again.ledger.bump()
    again.ledger.close()
    assert Buffer(tiny).ledger.version == report.version + 1


def test_a_full_volume_is_fenced_and_sealed(tiny: Places) -> None:
    made, led = Buffer(tiny), supervisor(tiny)
    made.keep_room()
    led.begin()
    leave(made, "a/b/h.root")
    fill(tiny)
    assert made.fence(1) == FENCED
    assert room(tiny) > 80_000, "a session that still writes gets none of it"
    led.follow()
    assert (room(tiny), made.report().actual) == (0, FENCED)
    seal(made, "**")
    assert {state.state for state in made.ledger.every(OutputState).values()} == {"sealed"}
    made.keep_room()
    assert room(tiny) == 0, "a fenced buffer keeps no room"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let no new file be written, as on a full volume."""
    real, refused = gate._overwrite, []

    def overwrite(path: Path, text: bytes, flags: int = 0) -> None:
        if flags & os.O_CREAT:
            refused.append(path)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, text, flags)

    monkeypatch.setattr(gate, "_overwrite", overwrite)
    return refused


def test_the_gate_moves_without_room(places: Places, full: list[Path]) -> None:
    made = Gate(places)
    with pytest.raises(OSError, match="No space left"):
        made.prepare()
    assert made.desired() == OPEN
    (places.control / "gate.desired.json").write_text(OPEN.model_dump_json() + " " * 40)
    (places.control / "gate.actual.json").write_text("{}")
    for state in (FENCED, GateState(mode="down", generation=12345)):
        made.reached(state)
        assert made.actual() == state
    assert made.fence(1) == FENCED == made.desired()
    assert len(full) == 4
    assert not list(places.control.glob(".gate*"))


def test_what_cannot_be_said_is_said_later_and_restarts_nothing(
    places: Places, full: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Child(places)
    led = Supervisor(places, child)
    led.begin()
    led.follow()
    assert child.done == ["stop", "start open.cfg"]
    assert Gate(places).actual().mode == "down"
    assert len(full) >= 2
    monkeypatch.undo()
    led.follow()
    assert Gate(places).actual() == OPEN
    assert child.done == ["stop", "start open.cfg"]


def test_a_fence_takes_the_room_that_is_kept_if_there_is_no_file_to_write_in_place(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Buffer(places)
    ballast.load(places)
    real = gate._overwrite

    def overwrite(path: Path, text: bytes, flags: int = 0) -> None:
        if room(places):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        real(path, text, flags)

    monkeypatch.setattr(gate, "_overwrite", overwrite)
    assert made.fence(1) == FENCED
    assert Gate(places).desired() == FENCED


def test_a_fault_of_the_disk_is_not_taken_for_a_full_one(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Buffer(places)
    ballast.load(places)

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(gate, "_overwrite", broken)
    with pytest.raises(OSError, match="Input/output"):
        made.fence(1)
    assert room(places) > 1 << 20


def test_a_damaged_gate_opens_nothing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_MOMENT", 0)
    (places.control / "gate.desired.json").write_text('{"mode":"fen')
    with pytest.raises(GateError, match="administrator"):
        supervisor(places).begin()


def test_a_ledger_that_needs_room_gets_what_is_kept(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    ballast.load(places)
    real = Ledger

    def opened(path: Path) -> Ledger:
        if room(places):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return real(path)

    monkeypatch.setattr(buffer, "Ledger", opened)
    assert Buffer(places).report().version == 1


def test_room_is_kept_as_long_as_the_gate_is_open(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "_PERIOD", 0.01)
    made = Buffer(places)
    made.start()
    assert room(places) > 1 << 20
    ballast.drop(places)
    until(lambda: room(places) > 1 << 20)
    made.fence(1)
    ballast.drop(places)
    made.keep_room()
    assert room(places) == 0
    made.stop()


def test_a_restart_that_cannot_be_counted_is_one_all_the_same(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    count_restart(places)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        count_restart(places)
    count_restart(places)
    assert restarts(places) == 2
