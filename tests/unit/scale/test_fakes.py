"""Rucio, agents and doors beside the operator: through a real socket, from several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testbed.scale_fakes import Far, Server, World
from volatile_rse.api.agent import FenceRequest, GateState, Manifest
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import agent_host
from volatile_rse.domain.catalogue import Did, LedgerOwner
from volatile_rse.ports.errors import RefusedError, UnreachableError

SERVER, RECORD, POD = "https://rucio.invalid", "abcdefgh23", "198.18.0.1"
AGENT = agent_host(RECORD)
LEDGER = Did("ops", "vrse-x.ledger")


@pytest.fixture(name="world")
def _world() -> World:
    return World()


@pytest.fixture(name="far")
def _far(world: World, tmp_path: Path) -> Iterator[Far]:
    server = Server(world, tmp_path / "fakes")
    yield Far(tmp_path / "fakes")
    server.close()


def test_a_catalogue_outlives_who_asks_it_and_each_server_has_its_own(far: Far, tmp_path: Path) -> None:
    owner = LedgerOwner("us", RECORD)
    far.catalogue(SERVER).ensure_ledger(LEDGER, owner)
    again = Far(tmp_path / "fakes")
    assert again.catalogue(SERVER).ledgers("ops", "us") == {LEDGER: owner}
    assert not again.catalogue("https://another.invalid").ledger_exists(LEDGER)


def test_errors_come_as_the_port_documents_them(far: Far) -> None:
    catalogue = far.catalogue(SERVER)
    catalogue.ensure_ledger(LEDGER, LedgerOwner("us", RECORD))
    with pytest.raises(RefusedError, match="is not the ledger") as caught:
        catalogue.ensure_ledger(LEDGER, LedgerOwner("others", RECORD))
    assert caught.value.reason is Reason.FOREIGN_OBJECT
    with pytest.raises(RuntimeError, match=r"catalogue\.no_such_call"):
        catalogue.no_such_call()  # type: ignore[attr-defined]
    catalogue.ping()


def test_an_agent_answers_at_the_address_of_its_pod_and_only_while_it_runs(world: World, far: Far) -> None:
    def is_there(address: str) -> bool:
        with suppress(UnreachableError):
            return far.buffer(address, AGENT).report().actual.mode == "open"
        return False

    assert not is_there(POD)
    world.ran(RECORD, POD)
    assert is_there(POD)
    assert not is_there("198.18.0.2")
    assert not is_there("")
    world.ran(RECORD, "")
    assert not is_there(POD)


def test_what_was_ordered_is_done_at_the_next_report_and_gone_with_the_pod(world: World, far: Far) -> None:
    world.ran(RECORD, POD)
    agent, fenced = far.buffer(POD, AGENT), GateState(mode="fenced", generation=1)
    agent.send_manifest(Manifest(digest="0" * 64, claims=["c"]))
    assert agent.fence(FenceRequest(generation=1)) == fenced
    assert world._session(AGENT).buffer.gate.mode == "open"
    report = agent.report()
    assert (report.actual, report.manifest) == (fenced, "0" * 64)
    world.ran(RECORD, "")
    world.ran(RECORD, POD)
    assert agent.report().manifest is None


def test_a_door_is_open_where_the_service_of_a_running_buffer_is(world: World, far: Far) -> None:
    inside, outside = ("vrse-x.buffers.svc", 8443), ("node", 30002)
    doors = far.doors()
    world.ran(RECORD, POD)
    assert "nobody listens" in str(doors.can_read(*outside, "/outbox/c/", "a.b.c"))
    world.opened(RECORD, (inside, outside))
    assert doors.can_read(*outside, "/outbox/c/", "a.b.c") == "GET /outbox/c/ gave 403"
    assert doors.can_read(*inside, "/outbox/c/", "a.b.c") == "GET /outbox/c/ gave 403"
    assert "nobody listens" in str(doors.can_read("node", 30003, "/outbox/c/", "a.b.c"))
    world.opened(RECORD, (inside,))
    assert "nobody listens" in str(doors.can_read(*outside, "/outbox/c/", "a.b.c"))
    world.ran(RECORD, "")
    assert "nobody listens" in str(doors.can_read(*inside, "/outbox/c/", "a.b.c"))


def test_who_waits_for_an_answer_keeps_nobody_else_waiting(
    world: World, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(world, "_delay", 0.5)
    monkeypatch.setattr(time, "sleep", lambda _: both.wait())
    threads = [threading.Thread(target=far.catalogue(SERVER).ping) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not both.broken
