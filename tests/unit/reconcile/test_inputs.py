"""Inputs of which not all can be had."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.reconcile.small_world import Small
from tests.unit.reconcile.test_calls import counting
from volatile_rse.builders.session import store_path
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.ports.cluster import Ref

IN = Did("user.alice", "in")
FIRST = File(Did("user.alice", "in.0"), 100, "00000000")


def without_a_source(percent: int) -> Small:
    small = Small()
    small.catalogue.lose("SITE-A", FIRST.did)
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": percent}])
    return small


def test_fewer_sources_than_the_session_needs_are_refused_until_there_are_enough() -> None:
    small = without_a_source(51)
    small.until(lambda: small.condition("Stalled").get("reason") == "NoReplica")
    said = small.condition("Stalled")["message"]
    assert "1 of 2 files have no replica on a permanent RSE of '*', for example user.alice:in.0" in said
    assert "minimumPercent is 51" in said
    small.catalogue.add_files(IN, "SITE-A", [FIRST])
    small.until(small.has_session, 120)


def test_what_has_no_source_is_asked_for_ever_less() -> None:
    small = without_a_source(50)
    small.until(small.has_session)
    small.start_pod()
    calls = counting(small)
    small.forget()
    for _ in range(4 * 60):
        small.clock.turn(timedelta(minutes=1))
        small.step()
    assert 2 * 5 <= calls["sources"] <= 2 * 10, calls


def test_a_file_that_fails_at_its_source_is_fetched_from_where_it_is_found_later() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 404"}
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": 50}])
    small.until(small.has_session)
    small.start_pod()
    small.catalogue.add_files(IN, "SITE-B", [FIRST])
    small.unreadable = {}
    small.until(lambda: small.clock.turn(timedelta(minutes=1)) or small.buffer.holds(store_path(FIRST.did)))


def test_an_agent_of_an_older_version_is_not_told_of_what_has_no_source() -> None:
    small = without_a_source(50)
    small.buffer.knows = ["outputs", "continuous"]
    small.until(small.has_session)
    assert [state.name for state in small.buffer.inputs().items] == ["in.1"]
    assert "VRSE_INPUTS_URL" not in config_of(small)


def config_of(small: Small) -> dict[str, str]:
    return dict((small.cluster.get(Ref("ConfigMap", "alice", "run-vrse")) or {})["data"])


def test_the_session_is_told_where_the_list_of_its_inputs_is_which_it_was_seen_to_read() -> None:
    small = Small()
    small.request()
    small.until(lambda: small.buffer.report().manifest)
    hidden, small.buffer._list = small.buffer._list, None
    assert hidden == f"/store/user/alice/.inputs-{small.record_id}.jsonl"
    for _ in range(5):
        small.step()
    assert not small.has_session(), "it was told of a list that it cannot read"
    small.buffer._list = hidden
    small.until(small.has_session)
    assert config_of(small)["VRSE_INPUTS_URL"].endswith(f".bufs.svc:1094/{hidden}")
