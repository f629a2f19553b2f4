"""What the page for Rucio's admins says of calls is what the code does."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from pathlib import Path

import pytest
from rucio.client import Client

from tests.unit.reconcile import test_calls
from tests.unit.reconcile.small_world import Small
from tests.unit.reconcile.test_calls import counting

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "your-rucio.md").read_text()
ADAPTER = ROOT / "operator" / "volatile_rse" / "adapters" / "rucio"


def row(title: str) -> list[str]:
    """Give the cells of a table's row."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("files", [1, 1000])
def test_a_session_costs_the_calls_that_the_page_says(files: int) -> None:
    small = Small(inputs=files)
    small.request()
    calls = counting(small)
    small.until(small.has_session)
    begin = sum(calls.values())
    small.start_pod()
    small.write(*(f"kept/{number}" for number in range(files)))
    for _ in range(10):
        small.step()
    calls.clear()
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    kept = sum(calls.values())
    small.until(small.is_closed)
    for title, counted in {"begin": begin, "end": kept, "removal": sum(calls.values()) - kept}.items():
        said = int(row(title)[2])
        assert said - 4 <= counted <= said, (title, counted)


def test_while_the_daemons_are_awaited_it_costs_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_calls, "_DAEMONS", set())
    small = Small(inputs=3)
    calls = counting(small)
    small.request()
    small.until(small.has_session)
    small.delete()
    small.until(lambda: small.truth.get("phase") == "Hiding")
    daemons = small.catalogue.run_daemons
    monkeypatch.setattr(small.catalogue, "run_daemons", lambda: None)
    small.until(lambda: small.truth.get("phase") == "Draining")

    def each() -> int:
        for _ in range(2):
            calls.clear()
            small.clock.turn(timedelta(seconds=30))
            small.visit()
        return sum(calls.values())

    small.step()
    reaper = each()
    daemons()
    small.visit()
    undertaker = each()
    said = re.search(r"with (\w+) calls for the reaper, with (\w+) for the undertaker", PAGE)
    numbers = {"two": 2, "three": 3, "four": 4, "five": 5}
    assert said
    assert [reaper, undertaker] == [numbers[word] for word in said.groups()]


def test_the_page_names_the_calls_that_a_policy_has_to_allow() -> None:
    made = {
        node.value
        for path in ADAPTER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and callable(getattr(Client, node.value, None))
    }
    rights = PAGE.split("## Rights\n", 1)[1].split("\n## ", 1)[0]
    told = {name for line in rights.splitlines() if line.startswith("|") for name in re.findall(r"`(\w+)`", line)}
    assert told
    assert told == made
