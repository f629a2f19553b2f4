"""What the client of the API server makes of its answers; the contract suite shows a real one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from volatile_rse.adapters.kubernetes import KubernetesCluster, _sound
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError
from volatile_rse.telemetry.metrics import Metrics

TOKEN = "eyJhbGciOiJFUzI1NiJ9.token"


def answering(*bodies: dict[str, Any], status: int = 200, metrics: Metrics | None = None) -> KubernetesCluster:
    """Give a cluster that answers one after the other, and the last one again and again."""
    client, left = ApiClient(Configuration()), list(bodies)

    def call_api(*_: Any, **__: Any) -> Any:
        said = json.dumps(left.pop(0) if len(left) > 1 else left[0]).encode()
        return SimpleNamespace(status=status, read=lambda: said, getheader=lambda _: str(len(said)))

    setattr(client, "call_api", call_api)  # noqa: B010 (a method, as mypy sees it)
    return KubernetesCluster(client) if metrics is None else KubernetesCluster(client, metrics.asked)


def refusing(message: str) -> KubernetesCluster:
    return answering({"kind": "Status", "reason": "Forbidden", "message": message}, status=403)


@pytest.mark.parametrize("form", ["data", "stringData"])
def test_a_webhook_that_repeats_a_secret_is_not_repeated(form: str) -> None:
    encoded = base64.b64encode(TOKEN.encode()).decode()
    cluster = refusing(f"denied: {TOKEN} {encoded} \x1b[0m")
    values = {"token": encoded if form == "data" else TOKEN}
    body = {"kind": "Secret", "metadata": {"namespace": "n", "name": "s"}, form: values}
    calls: tuple[Callable[[], object], ...] = (
        lambda: cluster.create({"apiVersion": "v1", **body}),
        lambda: cluster.merge(Ref("Secret", "n", "s"), {form: values}),
    )
    for call in calls:
        with pytest.raises(RefusedError) as caught:
            call()
        assert str(caught.value).endswith("denied: (secret) (secret) \\x1b[0m")


FULL = "Internal error occurred: failed to allocate a nodePort: range is full"


@pytest.mark.parametrize(
    ("reason", "message", "means"),
    [
        ("InternalError", FULL, "NodePortsExhausted"),
        ("InternalError", FULL.replace("nodePort", "serviceIP"), "ClusterUnreachable"),
        ("InternalError", "Internal error occurred: etcdserver: leader changed", "ClusterUnreachable"),
        ("", FULL, "ClusterUnreachable"),
    ],
)
def test_a_cluster_without_node_ports_refuses_and_is_there(reason: str, message: str, means: str) -> None:
    cluster = answering({"kind": "Status", "reason": reason, "message": message}, status=500)
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "n", "name": "s"}, "spec": {}}
    with pytest.raises(PortError) as caught:
        cluster.create(body)
    assert caught.value.reason.value == means
    assert isinstance(caught.value, RefusedError) is (means == "NodePortsExhausted")
    assert message in caught.value.what
    assert "Service n/s" in caught.value.what


def test_every_request_is_counted_by_its_verb_and_each_page_of_a_list() -> None:
    metrics = Metrics()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "n", "name": "s"}}
    stored = {**secret, "metadata": {**secret["metadata"], "uid": "u", "resourceVersion": "1"}}  # type: ignore[dict-item]
    cluster = answering(stored, metrics=metrics)
    ref = Ref("Secret", "n", "s")
    cluster.get(ref)
    cluster.create(secret)
    cluster.apply(secret)
    cluster.merge(ref, {"data": {}})
    cluster.delete(ref, "u")
    cluster.event(stored, type_="Normal", reason="Ready", message="it is")
    pages = answering({"items": [], "metadata": {"continue": "more"}}, {"items": []}, metrics=metrics)
    assert pages.list("Pod", "n") == ()
    counts = {
        (sample.labels["verb"], sample.labels["kind"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "volatile_rse_cluster_requests_total"
    }
    assert counts == {
        ("get", "Secret"): 1, ("create", "Secret"): 1, ("patch", "Secret"): 2, ("delete", "Secret"): 1,
        ("create", "Event"): 1, ("list", "Pod"): 2,
    }  # fmt: skip


def test_what_a_dry_run_answers_has_no_version_since_it_was_not_stored() -> None:
    ref = Ref("Pod", "a", "b")
    body = {"metadata": {"name": "b", "namespace": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    assert _sound(body, "CREATE", ref, stored=False) is body
    with pytest.raises(UnreachableError, match="resourceVersion is None"):
        _sound(body, "CREATE", ref)
