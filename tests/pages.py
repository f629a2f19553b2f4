"""Commands that the pages show, run as a reader runs them: in their order, in one shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed import cluster
from testbed.layout import CHECKOUT, KUBECONFIG

DOCS = CHECKOUT / "docs"
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def fences(text: str, language: str) -> list[str]:
    """Give the blocks of a page in a language, as they are written."""
    return [content for _, found, content in _FENCE.findall(text) if found == language]


def script(page: str, **values: str) -> str:
    """Give all commands of a page, with values of the reader's own in place of those that it exports.

    Blocks of ``bash`` are done on another machine than those of ``sh``: the program ``elsewhere`` reads them.
    """
    blocks = [(language, text) for _, language, text in _FENCE.findall((DOCS / page).read_text())]
    there = {"sh": "{}", "bash": "elsewhere <<'ELSEWHERE'\n{}ELSEWHERE\n"}
    commands = "\n".join(there[language].replace("{}", text) for language, text in blocks if language in there)
    for name, value in values.items():
        exported = re.findall(rf"^export .*\b{name}=\S+", commands, re.MULTILINE)
        assert len(exported) == 1, f"{page} exports {name} {len(exported)} times"
        commands = commands.replace(exported[0], re.sub(r"\S+$", "", exported[0]) + f"{name}={shlex.quote(value)}")
    return commands


def run(commands: str, folder: Path, programs: Mapping[str, str], seconds: int) -> str:
    """Run commands in the root of the clone, on the testbed's cluster; give what they print.

    Parameters
    ----------
    programs
        Name -> command that stands for it, besides kubectl and what is on PATH.
    """
    done = tried(commands, folder, programs, seconds)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def tried(commands: str, folder: Path, programs: Mapping[str, str], seconds: int) -> subprocess.CompletedProcess[str]:
    """Do the same with commands that may fail."""
    cluster.guard()
    configuration = folder / "kubeconfig"
    # The reader's own: `kubectl config` writes into it.
    configuration.write_text(KUBECONFIG.read_text())
    for name, command in {"kubectl": shlex.quote(cluster._kubectl()[0]), **programs}.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        path.chmod(0o755)
    environment = {
        **os.environ, "KUBECONFIG": str(configuration), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    return subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=seconds,
    )  # fmt: skip
