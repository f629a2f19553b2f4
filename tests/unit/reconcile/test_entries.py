"""Inputs and outputs that are added while a session lives, and inputs that are removed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.reconcile.small_world import OUT, REQUEST, Killed, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import record_name, session_name
from volatile_rse.builders.session import store_path
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError

IN = {"name": "in", "did": "user.alice:in"}
MORE = {"name": "more", "did": "user.alice:more"}
KEPT: Mapping[str, object] = {
    "name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name,
    "destination": {"rseExpression": "SITE-B"},
}  # fmt: skip
LATER = {**KEPT, "name": "later", "path": "later/**", "dataset": "later"}
CLASS = Ref("VolatileRSEClass", None, "standard")


def files_of(name: str, number: int = 2, size: int = 50, scope: str = "user.alice") -> list[File]:
    return [File(Did(scope, f"{name}.{at}"), size + at, f"{at:07}a") for at in range(number)]


def begun(**spec: object) -> Small:
    """Have a session that runs, and a catalogue that has more."""
    small = Small()
    small.catalogue.add_files(Did("user.alice", "more"), "SITE-A", files_of("more"))
    small.request(**spec)
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    return small


def told(small: Small) -> dict[str, Any]:
    return dict((small.cluster.get(REQUEST) or {})["status"])


def entries(small: Small) -> dict[tuple[str, str], tuple[str, str]]:
    return {
        (entry["kind"], entry["name"]): (entry["state"], entry["reason"]) for entry in told(small).get("entries", ())
    }


def message(small: Small, name: str) -> str:
    return next(str(entry["message"]) for entry in told(small)["entries"] if entry["name"] == name)


def add(small: Small, *inputs: Mapping[str, object], outputs: tuple[Mapping[str, object], ...] = ()) -> None:
    spec = (small.cluster.get(REQUEST) or {})["spec"]
    small.patch(REQUEST, inputs=[*spec["inputs"], *inputs], outputs=[*spec["outputs"], *outputs])


def steps(small: Small, number: int = 4) -> None:
    for _ in range(number):
        small.step()


def progress(small: Small) -> dict[str, tuple[int, int]]:
    return {entry["name"]: (entry["staged"], entry["files"]) for entry in told(small).get("inputs") or ()}


def arrived(small: Small, name: str) -> int:
    return next((total.staged for total in small.buffer.report().inputs if total.name == name), 0)


def config(small: Small) -> dict[str, str]:
    found: Any = small.cluster.get(Ref("ConfigMap", "alice", session_name(REQUEST.name)))
    return dict(found["data"])


def rights(small: Small) -> str:
    secret: Any = small.cluster.get(Ref("Secret", "alice", session_name(REQUEST.name)))
    payload = base64.b64decode(secret["data"]["token"]).decode().split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["scope"])


def is_well(small: Small) -> bool:
    """Tell whether nothing but entries tells of them."""
    return [small.condition(type_)["status"] for type_ in ("Ready", "Usable", "Stalled")] == ["True", "True", "False"]


def test_an_added_input_is_staged_and_listed_and_an_added_output_is_kept() -> None:
    small = begun()
    add(small, MORE, outputs=(LATER,))
    small.until(lambda: progress(small).get("more") == (2, 2))
    assert entries(small) == {
        ("Input", "more"): ("Accepted", "Succeeded"),
        ("Output", "later"): ("Accepted", "Succeeded"),
    }
    assert message(small, "more") == "2 files, 101 bytes."
    assert message(small, "later") == "It goes to SITE-B."
    listed = [json.loads(line) for line in config(small)["inputs.jsonl"].splitlines()]
    assert sorted(line["did"] for line in listed if line["inputs"] == ["more"]) == [
        "user.alice:more.0",
        "user.alice:more.1",
    ]
    assert all(small.buffer.holds(store_path(file.did)) for file in files_of("more"))
    small.buffer.write(small.uid, "later/x", b"late")
    small.write("kept/a")
    small.until(lambda: {entry["name"]: entry["files"] for entry in told(small)["outputs"]} == {"kept": 1, "later": 1})
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    assert sum(small.catalogue.size(Did("user.alice", name)) for name in ("later",)) == len(b"late")
    assert small.condition("OutputsSafe")["status"] == "True"
    record: Any = small.cluster.get(Ref("RSERecord", None, record_name(small.record_id)))
    request = record["spec"]["claims"][0]["request"]
    assert [entry["name"] for entry in request["inputs"]] == ["in", "more"]
    assert [entry["name"] for entry in request["outputs"]] == ["kept", "later"]


def test_ready_and_usable_are_true_all_the_while() -> None:
    small = begun()
    seen = set()
    apply = small.apply

    def watched(*of: Any) -> None:
        apply(*of)
        seen.add(type(of[-1]))

    small.apply = watched
    small.buffer.halfway = {store_path(file.did): 7 for file in files_of("more")}
    add(small, MORE, outputs=({**LATER, "register": "Continuous"},))
    for _ in range(8):
        small.step()
        assert is_well(small)
    assert {do.FreezeAdded, do.ExtendRecord, do.SendManifest, do.RestoreSession, do.IssueSession} <= seen
    assert [event.reason for event in small.cluster.events if event.type_ == "Warning"] == []


def test_the_token_and_the_list_are_written_anew_once_and_nothing_then() -> None:
    small = begun()
    small.catalogue.add_files(Did("cms", "big"), "SITE-A", files_of("big", scope="cms"))
    grants = [{"namespaces": ["alice"], "accounts": ["alice"], "scopes": ["user.alice"], "readScopes": ["cms"]}]
    small.patch(CLASS, tenancy={"grants": grants})
    before = rights(small)
    assert "/store/cms" not in before
    assert "VRSE_PUBLISH" not in config(small)
    small.applied.clear()
    add(small, {"name": "big", "did": "cms:big"}, outputs=({**LATER, "register": "Continuous"},))
    small.until(lambda: arrived(small, "big") == 2)
    assert set(before.split()) < set(rights(small).split())
    assert "storage.read:/store/cms" in rights(small)
    assert f"storage.modify:/publish/{small.uid}" in rights(small)
    assert config(small)["VRSE_PUBLISH"] == f"/publish/{small.uid}"
    assert sum(isinstance(effect, do.RestoreSession) for effect in small.applied) == 1
    steps(small)
    small.applied.clear()
    steps(small, 8)
    assert not small.applied, "nothing has changed"
    small.buffer.publish(small.uid, "later/x", b"now")
    small.until(lambda: small.catalogue.size(Did("user.alice", "later")) == len(b"now"))
    assert is_well(small)


REFUSED = [
    ({"name": "no", "did": "user.alice:nothing"}, "DIDNotFound"),
    ({"name": "no", "did": "cms:big"}, "ScopeNotGranted"),
    ({"name": "no", "did": "user.alice:huge"}, "InputsTooLarge"),
    ({"name": "no", "did": "user.alice:lost"}, "NoReplica"),
]


@pytest.mark.parametrize(("entry", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_an_input_that_is_refused_is_told_for_itself(entry: Mapping[str, object], reason: str) -> None:
    small = begun()
    small.catalogue.add_files(Did("cms", "big"), "SITE-A", files_of("big", scope="cms"))
    small.catalogue.add_files(Did("user.alice", "huge"), "SITE-A", files_of("huge", size=1 << 30))
    small.catalogue.add_files(Did("user.alice", "lost"), "SITE-A", files_of("lost"))
    for file in files_of("lost"):
        small.catalogue.lose("SITE-A", file.did)
    add(small, entry, MORE)
    small.until(lambda: arrived(small, "more") == 2)
    assert entries(small)["Input", "no"] == ("Refused", reason)
    assert "USER must act" in message(small, "no") or "ADMIN must act" in message(small, "no")
    assert is_well(small)
    assert small.condition("InputsStaged")["status"] == "True"
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert entries(small)["Input", "no"] == ("Refused", "SessionEnded")
    assert small.is_kept("kept/a")


REFUSED_OUTPUTS = [
    ({"scope": "cms"}, "ScopeNotGranted"),
    ({"path": "../x"}, "PathEscapesOutbox"),
    ({"dataset": OUT.name, "destination": {"rseExpression": "SITE-A"}}, "InvalidSpec"),
    ({"destination": {"rseExpression": "NOWHERE"}}, "NoDestination"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED_OUTPUTS, ids=[reason for _, reason in REFUSED_OUTPUTS])
def test_an_output_that_is_refused_is_told_for_itself(change: Mapping[str, object], reason: str) -> None:
    small = begun()
    with small.cluster.unchecked(REQUEST) as body:
        body["spec"]["outputs"].append({**LATER, "name": "no", **change})
    small.until(lambda: entries(small).get(("Output", "no")) == ("Refused", reason))
    assert is_well(small)
    add(small, outputs=(LATER,))
    small.until(lambda: entries(small).get(("Output", "later")) == ("Accepted", "Succeeded"))
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_outputs_that_are_added_together_are_judged_beside_each_other() -> None:
    small = begun()
    other = {**LATER, "name": "other", "path": "other/**", "destination": {"rseExpression": "SITE-A"}}
    add(small, outputs=(LATER, other))
    small.until(lambda: entries(small).get(("Output", "later")) == ("Accepted", "Succeeded"))
    assert entries(small)["Output", "other"] == ("Refused", "InvalidSpec")
    assert is_well(small)


def test_an_output_of_a_dataset_that_another_one_has_goes_where_that_goes() -> None:
    anywhere = {**KEPT, "destination": {"rseExpression": "tier=2"}}
    small = begun(outputs=[anywhere])
    (chosen,) = small.truth["destinations"][0]["rses"]
    (other,) = {"SITE-A", "SITE-B"} - {chosen}
    small.catalogue.quota["alice", chosen] = 1 << 20
    small.forget()
    new = {**anywhere, "path": "new/**", "dataset": "new"}
    add(small, outputs=({**anywhere, "name": "more", "path": "more/**"}, {**new, "name": "new"}))
    small.until(lambda: entries(small).get(("Output", "new")) == ("Accepted", "Succeeded"))
    went = {entry["output"]: entry["rses"] for entry in small.truth["destinations"]}
    # Rucio holds a dataset as a whole.
    assert went == {"kept": [chosen], "more": [chosen], "new": [other]}


def test_a_session_has_no_more_inputs_in_its_life_however_many_are_added_at_once() -> None:
    small = Small()
    for number in range(35):
        small.catalogue.add_files(Did("user.alice", f"data{number}"), "SITE-A", files_of(f"data{number}", 1))
    asked = [{"name": f"data{number}", "did": f"user.alice:data{number}"} for number in range(35)]
    small.request(inputs=asked[:30])
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.patch(REQUEST, inputs=[])
    small.until(lambda: entries(small).get(("Input", "data29")) == ("Removed", "Completed"))
    small.patch(REQUEST, inputs=asked[30:])
    small.until(lambda: arrived(small, "data31"))
    assert [entries(small)["Input", f"data{number}"] for number in range(30, 35)] == [
        *[("Accepted", "Succeeded")] * 2,
        *[("Refused", "InvalidSpec")] * 3,
    ]
    # The API server takes no more.
    assert len(small.record["spec"]["claims"][0]["request"]["inputs"]) == 32


def test_what_was_refused_is_taken_up_once_it_can_be() -> None:
    small = begun()
    add(small, {"name": "later", "did": "user.alice:later"})
    small.until(lambda: entries(small).get(("Input", "later")) == ("Refused", "DIDNotFound"))
    small.catalogue.add_files(Did("user.alice", "later"), "SITE-A", files_of("later"))
    small.until(lambda: arrived(small, "later") == 2)
    assert entries(small)["Input", "later"] == ("Accepted", "Succeeded")


def test_while_rucio_does_not_answer_it_waits() -> None:
    small = begun()
    small.cut_rucio(steps=4)
    add(small, MORE)
    small.until(lambda: entries(small).get(("Input", "more")) == ("Pending", "CatalogueUnreachable"))
    small.until(lambda: arrived(small, "more") == 2)


def test_the_first_input_is_added_and_rucio_is_silent_then() -> None:
    small = Small(inputs=0)
    small.catalogue.add_files(Did("user.alice", "more"), "SITE-A", files_of("more"))
    small.begin()
    apply = small.apply

    def struck(*of: Any) -> None:
        apply(*of)
        if isinstance(of[-1], do.ExtendRecord):
            small.apply, small.catalogue.down = apply, True
            raise Killed

    small.apply = struck
    add(small, MORE)
    small.until(lambda: small.catalogue.down)
    steps(small, 12)
    assert entries(small)["Input", "more"] == ("Accepted", "Succeeded")
    assert "gave 404" not in small.condition("Usable")["message"]
    small.catalogue.down = False
    small.until(lambda: arrived(small, "more") == 2)
    assert "VRSE_INPUTS_URL" in config(small)
    assert is_well(small)


def test_an_owner_has_no_more_files_than_the_class_allows() -> None:
    small = Small()
    small.patch(CLASS, limits={"perOwner": {"files": 3}})
    small.catalogue.add_files(Did("user.alice", "more"), "SITE-A", files_of("more"))
    small.begin()
    add(small, MORE)
    small.until(lambda: entries(small).get(("Input", "more")) == ("Refused", "LimitExceeded"))
    assert is_well(small)


def test_the_volume_has_no_room_for_it_though_the_capacity_has() -> None:
    small = begun()
    small.buffer.write(small.uid, "kept/large", bytes(1000))
    small.buffer._capacity = 1300
    add(small, MORE)
    small.until(lambda: entries(small).get(("Input", "more")) == ("Refused", "InputsTooLarge"))
    assert "the volume has 99 bytes" in message(small, "more")


def test_files_of_another_input_are_not_brought_twice() -> None:
    small = begun()
    add(small, {"name": "again", "did": "user.alice:in"})
    small.until(lambda: arrived(small, "again") == 2)
    small.end_pod()
    small.until(small.is_closed)


def test_before_the_session_is_usable_it_waits() -> None:
    small = Small()
    small.catalogue.add_files(Did("user.alice", "more"), "SITE-A", files_of("more"))
    small.unreadable = {store_path(Did("user.alice", "in.0")): "no"}
    small.request()
    small.until(lambda: small.truth.get("inputs"))
    add(small, MORE)
    small.until(lambda: entries(small).get(("Input", "more")) == ("Pending", "Pending"))
    assert message(small, "more") == "It is taken up once the session is usable."
    small.unreadable = {}
    small.buffer.restart()
    small.until(small.has_session)
    small.until(lambda: arrived(small, "more") == 2)


def test_a_removed_input_is_told_no_more_and_nothing_new_of_it_is_staged() -> None:
    small = begun()
    add(small, MORE)
    small.until(lambda: arrived(small, "more") == 2)
    small.patch(REQUEST, inputs=[MORE])
    small.until(lambda: entries(small).get(("Input", "in")) == ("Removed", "Completed"))
    small.until(lambda: progress(small) == {"more": (2, 2)})
    small.until(lambda: "user.alice:in.0" not in config(small)["inputs.jsonl"])
    assert is_well(small)
    small.applied.clear()
    steps(small, 6)
    assert not small.applied
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("apart", [False, True])
def test_what_comes_after_a_removed_input_is_registered_too(apart: bool) -> None:  # noqa: FBT001 (a case)
    small = begun()
    if apart:
        small.patch(REQUEST, inputs=[])
        steps(small)
    small.patch(REQUEST, inputs=[MORE])
    small.until(lambda: arrived(small, "more") == 2)
    steps(small)
    assert small.catalogue.registered(small.ledger) == {
        Did("user.alice", name) for name in ("in.0", "in.1", "more.0", "more.1")
    }
    steps(small)
    small.applied.clear()
    steps(small, 6)
    assert not small.applied


def test_the_last_input_is_removed() -> None:
    small = begun()
    small.patch(REQUEST, inputs=[])
    small.until(lambda: entries(small).get(("Input", "in")) == ("Removed", "Completed"))
    steps(small)
    assert told(small)["inputs"] == []
    assert is_well(small)
    small.end_pod()
    small.until(small.is_closed)


def test_an_input_that_does_not_come_is_removed_and_the_session_begins() -> None:
    small = Small()
    small.catalogue.add_files(Did("user.alice", "more"), "SITE-A", files_of("more"))
    small.unreadable = {store_path(Did("user.alice", "in.0")): "no"}
    small.request(inputs=[IN, MORE])
    small.until(lambda: arrived(small, "more") == 2)
    small.patch(REQUEST, inputs=[MORE])
    small.until(small.has_session)
    assert progress(small) == {"more": (2, 2)}


def test_an_input_that_cannot_be_found_is_removed_and_the_session_begins() -> None:
    small = Small()
    small.request(inputs=[IN, {"name": "no", "did": "user.alice:nothing"}])
    small.until(lambda: small.condition("Stalled").get("reason") == "DIDNotFound")
    small.patch(REQUEST, inputs=[IN])
    small.until(small.has_session)
    assert entries(small) == {("Input", "no"): ("Removed", "Completed")}


def test_a_name_that_was_used_is_not_used_again_whatever_the_api_server_lets_pass() -> None:
    small = begun()
    small.patch(REQUEST, inputs=[])
    small.until(lambda: entries(small).get(("Input", "in")) == ("Removed", "Completed"))
    with small.cluster.unchecked(REQUEST) as body:
        body["spec"]["inputs"] = [{"name": "in", "did": "user.alice:more"}]
    steps(small)
    assert entries(small) == {("Input", "in"): ("Removed", "Completed")}
    assert told(small)["inputs"] == []


@pytest.mark.parametrize("added", [False, True])
def test_a_name_that_means_something_else_before_anybody_looked_is_not_what_it_was(
    added: bool,  # noqa: FBT001 (a case)
) -> None:
    small = begun()
    small.catalogue.add_files(Did("user.alice", "other"), "SITE-A", files_of("other"))
    name = "more" if added else "in"
    if added:
        add(small, MORE)
        small.until(lambda: arrived(small, "more") == 2)
    others = [{"name": name, "did": "user.alice:other"}, *([IN] if added else [])]
    small.patch(REQUEST, inputs=others[1:])
    small.patch(REQUEST, inputs=others)
    small.until(lambda: entries(small) == {("Input", name): ("Removed", "Completed")})
    steps(small, 12)
    assert name not in progress(small)
    assert is_well(small)
    assert entries(small) == {("Input", name): ("Removed", "Completed")}


def test_what_was_refused_may_be_written_again_otherwise() -> None:
    small = begun()
    add(small, {"name": "more", "did": "user.alice:nothing"})
    small.until(lambda: entries(small).get(("Input", "more")) == ("Refused", "DIDNotFound"))
    small.patch(REQUEST, inputs=[IN])
    small.until(lambda: entries(small) == {})
    small.patch(REQUEST, inputs=[IN, MORE])
    small.until(lambda: arrived(small, "more") == 2)


@pytest.mark.parametrize("effect", [do.FreezeAdded, do.Remember, do.ExtendRecord, do.SendManifest, do.RestoreSession])
def test_it_is_taken_back_in_the_middle(effect: type) -> None:
    """Whatever has been done of it then, its session has it as a removed one, or has never had it."""
    small = begun()
    apply, spec = small.apply, (small.cluster.get(REQUEST) or {})["spec"]

    def struck(*of: Any) -> None:
        apply(*of)
        if isinstance(of[-1], effect):
            small.apply = apply
            small.patch(REQUEST, inputs=spec["inputs"])
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, "cut off")

    small.apply = struck
    add(small, MORE)
    steps(small, 6)
    assert small.apply is apply, "it was never struck"
    assert entries(small) in ({}, {("Input", "more"): ("Removed", "Completed")})
    small.until(lambda: set(progress(small)) == {"in"})
    assert is_well(small)
    small.end_pod()
    small.until(small.is_closed)


def test_its_list_is_deleted_or_changed_and_made_up_for() -> None:
    small = begun()
    add(small, MORE)
    small.until(lambda: arrived(small, "more") == 2)
    names = [body["metadata"]["name"] for body in small.cluster.list("ConfigMap", "bufs", {})]
    (name,) = [name for name in names if "-added-" in name]
    ref = Ref("ConfigMap", "bufs", name)
    small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    steps(small, 3)
    assert is_well(small)
    small.buffer.restart()
    steps(small, 3)
    assert arrived(small, "more") == 2
    assert is_well(small)
    small.end_pod()
    small.until(small.is_closed)
    left = [body["metadata"]["name"] for body in small.cluster.list("ConfigMap", "bufs", {})]
    assert not [name for name in left if small.record_id in name]


def test_the_storage_is_lost_and_what_was_added_comes_again() -> None:
    small = begun()
    add(small, MORE, outputs=(LATER,))
    small.until(lambda: arrived(small, "more") == 2)
    small.patch(REQUEST, inputs=[MORE])
    small.until(lambda: progress(small) == {"more": (2, 2)})
    small.buffer.lose_volume()
    small.until(lambda: small.truth.get("losses"))
    small.until(lambda: progress(small) == {"more": (2, 2)} and small.condition("Ready")["status"] == "True")
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert small.is_kept("kept/a")
