"""A session that is given longer: what counts of it, what is told, and that its token lives as long."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.reconcile.scenarios import FILES
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.builders.objects import record_name, session_name
from volatile_rse.domain.times import stamp, when
from volatile_rse.ports.cluster import Ref

CLASS = Ref("VolatileRSEClass", None, "standard")
TTL = timedelta(seconds=40)
SHORT: Mapping[str, object] = {"ttl": "40s", "endWarning": "10s", "endGrace": "1s"}


def running(max_ttl: str = "1h", **session: object) -> Small:
    """Have a session of 40 seconds that runs, and has written."""
    small = Small()
    small.patch(CLASS, maxTtl=max_ttl)
    small.request(session={**SHORT, **session})
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    return small


def ready_at(small: Small) -> datetime:
    found = when(small.truth["session"]["readyAt"])
    assert found is not None
    return found


def expires(small: Small) -> datetime | None:
    return when((small.cluster.get(REQUEST) or {})["status"]["expires"])


def extend(small: Small, by: timedelta) -> datetime:
    """Ask for a life that is so long, from first Ready."""
    until = ready_at(small) + by
    small.patch(REQUEST, session={"extendUntil": stamp(until)})
    small.step()
    return until


def token_ends(small: Small) -> datetime:
    secret: Any = small.cluster.get(Ref("Secret", "alice", session_name(REQUEST.name)))
    payload = base64.b64decode(secret["data"]["token"]).decode().split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return datetime.fromtimestamp(claims["exp"], small.clock.now().tzinfo)


def pass_(small: Small, until: datetime) -> None:
    small.until(lambda: small.clock.now() > until, steps=300)


def test_it_lives_until_then_and_no_longer_with_a_token_that_was_made_once() -> None:
    small = running()
    before = small.cluster.get(Ref("Secret", "alice", session_name(REQUEST.name)))
    until = extend(small, timedelta(seconds=60))
    assert expires(small) == until
    assert small.condition("SessionActive")["message"] == f"It was extended until {stamp(until)}."
    pass_(small, ready_at(small) + TTL)
    assert not small.truth["session"].get("endedAt"), "it ended by its ttl"
    assert small.cluster.get(Ref("Secret", "alice", session_name(REQUEST.name))) == before
    assert token_ends(small) == ready_at(small) + timedelta(hours=2), "its longest life, and an hour"
    pass_(small, until)
    small.step()
    assert small.truth["session"]["endReason"] == "TtlExpired"
    small.until(small.is_closed)
    assert small.is_kept(*FILES)


def test_it_is_raised_again_and_what_stands_is_not_taken_back() -> None:
    """Also where the API server lets somebody write less, or nothing."""
    small = running()
    extend(small, timedelta(seconds=60))
    longer = extend(small, timedelta(seconds=90))
    for less in (stamp(ready_at(small)), None, "soon", 7):
        with small.cluster.unchecked(REQUEST) as body:
            body["spec"]["session"]["extendUntil"] = less
        small.step()
        assert expires(small) == longer


def test_more_than_the_class_allows_is_told_with_what_counts() -> None:
    small = running("60s")
    asked = extend(small, timedelta(days=1))
    limit = ready_at(small) + timedelta(seconds=60)
    assert expires(small) == limit
    told = small.condition("SessionActive")
    assert (told["status"], told["reason"]) == ("True", "SessionRunning")
    assert told["message"] == (
        f"spec.session.extendUntil is {stamp(asked)}, and the session ends at {stamp(limit)} at the latest: "
        "class 'standard' lets it live for 60s (maxTtl) from first Ready."
    )
    pass_(small, limit)
    small.until(small.is_closed)
    assert small.is_kept(*FILES)


def test_the_class_of_the_begin_counts() -> None:
    small = running("60s")
    small.patch(CLASS, maxTtl="1h")
    extend(small, timedelta(minutes=30))
    assert expires(small) == ready_at(small) + timedelta(seconds=60)


def test_it_never_shortens() -> None:
    small = running()
    extend(small, timedelta(seconds=20))
    assert expires(small) == ready_at(small) + TTL
    assert "extendedUntil" not in small.truth["session"]


def test_asked_before_it_is_ready() -> None:
    small = Small()
    until = stamp(small.clock.now() + timedelta(minutes=10))
    small.request(session={**SHORT, "extendUntil": until})
    small.until(small.has_session)
    assert small.truth["session"]["extendedUntil"] == until


def test_without_a_pod_it_ends_by_its_start_timeout_all_the_same() -> None:
    small = Small()
    small.request(session={**SHORT, "startTimeout": "5s", "extendUntil": "2031-01-01T00:00:00Z"})
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"


def test_a_warning_goes_with_its_cause_and_comes_again() -> None:
    small = running()
    small.until(lambda: small.condition("SessionActive")["reason"] == "SessionEnding")
    assert "its ttl is over then" in small.condition("SessionActive")["message"]
    until = extend(small, timedelta(seconds=80))
    assert small.condition("SessionActive")["reason"] == "SessionRunning"
    small.until(lambda: small.condition("SessionActive")["reason"] == "SessionEnding", steps=100)
    assert small.clock.now() >= until - timedelta(seconds=12)
    assert "its extendUntil is over then" in small.condition("SessionActive")["message"]


@pytest.mark.parametrize("how", ["deletion", "request", "pod"])
def test_whatever_else_ends_a_session_ends_it(how: str) -> None:
    small = running()
    extend(small, timedelta(minutes=30))
    {"deletion": small.delete, "request": lambda: small.patch(REQUEST, endRequested=True), "pod": small.end_pod}[how]()
    small.until(small.is_closed)
    assert small.clock.now() < ready_at(small) + timedelta(minutes=5)
    assert small.is_kept(*FILES)


def test_after_the_end_it_means_nothing() -> None:
    small = running()
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endedAt"))
    ended = small.truth["session"]
    extend(small, timedelta(minutes=30))
    small.until(small.is_closed)
    assert small.truth["session"] == ended
    assert "extend" not in small.condition("SessionActive")["message"]


def test_what_an_older_operator_has_begun_lives_as_long_as_its_token() -> None:
    small = running()
    record = Ref("RSERecord", None, record_name(small.record_id))
    small.cluster.merge(record, {"status": {"session": {"extendableUntil": None}}}, subresource="status")
    extend(small, timedelta(seconds=60))
    assert expires(small) == ready_at(small) + TTL
    assert "an earlier version of the operator has begun it" in small.condition("SessionActive")["message"]
    pass_(small, ready_at(small) + TTL)
    small.until(small.is_closed)
    assert small.is_kept(*FILES)


@pytest.mark.parametrize("name", ["extendableUntil", "extendedUntil"])
def test_a_truth_of_it_that_cannot_be_read_leads_to_the_end(name: str) -> None:
    small = running()
    extend(small, timedelta(seconds=60))
    record = Ref("RSERecord", None, record_name(small.record_id))
    with small.cluster.unchecked(record) as body:
        body["status"]["session"][name] = "soon"
    small.until(small.is_closed, steps=120)
    assert small.truth["mended"][0].endswith(f"status.session.{name}")
    assert small.is_kept(*FILES)


def test_a_ttl_that_the_class_does_not_allow_is_told() -> None:
    small = Small()
    small.patch(CLASS, maxTtl="39s")
    small.request(session=SHORT)
    small.step()
    told = small.condition("Stalled")
    assert (told["status"], told["reason"]) == ("True", "TtlOverLimit")
    assert "spec.session.ttl 40s is more than the maxTtl 39s of class 'standard'." in told["message"]


def test_raised_in_the_last_moment_before_any_event_of_it_has_come() -> None:
    """An end cannot be taken back: whether it is due is decided upon what the API server says now."""
    small = running()
    until = ready_at(small) + timedelta(seconds=80)
    small.until(lambda: small.clock.now() >= ready_at(small) + TTL - timedelta(seconds=1))
    small.clock.turn(timedelta(seconds=2))
    follow = small._follow

    def late(reconciler: Any) -> None:
        follow(reconciler)
        small.patch(REQUEST, session={"extendUntil": stamp(until)})

    small._follow = late  # type: ignore[method-assign]
    small.visit()
    assert not small.truth["session"].get("endedAt")
    assert small.truth["session"]["extendedUntil"] == stamp(until)
