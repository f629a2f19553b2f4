from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reconciler import Reconciler

CLASS = Ref("VolatileRSEClass", None, "standard")


def second(small: Small) -> dict[str, str]:
    """Ask for another buffer in the namespace of the first; give its condition Ready."""
    spec = (small.cluster.get(REQUEST) or {})["spec"]
    ref = Ref("VolatileRSE", "alice", "second")
    small.cluster.create(
        {
            "apiVersion": "volatilerse.io/v1alpha1",
            "kind": "VolatileRSE",
            "metadata": {"namespace": "alice", "name": "second"},
            "spec": spec,
        }
    )
    uid = (small.cluster.get(ref) or {})["metadata"]["uid"]
    record_id = identify(small.settings.instance, uid).record_id
    Reconciler(small.world()).visit(record_id, ("alice", "second"))
    conditions = (small.cluster.get(ref) or {})["status"]["conditions"]
    return next(dict(entry) for entry in conditions if entry["type"] == "Ready")


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"buffers": 1}, "has 1 buffers, and may have 1"),
        ({"bytes": "2000Mi"}, "uses 1073741824 bytes, and may use 2000Mi with the 1Gi that are asked for"),
    ],
)
def test_a_namespace_gets_no_more_than_its_class_allows(limits: dict[str, object], said: str) -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": limits}}})
    small.request()
    small.until(small.has_session)
    ready = second(small)
    assert ready["reason"] == "LimitExceeded"
    assert said in ready["message"]
    assert "USER must act" in ready["message"]


def test_bytes_in_quarantine_count() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": {"quarantinedBytes": "5"}}}})
    small.fail_copies(steps=10_000)
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"))
    assert "has 6 bytes in quarantine, and may have 5" in second(small)["message"]


@pytest.mark.parametrize(
    ("quarantine", "said"), [({"maxBytes": "5"}, "6 bytes, more than 5"), ({"maxAge": "1s"}, "older")]
)
def test_a_class_whose_quarantine_is_full_takes_no_new_sessions(quarantine: dict[str, object], said: str) -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"quarantine": quarantine}})
    small.fail_copies(steps=10_000)
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"))
    ready = second(small)
    assert ready["reason"] == "QuarantineFull"
    assert said in ready["message"]
    assert "ADMIN must act" in ready["message"]


def test_there_is_room_again_once_a_buffer_is_closed() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": {"buffers": 1}}}})
    small.request()
    small.until(small.has_session)
    small.delete()
    small.until(small.is_closed)
    small.renew()
    small.request()
    small.until(small.has_session)
