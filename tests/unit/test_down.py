"""``make down`` refuses while outputs may be nowhere else, unless it is told otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import testbed.__main__ as testbed
from testbed import cluster, holding
from testbed.progress import StepError

WRITTEN = {"session": {"readyAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T01:00:00Z"}}
SAFE = {**WRITTEN, "safeAt": "2026-01-01T02:00:00Z"}


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(holding, "HOLDERS", tmp_path / "holders.json")


def down(
    monkeypatch: pytest.MonkeyPatch, answer: Any, *options: str, there: bool = True, installed: bool = True
) -> tuple[int, bool]:
    """Run the command against a cluster that answers so; give its exit code, and whether anything was removed."""
    removed: list[bool] = []

    def kubectl(*argv: str, **_: object) -> str:
        if isinstance(answer, Exception):
            raise answer
        if argv[:2] == ("get", "crd"):
            return f"customresourcedefinition.apiextensions.k8s.io/{argv[2]}\n" if installed else ""
        assert argv[:2] == ("get", "rserecords")
        assert installed, "kubectl knows no such kind"
        return str(answer)

    monkeypatch.setattr(cluster, "kubectl", kubectl)
    monkeypatch.setattr(cluster, "nodes", lambda: ["a-node"] if there else [])
    monkeypatch.setattr(testbed, "down", lambda: removed.append(True))
    monkeypatch.setattr(sys, "argv", ["testbed", "down", *options])
    return testbed.main(), bool(removed)


def records(**statuses: dict[str, Any] | None) -> str:
    items = [{"metadata": {"name": name}, "status": status} for name, status in statuses.items()]
    return json.dumps({"items": items})


@pytest.mark.parametrize("status", [WRITTEN, {**WRITTEN, "quarantinedAt": "2026-01-01T02:00:00Z"}])
def test_it_refuses_while_outputs_are_not_safe(
    status: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert down(monkeypatch, records(one=SAFE, two=status, three=status)) == (1, False)
    said = capsys.readouterr().err
    assert "outputs of three, two are not safe" in said
    assert "make down FORCE=1" in said


def test_it_does_not_ask_where_it_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert down(monkeypatch, records(one=WRITTEN), "--force") == (0, True)


@pytest.mark.parametrize("status", [None, {}, SAFE, {"session": {"endedAt": "2026-01-01T01:00:00Z"}}])
def test_what_has_nothing_to_lose_stops_nobody(status: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert down(monkeypatch, records(one=status)) == (0, True)


SLOW = subprocess.TimeoutExpired("kubectl", 300)
SILENT = [StepError("Unable to connect"), OSError("no kubectl"), SLOW, "no JSON", "{}", "[]"]


@pytest.mark.parametrize("answer", SILENT)
def test_a_cluster_that_does_not_answer_may_have_something_to_lose(
    answer: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert down(monkeypatch, answer) == (1, False)
    said = capsys.readouterr().err
    assert "the cluster's container a-node is there, and its API server does not answer" in said
    assert "USER must act" in said
    assert "make down FORCE=1" in said
    assert down(monkeypatch, answer, "--force") == (0, True)


@pytest.mark.parametrize("answer", SILENT)
def test_where_there_is_no_cluster_nothing_can_be_lost(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert down(monkeypatch, answer, there=False) == (0, True)


def test_a_cluster_without_the_operator_has_nothing_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert down(monkeypatch, None, installed=False) == (0, True)
