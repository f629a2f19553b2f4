"""What each tool of GitOps makes of an object: Argo CD and Flux by their own languages, kstatus by its rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lupa.lua51
import yaml
from cel_expr_python import cel

__all__ = ["GITOPS", "argo_cd", "flux", "kstatus"]

GITOPS = Path(__file__).resolve().parents[3] / "gitops"
CUSTOMIZATIONS = GITOPS / "argo-cd" / "resource_customizations" / "volatilerse.io"
_NOT_THERE = ("string", "io", "os", "debug", "package", "math", "coroutine", "require", "dofile", "loadfile", "python")
"""What such a script finds in Lua, and not in Argo CD."""


def kstatus(body: Mapping[str, Any]) -> str:
    """Apply the rules that kstatus has for kinds that it does not know."""
    status = body.get("status") or {}
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", body["metadata"]["generation"]) != body["metadata"]["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or ()
    for condition in conditions:
        if (condition["type"], condition["status"]) == ("Reconciling", "True"):
            return "InProgress"
        if (condition["type"], condition["status"]) == ("Stalled", "True"):
            return "Failed"
    for condition in conditions:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"


def argo_cd(body: Mapping[str, Any]) -> tuple[str, str]:
    """Run the script of its kind; give health and message."""
    lua = lupa.lua51.LuaRuntime(register_eval=False, register_builtins=False)
    there = lua.globals()
    for name in _NOT_THERE:
        there[name] = None
    there["obj"] = lua.table_from(body, recursive=True)
    found = lua.execute((CUSTOMIZATIONS / body["kind"] / "health.lua").read_text())
    return found["status"], found["message"]


def flux(body: Mapping[str, Any]) -> str:
    """Evaluate the expressions of its kind as the controller does."""
    checks = yaml.safe_load((GITOPS / "flux" / "health-checks.yaml").read_text())["spec"]["healthCheckExprs"]
    (check,) = (check for check in checks if (check["apiVersion"], check["kind"]) == (body["apiVersion"], body["kind"]))
    observed = (body.get("status") or {}).get("observedGeneration")
    if observed not in {None, body["metadata"]["generation"]}:
        return "InProgress"
    env = cel.NewEnv(variables=dict.fromkeys(body, cel.Type.DYN))
    for name, health in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        value = env.compile(check[name], disable_check=True).eval(data=body)
        assert value.type() == cel.Type.BOOL, f"{name} of {body['kind']}: {value.value()}"
        if value.value():
            return health
    return "InProgress"
