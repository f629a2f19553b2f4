"""What the operator of before asks the API server, and that both are told of the same events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from testbed.scale_operator import ASSEMBLIES
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.fake_cluster import FakeCluster
from volatile_rse.ports.cluster import Object, Ref, Scope

REF = Ref("ConfigMap", "n", "a")


class Asked(FakeCluster):
    def __init__(self) -> None:
        super().__init__("n")
        self.reads: list[str] = []

    def get(self, ref: Ref) -> Object | None:
        self.reads.append("get")
        return super().get(ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        self.reads.append("list")
        return super().list(kind, namespace, labels)


@pytest.mark.parametrize(
    ("assembly", "reads"), [("before", ["get", "list", "list", "get", "list", "list"]), ("after", [])]
)
def test_the_operator_of_before_asks_for_everything_each_time(assembly: str, reads: list[str]) -> None:
    source, told = Asked(), list[str]()
    source.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n", "name": "a"}})
    make: Any = ASSEMBLIES[assembly].get("cache", CachedCluster)
    cluster: CachedCluster = make(source, [Scope("ConfigMap")])
    cluster.on_change(lambda _, body: told.append(body["metadata"]["name"]))
    (reflector,) = cluster.reflectors
    reflector.follow()
    source.reads.clear()
    for _ in range(2):
        found = cluster.get(REF)
        assert found is not None
        assert cluster.list("ConfigMap") == (found,)
        assert cluster.select("ConfigMap", lambda body: body["metadata"]["name"]) == ("a",)
    assert source.reads == reads
    assert told == ["a"]
