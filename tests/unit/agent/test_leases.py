from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.agent.conftest import CLAIM, Site, manifest
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.leases import Leases, make
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import LeaseTotals

NOW = 1_800_000_000


@pytest.fixture
def folder(places: Places) -> Path:
    places.make()
    make(places, CLAIM)
    return places.namespace / "lease" / CLAIM


class Seen:
    """What is told at a time."""

    def __init__(self, places: Places, most: int = 20) -> None:
        self.now = float(NOW)
        self._leases = Leases(places, clock=lambda: self.now, most=most)

    def __call__(self) -> LeaseTotals:
        [found] = self._leases.look([CLAIM]) or []
        return found


def take(folder: Path, name: str, content: str | bytes = "", at: float = NOW) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, (at, at))
    return path


def test_leases_hold_until_their_time_is_over(places: Places, folder: Path) -> None:
    seen = Seen(places)
    assert seen() == LeaseTotals(claim=CLAIM)
    take(folder, "usual")
    take(folder, "queue", "24h", NOW - 3600)
    take(folder, "over", "10m", NOW - 600)
    assert seen() == LeaseTotals(claim=CLAIM, held=2, taken=True, until=NOW + 23 * 3600)
    seen.now += 3600
    assert seen() == LeaseTotals(claim=CLAIM, held=1, taken=True, until=NOW + 23 * 3600)
    take(folder, "over", "10m", seen.now)
    take(folder, "queue", "2h", seen.now)
    assert seen() == LeaseTotals(claim=CLAIM, held=2, taken=True, until=NOW + 3 * 3600)
    (folder / "queue").unlink()
    assert seen() == LeaseTotals(claim=CLAIM, held=1, taken=True, until=NOW + 3600 + 600)


def test_that_one_was_taken_is_known_also_when_it_is_gone(places: Places, folder: Path) -> None:
    make(places, CLAIM)
    assert Seen(places)() == LeaseTotals(claim=CLAIM)
    take(folder, "short", "1m").unlink()
    make(places, CLAIM)
    assert Seen(places)() == LeaseTotals(claim=CLAIM, taken=True)


def test_what_was_written_in_the_future_was_written_now(places: Places, folder: Path) -> None:
    take(folder, "ahead", "1h", NOW + 86400)
    assert Seen(places)() == LeaseTotals(claim=CLAIM, held=1, taken=True, until=NOW + 3600)


def test_what_is_no_lease_is_told_and_left_alone(places: Places, folder: Path) -> None:
    take(folder, "good", "2h")
    (folder / "sub").mkdir()
    take(folder / "sub", "below", "7d")
    os.mkfifo(folder / "pipe")
    take(folder, "hist.root", b"x" * 65)
    take(folder, ".hidden", "7d")
    found = Seen(places)()
    assert (found.held, found.until) == (1, NOW + 7200)
    assert sorted(said.partition(":")[0] for said in found.odd) == [".hidden", "hist.root", "pipe", "sub"]
    assert (folder / "hist.root").exists()


def test_what_does_not_say_its_time_counts_as_usual(places: Places, folder: Path) -> None:
    take(folder, "words", "for two hours")
    seen = Seen(places)
    for _ in range(2):
        found = seen()
        assert (found.held, found.until) == (1, NOW + 3600)
        [said] = found.odd
        assert said.startswith("words: what is in it is no duration")


def test_a_link_is_removed_and_not_followed(places: Places, folder: Path, tmp_path: Path) -> None:
    take(tmp_path, "target", "7d")
    (folder / "link").symlink_to(tmp_path / "target")
    found = Seen(places)()
    assert (found.held, (tmp_path / "target").exists(), (folder / "link").is_symlink()) == (0, True, False)
    assert "symbolic link" in found.odd[0]


def test_one_that_is_being_written_does_not_count_yet(places: Places, folder: Path) -> None:
    take(folder, "begun", "7d").chmod(0o1600)
    assert Seen(places)() == LeaseTotals(claim=CLAIM, taken=True)


def test_a_lease_that_its_session_has_closed_counts(
    places: Places, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(folder, "closed", "7d")

    def closed(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", closed)
    found = Seen(places)()
    assert (found.held, found.until) == (1, NOW + 3600)
    assert "closed: it cannot be read (Permission denied)" in found.odd[0]


def test_many_are_read_in_part_and_odd_ones_told_in_part(places: Places, folder: Path) -> None:
    for number in range(6):
        take(folder, f"\x1b[31m{number}" + "x" * 200, "1h")
    for number in range(20):
        take(folder, str(number), "1h")
    found = Seen(places)()
    assert found.held <= 20
    assert found.odd[0] == "there are more than 20, and the others are not looked at"
    assert len(found.odd) == 5
    assert all(len(said) <= 300 and said.isprintable() for said in found.odd)


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(places: Places, folder: Path) -> None:
    folder.rmdir()
    folder.write_text("in its place")
    assert Leases(places).look([CLAIM]) is None


def test_a_report_has_them_once_the_claims_are_known(places: Places, site: Site) -> None:
    buffer = Buffer(places)
    assert buffer.report().leases is None
    buffer.take(manifest(site))
    (places.namespace / "lease" / CLAIM / "job").write_text("30m")
    [told] = buffer.report().leases or []
    assert told.held == 1
    buffer.stop()
