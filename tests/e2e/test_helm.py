"""The chart as Helm itself takes it: what it refuses, what it installs from nothing, and when it may go."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import cluster, golang, helm, installation, rendering
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import assert_nothing_left

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

IMAGES = ("--set", "image.repository=o,bufferImage.repository=b,sidecarImage.repository=s")
VERSION = ("--kube-version", golang.KUBERNETES_VERSION)
OPERATOR = ("-n", installation.NAMESPACE)


@pytest.fixture
def operator_again(session: Session) -> Iterator[None]:  # noqa: ARG001 (its own end needs an operator)
    """Have an operator of the manifests afterwards, whatever a test does to it."""
    yield
    helm.forget()
    installation.up()


def commands_that_leave_behind() -> list[list[str]]:
    """Give the three that the page for admins has: back, leave, and away."""
    page = (CHECKOUT / "docs" / "operations.md").read_text().split("### Removing the operator\n", 1)[1]
    (block,) = re.findall(r"^ +helm rollback .*\n.*\n.*\n", page, re.MULTILINE)
    chart = str(helm.CHART.relative_to(CHECKOUT))
    lines = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    return [[str(helm.CHART) if word == chart else word for word in line] for line in lines]


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


def test_the_manifests_and_the_base_of_kustomize_are_what_the_chart_renders() -> None:
    for name, text in rendering.rendered().items():
        assert (rendering.MANIFESTS / name).read_text() == text, f"{name}: run `make generate`"
    base = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(rendering.MANIFESTS))))
    names = yaml.safe_load((rendering.MANIFESTS / "kustomization.yaml").read_text())["resources"]
    files = [(rendering.MANIFESTS / name).read_text() for name in names]
    installed = [body for text in files for body in yaml.safe_load_all(text)]

    def ordered(bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(
            bodies, key=lambda body: (body["kind"], str(body["metadata"].get("namespace")), body["metadata"]["name"])
        )

    assert ordered(base) == ordered(installed)


def test_helm_finds_no_fault_and_the_chart_refuses_what_cannot_be() -> None:
    helm.helm("lint", "--strict", *VERSION, *IMAGES, str(helm.CHART))
    template = ("template", helm.RELEASE, str(helm.CHART), *VERSION)
    with pytest.raises(StepError, match=r"mage\.repository names no image"):
        helm.helm(*template)
    with pytest.raises(StepError, match="must not be the namespace of the release"):
        helm.helm(*template, *IMAGES, "--set", f"buffersNamespace={installation.NAMESPACE}")
    with pytest.raises(StepError, match="/uninstall/leave"):
        helm.helm(*template, *IMAGES, "--set-string", "uninstall.leave=no")
    with pytest.raises(StepError, match="'uninstal' not allowed"):
        helm.helm(*template, *IMAGES, "--set", "uninstal.leave=true")


def older(folder: Path) -> Path:
    """Give a chart as of a version before, whose kind has a field less, and whose operator is less loud."""
    chart = folder / "chart"
    shutil.copytree(helm.CHART, chart)
    for path, said, instead in (
        ("Chart.yaml", r"(?m)^version: .*$", "version: 0.0.9"),
        ("values.yaml", r"(?m)^  level: INFO$", "  level: WARNING"),
        # The first kind is VolatileRSE; a field of one line and its description.
        ("templates/crds.yaml", r"(?m)^( +)ttlAfterFinished:\n(?:\1 +.*\n)+", ""),
    ):
        text, found = re.subn(said, instead, (chart / path).read_text(), count=1)
        assert found, path
        (chart / path).write_text(text)
    return chart


def knows_the_field() -> bool:
    where = "jsonpath={.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties.ttlAfterFinished.type}"
    return cluster.kubectl("get", "crd", "volatilerses.volatilerse.io", "-o", where) == "string"


def uid_of(*pod: str) -> str:
    return cluster.kubectl("-n", *pod, "-o", "jsonpath={.items[0].metadata.uid}")


@pytest.mark.usefixtures("operator_again")
def test_a_session_goes_on_through_an_upgrade_and_an_uninstall_is_refused_unless_told_otherwise(
    session: Session, tmp_path: Path
) -> None:
    session.request()
    # What the manifests have installed becomes the release's.
    helm.install(older(tmp_path))
    assert not knows_the_field()
    wait_for("Usable", lambda: session.is_true("Usable"))
    record = session.record()
    name, rse = record["metadata"]["name"], record["spec"]["rseName"]
    operator = (installation.NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=volatile-rse")
    storage = (installation.BUFFERS, "get", "pods", "-l", f"volatilerse.io/record={record['spec']['recordId']}")
    before = uid_of(*operator), uid_of(*storage)

    helm.helm("upgrade", helm.RELEASE, str(helm.CHART), "--wait", "--timeout", "120s", *helm.images())
    assert knows_the_field(), "an upgrade left the kinds as they were"
    wait_for("the older operator is gone", lambda: uid_of(*operator) != before[0], 60)
    assert uid_of(*storage) == before[1], "an upgrade replaced a storage pod that serves"
    assert "Phase:          Succeeded" in helm.helm("test", helm.RELEASE)
    assert session.is_true("Usable")
    stake = f"{name} of {session.namespace}/{session.name}: {rse}, outputs that are not safe"

    with pytest.raises(StepError) as refused:
        helm.helm("uninstall", helm.RELEASE)
    assert stake in str(refused.value)
    assert "buffers are not closed. ADMIN must act" in str(refused.value)
    assert stake in cluster.kubectl(*OPERATOR, "logs", "job/volatile-rse-uninstall")
    # Helm takes the release for half gone, until it is rolled back to itself.
    back, leave, away = commands_that_leave_behind()
    with pytest.raises(StepError, match="has no deployed releases"):
        helm.helm(*leave)
    revision, state = status()
    assert state == "uninstalling"
    helm.helm(*(revision if word == "REVISION" else word for word in back))
    assert status()[1] == "deployed"
    assert f"RSERecord {name}" in held(), "a refused uninstall let something go"
    assert session.is_true("Usable"), "a refused uninstall did something to the session"

    helm.helm(*leave)
    assert f"{stake}; volume " in helm.helm(*away)
    assert gone() == [], "something is held by nobody"

    # Installed from nothing, the operator finds what was left, and brings it to its end.
    helm.install()
    session.delete()
    assert_nothing_left(session.wait_closed())
    kept = helm.helm("uninstall", helm.RELEASE)
    assert f"[Namespace] {installation.BUFFERS}" in kept
    assert "[CustomResourceDefinition] rserecords.volatilerse.io" in kept
    assert gone() == [], "something is held by nobody"
    assert cluster.kubectl("get", "crd/rserecords.volatilerse.io", f"namespace/{installation.BUFFERS}", "-o", "name")
