"""Files that inputs resolve to, whatever they were attached to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.api.names import Layout, hash_path, rse_path
from volatile_rse.api.volatilerseclass import Grant, Tenancy
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.resolved import faults_of_places, problem_of_lacks, problems_of_files, problems_of_places
from volatile_rse.domain.rights import fault_of_scope, grants_of, may_read, may_write
from volatile_rse.domain.tenants import Namespace


def files(*dids: str) -> list[File]:
    return [File(Did.parse(did), 1, "00000001") for did in dids]


def grant(scopes: Sequence[str] = (), read: Sequence[str] = (), account: str = "alice") -> Grant:
    return Grant(namespaces=["ns"], accounts=[account], scopes=list(scopes), read_scopes=list(read))


@pytest.mark.parametrize(
    ("scope", "rights"),
    [
        ("user.alice", "rw"),
        ("cms", "r"),
        ("group.higgs", "r"),
        ("group.higgs.sub", "r"),
        ("group", ""),
        ("cms2", ""),
        ("user.alice.x", ""),
        ("user.bob", ""),
    ],
)
def test_a_grant_to_read_is_none_to_write_and_a_star_stands_for_the_rest_of_a_name(scope: str, rights: str) -> None:
    grants = (grant(["user.alice"], ["cms", "group.*"]),)
    assert "r" * may_read(grants, scope) + "w" * may_write(grants, scope) == rights


def test_account_and_scope_are_of_one_grant() -> None:
    tenancy = Tenancy(grants=[grant(["user.alice"]), grant(["user.bob"], account="bob")])
    grants = grants_of(tenancy, Namespace("ns", "u"), "alice")
    assert may_read(grants, "user.alice")
    assert not may_read(grants, "user.bob")
    assert grants_of(tenancy, Namespace("other", "u"), "alice") == ()


def test_files_of_scopes_that_are_not_granted_are_named_by_scope() -> None:
    listed = files("user.alice:a", "user.bob:2", "user.bob:1", "user.bob:3", "cms:x")
    (problem,) = problems_of_files(
        "spec.inputs[in]: user.alice:ds", listed, (grant(["user.alice"]),), "are not granted"
    )
    assert problem.reason is Reason.SCOPE_NOT_GRANTED
    assert problem.what == (
        "spec.inputs[in]: user.alice:ds: 4 of 5 files are in scopes that are not granted: "
        "cms (1 file: cms:x), user.bob (3 files, for example user.bob:1, user.bob:2)."
    )
    assert problems_of_files("x", listed, (grant(["user.alice"], ["*"]),), "y") == ()


def test_of_very_many_scopes_some_are_named() -> None:
    listed = files(*(f"user.u{number:03}:f" for number in range(300)))
    (problem,) = problems_of_files("spec.inputs[in]: cms:all", listed, (), "are not granted")
    assert "300 of 300 files" in problem.what
    assert "user.u004 (1 file: user.u004:f), 295 more scopes." in problem.what
    assert len(problem.what) < 500


@pytest.mark.parametrize(
    ("dids", "said"),
    [
        (("user.a:b/c", "user.a.b:c"), "user.a.b:c has the path of user.a:b/c"),
        (("cms:/a", "cms:a"), "cms:a has the path of cms:/a"),
        (("cms:a", "cms:a/b"), "cms:a/b is below the path of cms:a"),
        (("cms:a", "cms:a.b", "cms:a/b/c"), "cms:a/b/c is below the path of cms:a"),
        (("user:al/f", "user.al:f"), "user.al:f has the path of user:al/f"),
        (("cms:a/../../x/f",), "cms:a/../../x/f has a path that has an empty part, or one that is . or .."),
        (("cms:a/./f",), "cms:a/./f has a path that has an empty part, or one that is . or .."),
        (("cms:a\nb",), "has a control character"),
        (("..:f",), "..:f has a path that has an empty part, or one that is . or .."),
        (("user..x:f",), "user..x:f has a path that has an empty part, or one that is . or .."),
        (("user.:f",), "user.:f has a path that has an empty part, or one that is . or .."),
        (("cms:.inputs-r.jsonl",), "cms:.inputs-r.jsonl has the path of the list of inputs"),
        (("cms:.inputs-r.jsonl/f",), "cms:.inputs-r.jsonl/f is below the path of the list of inputs"),
        ((f"{'s' * 26}:f",), "begins with a scope that Rucio's generic schema does not have"),
        ((f"cms:{'a/' * 250}a",), "ends with a name of more than 500 characters"),
    ],
)
def test_a_file_without_a_place_of_its_own_is_named(dids: tuple[str, ...], said: str) -> None:
    (problem,) = problems_of_places(faults_of_places(files(*dids), "identity", "cms/.inputs-r.jsonl"))
    assert problem.reason is Reason.INPUT_UNPLACEABLE
    assert said in problem.what
    assert "for 1 of the input files" in problem.what


def test_a_file_that_is_told_with_two_sizes_is_named() -> None:
    one = Did("cms", "f")
    (problem,) = problems_of_places(faults_of_places([File(one, 1, "00000001"), File(one, 2, "00000001")], "hash"))
    assert "cms:f is listed with two sizes or checksums" in problem.what


def test_of_two_files_for_one_place_the_first_has_it_and_what_is_below_a_file_has_none() -> None:
    listed = files("cms:a", "cms:a/b", "cms:a/b/c", "cms:/a", "cms:d")
    assert {str(file.did): said for file, said in faults_of_places(listed, "identity").items()} == {
        "cms:a/b": "is below the path of cms:a",
        "cms:a/b/c": "is below the path of cms:a",
        "cms:/a": "has the path of cms:a",
    }


def test_files_that_can_be_no_inputs_are_named_with_what_they_lack() -> None:
    odd = [File(Did("cms", f"odd.{number}"), 0, "", lack="has no size") for number in range(5)]
    problem = problem_of_lacks("spec.inputs[in]: cms:ds", "https://r.example.org", [*files("cms:a"), *odd], 60)
    assert problem.reason is Reason.INPUT_UNUSABLE
    assert problem.what == (
        "spec.inputs[in]: cms:ds: 5 of 6 files cannot be inputs, and minimumPercent is 60. As Rucio at "
        "https://r.example.org has them, cms:odd.0 has no size; cms:odd.1 has no size; cms:odd.2 has no size; 2 more."
    )


def test_a_file_of_a_scope_within_another_scopes_folder_can_be_made_to_have_its_path() -> None:
    within, above = colliding()
    assert hash_path(*within) == hash_path(*above)
    (problem,) = problems_of_places(faults_of_places(files(":".join(within), ":".join(above)), "hash"))
    assert "has the path of" in problem.what


def colliding() -> tuple[tuple[str, str], tuple[str, str]]:
    """Find what anybody can find who may name files: two digests have to begin alike."""
    for number in range(1 << 20):
        name = str(number)
        *_, first, second, _ = hash_path("group.x.ab", name).split("/")
        above = f"{second}/{name}"
        if rse_path("hash", "group.x", above) == f"group/x/ab/{first}/{above}":
            return ("group.x.ab", name), ("group.x", above)
    raise AssertionError


@pytest.mark.parametrize("layout", ["hash", "identity"])
def test_usual_files_have_places_of_their_own(layout: Layout) -> None:
    usual = files(
        "user.alice:a", "user.alice:b", "group.x:a", "group.x.y:a", "cms:/store/mc/a.root", "cms:/store/mc/b.root",
        "mc16_13TeV:f.root", "data.x:f", "user.alice:a-b", "user.alice:a.b",
    )  # fmt: skip
    assert faults_of_places([*usual, *usual], layout, "cms/.inputs-r.jsonl") == {}


@pytest.mark.parametrize("scope", ["user.alice", "group.x.y", "cms", "a.b", "a..b", "user_x", "users.y", "-"])
def test_a_usual_scope_has_a_folder_of_its_own(scope: str) -> None:
    assert fault_of_scope(scope) == ""


@pytest.mark.parametrize("scope", ["user.", "user..a", "group.a.", ".", "..", "user.a/b", "", "s" * 26])
def test_a_scope_without_a_folder_of_its_own_is_told(scope: str) -> None:
    assert fault_of_scope(scope)
