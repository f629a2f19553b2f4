"""Two clones on one machine: neither removes the testbed that the other one uses without being told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import testbed.__main__ as testbed
from testbed import baseimages, cluster, engine, holding
from testbed.holding import Holder
from testbed.progress import StepError

OTHER, SINCE = "/home/bob/volatile-rse", "2026-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(holding, "HOLDERS", tmp_path / "cache" / "holders.json")


@pytest.fixture(name="other")
def _other() -> Iterator[Holder]:
    """Have a living process, which another clone's testbed is used by."""
    with subprocess.Popen(["sleep", "600"]) as process:
        born = holding._born(process.pid)
        assert born is not None
        yield Holder(OTHER, f"{OTHER}/.testbed", process.pid, born, SINCE, "make test")
        process.kill()


def written(*holders: Holder) -> None:
    holding.HOLDERS.parent.mkdir(parents=True, exist_ok=True)
    holding.HOLDERS.write_text(json.dumps([asdict(holder) for holder in holders]))


def known() -> list[int]:
    return [entry["pid"] for entry in json.loads(holding.HOLDERS.read_text())]


def of_this_clone(holder: Holder) -> Holder:
    return replace(holder, testbed=holding._testbed())


@pytest.fixture(name="removed")
def _removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tell what the commands did, and let them do nothing."""
    done: list[str] = []
    monkeypatch.setattr(testbed, "down", lambda: done.append("down"))
    monkeypatch.setattr(testbed, "refuse_while_unsafe", lambda: None)
    monkeypatch.setattr(engine, "ensure", lambda: None)
    monkeypatch.setattr(cluster, "is_foreign", lambda: True)
    monkeypatch.setattr(baseimages, "ensure", lambda: done.append("up"))

    def stop() -> None:
        message = "far enough"
        raise StepError(message)

    monkeypatch.setattr(cluster, "up", stop)
    return done


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["testbed", *argv])
    return testbed.main()


@pytest.mark.parametrize("argv", [("up",), ("up", "--fresh"), ("demo",), ("down",), ("down", "--discard")])
def test_a_testbed_that_another_clone_uses_is_left_alone(
    argv: tuple[str, ...],
    other: Holder,
    removed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(other)
    assert run(monkeypatch, *argv) == 1
    assert not removed
    said = capsys.readouterr().err
    assert f"make test of {OTHER} (process {other.pid}, since {SINCE})" in said
    assert "USER must act" in said
    assert "FORCE=1" in said
    assert known() == [other.pid]


@pytest.mark.parametrize("argv", [("up",), ("up", "--fresh"), ("demo",), ("down",)])
def test_it_is_taken_away_by_force(
    argv: tuple[str, ...], other: Holder, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(other)
    run(monkeypatch, *argv, "--force")
    assert removed[0] == "down"
    assert other.pid not in known()


def test_who_lost_it_by_force_does_not_remove_what_the_other_one_has_made(
    other: Holder, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    holding.take("make test")
    written(other)
    assert run(monkeypatch, "down", "--discard") == 1, "the end of `make test`"
    assert not removed


@pytest.mark.parametrize("argv", [("up",), ("up", "--fresh"), ("demo",)])
def test_what_a_dead_process_has_left_is_taken_over_and_told(
    argv: tuple[str, ...],
    other: Holder,
    removed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Its number is another process's by now.
    written(replace(other, born="another boot 17"))
    run(monkeypatch, *argv)
    assert removed == ["down", "up"]
    assert f"make test of {OTHER} (process {other.pid}, since {SINCE})" in capsys.readouterr().out
    assert known() == [os.getpid()]


def test_a_killed_process_that_nobody_has_waited_for_is_dead(other: Holder) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        written(replace(other, pid=process.pid, born=holding._born(process.pid) or ""))
        with pytest.raises(StepError):
            holding.take("make up")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        holding.take("make up")


def test_processes_of_one_clone_use_it_beside_each_other_and_none_removes_it(
    other: Holder, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "is_foreign", lambda: False)
    written(of_this_clone(other))
    run(monkeypatch, "up")
    assert removed == ["up"]
    assert known() == [other.pid, os.getpid()]
    assert run(monkeypatch, "up", "--fresh") == 1
    assert run(monkeypatch, "down") == 1
    assert "down" not in removed


def test_what_make_holds_its_commands_use(removed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "up", "--fresh", "--holder", str(os.getppid()))
    assert known() == [os.getppid()]
    holding.join("pytest")
    assert known() == [os.getppid()], "it is held already"
    assert run(monkeypatch, "down", "--discard") == 0
    assert removed == ["down", "up", "down"]
    assert known() == []


@pytest.mark.parametrize("text", ["", "{", "{}", '["x"]', '[{"pid": 1}]'])
def test_a_file_that_cannot_be_read_names_nobody(text: str) -> None:
    holding.HOLDERS.parent.mkdir()
    holding.HOLDERS.write_text(text)
    assert holding.take("make up") == ()
    assert known() == [os.getpid()]


def test_tests_of_a_clone_that_has_no_testbed_hold_nothing(other: Holder) -> None:
    written(other)
    holding.join("pytest")
    assert known() == [other.pid]
