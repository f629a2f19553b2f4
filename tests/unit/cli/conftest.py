from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.cli.api_server import ApiServer, kubeconfig, serving
from tests.unit.reconcile.small_world import Small
from volatile_rse.cli import commands, program, reach

CERTIFICATE_ENDS = datetime(2030, 4, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Vrse = Callable[..., Done]


@pytest.fixture
def small() -> Small:
    return Small()


@pytest.fixture
def server(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Serve the small world, where the user's kubeconfig says."""
    with serving(small) as made:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", made.url)))
        monkeypatch.setattr(program, "now", small.clock.now)
        monkeypatch.setattr(reach, "reach", lambda *_: reach.Reached(until=CERTIFICATE_ENDS.timestamp()))
        yield made


@pytest.fixture
def vrse(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> Vrse:
    """Run a command as a user does; no command may end otherwise than by an exit code."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = commands.run(arguments, "vrse")
        server.settle()
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run
