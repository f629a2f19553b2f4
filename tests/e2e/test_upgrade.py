"""A buffer that an older operator has made, under its successor."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from testbed import buffer, cluster, installation, loading
from testbed.sessions import Session, wait_for
from tests.e2e.flows import finish, let_go, running

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

BUFFERS = ("-n", installation.BUFFERS)


@pytest.fixture
def next_image(session: Session) -> Iterator[str]:
    """Give the buffer's image under another name, and have the operator of this clone back in the end."""
    del session
    image = f"{buffer.image()}-next"
    subprocess.run(["docker", "tag", buffer.image(), image], check=True, timeout=60)
    loading.to_cluster(image)
    yield image
    installation.up()
    subprocess.run(["docker", "rmi", image], check=True, capture_output=True, timeout=60)


def make_older(name: str) -> None:
    """Have the buffer look as before version 0.1: its configuration in a ConfigMap, a Service for its agent."""
    secret = json.loads(cluster.kubectl(*BUFFERS, "get", "secret", f"{name}-keys", "-o", "json"))
    without = dict.fromkeys(key for key in secret["data"] if key.startswith("xrootd."))
    patch = json.dumps({"data": without})
    cluster.kubectl(*BUFFERS, "patch", "secret", f"{name}-keys", "--type=merge", "-p", patch)
    labels = secret["metadata"]["labels"]
    selector = {"volatilerse.io/record": labels["volatilerse.io/record"]}
    spec = {"selector": selector, "ports": [{"name": "agent", "port": 9443}]}
    contents: list[tuple[str, str, dict[str, Any]]] = [
        ("ConfigMap", "config", {"data": {"open.cfg": "# as it was\n"}}),
        ("Service", "agent", {"spec": spec}),
    ]
    installation.apply(
        [
            {
                "apiVersion": "v1",
                "kind": kind,
                "metadata": {"name": f"{name}-{piece}", "namespace": installation.BUFFERS, "labels": labels},
                **content,
            }
            for kind, piece, content in contents
        ]
    )


def upgrade(image: str) -> None:
    deployment = ("-n", installation.NAMESPACE, "deployment/volatile-rse")
    cluster.kubectl(*deployment[:2], "set", "env", deployment[2], f"VOLATILE_RSE_BUFFER_IMAGE={image}")
    cluster.kubectl(*deployment[:2], "rollout", "status", deployment[2], "--timeout=120s")


def pod_of(name: str) -> dict[str, Any]:
    text = cluster.kubectl(*BUFFERS, "get", "pod", name, "--ignore-not-found", "-o", "json")
    return dict(json.loads(text)) if text.strip() else {}


def is_ready(pod: dict[str, Any], *, not_: str) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and pod["metadata"]["uid"] != not_


def keys_of(name: str) -> set[str]:
    return set(json.loads(cluster.kubectl(*BUFFERS, "get", "secret", f"{name}-keys", "-o", "json"))["data"])


def test_a_session_goes_on_under_the_next_operator_and_leaves_nothing_of_the_older_one(
    session: Session, next_image: str
) -> None:
    dataset = running(session)
    name = session.record()["metadata"]["name"]
    before = pod_of(name)
    upgrade(next_image)
    make_older(name)
    wait_for("the new operator completes the Secret", lambda: "xrootd.open.cfg" in keys_of(name), 120)
    after = pod_of(name)
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "an upgrade replaced a storage pod that serves"
    assert {entry["image"] for entry in after["spec"]["containers"]} == {buffer.image()}

    cluster.kubectl(*BUFFERS, "delete", "pod", name, "--wait=false")
    wait_for("another pod is ready", lambda: is_ready(pod_of(name), not_=before["metadata"]["uid"]))
    assert {entry["image"] for entry in pod_of(name)["spec"]["containers"]} == {next_image}
    wait_for("the session's token is taken", lambda: session.is_true("Usable"))
    let_go(session)
    record = finish(session, dataset)
    left = cluster.kubectl(*BUFFERS, "get", "secret,configmap,service", "-o", "name")
    assert record["spec"]["recordId"] not in left
