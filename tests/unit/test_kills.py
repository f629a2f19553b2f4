"""The judge of ``make test-kills`` sees what is lost and what stays behind; what Rucio and the disk say is given."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from testbed import asking, cluster, grid, kills, layout
from testbed.progress import StepError
from testbed.sessions import Session

LOG = "ACK 0/0000.bin 5 0000000a\nNO 1/0001.bin 7 0000000b\nDONE\n"
FILE = "kills-x-0.abcdefgh23.kept--0--0000.bin"
GOOD = {"name": FILE, "bytes": 5, "adler32": "0000000a", "states": {"SITE-B": "AVAILABLE"}}
DISK = {FILE: (5, "0000000a")}


def judge(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any] | None, disk: dict[str, tuple[int, str]], rule: str = "OK"
) -> kills.Verdict:
    class Catalogue:
        def list_replicas(self, *_: object, **__: object) -> list[dict[str, Any]]:
            return [entry] if entry else []

    monkeypatch.setattr(grid, "client", lambda _: Catalogue())
    monkeypatch.setattr(asking, "rules", lambda *_: [{"state": rule}])
    monkeypatch.setattr(cluster, "kubectl", lambda *_: LOG)
    return kills._judge(Session("kills-x-0", "run", "kills-x"), disk)


def test_what_is_in_rucio_and_on_the_disk_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = judge(monkeypatch, GOOD, DISK)
    assert (verdict.acknowledged, verdict.refused, verdict.lost) == (1, 1, [])


@pytest.mark.parametrize(
    ("entry", "disk", "rule"),
    [
        (None, DISK, "OK"),
        ({**GOOD, "bytes": 4}, DISK, "OK"),
        ({**GOOD, "adler32": "0000000c"}, DISK, "OK"),
        ({**GOOD, "states": {"SITE-B": "COPYING"}}, DISK, "OK"),
        ({**GOOD, "states": {"SITE-B": "AVAILABLE", "VRSE-X": "AVAILABLE"}}, DISK, "OK"),
        (GOOD, {}, "OK"),
        (GOOD, {FILE: (5, "0000000c")}, "OK"),
        (GOOD, DISK, "STUCK"),
    ],
)
def test_what_is_not_is_lost(
    monkeypatch: pytest.MonkeyPatch, entry: dict[str, Any] | None, disk: dict[str, tuple[int, str]], rule: str
) -> None:
    assert len(judge(monkeypatch, entry, disk, rule).lost) == 1


def test_every_container_beside_the_cluster_is_killed() -> None:
    rng, killed = random.Random(1), list[tuple[str, ...]]()  # noqa: S311 (it chooses what is killed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kills, "_docker", lambda *argv: killed.append(argv) or "")  # type: ignore[func-returns-value]
        patched.setattr(time, "sleep", lambda _: None)
        for kind in ("Rucio, server", "Rucio, daemons", "PostgreSQL", *["site"] * 8):
            kills.KINDS[kind](rng)
    beside = {layout.RUCIO, layout.DAEMONS, layout.DATABASE, *layout.SITES.values()}
    assert {argv[-1] for argv in killed if argv[0] == "kill"} == beside
    assert {argv[-1] for argv in killed if argv[0] == "start"} == beside


def test_what_nobody_answers_for_stays_behind_and_what_another_session_has_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def once(what: str, look: Any, *_: float, **__: float) -> None:
        if not look():
            raise StepError(what)

    traces = {"RSE VRSE-MINE234567", "ledger vrse-lost234567.ledger", "RSE VRSE-THEIRS2345", "volume pvc-7", "old"}
    monkeypatch.setattr(kills, "wait_for", once)
    monkeypatch.setattr(kills, "_traces", lambda: traces)
    monkeypatch.setattr(kills, "_owners", lambda: [("kills-x", "mine234567"), ("test", "theirs2345")])
    left = kills._settle("kills-x", {"old"})
    assert left == ["RSE VRSE-MINE234567", "ledger vrse-lost234567.ledger", "volume pvc-7"]
