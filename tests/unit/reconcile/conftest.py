from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for group in terminalreporter.stats.values() for report in group]
    plans = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "plans" and getattr(report, "when", None) == "call"
    ]
    if plans:
        terminalreporter.write_line(f"matrices: {sum(plans)} plans")
