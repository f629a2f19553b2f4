"""Inputs of which not all can be had."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from tests.unit.reconcile.test_calls import counting
from volatile_rse.adapters.fake_buffer import FakeBuffer
from volatile_rse.builders.session import store_path
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.frozen import read_lines, write_lines
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

    def has_come() -> bool:
        small.clock.turn(timedelta(minutes=1))
        return small.buffer.holds(store_path(FIRST.did))

    small.until(has_come)


def test_an_agent_of_an_older_version_is_not_told_of_what_has_no_source() -> None:
    small = without_a_source(50)
    small.buffer.knows = ["outputs", "continuous"]
    small.until(small.has_session)
    assert [state.name for state in small.buffer.inputs().items] == ["in.1"]
    assert "VRSE_INPUTS_URL" not in config_of(small)


NONE = "has neither an adler32 nor an md5 checksum"
LACKS: dict[str, tuple[dict[str, Any], str]] = {
    "no checksum": ({"adler32": ""}, NONE),
    "no size": ({"bytes": None}, "has no size"),
    "a negative size": ({"bytes": -7}, "has a size of -7"),
    "a size that is none": ({"bytes": 1 << 63}, "has a size of 9223372036854775808"),
    "a checksum that is none": ({"adler32": "no sum"}, "has the adler32 checksum 'no sum', which is none"),
    "a name that is no path": ({"did": Did("user.alice", "a/../b")}, "has a path that has an empty part"),
    "a name that is no text": ({"did": Did("user.alice", "a\ud800")}, "has a name that is no text"),
}


def odd_beside_two(change: dict[str, Any], percent: int, on: str = "SITE-A") -> Small:
    small = Small()
    odd = replace(File(Did("user.alice", "in.odd"), 7, "00000007"), **change)
    small.catalogue.add_files(IN, on, [odd])
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": percent}])
    return small


@pytest.mark.parametrize("case", LACKS)
def test_a_file_that_can_be_no_input_is_one_missing_file(case: str) -> None:
    change, lack = LACKS[case]
    small = odd_beside_two(change, 60)
    small.until(small.has_session)
    assert sorted(state.name for state in small.buffer.inputs().items) == ["in.0", "in.1"]
    said = small.condition("InputsStaged")["message"]
    assert "2 of 3 files are staged, which is enough to begin with. 1 files are missing for good: user.alice:" in said
    assert lack in said
    assert "Whoever registered them must correct them in Rucio" in said
    (entry,) = (small.cluster.get(REQUEST) or {})["status"]["inputs"]
    assert (entry["files"], entry["staged"], entry["failed"]) == (3, 2, 1)
    assert (entry["stagedBytes"], entry["bytes"]) == (201, 201)
    assert config_of(small)["inputs.jsonl"].count("\n") == 2
    small.start_pod()
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("case", LACKS)
def test_a_file_that_can_be_no_input_is_named_where_too_few_others_are_left(case: str) -> None:
    change, lack = LACKS[case]
    small = odd_beside_two(change, 67)
    small.until(lambda: small.condition("Stalled").get("status") == "True")
    stalled = small.condition("Stalled")
    is_path = "path" in lack
    assert stalled["reason"] == ("InputUnplaceable" if is_path else "InputUnusable")
    assert lack in stalled["message"]
    assert is_path or "1 of 3 files cannot be inputs, and minimumPercent is 67" in stalled["message"]
    assert "USER must act" in stalled["message"]
    assert small.condition("InputsStaged")["reason"] == stalled["reason"]
    assert "inputs" not in small.truth
    small.delete()
    small.until(lambda: small.is_gone)


def test_what_lacks_a_checksum_and_what_has_no_source_are_missing_together() -> None:
    small = Small(inputs=3)
    small.catalogue.add_files(IN, "SITE-A", [File(Did("user.alice", "odd"), 7, "")])
    small.catalogue.lose("SITE-A", FIRST.did)
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": 51}])
    small.until(lambda: small.condition("Stalled").get("reason") == "NoReplica")
    said = small.condition("Stalled")["message"]
    assert "1 of 4 files have no replica on a permanent RSE of '*', for example user.alice:in.0" in said
    assert f"1 more cannot be inputs, for example user.alice:odd, which {NONE}." in said


def test_an_input_of_which_nothing_can_be_had_may_be_gone_without() -> None:
    small = Small(inputs=0)
    small.catalogue.add_files(IN, "SITE-A", [File(Did("user.alice", "odd"), 7, "")])
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": 0}])
    small.until(small.has_session)
    small.delete()
    small.until(lambda: small.is_gone)


def test_a_file_that_is_corrected_in_rucio_lets_a_session_go_on_that_waited() -> None:
    small = odd_beside_two({"adler32": ""}, 100)
    small.until(lambda: small.condition("Stalled").get("reason") == "InputUnusable")
    small.catalogue._files[Did("user.alice", "in.odd")] = File(Did("user.alice", "in.odd"), 7, "00000007")
    small.until(small.has_session, 120)


def test_a_list_with_missing_files_that_is_lost_is_made_again_as_it_was() -> None:
    small = odd_beside_two({"adler32": ""}, 60)
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.until(lambda: small.truth.get("inputs") and small.buffer.inputs().items)
    before = small.truth["inputs"]
    assert (before[0]["unusable"], before[0]["lacks"]) == (1, f"user.alice:in.odd {NONE}")
    small.drop(Piece.INPUTS)
    small.unreadable = {}
    small.until(small.has_session, 120)
    assert small.truth["inputs"] == before


def test_a_session_whose_inputs_lack_too_much_is_given_up_after_their_deadline() -> None:
    small = Small()
    small.catalogue.add_files(IN, "SITE-A", [File(Did("user.alice", "odd"), 7, "")])
    small.request(inputs=[{"name": "in", "did": str(IN), "deadline": "10m", "onDeadline": "Fail"}])
    small.until(lambda: small.condition("Stalled").get("reason") == "InputUnusable")
    small.clock.turn(timedelta(minutes=11))
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "InputsLate"
    assert NONE in small.truth["session"]["endMessage"]


MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def test_a_file_with_md5_alone_is_staged_and_registered_by_that() -> None:
    small = odd_beside_two({"adler32": "", "md5": MD5}, 100)
    small.until(small.has_session)
    (found,) = [state for state in small.buffer.inputs().items if state.name == "in.odd"]
    assert (found.state, found.md5, found.adler32) == ("staged", MD5, "0123abcd")
    lines = [json.loads(line) for line in config_of(small)["inputs.jsonl"].splitlines()]
    assert [line.get("md5") for line in lines] == [None, None, MD5]
    small.until(lambda: Did("user.alice", "in.odd") in small.catalogue.registered(small.ledger))
    small.delete()
    small.until(lambda: small.is_gone)


def test_an_agent_of_an_older_version_is_not_told_of_files_with_md5_alone() -> None:
    small = odd_beside_two({"adler32": "", "md5": MD5}, 60)
    small.buffer.knows = ["outputs", "continuous", "sourceless"]
    small.until(small.has_session)
    assert sorted(state.name for state in small.buffer.inputs().items) == ["in.0", "in.1"]


def test_a_list_of_an_older_version_is_read() -> None:
    line = '["in","user.alice","in.0",100,"00000000"]\n'
    assert read_lines(line) == {"in": (FIRST,)}
    assert write_lines({"in": [FIRST]}) == line
    odd = (File(FIRST.did, 0, "", lack="has no size"), File(FIRST.did, 1, "", MD5))
    assert read_lines(write_lines({"in": odd})) == {"in": odd}


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


def waiting(small: Small) -> None:
    """Have one of two inputs on the buffer, and the other one on its way."""
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request()
    small.until(lambda: any(total.staged for total in small.buffer.report().inputs))


def told(small: Small) -> dict[str, object]:
    for _ in range(12):
        small.step()
    (entry,) = (small.cluster.get(REQUEST) or {})["status"]["inputs"]
    return dict(entry)


@pytest.mark.parametrize(
    ("rate", "eta"),
    # 100 bytes are missing.
    [(10, timedelta(seconds=10)), (1, timedelta(seconds=100)), (0, None), (None, None)],
)
def test_the_end_of_staging_is_told_to_the_minute(rate: int | None, eta: timedelta | None) -> None:
    small = Small()
    waiting(small)
    small.buffer.staging_rate = rate
    seen = told(small)
    assert (seen["staged"], seen["stagedBytes"], seen["bytes"]) == (1, 101, 201)
    if eta is None:
        assert "eta" not in seen
        return
    end = datetime.fromisoformat(str(seen["eta"]))
    assert end.second == 0
    # It may have been written a while ago.
    assert timedelta(seconds=-15) <= end - (small.clock.now() + eta) <= timedelta(minutes=1)


def test_an_end_beyond_all_times_is_not_told() -> None:
    small = Small(inputs=0)
    huge = File(Did("user.alice", "huge"), 1 << 60, "00000000")
    small.catalogue.add_files(IN, "SITE-A", [huge])
    small.buffer = FakeBuffer(capacity=1 << 61)
    small.buffer.staging_rate = 1
    small.unreadable = {store_path(huge.did): "HTTP 503"}
    limits = {"perOwner": {"bytes": "4096Pi"}}
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"limits": limits}})
    small.request(capacity="2048Pi", inputs=[{"name": "in", "did": str(IN)}])
    small.until(lambda: small.buffer.report().inputs)
    assert "eta" not in told(small)
    assert small.condition("InputsStaged")["reason"] == "StagingFailed"


def test_inputs_need_inodes_too() -> None:
    small = Small()
    small.buffer.inodes_free = 1
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "InputsTooLarge")
    assert "need 201 bytes and 2 inodes more" in small.condition("Stalled")["message"]
    assert "1 inodes free" in small.condition("Stalled")["message"]
    assert small.buffer.report().manifest is None, "a byte moved"
    small.buffer.inodes_free = 2
    small.until(small.has_session)


def test_a_volume_without_a_count_of_inodes_has_enough() -> None:
    small = Small()
    small.buffer.inodes, small.buffer.inodes_free = 0, 0
    small.request()
    small.until(small.has_session)


def test_bytes_are_compared_with_the_volume_before_one_moves() -> None:
    small = Small()
    small.buffer = FakeBuffer(capacity=200)
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "InputsTooLarge")
    assert "need 201 bytes and 2 inodes more, and the volume has 200 bytes" in small.condition("Stalled")["message"]
    assert small.buffer.report().manifest is None, "a byte moved"


def test_a_site_that_cannot_be_read_now_is_no_source() -> None:
    small = Small()
    small.catalogue.alter("SITE-A", readable=False)
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "NoReplica")
    small.catalogue.add_files(IN, "SITE-B", [FIRST, File(Did("user.alice", "in.1"), 101, "00000001")])
    small.until(small.has_session, 120)


def test_a_file_of_two_inputs_needs_room_once_and_is_listed_no_more_when_all_is_there() -> None:
    small = Small()
    small.buffer = FakeBuffer(capacity=201)
    small.buffer.inodes_free = 2
    small.request(capacity="201", inputs=[{"name": name, "did": str(IN)} for name in ("in", "again")])
    small.until(small.has_session)
    asked: list[int] = []
    real = small.buffer.inputs
    small.buffer.inputs = lambda after=0: asked.append(after) or real(after)  # type: ignore[method-assign,func-returns-value]
    for _ in range(5):
        small.step()
    assert not asked


def test_what_two_inputs_share_is_compared_with_the_volume_once() -> None:
    small = Small()
    small.buffer = FakeBuffer(capacity=200)
    small.request(inputs=[{"name": name, "did": str(IN)} for name in ("in", "again")])
    small.until(lambda: small.condition("Stalled").get("reason") == "InputsTooLarge")
    assert "need 201 bytes and 2 inodes more, and the volume has 200 bytes" in small.condition("Stalled")["message"]


def stalled(small: Small) -> str:
    """Say what is told of inputs that do not arrive, after a while."""
    for _ in range(12):
        small.step()
    staged = small.condition("InputsStaged")
    return str(staged["message"]) if staged.get("reason") == "StagingStalled" else ""


def test_inputs_of_which_nothing_arrives_are_told_at_their_deadline_until_something_does() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[{"name": "in", "did": str(IN), "deadline": "10m"}])
    small.buffer.idle = {"in": 599}
    assert not stalled(small)
    small.buffer.idle = {"in": 600}
    assert "Nothing of these inputs has arrived within their deadline: in (10m)" in stalled(small)
    assert f"{store_path(FIRST.did)}: HTTP 503" in stalled(small)
    small.buffer.idle = {"in": 3}
    assert not stalled(small)
    small.buffer.idle = {"in": 600}
    assert stalled(small)
    small.unreadable, small.buffer.idle = {}, {}
    small.buffer.restart()
    small.until(small.has_session)
    assert not stalled(small)
    assert small.condition("InputsStaged")["status"] == "True"


def test_what_a_session_can_begin_without_has_no_deadline() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.buffer.idle = {"in": 7200}
    small.request(inputs=[{"name": "in", "did": str(IN), "minimumPercent": 50}])
    small.until(small.has_session)
    assert not stalled(small)


def test_of_two_inputs_the_one_is_named_that_is_waited_for() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    least = {"all": 100, "half": 50}
    small.request(inputs=[{"name": name, "did": str(IN), "minimumPercent": least[name]} for name in least])
    small.buffer.idle = {"all": 1800, "half": 1800}
    assert "within their deadline: all (30m). " in stalled(small)


def has_failed(small: Small) -> bool:
    return small.condition("Stalled").get("reason") == "InputsLate"


def failing(**spec: object) -> dict[str, object]:
    return {"name": "in", "did": str(IN), "deadline": "10m", "onDeadline": "Fail", **spec}


def is_told_and_leaves_nothing(small: Small) -> None:
    """Look at what a session leaves that was given up, before and after its VolatileRSE goes."""
    small.until(small.is_closed)
    for type_ in ("Ready", "Usable", "InputsStaged", "SessionActive", "OutputsSafe"):
        told = small.condition(type_)
        assert (told["status"], told["reason"]) == ("False", "InputsLate"), type_
    assert "USER must act" in small.condition("Stalled")["message"]
    assert (small.cluster.get(REQUEST) or {})["status"]["phase"] == "Failed"
    assert [event.type_ for event in small.cluster.events if event.reason == "InputsLate"] == ["Warning"]
    assert small.truth["session"]["endReason"] == "InputsLate"
    assert "readyAt" not in small.truth["session"]
    (said,) = small.truth["outcome"]["exceptions"]
    assert said == f"never begun: {small.truth['session']['endMessage']}"
    assert not small.has_session()
    assert small.catalogue.buffer(small.rse) is None
    assert not small.cluster.list("Pod", "bufs")
    assert small.kept_volumes() == 0
    small.delete()
    small.until(lambda: small.is_gone)


def test_a_session_whose_inputs_do_not_come_in_time_never_begins_where_that_was_asked_for() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[failing()])
    small.buffer.idle = {"in": 599}
    assert not stalled(small)
    assert not has_failed(small)
    small.buffer.idle = {"in": 600}
    small.until(lambda: has_failed(small))
    said = small.condition("Stalled")["message"]
    assert f"in (10m). {store_path(FIRST.did)}: HTTP 503" in said
    # What comes afterwards is late.
    small.unreadable, small.buffer.idle = {}, {}
    is_told_and_leaves_nothing(small)


def test_by_default_a_deadline_is_told_and_nothing_ends() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[{"name": "in", "did": str(IN), "deadline": "10m"}])
    small.buffer.idle = {"in": 6000}
    assert stalled(small)
    small.unreadable, small.buffer.idle = {}, {}
    small.buffer.restart()
    small.until(small.has_session)


def test_a_deadline_that_would_end_it_counts_for_nothing_once_enough_is_there() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[failing(minimumPercent=50)])
    small.until(small.has_session)
    small.buffer.idle = {"in": 7200}
    for _ in range(10):
        small.step()
    assert not has_failed(small)


def test_what_nobody_waits_for_ends_nothing() -> None:
    small = Small()
    small.request(inputs=[failing(minimumPercent=0)])
    small.until(lambda: small.truth.get("inputs"))
    small.buffer.down = True
    small.step()
    small.clock.turn(timedelta(minutes=11))
    for _ in range(5):
        small.step()
    small.buffer.down = False
    small.until(small.has_session)


def test_one_of_two_inputs_may_be_late() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[failing(onDeadline="Continue"), failing(name="again", deadline="20m")])
    small.buffer.idle = {"in": 900, "again": 900}
    assert stalled(small)
    small.buffer.idle = {"in": 1200, "again": 1200}
    small.until(lambda: has_failed(small))
    assert "onDeadline is Fail: again (20m)." in small.condition("Stalled")["message"]


def test_inputs_that_cannot_even_be_resolved_are_late_too() -> None:
    small = Small()
    small.request(inputs=[failing(did="user.alice:nothing")])
    small.until(lambda: small.condition("Stalled").get("reason") == "DIDNotFound")
    small.clock.turn(timedelta(minutes=9))
    small.step()
    assert not has_failed(small)
    small.clock.turn(timedelta(minutes=2))
    small.until(lambda: has_failed(small))
    assert "user.alice:nothing" in small.condition("Stalled")["message"]
    is_told_and_leaves_nothing(small)


def test_storage_that_never_starts_brings_no_inputs() -> None:
    small = Small()
    small.request(inputs=[failing()])
    small.until(lambda: small.truth.get("inputs"))
    small.buffer.down = True
    small.step()
    small.clock.turn(timedelta(minutes=11))
    small.until(lambda: has_failed(small))
    small.buffer.down = False
    is_told_and_leaves_nothing(small)


def test_an_agent_that_is_silent_for_the_whole_deadline_brings_no_inputs() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[failing()])
    small.buffer.idle = {"in": 1}
    small.until(lambda: small.truth.get("volume"))
    small.clock.turn(timedelta(hours=3))
    small.step()
    small.buffer.down = True
    small.step()
    small.clock.turn(timedelta(minutes=9))
    small.step()
    assert not has_failed(small), "what had arrived until then counts"
    small.buffer.down = False
    small.step()
    small.step()
    assert "unasked" not in small.truth["steps"]
    small.buffer.down = True
    small.step()
    small.clock.turn(timedelta(minutes=11))
    small.until(lambda: has_failed(small))


def test_whoever_dies_where_it_is_given_up_it_ends_in_the_same_way() -> None:
    small = Small()
    small.unreadable = {store_path(FIRST.did): "HTTP 503"}
    small.request(inputs=[failing()])
    small.buffer.idle = {"in": 600}
    for _ in range(60):
        small.step()
        small.forget()
    is_told_and_leaves_nothing(small)
