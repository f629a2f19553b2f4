"""What is said of versions is what the tests run with, and what is released says the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from trove_classifiers import classifiers

from testbed import golang, helm

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "support.md").read_text()
DISTRIBUTIONS = (
    "pyproject.toml",
    *(str(path.relative_to(ROOT)) for path in ROOT.glob("distributions/*/pyproject.toml")),
)
IMAGES = tuple(f"images/{name}/Dockerfile" for name in ("operator", "buffer", "sidecar"))
LABELS = {"title", "description", "licenses", "vendor", "version", "revision"}


def found(path: str, pattern: str) -> str:
    """Give the one thing of a file that stands where a pattern says."""
    (match,) = set(re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE))
    return str(match)


VERSIONS = {
    "Kubernetes": golang.KUBERNETES_VERSION.removeprefix("v"),
    "Helm": helm._HELM[1].removeprefix("v"),
    "Flux's controllers": found(
        "testbed/gitops/go.mod", r"^\tgithub\.com/fluxcd/(?:source|kustomize)-controller v(\S+)$"
    ),
    "kstatus": found("testbed/gitops/go.mod", r"^\tsigs\.k8s\.io/cli-utils v(\S+)$"),
    "Rucio server": found("testbed/images/rucio/server.in", r"^rucio==(\S+)$"),
    "Rucio client of the operator": found("requirements/operator.txt", r"^rucio-clients==(\S+)"),
    "XRootD of a buffer": found("images/buffer/Dockerfile", r"^ARG VERSION=(\S+)$"),
    "XRootD of the sites": found("images/buffer/Dockerfile", r"^ARG VERSION=(\S+)$"),
    "ROOT in a session": found("images/session/requirements-root.txt", r"^root==(\S+)") + " of PyPI",
    "JupyterHub": found("testbed/images/hub/requirements.txt", r"^jupyterhub==(\S+)"),
    "Dask": found("testbed/images/analysis/requirements.txt", r"^distributed==(\S+)"),
    "dask-kubernetes": found("testbed/images/analysis/requirements.txt", r"^dask-kubernetes==(\S+)"),
    "coffea": found("testbed/images/analysis/requirements.txt", r"^coffea==(\S+)"),
    "KubeSpawner": found("testbed/images/hub/requirements.txt", r"^jupyterhub-kubespawner==(\S+)"),
    "rucio-jupyterlab": found("testbed/images/lab/requirements.txt", r"^rucio-jupyterlab==(\S+)"),
    "uproot in a session": found("images/session/requirements-notebook.txt", r"^uproot==(\S+)"),
}


def project(path: str) -> dict[str, Any]:
    body: dict[str, Any] = tomllib.loads((ROOT / path).read_text())["project"]
    return body


@pytest.mark.parametrize("what", VERSIONS)
def test_the_version_of_the_table_is_that_of_the_tests(what: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {what} |"))
    assert row.split("|")[2].strip() == VERSIONS[what]


def test_all_that_is_released_has_one_version() -> None:
    version = project("pyproject.toml")["version"]
    chart = yaml.safe_load((ROOT / "charts/volatile-rse/Chart.yaml").read_text())
    # Helm's has a hyphen before what is no release yet.
    told = {project(path)["version"] for path in DISTRIBUTIONS} | {str(chart["appVersion"])}
    assert told == {version}
    assert chart["version"].replace("-", ".") == version
    assert {found(path, r"^ARG RELEASE=(\S+)$") for path in IMAGES} == {version.partition(".dev")[0]}


def test_the_changelog_begins_with_what_is_released_or_comes_next() -> None:
    version = project("pyproject.toml")["version"]
    (first, *_) = re.findall(
        r"^## (\S+)(?: \((\d{4}-\d\d-\d\d)\))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert first[0] == "Unreleased" or first == (version, first[1] or "a day")


@pytest.mark.parametrize("path", DISTRIBUTIONS)
def test_an_index_can_tell_what_a_distribution_is(path: str) -> None:
    said = project(path)
    assert {"description", "readme", "license", "authors", "keywords", "requires-python"} <= set(said)
    assert (ROOT / path).with_name(said["readme"]).is_file()
    assert set(said["classifiers"]) <= classifiers


@pytest.mark.parametrize("path", IMAGES)
def test_an_image_says_what_it_is(path: str) -> None:
    text = (ROOT / path).read_text()
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", text)) == LABELS
    # Above them nothing is built anew for another release.
    assert text.index("ARG RELEASE") > text.rindex("\nRUN ")
