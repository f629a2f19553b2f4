"""What concerns the run as a whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

TESTBED = ("tests/contract/", "tests/e2e/")
"""Tests of the one testbed: one process has all of them, in their order, while others have the rest."""


class TestbedInOneProcess(LoadScopeScheduling):
    """Gives to one process what shares the testbed, and everything else piece by piece."""

    __test__ = False

    def _split_scope(self, nodeid: str) -> str:
        return "testbed" if nodeid.startswith(TESTBED) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> TestbedInOneProcess:
    return TestbedInOneProcess(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for group in terminalreporter.stats.values() for report in group]
    plans = Counter[str]()
    for report in reports:
        if getattr(report, "when", None) == "call":
            matrix = Path(report.fspath).stem.removeprefix("test_").replace("_", " ")
            plans[matrix] += sum(value for name, value in report.user_properties if name == "plans")
    for matrix, count in sorted((+plans).items()):
        terminalreporter.write_line(f"{matrix}: {count} plans")
