from __future__ import annotations

from pathlib import Path

from volatile_rse.api.conditions import ConditionType, Reason
from volatile_rse.api.pages import reasons_page, write

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_committed_pages_are_what_the_models_say(tmp_path: Path) -> None:
    for path in write(tmp_path):
        committed = DOCS / path.relative_to(tmp_path)
        assert committed.read_text() == path.read_text(), "run `make generate`"


def test_no_page_of_a_kind_remains_that_is_gone(tmp_path: Path) -> None:
    written = {path.name for path in write(tmp_path) if path.parent.name == "kinds"}
    assert {path.name for path in (DOCS / "kinds").iterdir()} == written


def test_every_condition_and_reason_is_told() -> None:
    page = reasons_page()
    for entry in (*ConditionType, *Reason):
        assert f"`{entry.value}`" in page
