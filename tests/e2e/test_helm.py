"""The chart as Helm itself takes it: what it refuses, what it installs from nothing, and when it may go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from testbed import cluster, golang, helm, installation
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import assert_nothing_left

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

IMAGES = ("--set", "operatorImage=o,bufferImage=b,sidecarImage=s")
VERSION = ("--kube-version", golang.KUBERNETES_VERSION)
OPERATOR = ("-n", installation.NAMESPACE)


@pytest.fixture
def operator_again(session: Session) -> Iterator[None]:  # noqa: ARG001 (its own end needs an operator)
    """Have an operator of the manifests afterwards, whatever a test does to it."""
    yield
    helm.forget()
    installation.up()


def status() -> tuple[str, str]:
    """Give the number of the release's last revision, and what Helm thinks of it."""
    found = dict(re.findall(r"^(REVISION|STATUS): (.*)$", helm.helm("status", helm.RELEASE), re.MULTILINE))
    return found["REVISION"], found["STATUS"]


def held() -> list[str]:
    """Name what the operator's finalizers hold."""
    found = json.loads(cluster.kubectl("get", "vrse,rser,vrseclass,rucioconn", "-A", "-o", "json"))["items"]
    ours = [body for body in found if "volatilerse.io/" in str(body["metadata"].get("finalizers"))]
    return [f"{body['kind']} {body['metadata']['name']}" for body in ours]


def gone() -> list[str]:
    """Wait until the operator is gone, and name what it holds all the same."""
    pods = (*OPERATOR, "get", "pods", "-l", "app.kubernetes.io/name=volatile-rse", "-o", "name")
    wait_for("the operator is gone", lambda: not cluster.kubectl(*pods), 60)
    return held()


def test_helm_finds_no_fault_and_the_chart_refuses_what_cannot_be() -> None:
    helm.helm("lint", "--strict", *VERSION, *IMAGES, str(helm.CHART))
    template = ("template", helm.RELEASE, str(helm.CHART), *VERSION)
    with pytest.raises(StepError, match="Image names no image"):
        helm.helm(*template)
    with pytest.raises(StepError, match="must not be the namespace of the release"):
        helm.helm(*template, *IMAGES, "--set", f"buffersNamespace={installation.NAMESPACE}")
    with pytest.raises(StepError, match="/uninstall/leave"):
        helm.helm(*template, *IMAGES, "--set-string", "uninstall.leave=no")
    with pytest.raises(StepError, match="'uninstal' not allowed"):
        helm.helm(*template, *IMAGES, "--set", "uninstal.leave=true")


@pytest.mark.usefixtures("operator_again")
def test_an_uninstall_is_refused_while_a_buffer_is_not_closed_unless_told_otherwise(session: Session) -> None:
    session.request()
    # What the manifests have installed becomes the release's.
    helm.install()
    wait_for("Usable", lambda: session.is_true("Usable"))
    record = session.record()
    name, rse = record["metadata"]["name"], record["spec"]["rseName"]
    stake = f"{name} of {session.namespace}/{session.name}: {rse}, outputs that are not safe"

    with pytest.raises(StepError) as refused:
        helm.helm("uninstall", helm.RELEASE)
    assert stake in str(refused.value)
    assert "buffers are not closed. ADMIN must act" in str(refused.value)
    # Helm takes the release for half gone, until it is rolled back to itself.
    leave = ("upgrade", helm.RELEASE, str(helm.CHART), "--reuse-values", "--set", "uninstall.leave=true")
    with pytest.raises(StepError, match="has no deployed releases"):
        helm.helm(*leave)
    revision, state = status()
    assert state == "uninstalling"
    helm.helm("rollback", helm.RELEASE, revision)
    assert status()[1] == "deployed"
    assert f"RSERecord {name}" in held(), "a refused uninstall let something go"
    assert session.is_true("Usable"), "a refused uninstall did something to the session"

    helm.helm(*leave)
    assert f"{stake}; volume " in helm.helm("uninstall", helm.RELEASE)
    assert gone() == [], "something is held by nobody"

    # Installed from nothing, the operator finds what was left, and brings it to its end.
    helm.install()
    session.delete()
    assert_nothing_left(session.wait_closed())
    kept = helm.helm("uninstall", helm.RELEASE)
    assert f"[Namespace] {installation.BUFFERS}" in kept
    assert gone() == [], "something is held by nobody"
    assert cluster.kubectl("get", "crd/rserecords.volatilerse.io", f"namespace/{installation.BUFFERS}", "-o", "name")
