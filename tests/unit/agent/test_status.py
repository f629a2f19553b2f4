"""The session's status file on the buffer."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.agent.conftest import CLAIM, Site, input_file, manifest, until
from volatile_rse.agent import status
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import OutputRule, SessionWords, ToldOutput, Warned, status_path

PLOTS = OutputRule(claim=CLAIM, name="plots", patterns=["plots/**"], scope="user.alice", dataset="plots")


def words(**more: Any) -> SessionWords:
    told = {"digest": "1" * 64, "claim": CLAIM, "rse": "VRSE-X", "expires": "2030-01-01T08:00:00Z", "inputs": ["data"]}
    return SessionWords.model_validate(told | {"outputs": [ToldOutput(name="plots", registered=2, safe=1)]} | more)


def read(places: Places) -> dict[str, Any]:
    path = places.on_disk(status_path(CLAIM))
    return dict(json.loads(path.read_text())) if path.exists() else {}


def fill(path: Path) -> None:
    """Leave no room on a volume."""
    with suppress(OSError), path.open("wb", buffering=0) as stream:
        while stream.write(bytes(1 << 12)):
            pass


def test_it_has_the_operators_words_and_the_agents_numbers(buffer: Buffer, site: Site) -> None:
    work = manifest(site, input_file(site, b"a.root", "a.root"), input_file(site, b"b.root", "b.root"))
    buffer.take(work.model_copy(update={"outputs": [PLOTS]}))
    (buffer.places.area("outbox", CLAIM) / "plots").mkdir()
    (buffer.places.area("outbox", CLAIM) / "plots" / "x.png").write_bytes(b"12345")
    (buffer.places.area("outbox", CLAIM) / "lost").write_bytes(b"1")
    assert not read(buffer.places), "nothing is said before the operator has said something"
    warned = Warned(reason="UnmatchedFiles", message="No output takes 1 files.")
    buffer.tell(words(usable=True, warnings=[warned]))
    assert buffer.report().told == "1" * 64
    buffer.inventory.look()
    until(lambda: read(buffer.places).get("unmatched", {}).get("files"))
    until(lambda: read(buffer.places)["inputs"][0]["staged"] == 2)
    found = read(buffer.places)
    assert found.pop("updated").endswith("Z")
    assert found.pop("bytesFree") > 0
    assert "stagingRate" in found
    del found["stagingRate"]
    assert found == {
        "rse": "VRSE-X",
        "usable": True,
        "expires": "2030-01-01T08:00:00Z",
        "inputs": [{"name": "data", "files": 2, "staged": 2, "failed": 0, "bytes": 12, "stagedBytes": 12}],
        "outputs": [{"name": "plots", "files": 1, "open": 0, "bytes": 5, "sealed": 0, "registered": 2, "safe": 1}],
        "unmatched": {"files": 1, "bytes": 1, "paths": ["lost"]},
        "warnings": [warned.dump()],
    }
    assert buffer.places.on_disk(status_path(CLAIM)).stat().st_mode & 0o7777 == 0o444


def test_new_words_replace_it_and_nothing_new_leaves_it(buffer: Buffer) -> None:
    path = buffer.places.on_disk(status_path(CLAIM))
    buffer.tell(words())
    until(path.exists)
    buffer.tell(words(digest="2" * 64, endedAt="2029-01-01T08:00:00Z"))
    until(lambda: read(buffer.places).get("endedAt"))
    buffer.status.look()
    before = path.stat().st_ino
    buffer.status.look()
    assert path.stat().st_ino == before


def test_an_agent_that_has_restarted_leaves_what_was_said(places: Places) -> None:
    for said in (True, False):
        made = Buffer(places)
        if said:
            made.tell(words())
        made.status.look()
        assert made.report().told == ("1" * 64 if said else None)
        made.stop()
    assert read(places)["rse"] == "VRSE-X"


def test_a_full_volume_can_be_told_of(tiny: Places) -> None:
    made = Buffer(tiny)
    made.tell(words())
    made.status.look()
    fill(tiny.namespace / "outbox" / "full")
    made.tell(words(digest="2" * 64, warnings=[Warned(reason="Full", message="Delete something.")]))
    made.status.look()
    assert read(tiny)["warnings"][0]["reason"] == "Full"
    made.stop()


def test_what_cannot_be_written_is_told_and_tried_again(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_PERIOD", 0.01)
    path = buffer.places.on_disk(status_path(CLAIM))
    path.mkdir(parents=True)
    buffer.tell(words())
    until(lambda: any(failure.what == "agent: status file" for failure in buffer.report().failures))
    os.rmdir(path)  # noqa: PTH106 (what the test has made)
    until(lambda: read(buffer.places))
    until(lambda: not buffer.report().failures)
