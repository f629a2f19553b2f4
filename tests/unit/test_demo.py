"""The demo succeeds only if all that it shows is as it must be; what Rucio, the site and the cluster say is given."""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from testbed import __main__ as command
from testbed import asking, cluster, demo, engine, grid, holding, installation, session
from testbed.progress import StepError

PICTURE = b"\x89PNG\r\n\x1a\n and so on"
SUM = f"{zlib.adler32(PICTURE):08x}"
SPEC = {
    "inputs": [{"name": "dimuon", "did": "user.alice:in"}],
    "outputs": [{"name": "out", "scope": "user.alice", "dataset": "out"}],
}
APPLIED = datetime(2026, 1, 1, tzinfo=UTC)
AT = "2026-01-01T00:01:00Z"
RULE = {
    "id": "r1", "account": "alice", "rse_expression": "SITE-B", "state": "OK",
    "locks_ok_cnt": 1, "locks_stuck_cnt": 0,
}  # fmt: skip


def record() -> dict[str, Any]:
    truths = {"readyAt": AT, "startedAt": AT, "endedAt": AT}
    status = {"session": truths, "safeAt": AT, "freedAt": AT, "closedAt": AT}
    return {"spec": {"rseName": "VRSE-X", "recordId": "x"}, "status": status}


@dataclass
class World:
    """What is said of a demo that went well, until a test changes it."""

    file: asking.Kept = field(
        default_factory=lambda: asking.Kept(
            "out.x.png", len(PICTURE), SUM, {"SITE-B": "AVAILABLE"}, "davs://b/out.x.png", len(PICTURE), SUM
        )
    )
    content: bytes = PICTURE
    rules: list[dict[str, Any]] = field(default_factory=lambda: [RULE])
    remains: list[str] = field(default_factory=list)
    on_rse: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World()

    def download(file: asking.Kept, _folder: Path) -> Path:
        path = tmp_path / file.name
        path.write_bytes(world.content)
        return path

    def on_rse(_rse: str, datasets: list[str]) -> list[str]:
        world.asked += datasets
        return list(world.on_rse)

    monkeypatch.setattr(asking, "kept", lambda *_: [world.file])
    monkeypatch.setattr(asking, "rules", lambda *_: world.rules)
    monkeypatch.setattr(asking, "download", download)
    monkeypatch.setattr(asking, "remains", lambda _: world.remains)
    monkeypatch.setattr(asking, "on_rse", on_rse)
    monkeypatch.setattr(demo, "wait_for", _once)
    return world


def _once(what: str, look: Any, *_: float) -> Any:
    if not (seen := look()):
        raise StepError(what)
    return seen


def test_all_as_it_must_be(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    demo._report(SPEC, record(), APPLIED)
    shown = capsys.readouterr().out
    assert "held by rule r1 of alice on SITE-B: OK" in shown
    assert "60 s after apply" in shown
    assert world.asked == ["user.alice:in", "user.alice:out"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"states": {"SITE-B": "COPYING"}}, "not safe"),
        ({"states": {}}, "not safe"),
        ({"site_bytes": 1}, "not safe"),
        ({"site_adler32": "00000000"}, "not safe"),
        ({"name": "out.x.root"}, "no picture"),
    ],
)
def test_a_file_that_is_not_safe(world: World, changes: dict[str, Any], complaint: str) -> None:
    world.file = replace(world.file, **changes)
    with pytest.raises(StepError, match=complaint):
        demo._report(SPEC, record(), APPLIED)


@pytest.mark.parametrize(
    ("name", "said", "complaint"),
    [
        ("content", b"<html>", "is no PNG"),
        ("content", PICTURE + b"!", "is not the file that Rucio knows"),
        ("rules", [], "no rule"),
        ("rules", [{**RULE, "state": "STUCK"}], "no rule"),
        ("rules", [{**RULE, "rse_expression": "VRSE-X"}], "no rule"),
        ("remains", ["pod/vrse-x"], "still there: pod/vrse-x"),
        ("on_rse", ["rule r2 of user.alice:f on VRSE-X"], "still there: rule r2"),
    ],
)
def test_a_report_with_something_wrong(world: World, name: str, said: object, complaint: str) -> None:
    setattr(world, name, said)
    with pytest.raises(StepError, match=complaint):
        demo._report(SPEC, record(), APPLIED)


