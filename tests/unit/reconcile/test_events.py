"""What people are told by Events."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reconciler import Reconciler


def told(small: Small) -> list[tuple[str, str]]:
    return [(event.type_, event.reason) for event in small.cluster.events]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"className": "unknown"}, "UnknownClass"),
        ({"account": "bob"}, "AccountNotGranted"),
        ({"a": "b"}, "InvalidSpec"),
    ],
)
def test_what_is_wrong_from_the_beginning_is_told_once(spec: dict[str, Any], reason: str) -> None:
    small = Small(inputs=0)
    small.request(**spec)
    for _ in range(4):
        small.step()
    assert told(small) == [("Warning", reason)]
    assert "must act" in small.cluster.events[0].message


def test_a_name_that_no_pod_can_have_as_a_label_is_told() -> None:
    small = Small(inputs=0)
    small.request()
    body = small.cluster.get(REQUEST) or {}
    ref = Ref("VolatileRSE", "alice", "x" * 64)
    small.cluster.create({**body, "metadata": {"namespace": "alice", "name": ref.name}})
    uid = (small.cluster.get(ref) or {})["metadata"]["uid"]
    Reconciler(small.world()).visit(identify(small.settings.instance, uid).record_id, ("alice", ref.name))
    (event,) = small.cluster.events
    assert (event.about, event.reason) == (ref, "InvalidSpec")
    assert f"metadata.name: '{ref.name}' is no value of a label" in event.message
    assert not small.cluster.list("RSERecord")


def test_a_good_beginning_is_no_event() -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    assert told(small) == []
    small.until(small.has_session)
    small.until(lambda: told(small))
    assert told(small)[0] == ("Normal", "Usable")
