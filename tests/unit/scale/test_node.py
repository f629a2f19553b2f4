"""A node that runs nothing tells of its pods what the operator believes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from testbed import scale_node
from testbed.api_server import ApiServer
from volatile_rse.adapters.fake_cluster import FakeCluster
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reading import read_pod

NOW = datetime(2026, 11, 30, 9, tzinfo=UTC)
RECORD = "abcdefgh23"
POD, KEYS = Ref("Pod", "buffers", "vrse-x"), Ref("Secret", "buffers", "vrse-x-keys")
KINDS = {"pods": "Pod", "secrets": "Secret", "configmaps": "ConfigMap"}


def pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "buffers", "name": "vrse-x", "labels": {"volatilerse.io/record": RECORD}},
        "spec": {
            "nodeName": scale_node.NAME,
            "containers": [{"name": "xrootd", "image": "b"}, {"name": "agent", "image": "b"}],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "config", "secret": {"secretName": "vrse-x-keys"}},
                {"name": "tls", "secret": {"secretName": "vrse-x-keys"}},
                {"name": "other", "configMap": {"name": "vrse-x-inputs"}},
            ],
        },
    }


def made() -> FakeCluster:
    cluster = FakeCluster("buffers")
    cluster.create(pod())
    return cluster


def stored(cluster: FakeCluster) -> Mapping[str, Any]:
    body = cluster.get(POD)
    assert body is not None
    return body


def test_a_pod_starts_answers_its_probes_and_ends() -> None:
    cluster = made()
    assert scale_node.step_of(stored(cluster)) == "start"
    cluster.set_status(POD, scale_node.starting(stored(cluster), "198.18.0.1", NOW))
    fact = read_pod(stored(cluster))
    assert (fact.running, fact.ready, fact.address) == (True, False, "198.18.0.1")
    assert scale_node.step_of(stored(cluster)) == "answer"
    later = NOW + timedelta(seconds=3)
    cluster.set_status(POD, scale_node.status_of(stored(cluster), later, ready=True))
    fact = read_pod(stored(cluster))
    assert (fact.running, fact.ready, fact.address, fact.ready_since) == (True, True, "198.18.0.1", later)
    assert scale_node.step_of(stored(cluster)) is None
    since = {entry["type"]: entry["lastTransitionTime"] for entry in stored(cluster)["status"]["conditions"]}
    assert since["PodScheduled"] == "2026-11-30T09:00:00Z", "what stays as it is keeps its time"
    cluster.delete(POD, stored(cluster)["metadata"]["uid"])
    assert scale_node.step_of(stored(cluster)) == "end"


def test_a_pod_that_is_over_is_left_as_it_is() -> None:
    cluster = made()
    cluster.finish(POD)
    assert scale_node.step_of(stored(cluster)) is None


def test_what_a_pod_mounts() -> None:
    assert scale_node.mounted(pod()) == [("configmaps", "vrse-x-inputs"), ("secrets", "vrse-x-keys")]


def test_the_node_is_for_pods_that_ask_for_it() -> None:
    node, placement = scale_node.node(NOW), scale_node.placement()
    assert placement["nodeSelector"].items() <= node["metadata"]["labels"].items()
    assert [taint["key"] for taint in node["spec"]["taints"]] == [entry["key"] for entry in placement["tolerations"]]
    assert "kubernetes.io/os" not in node["metadata"]["labels"], "DaemonSets select by it"
    assert int(node["status"]["allocatable"]["pods"]) >= 1384


class Plane(ApiServer):
    """The API server over a fake cluster, as far as the node asks it."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.lock = threading.Lock()

    def ask(self, method: str, path: str, body: Any = None, query: Any = None) -> dict[str, Any] | None:
        del query
        parts = path.split("/")
        if "leases" in parts or "nodes" in parts:
            return {"spec": {"taints": [{"key": scale_node.LABEL}]}}
        status = parts[-1] == "status"
        plural, name = (parts[-3], parts[-2]) if status else (parts[-2], parts[-1])
        ref = Ref(KINDS[plural], "buffers", name)
        with self.lock:
            if method == "PATCH":
                self.cluster.set_status(ref, body["status"])
            elif method == "DELETE":
                assert body["gracePeriodSeconds"] == 0
                self.cluster.end_pods()
            found = self.cluster.get(ref)
            return None if found is None else dict(found)

    def watch(
        self, path: str, query: Any = None, stopping: threading.Event | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        assert path.endswith("/pods")
        assert query == {"fieldSelector": "spec.nodeName=scale-bench"}
        last: Any = None
        while stopping is not None and not stopping.wait(0.01):
            with self.lock:
                found = self.cluster.get(POD)
            if found is not None and found != last:
                yield "MODIFIED", dict(found)
            elif found is None and last is not None:
                yield "DELETED", dict(last)
            last = found


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture(name="plane")
def _plane() -> Plane:
    return Plane(made())


def test_the_node_waits_for_what_a_pod_mounts_and_tells_when_it_runs(plane: Plane) -> None:
    told: list[tuple[str, str]] = []
    looked = threading.Event()
    ask = plane.ask

    def asked(method: str, path: str, body: Any = None, query: Any = None) -> dict[str, Any] | None:
        if path.endswith("/secrets/vrse-x-keys"):
            looked.set()
        return ask(method, path, body, query)

    plane.ask = asked  # type: ignore[method-assign]
    plane.cluster.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "buffers", "name": "vrse-x-inputs"}}
    )
    node = scale_node.Node(plane, "buffers", lambda record, address: told.append((record, address)))
    node.start()
    try:
        assert looked.wait(10)
        assert "status" not in stored(plane.cluster)
        with plane.lock:
            plane.cluster.create(
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "buffers", "name": "vrse-x-keys"}}
            )
        until(lambda: "status" in stored(plane.cluster) and read_pod(stored(plane.cluster)).ready)
        assert told == [(RECORD, read_pod(stored(plane.cluster)).address)]
        with plane.lock:
            plane.cluster.delete(POD, stored(plane.cluster)["metadata"]["uid"])
        until(lambda: plane.cluster.get(POD) is None)
        assert told[1:] == [(RECORD, "")]
    finally:
        node.stop()
