"""What is told of leases, and to whom they are offered."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.builders.objects import session_name
from volatile_rse.domain.times import stamp
from volatile_rse.ports.cluster import Ref

SESSION = {"startTimeout": "1h", "endGrace": "5m", "ttl": "8h"}


@pytest.fixture
def small() -> Small:
    made = Small()
    made.request(session=SESSION)
    made.until(made.has_session)
    return made


def config(small: Small) -> dict[str, Any]:
    body = small.cluster.get(Ref("ConfigMap", "alice", session_name(REQUEST.name)))
    assert body is not None
    return dict(body["data"])


def active(small: Small) -> tuple[str, str, str]:
    said = small.condition("SessionActive")
    return said["status"], said["reason"], said["message"]


def phase(small: Small) -> str:
    return str((small.cluster.get(REQUEST) or {})["status"]["phase"])


def test_a_session_is_told_where_its_leases_are_and_how_it_is_reached_from_outside(small: Small) -> None:
    given = config(small)
    assert given["VRSE_LEASE"] == f"/lease/{small.uid}"
    assert given["VRSE_PUBLIC_ROOT_URL"].startswith("root://buffers.example.org:")
    assert given["VRSE_PUBLIC_DAVS_URL"].startswith("https://buffers.example.org:")


def test_an_agent_that_knows_none_is_given_none() -> None:
    small = Small()
    small.buffer.knows.remove("leases")
    small.request(session={"startTimeout": "20s"})
    small.until(small.has_session)
    assert "VRSE_LEASE" not in config(small)
    small.until(lambda: small.truth["session"].get("endedAt"))
    assert small.truth["session"]["endReason"] == "NobodyCame"
    small.until(small.is_closed)
    assert "and no lease came" in small.condition("SessionActive")["message"]


def test_what_holds_a_session_is_told(small: Small) -> None:
    small.step()
    assert active(small)[:2] == ("False", "WaitingForSession")
    assert "and no lease was taken" in active(small)[2]
    small.buffer.lease(small.uid, "job", b"2h")
    small.step()
    small.step()
    until = stamp(small.clock.now() + timedelta(hours=2))[:13]
    assert active(small)[:2] == ("True", "SessionRunning")
    assert f"No pod of it runs; a lease holds it at least until {until}" in active(small)[2]
    assert phase(small) == "Active"
    small.buffer.release(small.uid, "job")
    small.step()
    small.step()
    assert active(small)[:2] == ("False", "InProgress")
    assert "and no lease holds; the grace of the session has begun" in active(small)[2]
    assert "leasedUntil" not in small.truth["session"]


def test_one_that_nobody_saw_hold_has_begun_the_session(small: Small) -> None:
    small.buffer.lease(small.uid, "job", b"2h")
    small.buffer.release(small.uid, "job")
    small.step()
    small.step()
    assert small.truth["session"]["startedAt"]
    assert active(small)[:2] == ("False", "InProgress")


def test_what_is_no_lease_is_told_whatever_else_is(small: Small) -> None:
    small.start_pod()
    small.buffer.lease(small.uid, "job", b"until noon")
    small.buffer.lease(small.uid, "a b", b"2h")
    small.step()
    small.step()
    status, reason, message = active(small)
    assert (status, reason) == ("True", "SessionRunning")
    assert "Among its leases: job: what is in it is no duration" in message
    assert "a b: its name is not" in message


def test_renewals_are_not_written_one_by_one(small: Small) -> None:
    small.buffer.lease(small.uid, "job", b"1h")
    for _ in range(4):
        small.step()
    before = small.record["metadata"]["resourceVersion"]
    for _ in range(20):
        small.buffer.lease(small.uid, "job", b"1h")
        small.step()
    assert small.record["metadata"]["resourceVersion"] == before


def test_a_lease_that_went_with_the_storage_holds_the_session_for_its_time(small: Small) -> None:
    small.buffer.lease(small.uid, "queue", b"2h")
    small.until(lambda: small.truth["session"].get("leasedUntil"))
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses") and small.condition("Usable")["status"] == "True")
    for _ in range(4):
        small.clock.turn(timedelta(minutes=20))
        small.step()
    assert active(small)[:2] == ("True", "SessionRunning")
    small.buffer.lease(small.uid, "queue", b"1h")
    small.step()
    small.step()
    small.buffer.release(small.uid, "queue")
    small.step()
    small.step()
    assert active(small)[:2] == ("False", "InProgress")


def test_a_lease_that_went_with_the_storage_ends(small: Small) -> None:
    small.buffer.lease(small.uid, "queue", b"2h")
    small.until(lambda: small.truth["session"].get("leasedUntil"))
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"))
    small.clock.turn(timedelta(hours=2))
    small.step()
    small.clock.turn(timedelta(minutes=6))
    small.until(lambda: small.truth["session"].get("endedAt"))
    assert small.truth["session"]["endReason"] == "PodsGone"
