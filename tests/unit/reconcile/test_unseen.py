"""What cannot be looked at is told where people look, and holds nobody who has nothing to lose."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.cached_cluster import Reflector
from volatile_rse.api.conditions import ConditionType, Reason
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.reconcile import reconciler as reconciler_module
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.telemetry.metrics import Metrics

CLAIMS = ("PersistentVolumeClaim", "bufs")
PODS = ("Pod", "alice")


def refuse(small: Small, what: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the API server refuse to list a kind in a namespace."""
    listed = small.cluster.list

    def refusing(kind: str, *args: Any, **kwargs: Any) -> Any:
        if (kind, *args[:1]) == what:
            raise RefusedError(Reason.CLUSTER_REFUSED, f"The API server refused LIST {kind}: 403")
        return listed(kind, *args, **kwargs)

    monkeypatch.setattr(small.cluster, "list", refusing)
    # Nor is it watched: its view is not believed for longer than some minutes.
    monkeypatch.setattr(Reflector, "is_believed", lambda _: False)


@pytest.mark.parametrize("what", [CLAIMS, PODS])
def test_a_session_that_never_began_holds_nobody(what: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    assert not small.truth["session"].get("readyAt")
    with monkeypatch.context() as patched:
        refuse(small, what, patched)
        small.until(lambda: "403" in small.condition("Ready")["message"])
        assert "403" in small.message
        assert {entry["type"] for entry in small.cluster.get(REQUEST)["status"]["conditions"]} == set(ConditionType)  # type: ignore[index]
        small.delete()
        small.until(lambda: small.is_gone)
        assert small.record["metadata"]["finalizers"], "the record goes on alone"
    small.until(small.is_closed)


def test_a_session_that_may_have_written_holds_its_request_until_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    with monkeypatch.context() as patched:
        refuse(small, CLAIMS, patched)
        small.delete()
        small.until(lambda: "403" in small.condition("Ready")["message"])
        assert small.condition("StorageReady")["status"] == "True", "what was seen before stays"
        assert small.cluster.get(REQUEST)["status"]["phase"] == "Ending"  # type: ignore[index]
        for _ in range(5):
            small.step()
        assert small.buffer.gate.mode == "fenced", "its fence waits for nothing"
        assert not small.has_session()
        assert not small.is_gone
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_list_of_pods_that_is_refused_is_not_empty_and_keeps_no_outputs_from_safety(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    refuse(small, PODS, monkeypatch)
    small.until(lambda: "403" in small.condition("Usable")["message"])
    for _ in range(5):
        small.step()
    assert not small.truth["session"].get("endedAt")
    small.delete()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    assert small.is_gone


def test_a_fault_of_the_operator_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    before = small.condition("StorageReady")

    def fails(*_: object) -> None:
        message = "a secret"
        raise ValueError(message)

    reconciler = Reconciler(small.world())
    with monkeypatch.context() as patched:
        patched.setattr(reconciler_module, "plan", fails)
        with pytest.raises(ValueError, match="a secret"):
            reconciler.visit(small.record_id, None)
    ready = small.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "OperatorFault")
    assert "(ValueError)" in ready["message"]
    assert "ADMIN must act" in ready["message"]
    assert "secret" not in str(small.record["status"]) + str(small.cluster.get(REQUEST))
    assert "OperatorFault" not in small.message, "reasons are for conditions"
    assert "(ValueError)" in small.message
    assert small.condition("StorageReady") == before
    assert ("Warning", "OperatorFault") in [(event.type_, event.reason) for event in small.cluster.events]
    reconciler.visit(small.record_id, None)
    assert small.condition("Ready")["status"] == "True"


def test_an_api_server_that_does_not_answer_is_told_once_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    small = Small(inputs=0, telemetry=metrics)
    small.request()
    small.until(small.has_session)
    listed = small.cluster.list

    def silent(kind: str, *args: Any, **kwargs: Any) -> Any:
        if (kind, *args[:1]) == PODS:
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, "The API server did not answer LIST Pod.")
        return listed(kind, *args, **kwargs)

    monkeypatch.setattr(small.cluster, "list", silent)
    monkeypatch.setattr(Reflector, "is_believed", lambda _: False)
    for _ in range(2):
        small.step()
        assert small.condition("Ready")["status"] == "True", "one that blinks changes nothing"
    small.step()
    assert small.condition("Ready")["reason"] == "ClusterUnreachable"
    assert metrics.registry.get_sample_value("volatile_rse_faults_total", {"where": "visit"}) == 3
    monkeypatch.undo()
    small.step()
    assert small.condition("Ready")["status"] == "True"


def test_what_cannot_be_said_on_the_request_is_said_on_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    merge = small.cluster.merge

    def refusing(ref: Ref, *args: Any, **kwargs: Any) -> Any:
        if ref == REQUEST:
            raise RefusedError(Reason.CLUSTER_REFUSED, "The API server refused PATCH VolatileRSE: 403")
        return merge(ref, *args, **kwargs)

    monkeypatch.setattr(small.cluster, "merge", refusing)
    small.start_pod()
    small.until(lambda: "403" in small.message)
