"""The end of an installation, and what another one makes of what it has left: uninstall, loss, adoption."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from testbed import asking, cluster, grid, installation
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

OPERATOR = ("-n", installation.NAMESPACE)
OBJECTS = "pods,services,secrets,configmaps,persistentvolumeclaims"


@pytest.fixture(scope="module", autouse=True)
def _operator() -> Iterator[None]:
    installation.up()
    yield
    # Whatever came of it, the next module finds an operator.
    installation.up()


def in_operator(*command: str) -> str:
    return cluster.kubectl(*OPERATOR, "exec", "deploy/volatile-rse", "--", "python3", "-m", "volatile_rse", *command)


def uninstall(*options: str) -> str:
    """Run the Job as it is shipped, with this clone's image; give its log."""
    job = yaml.safe_load((CHECKOUT / "manifests" / "uninstall-job.yaml").read_text())
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["image"] = installation.image()
    container["command"] += options
    name = f"job/{job['metadata']['name']}"
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(job))
    try:
        wait_for("the Job to end", lambda: ended(name), 120)
        return cluster.kubectl(*OPERATOR, "logs", name)
    finally:
        cluster.kubectl(*OPERATOR, "delete", name, "--wait=true")


def ended(job: str) -> bool:
    status = json.loads(cluster.kubectl(*OPERATOR, "get", job, "-o", "json")).get("status", {})
    return bool(status.get("succeeded") or status.get("failed"))


def finalizers(*what: str) -> list[str]:
    found: list[str] = json.loads(cluster.kubectl("get", *what, "-o", "json"))["metadata"].get("finalizers", [])
    return found


def test_what_an_uninstalled_operator_left_is_adopted_by_the_next(session: Session) -> None:
    """It refuses first; told otherwise it lets all go but the volume, and its RSE is an orphan until it is adopted."""
    session.request(inputs=[NANO])
    wait_for("Usable", lambda: session.is_true("Usable"))
    record = session.record()
    name, rse = record["metadata"]["name"], record["spec"]["rseName"]
    request = ("-n", session.namespace, "vrse", session.name)
    assert "1 buffers are not closed. ADMIN must act" in uninstall()
    assert finalizers("rser", name), "a refused uninstall let something go"
    volume = json.loads(cluster.kubectl("-n", installation.BUFFERS, "get", "pvc", name, "-o", "json"))["spec"][
        "volumeName"
    ]

    said = uninstall("--leave")
    assert (
        f"{name} of {session.namespace}/{session.name}: {rse}, outputs that are not safe; volume {volume} stays" in said
    )
    cluster.kubectl(*OPERATOR, "delete", "deployment", "volatile-rse", "--wait=true")
    for what in (("rser", name), request, ("vrseclass", session.namespace)):
        assert not [entry for entry in finalizers(*what) if "volatilerse.io" in entry], f"{what} is held by nobody"
    cluster.kubectl("delete", "vrse", session.name, "-n", session.namespace, "--timeout=30s")
    cluster.kubectl("delete", "rser", name, "--timeout=30s")
    selector = ("-l", f"volatilerse.io/record={record['spec']['recordId']}", "--timeout=60s")
    cluster.kubectl("-n", installation.BUFFERS, "delete", OBJECTS, *selector)
    cluster.kubectl("-n", session.namespace, "delete", "secrets,configmaps", *selector)
    kept = json.loads(cluster.kubectl("get", "pv", volume, "-o", "json"))
    assert kept["spec"]["persistentVolumeReclaimPolicy"] == "Retain", "the volume of unsafe outputs went"
    remains = asking.remains(record)
    assert f"RSE {rse}" in remains
    assert any(what.startswith("replica of") for what in remains), "this test shows nothing"

    installation.up()
    instance = record["spec"]["instance"]
    wait_for("it is listed", lambda: record["spec"]["recordId"] in in_operator("orphans"), 60)
    adopt = ("adopt", "--class", session.namespace, "--instance")
    with pytest.raises(StepError, match="made it, not 'volatile-rse-other'"):
        in_operator(*adopt, "volatile-rse-other", rse)
    with pytest.raises(StepError, match="SITE-A is not adopted"):
        in_operator(*adopt, instance, "SITE-A")
    assert f"{rse} is adopted: RSERecord {name}" in in_operator(*adopt, instance, rse)
    adopted = session.wait_closed(240)
    assert adopted["spec"]["adoptedFrom"] == instance
    assert cluster.kubectl("get", "pv", volume, "-o", "name"), "the volume of unsafe outputs went with the adoption"
    cluster.kubectl("delete", "pv", volume)
    assert_nothing_left(adopted)
    # The inputs have lost nothing but this replica.
    states = grid.client("root").list_replicas([{"scope": "user.alice", "name": "nano_dimuon"}])
    assert all("AVAILABLE" in entry["states"].values() for entry in states)
