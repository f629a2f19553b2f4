"""What a hub imports: a distribution of its own, and values that bring it into the chart of a hub."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.api.agent import DAVS_PORT, ROOT_PORT
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import session_name
from volatile_rse.jupyterhub import pods, values, volatilerses

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "operator" / "volatile_rse" / "jupyterhub").glob("*.py"))
EXAMPLE = ROOT / "examples" / "jupyterhub"
OF_A_HUB = {"jupyterhub", "kubespawner", "kubernetes_asyncio", "tornado", "traitlets", "volatile_rse"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_imports_what_a_hub_has(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in found} <= OF_A_HUB | set(sys.stdlib_module_names)


def test_the_wheel_holds_it_and_names_the_spawner(tmp_path: Path) -> None:
    hatchling = str(Path(sysconfig.get_path("scripts")) / "hatchling")
    project = ROOT / "distributions" / "jupyterhub"
    subprocess.run([hatchling, "build", "-t", "wheel", "-d", tmp_path], check=True, cwd=project, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        code = {name for name in archive.namelist() if ".dist-info/" not in name}
        (entries,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        said = archive.read(entries).decode()
    assert code == {f"volatile_rse/jupyterhub/{path.name}" for path in SOURCES}
    assert "[jupyterhub.spawners]\nvolatile-rse = volatile_rse.jupyterhub.spawner:VolatileRSESpawner" in said


def test_all_distributions_have_one_version() -> None:
    folders = (ROOT, *(path.parent for path in ROOT.glob("distributions/*/pyproject.toml")))
    versions = {tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"] for folder in folders}
    assert len(versions) == 1


def test_the_committed_values_are_of_this_code() -> None:
    assert (EXAMPLE / "values.yaml").read_text() == values.values(), "run `make generate`"
    told: dict[str, Any] = yaml.safe_load(values.values())
    files = {Path(file["mountPath"]): file["stringData"] for file in told["hub"]["extraFiles"].values()}
    own = {path.name: path.read_text() for path in SOURCES if path.name != "values.py"}
    assert {path.name: text for path, text in files.items()} == own
    assert {path.parent for path in files} == {Path(values.FOLDER) / "volatile_rse" / "jupyterhub"}
    assert all("\t" not in text for text in files.values())


def test_servers_reach_the_ports_of_buffers() -> None:
    (rule,) = yaml.safe_load(values.values())["singleuser"]["networkPolicy"]["egress"]
    assert [entry["port"] for entry in rule["ports"]] == [ROOT_PORT, DAVS_PORT]
    operator = (ROOT / "manifests" / "operator.yaml").read_text()
    names = {body["metadata"]["name"] for body in yaml.safe_load_all(operator) if body["kind"] == "Namespace"}
    assert rule["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] in names


def test_it_says_what_the_operator_says() -> None:
    assert volatilerses.SESSION_LABEL == SESSION_LABEL
    added = pods.additions("run")
    assert added["labels"] == {SESSION_LABEL: "run"}
    assert added["volumes"][0]["configMap"]["name"] == session_name("run")
