"""Argo CD, Flux and kstatus say the same of every status, and what docs/gitops.md says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.gitops.tools import CUSTOMIZATIONS, GITOPS, argo_cd, flux, kstatus
from volatile_rse.api.crds import GROUP, VERSION

PAGE = (GITOPS.parent / "docs" / "gitops.md").read_text()
KINDS = ("VolatileRSE", "RucioConnection", "VolatileRSEClass")
FLUX_SEES = {"Terminating": "InProgress"}
"""Flux has no word of its own for an object that is being deleted."""
RECORDED = sorted(path for kind in KINDS for path in (CUSTOMIZATIONS / kind / "testdata").glob("*.yaml"))


def table() -> dict[tuple[str, str], tuple[str, str]]:
    """Read the page's table: kind and phase -> what kstatus and Argo CD say."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            what, _, kubernetes, argo = line.strip("| ").split(" | ")
            kinds, phases = (re.findall(r"`([^`]+)`", words) for words in what.split(": "))
            found |= dict.fromkeys(itertools.product(kinds, phases), (kubernetes.strip("`"), argo.strip("`")))
    return found


def what_is(body: dict[str, Any]) -> str:
    """Name a status as the page does, without the conditions that the tools look at, where there is another word."""
    status = body["status"]
    if "deletionTimestamp" in body["metadata"]:
        return "deleting"
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return "older generation"
    if body["kind"] == "VolatileRSE":
        stalled = any((entry["type"], entry["status"]) == ("Stalled", "True") for entry in status["conditions"])
        return f"{status['phase']}, stalled" if stalled and status["phase"] == "Quarantined" else str(status["phase"])
    if body["kind"] == "RucioConnection":
        why = {entry["type"]: entry["reason"] for entry in status["conditions"]}
        waits = why["Stalled"] == "NotStalled"
        return "reachable" if status["reachable"] else "not reachable" if waits else "not reachable, stalled"
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    return "ready" if ready["status"] == "True" else "not ready"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_of_each_recorded_status_all_tools_say_what_the_page_says(path: Path) -> None:
    body = yaml.safe_load(path.read_text())
    expected = table()[body["kind"], what_is(body)]
    assert (kstatus(body), argo_cd(body)[0]) == expected
    assert flux(body) == FLUX_SEES.get(expected[0], expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_for_argo_cd_are_as_its_own_tests_want_them(kind: str) -> None:
    cases = yaml.safe_load((CUSTOMIZATIONS / kind / "health_test.yaml").read_text())["tests"]
    told = {case["inputPath"]: case["healthStatus"] for case in cases}
    for path in sorted((CUSTOMIZATIONS / kind / "testdata").glob("*.yaml")):
        health, message = argo_cd(yaml.safe_load(path.read_text()))
        assert told.pop(f"testdata/{path.name}", None) == {"status": health, "message": message}, path.name
    assert not told, "there are no such files"


def test_what_people_can_be_shown_was_recorded() -> None:
    recorded = {(body["kind"], what_is(body)) for body in (yaml.safe_load(path.read_text()) for path in RECORDED)}
    assert set(table()) <= recorded


def made(kind: str, *said: tuple[str, str], observed: int = 2, deleting: bool = False) -> dict[str, Any]:
    conditions = [
        {"type": type_, "status": status, "reason": "R", "message": f"m{n}"} for n, (type_, status) in enumerate(said)
    ]
    metadata = {"name": "run", "generation": 2} | ({"deletionTimestamp": "2026-12-01T00:00:00Z"} if deleting else {})
    status = {"observedGeneration": observed, "conditions": conditions}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": {}, "status": status}


STATES = ("True", "False", "Unknown")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_conditions_say_all_tools_say_the_same(kind: str) -> None:
    seen = set()
    argo = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded", "Terminating": "Progressing"}
    for ready, stalled, observed, deleting in itertools.product(STATES, (*STATES, None), (-1, 1, 2), (False, True)):
        others = [("Usable", "True"), ("OutputsSafe", "False"), ("Deleting", "False")]
        said = [("Ready", ready), *others, *([] if stalled is None else [("Stalled", stalled)])]
        for conditions in (said, said[::-1]):
            body = made(kind, *conditions, observed=observed, deleting=deleting)
            health = kstatus(body)
            assert argo_cd(body)[0] == argo[health], body
            assert flux(body) == FLUX_SEES.get(health, health), body
            seen.add(health)
    assert seen == set(argo)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_takes_what_nobody_has_looked_at_for_done(kind: str) -> None:
    body = made(kind, observed=-1)
    del body["status"]["conditions"]
    assert (kstatus(body), argo_cd(body)[0], flux(body)) == ("InProgress", "Progressing", "InProgress")


def test_the_messages_are_those_of_the_conditions() -> None:
    said = ("Deleting", "True"), ("Ready", "False"), ("Stalled", "True")
    assert argo_cd(made("VolatileRSE", *said))[1] == "m2"
    assert argo_cd(made("VolatileRSE", *said[:2]))[1] == "m1"
    assert argo_cd(made("VolatileRSE", *said, deleting=True))[1] == "m0"
    assert argo_cd(made("VolatileRSE", *said[1:], deleting=True))[1] == "Pending deletion"


def test_what_the_page_writes_to_keep_a_session_is_metadata_alone() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
    (body,) = (block for block in blocks if block["kind"] == "VolatileRSE")
    assert body["apiVersion"] == f"{GROUP}/{VERSION}"
    assert set(body) == {"apiVersion", "kind", "metadata"}
    assert body["metadata"]["annotations"] == {
        "argocd.argoproj.io/sync-options": "Prune=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }


def test_the_config_map_of_argo_cd_has_these_scripts() -> None:
    data = yaml.safe_load((GITOPS / "argo-cd" / "argocd-cm.yaml").read_text())["data"]
    expected = {f"resource.customizations.health.{GROUP}_{kind}": kind for kind in KINDS}
    assert data == {key: (CUSTOMIZATIONS / kind / "health.lua").read_text() for key, kind in expected.items()}
