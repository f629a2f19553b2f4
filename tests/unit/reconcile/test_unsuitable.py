"""A volume that cannot do what a buffer needs of it."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.domain import effects as do
from volatile_rse.ports.cluster import Ref

LACKS = "extended attributes of users (user.*): [Errno 95] Operation not supported"
CLASS = Ref("VolatileRSEClass", None, "standard")


@pytest.mark.parametrize(
    ("storage", "named"),
    [
        ({"volume": {}}, "is of the cluster's default StorageClass"),
        ({"volume": {"storageClassName": "nfs"}}, "is of StorageClass 'nfs'"),
        ({"volume": None, "memory": {}}, "is in the memory of its node"),
    ],
)
@pytest.mark.parametrize("inputs", [0, 2])
def test_nothing_is_staged_there_and_no_session_begins(storage: dict[str, object], named: str, inputs: int) -> None:
    small = Small(inputs=inputs)
    small.cluster.merge(CLASS, {"spec": {"storage": storage}})
    small.buffer.lacks = [LACKS]
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "StorageUnsuitable")
    for _ in range(15):
        small.step()
    for condition in ("StorageReady", "Ready", "Usable"):
        assert small.condition(condition)["reason"] == "StorageUnsuitable"
    message = small.condition("StorageReady")["message"]
    assert f"The volume of vrse-{small.record_id} {named}, as class 'standard' has it" in message
    assert f"{LACKS}. Nothing is staged" in message
    assert "ADMIN must act" in message
    assert not [effect for effect in small.applied if isinstance(effect, do.SendManifest)]
    assert not small.buffer.journal
    assert not small.has_session()
    small.delete()
    small.until(small.is_closed)
    assert small.is_gone


def test_a_session_that_has_begun_goes_on() -> None:
    """An agent that starts again may find what it has not found before."""
    small = Small()
    small.begin()
    small.buffer.lacks = [LACKS]
    small.write("kept/a")
    for _ in range(5):
        small.step()
    assert small.condition("Usable")["status"] == "True"
    small.end_pod()
    small.until(lambda: small.is_kept("kept/a"))
