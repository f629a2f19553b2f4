"""What the webhook answers, and the certificate by which the API server asks it."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.builders.test_injection import CASES, IMAGE, LEFT, pod
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.fake_cluster import FakeCluster
from volatile_rse.api.injection import GATE
from volatile_rse.builders.injection import inject
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.admission import SERVICE, answered, keep_certificate

CONFIGURATION = Ref("MutatingWebhookConfiguration", None, "volatile-rse-session")
BUFFER = Ref("VolatileRSE", "alice", "dimuon")
HOOK = {"name": "session.volatilerse.io", "clientConfig": {"service": {"name": SERVICE}}}


def review(body: object) -> bytes:
    request = {"uid": "asked", "namespace": "alice", "object": body}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def cluster_with(status: str) -> FakeCluster:
    cluster = FakeCluster("alice")
    metadata = {"namespace": BUFFER.namespace, "name": BUFFER.name}
    cluster.create({"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "metadata": metadata, "spec": {}})
    cluster.set_status(BUFFER, {"conditions": [{"type": "Usable", "status": status}]})
    return cluster


def answer(body: object, cluster: FakeCluster) -> dict[str, Any]:
    found = json.loads(answered(cluster, IMAGE, review(body)))
    assert (found["kind"], found["response"]["uid"], found["response"]["allowed"]) == ("AdmissionReview", "asked", True)
    response: dict[str, Any] = found["response"]
    return response


def spec_in(response: dict[str, Any]) -> dict[str, Any]:
    (change,) = json.loads(base64.b64decode(response["patch"]))
    assert (response["patchType"], change["op"], change["path"]) == ("JSONPatch", "replace", "/spec")
    spec: dict[str, Any] = change["value"]
    return spec


@pytest.mark.parametrize("body", CASES, ids=lambda body: body["metadata"]["name"])
def test_a_pod_gets_what_the_function_says_and_nothing_twice(body: dict[str, Any]) -> None:
    cluster = FakeCluster("alice")
    response = answer(body, cluster)
    if body["metadata"]["name"] in LEFT:
        assert "patch" not in response
        return
    spec = spec_in(response)
    assert spec == inject(body, IMAGE)["spec"]
    assert "patch" not in answer({**body, "spec": spec}, cluster)


@pytest.mark.parametrize(("status", "gates"), [("True", []), ("False", [GATE]), ("Unknown", [GATE])])
def test_a_pod_of_a_buffer_that_is_usable_need_not_wait(status: str, gates: list[str]) -> None:
    spec = spec_in(answer(pod("bare"), cluster_with(status)))
    assert [gate["name"] for gate in spec.get("schedulingGates", ())] == gates


def test_a_pod_waits_where_nobody_can_be_asked() -> None:
    cluster = cluster_with("True")
    cluster.down = True
    assert spec_in(answer(pod("bare"), cluster))["schedulingGates"] == [{"name": GATE}]


@pytest.mark.parametrize("conditions", [7, "x", [3], {"type": "Usable"}])
def test_a_pod_waits_where_the_conditions_of_its_buffer_are_none(conditions: object) -> None:
    cluster = cluster_with("True")
    with cluster.unchecked(BUFFER) as body:
        body["status"]["conditions"] = conditions
    assert spec_in(answer(pod("bare"), cluster))["schedulingGates"] == [{"name": GATE}]


def test_a_pod_that_nobody_can_read_is_left_as_it_is() -> None:
    for body in (None, 3, {}, {"metadata": {"labels": {"volatilerse.io/session": "a"}}, "spec": {"containers": 3}}):
        assert "patch" not in answer(body, FakeCluster("alice"))


@pytest.mark.parametrize("asked", [b"", b"{}", b"[]", b"3", b'{"request": null}', b'{"request": {}}', b"\xff"])
def test_what_is_no_question_is_refused(asked: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (of several kinds)
        answered(FakeCluster(), IMAGE, asked)


def configured(small: Small) -> dict[str, Any]:
    body = small.cluster.get(CONFIGURATION)
    assert body is not None
    (hook,) = body["webhooks"]
    found: dict[str, Any] = hook["clientConfig"]
    return found


def test_the_api_server_trusts_the_webhook_and_its_certificate_is_renewed() -> None:
    small = Small()
    small.request()
    world = small.world()
    secret = Ref("Secret", "ops", SERVICE)
    keep_certificate(world)
    assert small.cluster.get(secret) is None, "there is no webhook"
    small.cluster.create({"kind": CONFIGURATION.kind, "metadata": {"name": CONFIGURATION.name}, "webhooks": [HOOK]})
    keep_certificate(world)
    assert base64.b64decode(configured(small)["caBundle"]).decode() == world.authority.bundle()
    assert configured(small)["service"] == {"name": SERVICE}
    first = small.cluster.get(secret)
    writes = len(small.cluster.journal)
    keep_certificate(world)
    assert len(small.cluster.journal) == writes, "nothing is to be done"
    small.clock.turn(timedelta(days=80))
    keep_certificate(small.world())
    assert first != small.cluster.get(secret)
    # Somebody applies the manifest anew, without the authority.
    small.cluster.merge(CONFIGURATION, {"webhooks": [HOOK]})
    keep_certificate(world)
    assert "caBundle" in configured(small)
