"""An operator that went before its objects: what is left, and what brings it to its end."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import buffer, clients, cluster, helm, installation, sidecar
from testbed.layout import CHECKOUT
from testbed.sessions import Session, wait_for
from tests.e2e.test_helm import gone, held
from tests.unit.builders.test_injection import container, pod
from volatile_rse.api.injection import GATE

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

PAGE = (CHECKOUT / "docs" / "operations.md").read_text()


@pytest.fixture
def operator_again(session: Session) -> Iterator[None]:  # noqa: ARG001 (its own end needs an operator)
    """Have an operator of the manifests afterwards, whatever a test does to it."""
    yield
    helm.forget()
    installation.up()


def documented(start: str) -> str:
    """Give the commands of the page for admins, from the line that begins so to the end of their block."""
    lines = PAGE[PAGE.index(f"    {start}") :].splitlines()
    return "\n".join(itertools.takewhile(lambda line: not line or line.startswith("    "), lines))


def shell(commands: str, folder: Path) -> str:
    """Run commands as an admin of the testbed's cluster does."""
    program = folder / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, cluster._kubectl()))} "$@"\n')
    program.chmod(0o755)
    found = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], env=found, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install_again(folder: Path) -> None:
    """Install the chart as the page says, with a file of values."""
    values: dict[str, Any] = {}
    for setting in helm.images()[1].split(","):
        path, _, value = setting.partition("=")
        name, _, field = path.partition(".")
        values |= {name: {**values.get(name, {}), field: value} if field else value}
    (folder / "values.yaml").write_text(json.dumps(values))
    here = {"charts/volatile-rse": str(helm.CHART), "values.yaml": str(folder / "values.yaml")}
    words = shlex.split(documented("helm install volatile-rse charts/volatile-rse -n volatile-rse -f"))[1:]
    helm.helm(*(here.get(word, word) for word in words), "--wait", "--timeout", "120s")


@pytest.mark.usefixtures("operator_again")
def test_what_is_held_by_nobody_is_let_go_by_hand(session: Session, tmp_path: Path) -> None:
    session.request()
    wait_for("Usable", lambda: session.is_true("Usable"))
    record = session.record()
    helm.install()
    helm.helm("uninstall", helm.RELEASE, "--no-hooks")
    assert gone()
    said = shell(documented("kubectl get rser -o custom-columns"), tmp_path)
    assert record["spec"]["rseName"] in said
    try:
        shell(documented("export OURS="), tmp_path)
        assert held() == []
        kept = json.loads(cluster.kubectl("get", "rser", record["metadata"]["name"], "-o", "json"))
        assert kept["status"]["phase"] == "Serving", "what is let go is still there, for an operator that comes again"
    finally:
        install_again(tmp_path)


@pytest.fixture
def injected_again(session: Session) -> Iterator[Session]:
    """Have pods get their session by a label afterwards."""
    yield session
    installation.apply(installation.manifests(installation.image(), buffer.image(), sidecar.image()))


@pytest.mark.people
def test_a_pod_that_waits_is_let_go_by_hand(injected_again: Session, tmp_path: Path) -> None:
    session = injected_again
    program = container(image=clients.image(), command=["true"])
    waits = pod("waits", program, session=session.name, uid=10960, schedulingGates=[{"name": GATE}])
    waits["metadata"]["namespace"] = session.namespace
    installation.apply([waits])
    shell(documented("kubectl delete mutatingwebhookconfiguration"), tmp_path)
    where = ("-n", session.namespace, "get", "pod", "waits", "-o", "jsonpath={.spec.schedulingGates}")
    assert cluster.kubectl(*where) == ""
