from __future__ import annotations

from typing import Any

import pytest

from volatile_rse.adapters.fake_cluster import FakeCluster, Write, play_controllers
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError

MAP, CLAIM, POD = (Ref(kind, "a", "x") for kind in ("ConfigMap", "PersistentVolumeClaim", "Pod"))


def body(ref: Ref, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": ref.kind, "metadata": {"namespace": ref.namespace, "name": ref.name}} | more


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster("a")


def test_a_lost_call_and_a_lost_answer(cluster: FakeCluster) -> None:
    cluster.fail_next()
    with pytest.raises(UnreachableError):
        cluster.create(body(MAP))
    assert cluster.get(MAP) is None
    cluster.fail_next(after=True)
    with pytest.raises(UnreachableError):
        cluster.create(body(MAP))
    assert cluster.get(MAP) is not None
    assert not cluster.create(body(MAP))


def test_the_journal_tells_writes_that_change_nothing(cluster: FakeCluster) -> None:
    for _ in range(2):
        cluster.apply(body(MAP, data={"a": "1"}))
    cluster.create(body(MAP))
    assert cluster.journal == [Write("apply", MAP), Write("apply", MAP, changed=False)]


def test_what_is_owned_goes_with_its_owner(cluster: FakeCluster) -> None:
    cluster.create(body(POD, spec={}))
    pod = cluster.get(POD)
    assert pod is not None
    owned = body(MAP)
    owned["metadata"]["ownerReferences"] = [{"uid": pod["metadata"]["uid"]}]
    cluster.create(owned)
    cluster.delete(POD, pod["metadata"]["uid"])
    assert cluster.get(MAP) is None


def test_the_other_controllers_are_played(cluster: FakeCluster) -> None:
    cluster.ticks.append(play_controllers)
    cluster.create(body(CLAIM, spec={}))
    cluster.create(body(POD, spec={}))
    cluster.tick()
    claim, pod = cluster.get(CLAIM), cluster.get(POD)
    assert claim is not None
    assert pod is not None
    assert cluster.get(Ref("PersistentVolume", None, claim["spec"]["volumeName"])) is not None
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    before = len(cluster.journal)
    cluster.tick()
    assert len(cluster.journal) == before


def test_what_is_read_is_a_copy(cluster: FakeCluster) -> None:
    cluster.create(body(MAP, data={"a": "1"}))
    read: Any = cluster.get(MAP)
    read["data"]["a"] = "2"
    again = cluster.get(MAP)
    assert again is not None
    assert again["data"] == {"a": "1"}


def test_a_claim_gets_the_volume_that_it_names_only_if_that_is_free(cluster: FakeCluster) -> None:
    cluster.ticks.append(play_controllers)
    cluster.create(body(CLAIM, spec={}))
    cluster.tick()
    claim: Any = cluster.get(CLAIM)
    volume = Ref("PersistentVolume", None, claim["spec"]["volumeName"])
    cluster.merge(volume, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}})
    cluster.delete(CLAIM, claim["metadata"]["uid"])
    cluster.tick()
    cluster.create(body(CLAIM, spec={"volumeName": volume.name}))
    cluster.tick()
    assert (cluster.get(CLAIM) or {}).get("status") is None
    assert (cluster.get(volume) or {})["status"]["phase"] == "Released"
    cluster.merge(volume, {"spec": {"claimRef": {"uid": None}}})
    cluster.tick()
    assert (cluster.get(CLAIM) or {})["status"]["phase"] == "Bound"


def test_a_volume_goes_with_its_claim_unless_it_is_retained(cluster: FakeCluster) -> None:
    cluster.ticks.append(play_controllers)
    cluster.create(body(CLAIM, spec={}))
    cluster.tick()
    claim: Any = cluster.get(CLAIM)
    cluster.delete(CLAIM, claim["metadata"]["uid"])
    cluster.tick()
    assert cluster.list("PersistentVolume") == ()
