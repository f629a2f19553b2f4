"""What concerns the run as a whole: who runs beside whom, and what is told at its end."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from testbed import holding
from testbed.layout import STATE

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")
"""How long an example takes says how much else the machine has to do."""

TESTBED = ("tests/contract/", "tests/e2e/")
"""Tests of the one testbed."""
GUESTS = (
    "tests/contract/",
    *(
        f"tests/e2e/test_{name}.py"
        for name in (
            "admission", "agent", "agent_container", "batch", "buffer", "class_status", "cli", "containers", "dask",
            "doors", "entries", "foreign", "gitops", "images", "injection", "inputs", "ipv6", "jupyterhub", "losses",
            "monitoring", "naming", "on_behalf_of", "outputs", "patterns", "pipx", "samples", "session_flow",
            "session_library", "sessions", "sites", "technologies", "tenants",
        )
    ),
)  # fmt: skip
"""Those that leave alone what they have not made: they may run beside each other, and beside nothing else of the
testbed, where operator, Rucio, sites and node are stopped, killed, removed and replaced."""


class TestbedInTurns(LoadScopeScheduling):  # type: ignore[misc]
    """Gives to one process all that needs the testbed for itself, to each the guests module by module, and everything
    else piece by piece."""

    __test__ = False

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(GUESTS):
            return nodeid.partition("::")[0]
        return "testbed" if nodeid.startswith(TESTBED) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> TestbedInTurns:
    config.option.loadscopereorder = False
    return TestbedInTurns(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what needs the testbed for itself: beside it is time for what does not need it at all."""

    def order(item: pytest.Item) -> int:
        if item.nodeid.startswith(GUESTS):
            return 2
        return 0 if item.nodeid.startswith(TESTBED) else 1

    items.sort(key=order)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell other clones that this testbed is in use."""
    if any(item.nodeid.startswith(TESTBED) for item in session.items) and not session.config.option.collectonly:
        holding.join("pytest")


class Turns:
    """Keeps guests of the testbed and those who need it for themselves apart, a module at a time."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._module = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """Wait before the first test of a module, outside of its time limit; leave after its last teardown."""
        module = item.nodeid.partition("::")[0]
        if module.startswith(TESTBED) and module != self._module:
            self._held.enter_context(_turn(shared=module.startswith(GUESTS)))
            self._module = module
        try:
            return (yield)
        finally:
            if nextitem is None or nextitem.nodeid.partition("::")[0] != self._module:
                self._held.close()
                self._module = ""


@contextmanager
def _turn(*, shared: bool) -> Iterator[None]:
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "door.lock").open("a") as door, (STATE / "room.lock").open("a") as room:
        # Who waits for the room stands in the door: no guests come in before those who want it for themselves.
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Turns(), "turns")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plans", type=int, default=0, help="fail if the matrices have carried out fewer plans")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for matrix, count in sorted(_plans(terminalreporter).items()):
        terminalreporter.write_line(f"{matrix}: {count} plans")
    if _too_few(config, terminalreporter):
        least = config.getoption("plans")
        terminalreporter.write_line(f"the matrices have carried out fewer than {least} plans", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and exitstatus == pytest.ExitCode.OK and _too_few(session.config, reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _too_few(config: pytest.Config, reporter: pytest.TerminalReporter) -> bool:
    least = 0 if hasattr(config, "workerinput") else config.getoption("plans")
    return bool(_plans(reporter).total() < least)


def _plans(terminalreporter: pytest.TerminalReporter) -> Counter[str]:
    reports = [report for group in terminalreporter.stats.values() for report in group]
    plans = Counter[str]()
    for report in reports:
        if getattr(report, "when", None) == "call":
            matrix = Path(report.fspath).stem.removeprefix("test_").replace("_", " ")
            plans[matrix] += sum(value for name, value in report.user_properties if name == "plans")
    return +plans
