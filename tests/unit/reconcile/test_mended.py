"""Truths that cannot be read: by the safer reading of each a buffer comes to its end, and no byte is lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.api.agent import CopyPage, InputPage
from volatile_rse.builders.objects import AT_RISK, KINDS, name_of, record_name
from volatile_rse.builders.session import store_path
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.stage import Stage
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reading import uid_of
from volatile_rse.reconcile.uninstall import stakes_of

NONE = "yesterday"
Damage = dict[str, Any]
STAGES = (Stage.SERVING, Stage.FENCING, Stage.KEEPING, Stage.HIDING, Stage.DRAINING, Stage.CLOSED)
DAMAGES: dict[str, Damage] = {
    "all of it": {"": "x"},
    "session": {"session": "x"},
    "session.readyAt": {"session.readyAt": NONE},
    "session.startedAt": {"session.startedAt": 7},
    "session.lastSeenAt": {"session.lastSeenAt": []},
    "session.endedAt": {"session.endedAt": NONE},
    "session.endReason": {"session.endReason": "Bored"},
    "inputs": {"inputs": [{"name": 7}]},
    "scopes": {"scopes": "x"},
    "destinations": {"destinations": [None]},
    "volume": {"volume": {}},
    "losses": {"losses": 7},
    "steps": {"steps": []},
    "steps.sealed": {"steps.sealed": 5},
    "steps.emptied": {"steps.emptied": 5},
    "steps.reverted": {"steps.reverted": 5},
    "filesAtRisk": {"filesAtRisk": -1, "bytesAtRisk": "many"},
    "quarantinedAt": {"quarantinedAt": NONE},
    "consent": {"consent": "x"},
    "discarded": {"discarded": {"at": NONE}},
    "outcome": {"outcome": "x"},
    "safeAt": {"safeAt": NONE},
    "freedAt": {"freedAt": NONE},
    "closedAt": {"closedAt": NONE},
    "mended": {"mended": 7},
    "times": {"session.endedAt": NONE, "steps.sealed": NONE, "safeAt": NONE, "freedAt": NONE, "closedAt": NONE},
    "all but one": {
        "session": 7, "inputs": 7, "scopes": 7, "destinations": 7, "steps": 7, "outcome": 7, "safeAt": 7, "volume": 7,
    },
}  # fmt: skip


def damaged(small: Small, damage: Damage) -> None:
    """Write what nobody can read, behind the back of validation."""
    with small.cluster.unchecked(Ref("RSERecord", None, record_name(small.record_id))) as body:
        for path, value in damage.items():
            place, steps = body, ["status", *filter(None, path.split("."))]
            for step in steps[:-1]:
                place = place.setdefault(step, {})
            place[steps[-1]] = value


def at(stage: Stage) -> Small:
    """Go so far with a session that has written."""
    small = Small()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.write("kept/b")
    if stage is not Stage.SERVING:
        small.end_pod()
        small.until(lambda: small.truth.get("phase") == stage.value, 120)
    return small


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", DAMAGES)
def test_a_truth_that_cannot_be_read_keeps_no_buffer_from_its_end_and_loses_no_byte(case: str, stage: Stage) -> None:
    small = at(stage)
    damaged(small, DAMAGES[case])
    small.step()
    if stage is Stage.SERVING:
        small.end_pod()
    small.until(lambda: "mended" in small.truth and small.is_closed(), 400)
    assert small.is_kept("kept/a")
    assert small.is_kept("kept/b")
    small.delete()
    small.until(lambda: small.is_gone)
    told = [event for event in small.cluster.events if event.reason == "RecordUnreadable"]
    assert told, "nobody was told"
    assert "was taken by the safer reading: status" in told[0].message


@pytest.mark.parametrize(
    "case", ["session.startedAt", "session.lastSeenAt", "scopes", "destinations", "inputs", "volume"]
)
def test_a_session_that_runs_goes_on(case: str) -> None:
    small = at(Stage.SERVING)
    before = small.truth["session"]["readyAt"]
    damaged(small, DAMAGES[case])
    for _ in range(20):
        small.step()
    assert small.truth["phase"] == "Serving"
    assert small.truth["session"]["readyAt"] == before
    assert "endedAt" not in small.truth["session"]
    assert small.has_session()
    assert [entry["output"] for entry in small.truth["destinations"]] == ["kept"]
    assert small.truth["scopes"] == ["user.alice"]
    small.end_pod()
    small.until(small.is_closed, 120)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("case", ["inputs", "scopes", "destinations"])
def test_the_pod_of_a_session_that_runs_stays_held_while_nothing_can_be_resolved_anew(case: str) -> None:
    small = at(Stage.SERVING)
    pod = Ref("Pod", "bufs", name_of(small.record_id, Piece.POD))
    small.catalogue.down = True
    damaged(small, DAMAGES[case])
    for _ in range(5):
        small.step()
    assert small.truth["phase"] == "Preparing"
    assert (small.cluster.get(pod) or {})["metadata"]["labels"].get(AT_RISK) == "true"


@pytest.mark.parametrize("case", ["inputs", "scopes", "destinations"])
def test_a_session_that_runs_ends_by_its_pods_while_nothing_can_be_resolved_anew(case: str) -> None:
    small = at(Stage.SERVING)
    small.catalogue.down = True
    damaged(small, DAMAGES[case])
    small.step()
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endReason") == "PodsGone", 20)
    assert not small.has_session()
    small.catalogue.down = False
    small.until(small.is_closed, 120)
    assert small.is_kept("kept/a")


def test_a_pod_of_a_session_that_is_seen_again_is_no_end_while_nothing_can_be_resolved_anew() -> None:
    small = at(Stage.SERVING)
    small.catalogue.down = True
    damaged(small, DAMAGES["inputs"])
    for _ in range(10):
        small.step()
    assert "endedAt" not in small.truth["session"]
    assert small.truth["phase"] == "Preparing"


def test_a_volume_that_is_lost_while_nothing_can_be_resolved_anew_is_told() -> None:
    small = at(Stage.SERVING)
    small.catalogue.down = True
    damaged(small, DAMAGES["inputs"])
    small.step()
    small.drop(Piece.POD, Piece.VOLUME)
    small.cluster.delete(volume := Ref("PersistentVolume", None, small.volume), uid_of(small.cluster.get(volume) or {}))
    small.until(lambda: small.truth.get("losses"))
    assert small.truth["phase"] == "Preparing"


@pytest.mark.parametrize("piece", [Piece.SERVICE, Piece.KEYS, Piece.POD])
def test_the_storage_of_a_session_that_runs_is_kept_up_while_nothing_can_be_resolved_anew(piece: Piece) -> None:
    small = at(Stage.SERVING)
    small.catalogue.down = True
    damaged(small, DAMAGES["inputs"])
    small.step()
    ref = Ref(KINDS[piece], "bufs", name_of(small.record_id, piece))
    small.drop(piece)
    small.until(lambda: small.cluster.get(ref) is not None)
    assert small.truth["phase"] == "Preparing"


IN = Did("user.alice", "in")


def with_another_input(small: Small) -> Did:
    """Let the inputs hold another file than before, beside one that stays."""
    other = File(Did("user.alice", "in.2"), 102, f"{2:08}")
    small.catalogue.detach(IN, Did("user.alice", "in.1"))
    small.catalogue.add_files(IN, "SITE-A", [other])
    return other.did


@pytest.mark.parametrize("case", ["inputs", "scopes", "destinations"])
def test_an_agent_that_still_has_inputs_of_before_is_believed(case: str) -> None:
    small = at(Stage.SERVING)
    other = with_another_input(small)
    damaged(small, DAMAGES[case])
    small.until(lambda: small.buffer.holds(store_path(other)))
    for _ in range(5):
        small.step()
        assert "BufferImplausible" not in str(small.record), small.message
        assert "cannot be believed" not in small.message
    assert small.truth["phase"] == "Serving"
    assert small.condition("Usable")["status"] == "True"
    assert small.condition("InputsStaged")["status"] == "True"
    small.end_pod()
    small.until(small.is_closed, 120)
    assert small.is_kept("kept/a")


def test_inputs_of_before_stand_for_none_of_those_that_are_awaited() -> None:
    small = Small()
    small.unreadable = {store_path(Did("user.alice", f"in.{number}")): "HTTP 503" for number in (1, 2)}
    small.request()
    small.until(lambda: any(isinstance(effect, do.Register) for effect in small.applied))
    del small.unreadable[store_path(Did("user.alice", "in.1"))]
    small.catalogue.detach(IN, Did("user.alice", "in.0"))
    other = File(Did("user.alice", "in.2"), 102, f"{2:08}")
    small.catalogue.add_files(IN, "SITE-A", [other])
    damaged(small, DAMAGES["inputs"])
    for _ in range(20):
        small.step()
    assert small.buffer.holds(store_path(Did("user.alice", "in.1")))
    assert not small.has_session(), "the one of before is counted for the one that is awaited"
    small.unreadable = {}
    small.until(small.has_session)


def test_what_is_on_no_list_is_registered_by_no_word_of_an_agent() -> None:
    small = at(Stage.SERVING)
    with_another_input(small)
    damaged(small, DAMAGES["inputs"])
    small.until(lambda: small.truth["phase"] == "Serving")
    known = small.catalogue.registered(small.ledger)
    stranger = Did("user.bob", "secret")
    told = small.buffer.inputs()
    lie = told.items[0].model_copy(update={"scope": stranger.scope, "name": stranger.name, "state": "staged"})
    small.buffer.inputs = lambda after=0: InputPage(items=[*told.items, lie][after:])  # type: ignore[method-assign]
    for _ in range(5):
        small.step()
    assert stranger not in small.catalogue.registered(small.ledger)
    assert known <= small.catalogue.registered(small.ledger)


@pytest.mark.parametrize("case", ["all of it", "session", "session.endedAt"])
def test_a_session_whose_end_cannot_be_read_has_ended(case: str) -> None:
    small = at(Stage.SERVING)
    damaged(small, DAMAGES[case])
    small.step()
    assert small.truth["session"]["endReason"] == "RecordUnreadable"
    ended = small.truth["session"]["endedAt"]
    small.until(lambda: not small.has_session())
    small.until(small.is_closed, 120)
    assert small.truth["session"]["endedAt"] == ended
    assert small.is_kept("kept/a")


def test_what_was_given_up_and_cannot_be_read_any_more_is_asked_for_again() -> None:
    small = at(Stage.KEEPING)
    damaged(small, {"lostFiles": "many"})
    small.until(lambda: "StorageLost" in str(small.message) or "discard" in str(small.message), 120)
    assert not small.is_closed()


def test_a_discard_that_cannot_be_read_any_more_is_carried_out_again_by_its_consent() -> None:
    small = discarding_one()
    damaged(small, DAMAGES["discarded"])
    small.step()
    assert small.truth["phase"] == "Keeping"
    small.until(small.is_closed, 200)
    assert small.truth["discarded"]["files"] == 1
    assert small.is_kept("kept/a")


def test_what_is_safe_again_in_a_moment_is_not_discarded_with_what_was() -> None:
    small = discarding_one()
    for rule in small.kept_rules():
        small.catalogue.expire_rule(rule)
    small.catalogue.run_daemons()
    assert not small.is_kept("kept/a")
    damaged(small, DAMAGES["discarded"])
    small.until(small.is_closed, 200)
    assert small.truth["discarded"]["files"] == 1
    assert small.is_kept("kept/a")


def discarding_one() -> Small:
    """Go so far with a session that one of its two files is kept, and the other one was discarded."""
    small = at(Stage.SERVING)
    small.given_up = ("kept/b",)
    small.fail_copies(1000)
    small.end_pod()
    small.until(lambda: len(small.buffer.copies().items) == 2)
    names = {state.name: state.path for state in small.buffer.outputs().items}
    small.unreadable = {copy.pfn: "full" for copy in small.buffer.copies().items if names[copy.name] == "kept/b"}
    small.fail_copies(0)
    small.until(lambda: small.is_kept("kept/a"))
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.until(lambda: small.truth.get("phase") == "Hiding", 200)
    assert small.truth["discarded"]["files"] == 1
    return small


@pytest.mark.parametrize("case", ["destinations", "lostFiles", "outcome", "discarded"])
def test_of_a_session_that_never_began_nothing_is_waited_for(case: str) -> None:
    small = Small()
    small.unreadable = {store_path(Did("user.alice", "in.1")): "HTTP 503"}
    small.request()
    small.until(lambda: any(isinstance(effect, do.Register) for effect in small.applied))
    small.patch(REQUEST, endRequested=True)
    small.until(lambda: small.truth.get("phase") == "Hiding")
    assert "readyAt" not in small.truth["session"]
    small.buffer.down = True
    damaged(small, {"lostFiles": "many"} if case == "lostFiles" else DAMAGES[case])
    small.until(small.is_closed, 120)


def test_a_buffer_goes_on_where_the_safer_reading_cannot_be_written_yet() -> None:
    small = at(Stage.SERVING)
    damaged(small, {"session.endedAt": NONE})
    small.cluster.fail_next()
    small.step()
    small.until(small.is_closed, 120)
    assert small.truth["session"]["endReason"] == "RecordUnreadable"
    assert small.is_kept("kept/a")


def test_what_was_safe_is_not_where_nobody_knows_any_more_where_it_was_to_be() -> None:
    small = at(Stage.HIDING)
    files = small.catalogue.content(OUT)
    small.catalogue.add_files(OUT, "SITE-A", files)
    for file in files:
        small.catalogue.lose("SITE-B", file.did)
    damaged(small, DAMAGES["destinations"])
    small.until(small.is_closed, 400)
    assert small.catalogue.unsafe(files, ["SITE-B"]) == ()
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("change", ["dataset is closed", "quota is used up"])
def test_where_outputs_are_kept_already_is_not_judged_again(change: str) -> None:
    small = at(Stage.HIDING)
    if change == "dataset is closed":
        small.catalogue.close(OUT)
    else:
        small.catalogue.quota["alice", "SITE-B"] = small.catalogue.size(OUT)
    small.forget()
    damaged(small, DAMAGES["destinations"])
    small.until(small.is_closed, 60)
    assert [entry["rses"] for entry in small.truth["destinations"]] == [["SITE-B"]]
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("liar", ["SITE-A", "the buffer itself"])
def test_outputs_are_not_safe_by_an_agent_that_says_they_went_elsewhere(liar: str) -> None:
    small = at(Stage.HIDING)
    rse = small.rse if liar == "the buffer itself" else liar
    told = small.buffer.copies().items
    lies = [copy.model_copy(update={"rse": rse}) for copy in told]
    small.buffer.copies = lambda after=0: CopyPage(items=[*lies, *lies][after:])  # type: ignore[method-assign]
    damaged(small, DAMAGES["destinations"])
    small.step()
    small.until(lambda: small.truth.get("destinations"), 20)
    assert [entry["rses"] for entry in small.truth["destinations"]] == [["SITE-B"]]


def test_a_destination_is_not_chosen_again_before_the_agent_tells_where_outputs_are() -> None:
    small = at(Stage.HIDING)
    small.buffer.down = True
    damaged(small, DAMAGES["destinations"])
    for _ in range(5):
        small.step()
        assert not small.truth.get("destinations")
    small.buffer.down = False
    small.until(small.is_closed, 60)
    assert small.is_kept("kept/a")


def test_a_buffer_whose_close_cannot_be_read_holds_its_class_until_it_is_closed() -> None:
    small = at(Stage.KEEPING)
    damaged(small, {"closedAt": NONE})
    assert [stake.record for stake in stakes_of(small.cluster, small.settings)] == [record_name(small.record_id)]
    small.until(small.is_closed, 120)
    assert stakes_of(small.cluster, small.settings) == ()
