"""What PyPI is told of each distribution: read from its wheel, whole and valid."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.metadata import Metadata
from trove_classifiers import classifiers, deprecated_classifiers

ROOT = Path(__file__).parents[2]
PROJECTS = {
    "volatile-rse": ROOT,
    "volatile-rse-session": ROOT / "distributions" / "session",
    "volatile-rse-jupyterhub": ROOT / "distributions" / "jupyterhub",
}
PYTHONS = re.compile(r"Programming Language :: Python :: (3\.\d+)")
HOME = re.compile(r"org\.opencontainers\.image\.(?:source|url)=\"?([^\"\s]+)")


def test_each_distribution_is_looked_at() -> None:
    found = {path.parent for path in (ROOT / "distributions").glob("*/pyproject.toml")}
    assert found | {ROOT} == set(PROJECTS.values())


@pytest.fixture(scope="module", params=PROJECTS)
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder, project = tmp_path_factory.mktemp("dist"), PROJECTS[request.param]
    hatchling = str(Path(sysconfig.get_path("scripts")) / "hatchling")
    subprocess.run([hatchling, "build", "-t", "wheel", "-d", folder], check=True, cwd=project, capture_output=True)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def read(wheel: zipfile.ZipFile, end: str) -> bytes:
    (name,) = (name for name in wheel.namelist() if name.endswith(end))
    return wheel.read(name)


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Metadata:
    """Read it as an index does: what is not valid is an error."""
    return Metadata.from_email(read(wheel, ".dist-info/METADATA"), validate=True)


def test_it_says_what_it_is_for_whom_and_by_whom(metadata: Metadata) -> None:
    project = PROJECTS[metadata.name]
    assert metadata.summary
    assert len(metadata.summary) < 120
    assert metadata.author == "The developers of volatile-rse"
    assert metadata.keywords
    assert list(metadata.keywords) == sorted(set(metadata.keywords))
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description == (project / "README.md").read_text()


def test_its_licence_is_told_and_comes_along(metadata: Metadata, wheel: zipfile.ZipFile) -> None:
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.license_files == ["LICENSE"]
    assert read(wheel, ".dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_its_classifiers_are_known_and_true(metadata: Metadata) -> None:
    said = metadata.classifiers or []
    assert len(said) == len(set(said))
    assert set(said) <= classifiers - deprecated_classifiers.keys()
    for topic in ("Development Status", "Intended Audience", "Operating System", "Topic"):
        assert [entry for entry in said if entry.startswith(f"{topic} :: ")], f"nothing of {topic}"
    assert not [entry for entry in said if entry.startswith("License ::")], "the expression says it"
    pythons = [found[1] for entry in said if (found := PYTHONS.fullmatch(entry))]
    assert all(version in (metadata.requires_python or "") for version in pythons)
    assert str(metadata.requires_python) == f">={min(pythons, key=lambda version: int(version.partition('.')[2]))}"


def homes() -> dict[str, list[str]]:
    """Give what each place says of the home of the repository."""
    found: dict[str, list[str]] = {}
    for name, project in PROJECTS.items():
        said: dict[str, Any] = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        found[name] = sorted(said.get("urls", {}).values())
    chart = yaml.safe_load((ROOT / "charts" / "volatile-rse" / "Chart.yaml").read_text())
    found["chart"] = [*chart.get("sources", []), *([chart["home"]] if "home" in chart else [])]
    for path in (ROOT / "images").glob("*/Dockerfile"):
        found[path.parent.name] = HOME.findall(path.read_text())
    return found


def test_the_home_of_the_repository_is_named_everywhere_or_nowhere() -> None:
    """There is none yet: none is invented."""
    assert len({bool(said) for said in homes().values()}) == 1, homes()
