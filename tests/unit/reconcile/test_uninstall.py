from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse import __main__ as operator
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.api.conditions import Reason
from volatile_rse.api.injection import GATE
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import discarded_name
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.uninstall import release_all, stakes_of

HELD = (REQUEST, Ref("VolatileRSEClass", None, "standard"), Ref("RucioConnection", None, "rucio"))


def finalizers(small: Small) -> list[str]:
    bodies = [small.cluster.get(ref) for ref in HELD]
    bodies.append(small.record or None)
    return [name for body in bodies if body for name in body["metadata"].get("finalizers", [])]


def written() -> Small:
    small = Small()
    small.begin()
    small.write("kept/a")
    return small


def test_unsafe_outputs_are_named_and_their_volume_stays() -> None:
    small = written()
    [stake] = stakes_of(small.cluster, small.settings)
    assert (stake.rse, stake.owner, stake.unsafe) == (small.rse, "alice/run", True)
    assert stake.volume
    assert "outputs that are not safe" in str(stake)
    release_all(small.cluster, small.settings, (stake,))
    assert finalizers(small) == []
    assert small.kept_volumes() == 1
    release_all(small.cluster, small.settings, (stake,))


def test_nothing_is_at_stake_once_all_is_closed() -> None:
    small = written()
    small.end_pod()
    small.until(small.is_closed)
    assert stakes_of(small.cluster, small.settings) == ()
    assert finalizers(small), "class and connection are held as long as they are not deleted"
    release_all(small.cluster, small.settings, ())
    assert finalizers(small) == []


def test_the_list_of_what_was_given_up_is_let_go_of_an_own_buffer_alone() -> None:
    small = written()
    small.fail_copies(steps=1000)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    listed = Ref("ConfigMap", "bufs", discarded_name(small.record_id))
    small.until(lambda: small.cluster.get(listed))
    other = type(small.settings)("other", "other.cluster", "ops", "bufs", "b:1")
    release_all(small.cluster, other, ())
    assert (small.cluster.get(listed) or {})["metadata"]["finalizers"]
    release_all(small.cluster, small.settings, ())
    assert "finalizers" not in (small.cluster.get(listed) or {})["metadata"]


def test_another_operator_s_buffers_are_neither_counted_nor_let_go() -> None:
    small = written()
    held = finalizers(small)
    other = type(small.settings)("other", "other.cluster", "ops", "bufs", "b:1")
    assert stakes_of(small.cluster, other) == ()
    release_all(small.cluster, other, ())
    assert finalizers(small) == held


def test_a_class_that_goes_takes_no_new_session() -> None:
    small = Small()
    ref = HELD[1]
    small.cluster.merge(ref, {"metadata": {"finalizers": ["volatilerse.io/in-use"]}})
    small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    small.request()
    small.step()
    ready = small.condition("Ready")
    assert ready["reason"] == "UnknownClass"
    assert "VolatileRSEClass standard is being deleted and takes no new sessions. USER must act" in ready["message"]
    assert not small.record


def test_a_pod_that_cannot_be_let_go_holds_nothing_of_an_operator_that_is_removed() -> None:
    small = written()
    small.end_pod()
    small.until(small.is_closed)
    assert finalizers(small)
    metadata = {"namespace": "alice", "name": "waits", "labels": {SESSION_LABEL: "run"}}
    spec = {"schedulingGates": [{"name": GATE}]}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    small.cluster.fail_next(RefusedError(Reason.CLUSTER_REFUSED, "PATCH Pod alice/waits: 403"))
    with pytest.raises(RefusedError, match="alice/waits"):
        release_all(small.cluster, small.settings, ())
    assert finalizers(small) == []


def test_a_pod_that_came_before_the_api_server_had_heard_of_the_end_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    small = written()
    merge, waits = small.cluster.merge, Ref("Pod", "alice", "waits")
    metadata = {"namespace": "alice", "name": waits.name, "labels": {SESSION_LABEL: "run"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"schedulingGates": [{"name": GATE}]}}

    def merges(ref: Ref, patch: Mapping[str, Any], *, subresource: str | None = None) -> Mapping[str, Any]:
        small.cluster.create(pod)
        return merge(ref, patch, subresource=subresource)

    monkeypatch.setattr(small.cluster, "merge", merges)
    release_all(small.cluster, small.settings, ())
    assert not (small.cluster.get(waits) or {})["spec"].get("schedulingGates")


def test_who_must_act_is_told_of_what_was_not_let_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuses(*_: object) -> None:
        raise RefusedError(Reason.CLUSTER_REFUSED, "The API server refused PATCH Pod bob/waits: 403")

    small = Small()
    monkeypatch.setattr(KubernetesCluster, "connect", lambda: small.cluster)
    monkeypatch.setattr(operator, "_settings", lambda _: small.settings)
    monkeypatch.setattr(operator, "Lease", Mock())
    monkeypatch.setattr(operator, "release_all", refuses)
    assert operator._uninstall(leave=False) == 1
    assert "PATCH Pod bob/waits: 403 ADMIN must act: " in capsys.readouterr().err


def test_no_pod_waits_for_an_operator_that_is_removed() -> None:
    small = Small()
    bindings = [
        Ref(kind, None, name)
        for kind in ("MutatingAdmissionPolicyBinding.v1beta1", "MutatingWebhookConfiguration")
        for name in ("volatile-rse-session", "somebody-else")
    ]
    for ref in bindings:
        small.cluster.create({"apiVersion": "v1", "kind": ref.kind, "metadata": {"name": ref.name}})
    metadata = {"namespace": "alice", "name": "job", "labels": {SESSION_LABEL: "run"}}
    spec = {"schedulingGates": [{"name": GATE}]}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    release_all(small.cluster, small.settings, ())
    assert [ref.name for ref in bindings if small.cluster.get(ref)] == ["somebody-else"] * 2
    assert not (small.cluster.get(Ref("Pod", "alice", "job")) or {})["spec"].get("schedulingGates")
    deleted = [write.ref.kind for write in small.cluster.journal if write.verb in {"delete", "merge"}]
    assert deleted[-1] == "Pod", "a pod that came meanwhile would have a gate again"
