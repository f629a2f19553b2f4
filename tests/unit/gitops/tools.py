"""What each tool of GitOps makes of an object: Argo CD by its own language, kstatus and Flux by their own code."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lupa.lua51
import yaml

from testbed import golang

__all__ = ["CUSTOMIZATIONS", "GITOPS", "argo_cd", "flux", "kstatus"]

GITOPS = Path(__file__).resolve().parents[3] / "gitops"
CUSTOMIZATIONS = GITOPS / "argo-cd" / "resource_customizations" / "volatilerse.io"
_NOT_THERE = ("string", "io", "os", "debug", "package", "math", "coroutine", "require", "dofile", "loadfile", "python")
"""What such a script finds in Lua, and not in Argo CD."""


def kstatus(body: Mapping[str, Any]) -> str:
    """Ask the library kstatus, which knows no kind of ours."""
    return _answers(json.dumps(body))[0]


def flux(body: Mapping[str, Any]) -> str:
    """Ask the evaluator of Flux, with the expressions of its kind."""
    return _answers(json.dumps(body))[1]


@functools.cache
def _answers(line: str) -> tuple[str, str]:
    program = _program()
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(line + "\n")
    program.stdin.flush()
    words = program.stdout.readline().split()
    assert len(words) == 2, f"health (testbed/gitops) ended at {line}: {program.communicate()[1]}"
    return words[0], words[1]


@functools.cache
def _program() -> subprocess.Popen[str]:
    """Start testbed/gitops, which answers line by line until this process ends."""
    checks = yaml.safe_load((GITOPS / "flux" / "health-checks.yaml").read_text())["spec"]["healthCheckExprs"]
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(checks, file)
    pipe = subprocess.PIPE
    return subprocess.Popen([golang.health(), file.name], text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def argo_cd(body: Mapping[str, Any]) -> tuple[str, str]:
    """Run the script of its kind; give health and message."""
    lua = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False)
    there = lua.globals()
    for name in _NOT_THERE:
        there[name] = None
    there["obj"] = lua.table_from(body, recursive=True)
    found = lua.execute((CUSTOMIZATIONS / body["kind"] / "health.lua").read_text())
    return found["status"], found["message"]
