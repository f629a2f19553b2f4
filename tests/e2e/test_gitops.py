"""What tools of GitOps do, done with kubectl: apply twice, look at the health, patch their own configuration."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import buffer, cluster, installation, sidecar
from testbed.layout import CHECKOUT
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, output
from tests.unit.gitops.tools import argo_cd, flux, kstatus

pytestmark = [pytest.mark.cluster, pytest.mark.grid]

PAGE = (CHECKOUT / "docs" / "gitops.md").read_text()


def commands() -> list[list[str]]:
    """Read the page's commands."""
    lines = (line.strip() for line in PAGE.splitlines() if line.startswith("    kubectl "))
    return [shlex.split(line) for line in lines]


def assert_applied_again_it_changes_nothing(bodies: list[dict[str, Any]]) -> None:
    """Ask as Argo CD and Flux do, by a server-side apply that is a dry run, and as kubectl does without it."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies})
    for how in (("--server-side", "--force-conflicts", "--field-manager=kubectl"), ()):
        # It fails, and its message has the difference, if there is one.
        assert cluster.kubectl("diff", *how, "-f", "-", stdin=text) == ""


MANIFESTS = sorted(path for path in (CHECKOUT / "manifests").glob("*.yaml") if path.name != "kustomization.yaml")


def unlike(said: Any, kept: Any, path: str = "") -> list[str]:
    """Tell where an object that is kept says otherwise than who wrote it; what is only filled in is no difference."""
    if isinstance(said, dict) and isinstance(kept, dict):
        return [wrong for key, value in said.items() for wrong in unlike(value, kept.get(key), f"{path}.{key}")]
    if isinstance(said, list) and isinstance(kept, list) and len(said) == len(kept):
        pairs = enumerate(zip(said, kept, strict=True))
        return [wrong for at, (one, other) in pairs for wrong in unlike(one, other, f"{path}[{at}]")]
    return [] if said == kept else [f"{path}: {said!r} becomes {kept!r}"]


def assert_kept_as_it_is(path: Path, namespace: str) -> None:
    """Have nothing in a manifest that the API server keeps otherwise, also in one that is not installed here.

    It would be a difference for ever to tools that compare the two.
    """
    where = ("-n", namespace) if path.stem == "tenant" else ()
    how = ("--server-side", "--dry-run=server", "--force-conflicts", "--field-manager=gitops")
    found = json.loads(cluster.kubectl(*where, "apply", *how, "-f", str(path), "-o", "json"))
    pairs = zip(yaml.safe_load_all(path.read_text()), found.get("items", [found]), strict=True)
    for body, kept in pairs:
        assert not unlike(body, kept, f"{path.name}: {body['kind']} {body['metadata']['name']}")


@pytest.fixture
def connections(session: Session) -> Iterator[dict[str, str]]:
    """Have a connection whose server does not answer, and one without a login; give their names and what they are."""
    good = json.loads(cluster.kubectl("get", "rucioconnection", installation.CONNECTION, "-o", "json"))
    expected = {f"{session.namespace}-away": "InProgress", f"{session.namespace}-shut": "Failed"}
    away = "https://vrse-rucio:1"
    login = installation.login(f"{session.namespace}-away")
    login["stringData"]["server"] = away
    bodies = [
        {
            "apiVersion": good["apiVersion"],
            "kind": good["kind"],
            "metadata": {"name": name},
            "spec": {**good["spec"], "server": away, "userpass": {"secretName": name}},
        }
        for name in expected
    ]
    installation.apply([login, *bodies])
    yield expected
    cluster.kubectl("delete", "rucioconnection", *expected, "--wait=false")
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", f"{session.namespace}-away")


def seen(name: str) -> dict[str, Any] | None:
    """Give a connection once the operator has looked at it."""
    body = json.loads(cluster.kubectl("get", "rucioconnection", name, "-o", "json"))
    return body if body.get("status", {}).get("conditions") else None


def test_a_second_apply_changes_nothing_and_the_health_is_that_of_the_page(
    session: Session, connections: dict[str, str]
) -> None:
    example = {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "VolatileRSE",
        "metadata": {"name": session.name, "namespace": session.namespace},
        "spec": {
            "className": session.class_name,
            "account": "alice",
            "capacity": "1024Mi",
            "session": {"endGrace": "2s", "ttl": "30m"},
            "inputs": [NANO],
            "outputs": [output("gitops_twice")],
        },
    }
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    bodies = [installation.class_of(session.namespace, grants), example]
    kinds = [json.loads(path.read_text()) for path in sorted((CHECKOUT / "crds").glob("*.json"))]
    fixed = installation.manifests(installation.image(), buffer.image(), sidecar.image())
    for path in MANIFESTS:
        assert_kept_as_it_is(path, session.namespace)
    installation.apply([example])
    assert_applied_again_it_changes_nothing([*bodies, *kinds, *fixed])
    wait_for("Usable", lambda: session.is_true("Usable"))
    body = session.body() or {}
    assert (kstatus(body), argo_cd(body)[0], flux(body)) == ("Current", "Healthy", "Current")
    assert_applied_again_it_changes_nothing([*bodies, *kinds, *fixed])
    said = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded"}
    for name, health in {installation.CONNECTION: "Current", **connections}.items():
        # The sweep looks at all of them each minute.
        connection = wait_for(f"a look at {name}", partial(seen, name), 120)
        assert (kstatus(connection), argo_cd(connection)[0], flux(connection)) == (health, said[health], health)
    session.delete()
    body = session.body() or body
    assert (kstatus(body), argo_cd(body)[0], flux(body)) == ("Terminating", "Progressing", "InProgress")


@pytest.mark.long
def test_what_was_given_up_has_failed_and_what_it_uses_stays_until_it_is_closed(session: Session) -> None:
    good = json.loads(cluster.kubectl("get", "rucioconnection", installation.CONNECTION, "-o", "json"))
    own = {key: good[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": session.namespace}}
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    installation.apply([own, installation.class_of(session.namespace, grants, connectionName=session.namespace)])

    def connection() -> dict[str, Any]:
        text = cluster.kubectl("get", "rucioconnection", session.namespace, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else {}

    missing = {"name": "in", "did": "user.alice:there_is_none", "deadline": "20s", "onDeadline": "Fail"}
    session.request(inputs=[missing])
    wait_for("the connection is in use", lambda: connection()["metadata"].get("finalizers"))
    cluster.kubectl("delete", "rucioconnection", session.namespace, "--wait=false")
    body = connection()
    assert (kstatus(body), argo_cd(body)[0], flux(body)) == ("Terminating", "Progressing", "InProgress")

    wait_for("it is given up", lambda: session.status().get("phase") == "Failed", 120)
    body = session.body() or {}
    assert (kstatus(body), argo_cd(body)[0], flux(body)) == ("Failed", "Degraded", "Failed")
    session.wait_closed()
    wait_for("the connection is let go", lambda: not connection())


OBJECTS: dict[str, dict[str, Any]] = {
    "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"url": "https://argocd.example.org"}},
    "kustomization": {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "spec": {"path": "./analysis", "prune": True},
    },
}


@pytest.mark.parametrize("argv", [argv for argv in commands() if "patch" in argv], ids=lambda argv: argv[2])
def test_a_patch_of_the_page_adds_the_health_and_keeps_the_rest(argv: list[str], tmp_path: Path) -> None:
    """The same command, on a file instead of an object of a cluster that has the tool."""
    _, _, namespace, _, kind, name, *options = argv
    before = {**OBJECTS[kind], "metadata": {"name": name, "namespace": namespace}}
    (tmp_path / "object.json").write_text(json.dumps(before))
    local = ["kubectl", "patch", "--local", "-f", str(tmp_path / "object.json"), *options, "-o", "json"]
    done = subprocess.run(local, check=True, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    after = json.loads(done.stdout)
    field = "data" if kind == "configmap" else "spec"
    added = {key for key in after[field] if key not in before[field]}
    if kind == "configmap":
        assert {re.sub(".*_", "", key) for key in added} == {"VolatileRSE", "RucioConnection", "VolatileRSEClass"}
    else:
        assert added == {"healthCheckExprs"}
    assert {key: value for key, value in after[field].items() if key not in added} == before[field]
    assert after["metadata"] == before["metadata"]


def test_a_pipeline_can_wait_for_safe_outputs_as_the_page_says(session: Session) -> None:
    (argv,) = (argv for argv in commands() if argv[1] == "wait")
    session.request(outputs=[output("gitops_wait")], session={"endGrace": "2s", "startTimeout": "1s", "ttl": "30m"})
    given = [word.replace("vrse/dimuon", f"vrse/{session.name}").replace("8h", "200s") for word in argv[1:]]
    said = cluster.kubectl(*(session.namespace if word == "alice" else word for word in given))
    assert "condition met" in said


def test_the_overlay_of_the_page_names_all_images(tmp_path: Path) -> None:
    (overlay,) = re.findall(r"## Kustomize\n.*?```yaml\n(.*?)```", PAGE, re.DOTALL)
    copy = "\n".join(re.findall(r"^    ((?:mkdir|sed) .*)$", PAGE, re.MULTILINE))
    shutil.copytree(CHECKOUT / "manifests", tmp_path / "manifests")
    subprocess.run(["sh", "-ec", copy], check=True, cwd=tmp_path, timeout=60)
    (tmp_path / "overlay" / "kustomization.yaml").write_text(overlay)
    text = cluster.kubectl("kustomize", str(tmp_path / "overlay"))
    assert ":latest" not in text
    bodies = {(body["kind"], body["metadata"]["name"]): body for body in yaml.safe_load_all(text)}
    (container,) = bodies["Deployment", "volatile-rse"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.org/volatile-rse/operator:0.1.0"
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["VOLATILE_RSE_BUFFER_IMAGE"] == "registry.example.org/volatile-rse/buffer:0.1.0"
    assert environment["VOLATILE_RSE_NAME"] == "volatile-rse"
    assert "VOLATILE_RSE_NAMESPACE" in environment
    assert ("MutatingWebhookConfiguration", "volatile-rse-session") in bodies
    (webhook,) = bodies["Deployment", "volatile-rse-webhook"]["spec"]["template"]["spec"]["containers"]
    assert webhook["image"] == container["image"]
    sidecar = {entry["name"]: entry.get("value") for entry in webhook["env"]}["VOLATILE_RSE_SIDECAR_IMAGE"]
    assert sidecar == "registry.example.org/volatile-rse/sidecar:0.1.0"
