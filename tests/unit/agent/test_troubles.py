"""What does not work in the agent itself is in its report, for as long as that is so."""

from __future__ import annotations

import sqlite3

import pytest

from tests.unit.agent.conftest import CLAIM, RECORD, Site, input_file, manifest, until
from volatile_rse.agent import batch, inventory, multi, publishing
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places
from volatile_rse.agent.troubles import Troubles
from volatile_rse.api.agent import Failure, Manifest, OutputRule, Report


def order(site: Site) -> Manifest:
    rule = OutputRule(claim=CLAIM, name="out", patterns=["**"], scope="user.alice", dataset="user.alice.out")
    later = {"outputs": [rule], "continuous": ["out"], "record_id": RECORD}
    return manifest(site, input_file(site, b"data")).model_copy(update=later)


def told(buffer: Buffer) -> dict[str, str]:
    return {failure.what: failure.error for failure in buffer.report().failures}


@pytest.mark.parametrize(
    ("what", "place"),
    [
        ("agent: inventory", "inventory.Inventory.look"),
        ("agent: publishing", "publishing.Publishing.look"),
        ("agent: settling", "staging.Staging._name"),
        ("agent: room for the end of the session", "gate.Gate.prepare"),
    ],
)
def test_a_part_that_fails_is_told_until_it_works_again(
    places: Places, site: Site, monkeypatch: pytest.MonkeyPatch, what: str, place: str
) -> None:
    for module, pause in ((batch, "_AFTER_FAILURE"), (publishing, "_PERIOD")):
        monkeypatch.setattr(module, pause, 0.02)
    monkeypatch.setattr("volatile_rse.agent.buffer._PERIOD", 0.02)
    monkeypatch.setattr(inventory, "_SHARE", 1)
    buffer = Buffer(places)
    buffer.inventory._period = 0.02

    def broken(*_: object) -> None:
        message = "it is broken"
        raise OSError(message) if "gate" in place else ValueError(message)

    with monkeypatch.context() as patch:
        patch.setattr(f"volatile_rse.agent.{place}", broken)
        buffer.start()
        buffer.take(order(site))
        until(lambda: what in told(buffer))
        assert "it is broken: ADMIN must read the log of the agent's container" in told(buffer)[what]
    until(lambda: told(buffer) == {})
    until(lambda: buffer.report().inputs[0].staged == 1)
    buffer.stop()


def test_an_error_that_a_piece_of_work_did_not_expect_is_told_until_it_is_done(
    buffer: Buffer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi, "_AFTER_DEFECT", 0.02)
    files = [input_file(site, b"data", f"{name}.root", site.url("/none")) for name in "abc"]

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(buffer.staging, "_failed", full)
        buffer.take(manifest(site, *files))
        until(lambda: "so it is for 2 others" in told(buffer).get("agent: staging", ""))
        assert "database or disk is full: USER must delete files" in told(buffer)["agent: staging"]
        # One that nobody wants any more troubles nobody.
        buffer.take(manifest(site, *files[:2]))
        until(lambda: "so it is for 1 others" in told(buffer).get("agent: staging", ""))
    site.files["/none"] = b"data"
    until(lambda: buffer.report().inputs[0].staged == 2)
    until(lambda: told(buffer) == {})


def test_troubles_are_bounded_and_a_report_has_room_for_them(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        buffer.troubles.tell(f"part {number}", "no answer " * 1000)
    files = [Failure(what=f"/store/{number}", error="no") for number in range(60)]
    monkeypatch.setattr(buffer.ledger, "failures", lambda: files)
    said = buffer.report().failures
    assert [failure.what for failure in said] == [
        *(f"/store/{number}" for number in range(40)),
        *(f"agent: part {number}" for number in range(20)),
    ]
    assert max(len(failure.error) for failure in said) == 512
    assert Report.model_validate_json(buffer.report().model_dump_json()).failures == said


def test_what_is_over_is_forgotten() -> None:
    changes: list[int] = []
    troubles = Troubles(lambda: changes.append(1))
    troubles.tell("part", None)
    assert changes == []
    for error in ("one", "one", "two", None, None):
        troubles.tell("part", error)
    assert (len(changes), troubles.failures()) == (3, [])
