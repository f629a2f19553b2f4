"""Quotas and LimitRanges of the buffers' namespace: what they refuse is told, and goes on once there is room."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

Bound = Callable[[str, Mapping[str, Any]], None]


@pytest.fixture
def bound(session: Session) -> Iterator[Bound]:
    """Give what bounds the buffers' namespace, in place of what bounded it before; in the end nothing does."""
    name, made = session.namespace, set[str]()

    def bind(kind: str, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, "namespace": installation.BUFFERS}
        installation.apply([{"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}])
        made.add(kind)

    yield bind
    for kind in made:
        release(session, kind)


def release(session: Session, kind: str) -> None:
    cluster.kubectl("-n", installation.BUFFERS, "delete", kind, session.namespace, "--ignore-not-found")


def is_counted(name: str, hard: Mapping[str, str]) -> bool:
    where = ("-n", installation.BUFFERS, "get", "resourcequota", name)
    return all(amount in cluster.kubectl(*where, "-o", "jsonpath={.status.hard}") for amount in hard)


def look(session: Session) -> None:
    """Have the operator look at once: after a refusal it takes up to a minute, and every event is a reason to look."""
    note = f"test/look={uuid.uuid4().hex}"
    cluster.kubectl("-n", session.namespace, "annotate", "vrse", session.name, note, "--overwrite")


def assert_told(session: Session, words: str) -> None:
    """Wait until the buffer says in the API server's words what it is refused, and who must act."""
    look(session)

    def told() -> Mapping[str, Any]:
        condition = session.condition("StorageReady")
        return condition if words in str(condition.get("message")) else {}

    condition = wait_for(f"it is told: {words}", told, 90)
    assert (condition["status"], condition["reason"]) == ("False", "ClusterRefused")
    assert "ADMIN must act" in condition["message"]
    assert not session.is_true("Usable")


def assert_goes_on(session: Session) -> None:
    look(session)
    wait_for("Usable", lambda: session.is_true("Usable"), 150)


REFUSED = [
    ("services.nodeports", "0", "requested: services.nodeports=2"),
    ("requests.storage", "1Mi", "requested: requests.storage=1Gi"),
    ("limits.cpu", "100", "must specify limits.cpu"),
    ("requests.memory", "1Mi", "requested: requests.memory=256Mi"),
]
"""What a quota counts, how little of it there is, and what is said: in the order in which a buffer needs it."""


@pytest.mark.parametrize("refused", [REFUSED[::3], pytest.param(REFUSED[1:3], marks=pytest.mark.long)])
def test_a_quota_without_room_is_told_and_the_buffer_goes_on_when_there_is_some(
    session: Session, bound: Bound, refused: Sequence[tuple[str, str, str]]
) -> None:
    name, left = session.namespace, {what: amount for what, amount, _ in refused}
    for number, (what, _, words) in enumerate(refused):
        bound("ResourceQuota", {"hard": left})
        wait_for("the quota is counted", lambda: is_counted(name, left))
        if not number:
            session.request(inputs=[NANO])
        assert_told(session, words)
        del left[what]
    release(session, "ResourceQuota")
    assert_goes_on(session)
    session.delete()
    assert_nothing_left(session.wait_closed())


@pytest.mark.long
def test_what_a_limit_range_refuses_is_told_and_its_defaults_do_no_harm(session: Session, bound: Bound) -> None:
    volume = {"type": "PersistentVolumeClaim", "max": {"storage": "512Mi"}}
    high = {"type": "Container", "max": {"memory": "512Mi"}}
    low = {"type": "Container", "min": {"memory": "256Mi"}}
    harmless = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "300Mi"},
        "defaultRequest": {"cpu": "10m", "memory": "10Mi"},
        "min": {"cpu": "1m", "memory": "1Mi"},
        "max": {"cpu": "8", "memory": "8Gi"},
    }
    bound("LimitRange", {"limits": [volume, high]})
    session.request(inputs=[NANO])
    assert_told(session, "maximum storage usage per PersistentVolumeClaim is 512Mi, but request is 1Gi")
    bound("LimitRange", {"limits": [high]})
    assert_told(session, "maximum memory usage per Container is 512Mi, but limit is 1Gi")
    bound("LimitRange", {"limits": [low]})
    assert_told(session, "minimum memory usage per Container is 256Mi, but request is 128Mi")
    bound("LimitRange", {"limits": [harmless]})
    assert_goes_on(session)
    pod = session.record()["metadata"]["name"]
    memory = "jsonpath={.spec.containers[*].resources.limits.memory}"
    limits = cluster.kubectl("-n", installation.BUFFERS, "get", "pod", pod, "-o", memory)
    assert limits == "1Gi 1Gi", "what the class says is not replaced"
    session.delete()
    assert_nothing_left(session.wait_closed())
