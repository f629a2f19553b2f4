from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from volatile_rse.agent.ledger import Ledger, Row, copy_row, input_row, output_row
from volatile_rse.api.agent import CopyState, InputState, OutputRule, OutputState, SealRequest, SealState


def row(number: int, entries: tuple[str, ...] = ("data",), **fields: object) -> Row:
    values = {"version": 0, "scope": "s", "name": f"f{number}", "path": f"/store/f{number}", "bytes": number}
    return input_row(InputState.model_validate({**values, "adler32": "0" * 8, "state": "wanted", **fields}), entries)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "control" / "ledger.sqlite")


def test_pages_tell_each_row_once_in_the_order_of_change(ledger: Ledger) -> None:
    ledger.put(row(number) for number in range(1, 6))
    ledger.put([row(2, state="staged")])
    names, after = [], 0
    while True:
        items, following = ledger.page(InputState, after, 2)
        names += [(item.name, item.version) for item in items]
        if following is None:
            break
        after = following
    assert names == [("f1", 1), ("f3", 3), ("f4", 4), ("f5", 5), ("f2", 6)]
    assert ledger.page(InputState, 6, 2) == ([], None)


def test_totals_count_a_file_in_each_of_its_entries(ledger: Ledger) -> None:
    ledger.put([row(1, ("a", "b"), state="staged"), row(2, ("b",), state="failed", error="no")])
    totals = {total.name: total.model_dump(exclude={"name"}, exclude_none=True) for total in ledger.input_totals()}
    assert totals == {
        "a": {"files": 1, "staged": 1, "failed": 0, "bytes": 1, "staged_bytes": 1},
        "b": {"files": 2, "staged": 1, "failed": 1, "bytes": 3, "staged_bytes": 1},
    }
    assert [failure.what for failure in ledger.failures()] == ["/store/f2"]


def test_rows_and_version_outlive_the_agent(ledger: Ledger, tmp_path: Path) -> None:
    ledger.put([row(1)])
    ledger.bump()
    ledger.close()
    again = Ledger(tmp_path / "control" / "ledger.sqlite")
    assert again.version == 2
    assert again.get(InputState, b"/store/f1") == row(1).state.model_copy(update={"version": 1})


def test_a_failed_change_leaves_nothing(ledger: Ledger) -> None:
    def rows() -> object:
        yield row(1)
        raise KeyError

    with pytest.raises(KeyError):
        ledger.put(rows())  # type: ignore[arg-type]
    assert (ledger.version, ledger.every(InputState)) == (0, {})


def test_a_damaged_ledger_is_put_aside(ledger: Ledger, tmp_path: Path) -> None:
    ledger.put([row(1)])
    ledger.close()
    (tmp_path / "control" / "ledger.sqlite").write_bytes(b"no database" * 1000)
    again = Ledger(tmp_path / "control" / "ledger.sqlite")
    assert (again.version, again.every(InputState)) == (0, {})
    assert (tmp_path / "control" / "damaged.ledger.sqlite").exists()


def test_what_is_absent_is_not_written_so_that_the_version_before_reads_it(ledger: Ledger, tmp_path: Path) -> None:
    """It refuses fields that it does not know, also empty ones, and with one row it reads none."""
    output = OutputState(version=0, claim="c", path="f", state="found", bytes=1)
    copy = CopyState(version=0, scope="s", name="f", rse="SITE", pfn="davs://s/f", state="wanted", attempts=0)
    ledger.put([row(1), output_row(output, b"f"), copy_row(copy, 1)])
    rule = OutputRule(claim="c", name="out", patterns=["**"], scope="s", dataset="d")
    request = SealRequest(generation=1, record_id="abcdefgh23", outputs=[rule])
    state = SealState(generation=1, state="running")
    ledger.put_seal(request, state)
    database = sqlite3.connect(tmp_path / "control" / "ledger.sqlite")
    rows = {kind: json.loads(body) for kind, body in database.execute("SELECT kind, body FROM item")}
    facts = [json.loads(value) for (value,) in database.execute("SELECT value FROM fact WHERE name LIKE 'seal.%'")]
    database.close()
    assert "md5" not in rows["input"]
    assert [part for part in (*rows.values(), *facts, facts[0]["outputs"][0]) if None in part.values()] == []
    assert (ledger.every(OutputState)[b"c/f"].error, ledger.seal()) == (None, (request, state))