def test_a_time_that_is_not_known(world: World) -> None:
    assert world
    body = record()
    del body["status"]["freedAt"]
    with pytest.raises(StepError, match="storage freed"):
        demo._report(SPEC, body, APPLIED)


def test_only_what_changed_is_seen_as_changed() -> None:
    status = {
        "phase": "Staging",
        "inputs": [{"name": "dimuon", "staged": 1, "files": 4}],
        "conditions": [{"type": "Usable", "status": "False"}],
    }
    before = demo._seen(status, {"phase": "Serving"}, [])
    pod = {"metadata": {"name": "dimuon-a"}, "status": {"phase": "Running"}}
    after = demo._seen({**status, "conditions": [{"type": "Usable", "status": "True"}]}, {"phase": "Serving"}, [pod])
    assert set(after.items()) - set(before.items()) == {
        ("condition Usable", "Usable True"),
        ("pod dimuon-a", "pod of the Job Running"),
    }


@pytest.mark.parametrize("error", [OSError("no route"), KeyboardInterrupt(), StepError("bad")])
def test_logs_are_saved_whatever_went_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(demo, "LOGS", tmp_path)
    monkeypatch.setattr(installation, "up", lambda: None)
    monkeypatch.setattr(session, "image", lambda: session.NAME)
    monkeypatch.setattr(demo, "_namespace", lambda: None)
    monkeypatch.setattr(demo, "_clear", lambda _: None)
    monkeypatch.setattr(demo, "forget", lambda _: None)
    monkeypatch.setattr(cluster, "kubectl", lambda *_: "text of a log")
    monkeypatch.setattr(demo, "wait_for", fail)
    with pytest.raises(StepError, match=str(error) or "KeyboardInterrupt") as caught:
        demo.run()
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "demo-operator.log").read_text() == "text of a log"


class _Rucio:
    """A catalogue with one file, whose rules and replicas a test says."""

    def __init__(self, rses: dict[str, list[str]], rules: list[dict[str, str]]) -> None:
        self._rses, self._rules = rses, rules

    def list_replicas(self, _dids: object, *, all_states: bool) -> list[dict[str, Any]]:
        assert all_states
        return [{"scope": "s", "name": "f", "rses": self._rses, "states": dict.fromkeys(self._rses, "AVAILABLE")}]

    def list_associated_rules_for_file(self, _scope: str, _name: str) -> list[dict[str, str]]:
        return self._rules


@pytest.mark.parametrize(
    ("rses", "rules", "found"),
    [
        ({"SITE-B": ["davs://b/f"]}, [{"id": "r", "rse_expression": "SITE-B"}], []),
        ({"VRSE-X": ["davs://x/f"]}, [], ["replica of s:f on VRSE-X"]),
        ({}, [{"id": "r", "rse_expression": "VRSE-X"}], ["rule r of s:f on VRSE-X"]),
    ],
)
def test_what_files_still_have_on_an_rse(
    monkeypatch: pytest.MonkeyPatch, rses: dict[str, list[str]], rules: list[dict[str, str]], found: list[str]
) -> None:
    monkeypatch.setattr(grid, "client", lambda _: _Rucio(rses, rules))
    assert asking.on_rse("VRSE-X", ["s:d"]) == found


def test_an_interrupted_command_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(holding, "HOLDERS", tmp_path / "holders.json")

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "ensure", interrupt)
    monkeypatch.setattr(sys, "argv", ["testbed", "demo"])
    assert command.main() == 130
    assert "resumes" in capsys.readouterr().err
