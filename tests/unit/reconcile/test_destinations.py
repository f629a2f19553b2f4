"""What Rucio refuses late is judged before anything is made: where outputs go, and whether they may be held there."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.small_world import OUT, Small
from volatile_rse.domain.catalogue import Did, File


def asks_for(small: Small, expression: str, copies: int = 1) -> None:
    output = {"name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name}
    small.request(outputs=[output | {"destination": {"rseExpression": expression, "copies": copies}}])


def chosen(small: Small) -> list[str]:
    small.until(lambda: small.truth.get("destinations"))
    (entry,) = small.truth["destinations"]
    return list(entry["rses"])


ODD = [
    pytest.param({"deterministic": False}, "it is not deterministic", id="non-deterministic"),
    pytest.param({"forgets": True}, "it is volatile", id="volatile"),
    pytest.param({"staging_area": True}, "it is a staging area", id="staging area"),
    pytest.param({"tape": True}, "it is TAPE", id="tape"),
    pytest.param({"writable": False}, "it may not be written (availability_write is False)", id="not writable"),
    pytest.param({"davs": (("b", 1, None),)}, "its davs protocol is read-only", id="read-only door"),
    pytest.param({"davs": ()}, "it has no davs protocol", id="no door"),
    pytest.param({"computable": False}, "where a copy goes there cannot be told", id="unknown algorithm"),
]


@pytest.mark.parametrize(("columns", "why"), ODD)
def test_an_rse_that_keeps_nothing_stalls_the_request_before_anything_is_made(
    columns: dict[str, object], why: str
) -> None:
    small = Small()
    small.catalogue.alter("SITE-B", **columns)
    asks_for(small, "SITE-B")
    small.until(lambda: small.condition("Stalled").get("reason") == "NoDestination")
    said = small.condition("Stalled")["message"]
    assert f"SITE-B: {why}" in said
    assert "USER must act" in said
    assert not small.cluster.list("Pod", "bufs")
    small.catalogue.alter("SITE-B", deterministic=True, forgets=False, staging_area=False, tape=False)
    small.catalogue.alter("SITE-B", writable=True, davs=None, computable=True)
    small.until(small.has_session)


@pytest.mark.parametrize(("columns", "why"), ODD)
def test_another_rse_of_the_expression_is_taken_instead(columns: dict[str, object], why: str) -> None:
    small = Small()
    small.catalogue.add_permanent("SITE-0", "site-0.example.org")
    small.catalogue.alter("SITE-0", **columns)
    asks_for(small, "SITE-0|SITE-B")
    assert chosen(small) == ["SITE-B"]
    assert why, "as it would be told"


def test_a_buffer_is_no_destination() -> None:
    small = Small()
    small.catalogue.add_half_made("VRSE-OTHER", "another")
    asks_for(small, "VRSE-OTHER")
    small.until(lambda: small.condition("Stalled").get("reason") == "NoDestination")
    assert "VRSE-OTHER: it is the buffer of a session" in small.condition("Stalled")["message"]


def test_no_global_quota_stalls_the_request_before_anything_is_made() -> None:
    small = Small()
    small.catalogue.add_files(Did("user.alice", "other"), "SITE-A", [File(Did("user.alice", "o"), 7, "00000007")])
    small.catalogue.add_rule(Did("user.alice", "other"), "alice", ["SITE-A"])
    small.catalogue.global_quota["alice", "tier=2"] = 7
    asks_for(small, "SITE-B")
    small.until(lambda: small.condition("Stalled").get("reason") == "QuotaExceeded")
    said = small.condition("Stalled")["message"]
    assert "SITE-B: 0 bytes are left by the global limit of account 'alice' on 'tier=2'" in said
    assert not small.cluster.list("Pod", "bufs")
    small.catalogue.global_quota["alice", "tier=2"] = 1000
    small.until(small.has_session)


def test_an_account_with_the_attribute_admin_needs_no_limit() -> None:
    small = Small()
    small.catalogue.quota["alice", "SITE-B"] = 0
    small.catalogue.global_quota["alice", "tier=2"] = 0
    small.catalogue.alter("SITE-B", space=0)
    small.catalogue.admins.add("alice")
    asks_for(small, "SITE-B")
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert small.is_kept("kept/a")


def test_an_rse_without_space_by_its_own_limit_is_left_out() -> None:
    small = Small()
    small.catalogue.alter("SITE-A", space=0)
    asks_for(small, "tier=2")
    assert chosen(small) == ["SITE-B"]


def test_an_rse_closed_to_all_but_admins_is_left_out() -> None:
    small = Small()
    small.catalogue.add_permanent("SITE-A", "site-a.example.org", {"tier": "2", "restricted_write": "True"})
    asks_for(small, "tier=2", copies=2)
    small.until(lambda: small.condition("Stalled").get("reason") == "QuotaExceeded")
    assert "restricted_write" in small.condition("Stalled")["message"]


def test_quota_for_what_the_dataset_has_already_is_needed_where_it_is_not_held_yet() -> None:
    """The first rule of an account at an RSE holds the whole dataset, not only what this session adds."""
    small = Small()
    small.catalogue.ensure_dataset(OUT, "alice", "somebody")
    small.catalogue.add_files(OUT, "SITE-A", [File(Did("user.alice", "old"), 5000, "00000007")])
    small.catalogue.quota["alice", "SITE-B"] = 4000
    asks_for(small, "SITE-B")
    small.until(lambda: small.condition("Stalled").get("reason") == "QuotaExceeded")
    assert "4000 bytes are left" in small.condition("Stalled")["message"]
    assert "the dataset has 5000 already" in small.condition("Stalled")["message"]


def test_less_quota_than_the_session_may_write_is_told_while_there_is_time() -> None:
    small = Small()
    small.catalogue.quota["alice", "SITE-B"] = 5000
    asks_for(small, "SITE-B")
    small.until(small.has_session)
    said = small.condition("OutputsSafe")
    assert (said["status"], said["reason"]) == ("False", "QuotaLow")
    most = (1 << 30) - 100 - 101
    assert (
        f"5000 bytes may be held on SITE-B by the limit of account 'alice' there, and the session may write {most}"
        in (said["message"])
    )
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert small.condition("OutputsSafe")["status"] == "True"


def test_of_two_rses_the_one_with_room_for_all_is_taken() -> None:
    small = Small()
    small.catalogue.quota["alice", "SITE-A"] = 5000
    asks_for(small, "tier=2")
    assert chosen(small) == ["SITE-B"]
    small.until(small.has_session)
    assert small.condition("OutputsSafe")["reason"] == "Pending"


def crowd(small: Small, **columns: object) -> str:
    for number in range(900):
        small.catalogue.add_permanent(f"CROWD-{number:03}", f"crowd-{number}.example.org")
        small.catalogue.alter(f"CROWD-{number:03}", **columns)
    return "*"


def test_of_hundreds_of_rses_those_that_leave_room_are_looked_at() -> None:
    small = Small()
    expression = crowd(small)
    small.catalogue.quota |= {("alice", f"CROWD-{number:03}"): 0 for number in range(900)}
    asks_for(small, expression)
    assert chosen(small)[0] in {"SITE-A", "SITE-B"}
    assert set(small.catalogue.singly) <= {"SITE-A", "SITE-B"}


def test_what_the_columns_of_hundreds_of_rses_say_needs_no_look_at_each() -> None:
    small = Small()
    asks_for(small, crowd(small, tape=True))
    assert chosen(small)[0] in {"SITE-A", "SITE-B"}
    assert set(small.catalogue.singly) <= {"SITE-A", "SITE-B"}


def test_where_hundreds_come_into_question_in_vain_some_are_looked_at_and_it_is_told() -> None:
    small = Small()
    asks_for(small, crowd(small, davs=()))
    small.until(lambda: small.condition("Stalled").get("reason") == "NoDestination")
    said = small.condition("Stalled")["message"]
    assert "CROWD-000: it has no davs protocol" in said
    assert "of 902 RSEs of '*' 0 can keep them" in said
    assert "802 were not looked at: name fewer, or those that you mean." in said
    assert len(set(small.catalogue.singly)) == 100
