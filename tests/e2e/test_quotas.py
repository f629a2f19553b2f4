"""Quotas and LimitRanges of the buffers' namespace: what they refuse is told, and goes on once there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

Bound = Callable[..., None]


@pytest.fixture
def bound(session: Session) -> Iterator[Bound]:
    """Give what bounds the buffers' namespace; nothing does so afterwards, and before a session ends."""
    name, made = session.namespace, list[str]()

    def bind(kind: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": installation.BUFFERS}
        installation.apply([{"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}])
        made.append(kind)

    yield bind
    for kind in made:
        release(session, kind)


def release(session: Session, kind: str) -> None:
    cluster.kubectl("-n", installation.BUFFERS, "delete", kind, session.namespace, "--ignore-not-found")


def used(name: str) -> str:
    where = ("-n", installation.BUFFERS, "get", "resourcequota", name)
    return cluster.kubectl(*where, "-o", "jsonpath={.status.hard}")


def waits_for_an_admin(session: Session, words: str) -> str:
    """Wait until the buffer says in the API server's words what it is refused; give all that it says."""

    def told() -> str:
        condition = session.condition("StorageReady")
        return str(condition["message"]) if words in str(condition.get("message")) else ""

    said: str = wait_for(f"it is told: {words}", told, 60)
    assert session.condition("StorageReady")["reason"] == "ClusterRefused"
    assert "ADMIN must act" in said
    assert not session.is_true("Usable")
    return said


def goes_on(session: Session) -> None:
    wait_for("Usable", lambda: session.is_true("Usable"), 150)
    session.delete()
    assert_nothing_left(session.wait_closed())


@pytest.mark.parametrize(
    ("hard", "words"),
    [
        pytest.param({"pods": "0"}, "requested: pods=1", id="no pod"),
        pytest.param({"requests.memory": "1Mi"}, "requested: requests.memory=256Mi", id="no memory"),
        pytest.param({"requests.storage": "1Mi"}, "requested: requests.storage=1Gi", id="no volume"),
        pytest.param({"services.nodeports": "0"}, "requested: services.nodeports=2", id="no port"),
        pytest.param({"limits.cpu": "100"}, "must specify limits.cpu", id="a limit that no class states"),
    ],
)
def test_a_quota_without_room_is_told_and_the_buffer_goes_on_when_there_is_some(
    session: Session, bound: Bound, hard: dict[str, str], words: str
) -> None:
    bound("ResourceQuota", {"hard": hard})
    wait_for("the quota is counted", lambda: used(session.namespace))
    session.request(inputs=[NANO])
    assert f"exceeded quota: {session.namespace}" in waits_for_an_admin(session, words) or "specify" in words
    release(session, "ResourceQuota")
    goes_on(session)


def test_defaults_of_a_limit_range_do_no_harm(session: Session, bound: Bound) -> None:
    item = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "300Mi"},
        "defaultRequest": {"cpu": "10m", "memory": "10Mi"},
        "min": {"cpu": "1m", "memory": "1Mi"},
        "max": {"cpu": "8", "memory": "8Gi"},
    }
    bound("LimitRange", {"limits": [item]})
    session.request(inputs=[NANO])
    wait_for("Usable", lambda: session.is_true("Usable"), 150)
    pod = session.record()["metadata"]["name"]
    memory = "jsonpath={.spec.containers[*].resources.limits.memory}"
    limits = cluster.kubectl("-n", installation.BUFFERS, "get", "pod", pod, "-o", memory)
    assert limits == "1Gi 1Gi", "what the class says is not replaced"
    goes_on(session)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        pytest.param(
            {"type": "Container", "max": {"memory": "512Mi"}},
            "maximum memory usage per Container is 512Mi, but limit is 1Gi",
            id="a limit that is too high",
        ),
        pytest.param(
            {"type": "Container", "min": {"memory": "256Mi"}},
            "minimum memory usage per Container is 256Mi, but request is 128Mi",
            id="a request that is too low",
        ),
        pytest.param(
            {"type": "PersistentVolumeClaim", "max": {"storage": "512Mi"}},
            "maximum storage usage per PersistentVolumeClaim is 512Mi, but request is 1Gi",
            id="a volume that is too large",
        ),
    ],
)
def test_what_a_limit_range_refuses_is_told_and_the_buffer_goes_on_without_it(
    session: Session, bound: Bound, item: dict[str, Any], words: str
) -> None:
    bound("LimitRange", {"limits": [item]})
    session.request(inputs=[NANO])
    waits_for_an_admin(session, words)
    release(session, "LimitRange")
    goes_on(session)
