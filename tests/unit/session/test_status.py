"""What a program of a session reads in its status file."""

from __future__ import annotations

import errno
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.session.small_buffer import OUTBOX, Objects, SmallBuffer
from volatile_rse import session as vrse
from volatile_rse.agent.status import status_text
from volatile_rse.api.agent import GateState, InputTotals, OutputTotals, Report, SessionWords, status_path
from volatile_rse.session import prepared, sessions
from volatile_rse.session.table import Row
from volatile_rse.session.told import is_arriving, rest_told
from volatile_rse.session.webdav import WebDav

NOW = datetime(2030, 1, 1, 8, tzinfo=UTC)
TOLD: dict[str, Any] = {
    "digest": "1" * 64,
    "claim": "u-1",
    "rse": "VRSE-ABCDEFGHIJ",
    "usable": True,
    "inputs": ["dimuon"],
}
OPEN = GateState(mode="open", generation=0)


def text(expires: datetime, **more: object) -> str:
    """Write it as the agent does."""
    warnings = [{"reason": "UnmatchedFiles", "message": "No output takes <b>."}]
    outputs = [{"name": "histograms", "registered": 1, "safe": 1}]
    end = f"{expires:%Y-%m-%dT%H:%M:%SZ}"
    words = SessionWords.model_validate({**TOLD, "expires": end, "outputs": outputs, "warnings": warnings, **more})
    report = Report.model_validate(
        {
            "version": 1, "volume": "0" * 32, "desired": OPEN, "actual": OPEN, "failures": [],
            "inputs": [InputTotals(name="dimuon", files=2, staged=1, failed=1, bytes=3000, staged_bytes=1500)],
            "outputs": [
                OutputTotals(claim="u-1", name="histograms", files=3, open=1, sealed=1, bytes=2000),
                OutputTotals(claim="u-1", files=1, bytes=5),
            ],
            "copies": {}, "space": {"bytes": 9, "bytesFree": 8, "inodes": 7, "inodesFree": 6},
        }
    )  # fmt: skip
    return status_text(words, report, NOW)


def rows(s: vrse.Session) -> list[tuple[str, str]]:
    return [(row.name, row.value) for row in s._table().rows]


@pytest.mark.usefixtures("objects")
def test_the_table_says_what_is_staged_written_and_safe_and_what_is_wrong(small_buffer: SmallBuffer) -> None:
    small_buffer.files[status_path("u-1")] = text(datetime.now(UTC) + timedelta(hours=2, minutes=1)).encode()
    small_buffer.files[f"{OUTBOX}/notes"] = b"12345"
    s = vrse.current()
    assert s.status()["outputs"][0]["safe"] == 1
    assert s._table().arriving
    assert repr(s).splitlines()[1].startswith("input dimuon       [##########..........] 1 of 2")
    shown = rows(s)
    assert shown[:3] == [
        ("RSE", "VRSE-ABCDEFGHIJ"),
        ("input dimuon", "1 of 2 files staged, 1.5 kB of 3.0 kB, 1 cannot be had now"),
        ("written", f"1 files, 5 B in {OUTBOX}"),
    ]
    assert shown[4:6] == [
        ("output histograms", "3 files, 2.0 kB, 1 still open; 1 safe"),
        ("no output", "takes 1 files, 5 B"),
    ]
    assert shown[6][0] == "time left"
    assert shown[6][1].startswith("2 h 0 min, until ")
    assert shown[7:] == [("warning", "UnmatchedFiles: No output takes <b>.")]
    assert "takes &lt;b&gt;." in s._repr_html_()


@pytest.mark.parametrize(
    ("status", "left"),
    [
        ({"expires": "2030-01-01T08:30:00Z"}, "30 min, until 2030-01-01 08:30 UTC at the latest"),
        ({"expires": "2030-01-01T08:00:00Z"}, "none: the session ends at 2030-01-01 08:00 UTC"),
        (
            {"expires": "2030-01-01T09:00:00Z", "endedAt": "2030-01-01T07:00:00Z"},
            "none: the session ended at 2030-01-01 07:00 UTC",
        ),
        ({}, "not known yet: the session has not begun"),
        ({"expires": 7, "outputs": 7, "warnings": [7], "unmatched": 7}, "not known yet: the session has not begun"),
    ],
)
def test_how_long_it_lasts(status: dict[str, object], left: str) -> None:
    assert rest_told(status, NOW) == [Row("time left", left)]


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize("content", [b"{", b"[]", b""])
def test_a_file_that_is_none_is_told_and_breaks_no_table(small_buffer: SmallBuffer, content: bytes) -> None:
    small_buffer.files[status_path("u-1")] = content
    s = vrse.current()
    with pytest.raises(vrse.SessionError, match="cannot be read"):
        s.status()
    assert ("input dimuon", "2 of 2 files staged, 3.0 kB in all") in rows(s)


def test_an_older_operator_has_none(objects: Objects) -> None:
    (objects.config / "VRSE_STATUS").unlink()
    with pytest.raises(vrse.SessionError, match="has no status file"):
        vrse.current().status()


def test_a_buffer_that_answers_nothing_keeps_nobody_from_the_table(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def read(_: WebDav, path: str, seconds: float = 30) -> str:
        asked.append(seconds)
        raise vrse.SessionError(path)

    monkeypatch.setattr(WebDav, "read", read)
    objects.write_config()
    assert "at most 8 h" in repr(vrse.current()), "what the token says"
    assert asked == [sessions._PATIENCE]


@pytest.mark.usefixtures("objects")
def test_a_folder_without_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared, "put", full)
    with pytest.raises(vrse.SessionError, match=r"No space left on device\): make room there, or set TMPDIR"):
        vrse.current()


def test_nothing_arrives_after_the_end() -> None:
    status: dict[str, Any] = {"inputs": [{"files": 2, "staged": 1}], "endedAt": None}
    assert is_arriving(status)
    assert not is_arriving({**status, "endedAt": "2026-12-01T02:00:00Z"})
