"""What concerns the run as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

TESTBED = [Path(__file__).parent / name for name in ("contract", "e2e")]
"""Tests of the one testbed: one process has all of them, in their order, while others have the rest."""


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if any(folder in item.path.parents for folder in TESTBED):
            item.add_marker(pytest.mark.xdist_group("testbed"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for group in terminalreporter.stats.values() for report in group]
    plans = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "plans" and getattr(report, "when", None) == "call"
    ]
    if plans:
        terminalreporter.write_line(f"kill matrix: {sum(plans)} plans")
