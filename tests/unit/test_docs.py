"""The site of the pages is built without a warning: no link leads nowhere, and no page is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Do what ``make docs`` does."""
    argv = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html", source, target]
    # Colours would stand within the words that are looked for.
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()


def test_make_docs_asks_for_no_less() -> None:
    (line,) = (line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    assert line.split()[3:] == ["--quiet", "--fail-on-warning", "--builder", "html", "docs", "dist/docs"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[a page](nowhere.md)\n", "nowhere.md"),
        ("[a title](#nowhere)\n", "nowhere"),
        ("```klingon\nqapla'\n```\n", "klingon"),
    ],
)
def test_what_a_reader_would_stumble_over_is_a_warning(tmp_path: Path, text: str, warning: str) -> None:
    (tmp_path / "docs").mkdir()
    for name, content in {
        "docs/conf.py": (ROOT / "docs" / "conf.py").read_text(),
        "pyproject.toml": (ROOT / "pyproject.toml").read_text(),
        "docs/index.md": f"# Title\n\n{text}",
    }.items():
        (tmp_path / name).write_text(content)
    done = build(tmp_path / "docs", tmp_path / "site")
    assert done.returncode != 0
    assert warning in done.stderr
