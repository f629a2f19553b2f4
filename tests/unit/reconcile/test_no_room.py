"""What the API server does not let the operator make, as a quota of the buffers' namespace: told, and tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.reconcile import small_world
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_cluster import FakeCluster, play_controllers
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError

QUOTA = "exceeded quota: tight, requested: pods=1, used: pods=0, limited: pods=0"


@pytest.mark.parametrize("kind", ["Pod", "PersistentVolumeClaim", "Service"])
def test_what_has_no_room_is_told_in_the_words_of_the_api_server_and_made_when_there_is(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small()
    create, full = small.cluster.create, [True]

    def creating(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if body["kind"] == kind and full:
            ref = Ref(kind, "bufs", body["metadata"]["name"])
            raise RefusedError(Reason.CLUSTER_REFUSED, f"The API server refused POST {ref}: 403 {QUOTA}")
        return create(body)

    monkeypatch.setattr(small.cluster, "create", creating)
    small.request()
    small.until(lambda: QUOTA in small.message)
    for type_ in ("StorageReady", "Ready", "Usable"):
        condition = small.condition(type_)
        assert (condition["status"], condition["reason"]) == ("False", "ClusterRefused")
        assert QUOTA in condition["message"]
        assert "ADMIN must act" in condition["message"]
    full.clear()
    small.until(small.has_session)
    assert small.condition("StorageReady")["status"] == "True"


def test_an_empty_server_that_has_no_room_is_told_in_the_words_of_the_api_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Small()
    small.request()
    full = [True]

    def played(cluster: FakeCluster) -> None:
        play_controllers(cluster)
        for body in cluster.list("Deployment") if full else ():
            failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}
            cluster.set_status(
                Ref("Deployment", "bufs", body["metadata"]["name"]), {"readyReplicas": 0, "conditions": [failure]}
            )

    monkeypatch.setattr(small_world, "play_controllers", played)
    small.until(small.has_session)
    small.delete()
    small.until(lambda: QUOTA in small.message)
    assert small.truth["phase"] == "Hiding"
    assert "ADMIN must act" in small.message
    full.clear()
    small.until(small.is_closed)
