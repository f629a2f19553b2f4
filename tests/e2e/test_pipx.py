"""The command line as the page has it installed: by pipx, from the wheel, with the libraries that are locked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed import cluster, installation
from testbed.layout import CHECKOUT, KUBECONFIG
from tests.pages import DOCS, fences

pytestmark = [pytest.mark.people, pytest.mark.slow, pytest.mark.cluster]

PIPX = "pipx==1.18.4"
(INSTALL,) = fences((DOCS / "cli.md").read_text(), "sh")
LOCK = CHECKOUT / "requirements" / "cli.txt"
VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
LIST = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


@dataclass(frozen=True, slots=True)
class Installed:
    """A user's home, in which pipx has installed it."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=self.folder, env=self.environment | more, capture_output=True, text=True, check=False, timeout=300
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("home")
    venv.create(folder / "tools", with_pip=True)
    subprocess.run([folder / "tools" / "bin" / "pip", "install", "--quiet", PIPX], check=True, capture_output=True)
    programs = folder / "tools" / "bin"
    (programs / "kubectl").symlink_to(cluster._kubectl()[0])
    # As `make wheels` builds it, beside what other tests build.
    hatchling = Path(sysconfig.get_path("scripts")) / "hatchling"
    build = f'#!/bin/sh\ntest "$*" = wheels\ncd {CHECKOUT} && exec {hatchling} build -t wheel -d {folder}/dist\n'
    (programs / "make").write_text(build)
    (programs / "make").chmod(0o755)
    (folder / "requirements").symlink_to(LOCK.parent)
    own = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin"), "PIPX_MAN_DIR": str(folder / "man")}
    paths = os.pathsep.join((str(folder / "bin"), str(programs), os.environ["PATH"]))
    # Not what this process's own virtual environment or source has.
    plain = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment = {**plain, **own, "PATH": paths, "KUBECONFIG": str(KUBECONFIG), "PIPX_DEFAULT_PYTHON": sys.executable}
    made = Installed(folder, environment)
    done = made("bash", "-euxo", "pipefail", "-c", INSTALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_it_has_the_libraries_that_are_locked_and_no_others(installed: Installed) -> None:
    python = str(installed.folder / "pipx" / "venvs" / "volatile-rse" / "bin" / "python")
    found = {_name(name): version for name, version in json.loads(installed(python, "-c", LIST).stdout).items()}
    locked = {_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)", LOCK.read_text(), re.MULTILINE)}
    assert found.pop("volatile-rse") == VERSION
    assert {name: version for name, version in found.items() if name not in {"pip", "setuptools"}} == {
        name: version for name, version in locked.items() if name in found
    }
    assert {"click", "kubernetes", "pydantic", "pyyaml", "rich", "websocket-client"} <= found.keys()


def _name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_library_that_is_not_the_locked_one_is_refused(installed: Installed) -> None:
    (last,) = INSTALL.splitlines()[-1:]
    other = installed.folder / "other.txt"
    other.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", LOCK.read_text()))
    line = last.replace("$PWD/requirements/cli.txt", str(other)).replace("install", "install --force-reinstall")
    refused = installed("bash", "-c", line)
    assert refused.returncode != 0
    assert "hash" in (refused.stdout + refused.stderr).lower()


def test_it_is_there_under_both_names(installed: Installed) -> None:
    assert installed("vrse", "--version").stdout == f"vrse, version {VERSION}\n"
    told = installed("kubectl", "volatile-rse", "--help")
    assert told.stdout.startswith("Usage: kubectl volatile-rse "), told.stderr
    assert "doctor" in told.stdout


def test_a_shell_completes_it(installed: Installed) -> None:
    script = 'eval "$(vrse completion bash)"; complete -p vrse; COMP_WORDS=(vrse sta); COMP_CWORD=1; '
    done = installed("bash", "-euc", f'{script} _vrse_completion vrse; echo "${{COMPREPLY[@]}}"')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "status"


def test_kubectl_completes_it(installed: Installed) -> None:
    done = installed("kubectl", "__complete", "volatile-rse", "admin", "or")
    assert done.stdout.splitlines()[0].split("\t")[0] == "orphans", done.stderr


def test_it_works_on_a_cluster(installed: Installed) -> None:
    installation.up()
    listed = installed("vrse", "list", "-A", "-o", "json")
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout)["kind"] == "List"
    # By a connection of another kind than all else.
    orphans = installed("kubectl", "volatile-rse", "admin", "orphans", "-o", "json")
    assert orphans.returncode == 0, orphans.stderr
    assert isinstance(json.loads(orphans.stdout)["orphans"], list)
