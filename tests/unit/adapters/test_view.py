"""Lists, watches and answers to own writes tell of an object in any order; the newest version of it is what counts."""

from __future__ import annotations

from typing import Any

import pytest

from volatile_rse.adapters.view import View
from volatile_rse.ports.cluster import Ref, Scope

REF = Ref("Pod", "n", "a")


def pod(version: int, name: str = "a", uid: str = "1", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "n", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


def version_of(view: View, ref: Ref = REF) -> int:
    return int((view.get(ref) or {"metadata": {"resourceVersion": "0"}})["metadata"]["resourceVersion"])


@pytest.fixture
def view() -> View:
    return View(Scope("Pod"))


@pytest.mark.parametrize(
    ("versions", "stays", "news"),
    [([5, 7], 7, [True, True]), ([7, 5], 7, [True, False]), ([7, 7], 7, [True, False])],
    ids=["newer", "older", "the same"],
)
def test_the_newer_version_wins(view: View, versions: list[int], stays: int, news: list[bool]) -> None:
    assert [view.take(pod(version)) for version in versions] == news
    assert version_of(view) == stays


def test_a_list_is_a_moment_in_which_nothing_else_was_there(view: View) -> None:
    view.take(pod(3, "gone"))
    view.take(pod(4, "same"))
    view.take(pod(12, "since", uid="2"))
    news = view.replace([pod(4, "same"), pod(9, "new", uid="3")], "10")
    assert sorted(body["metadata"]["name"] for body in news) == ["gone", "new"]
    assert [body["metadata"]["name"] for body in view.list("n", {})] == ["new", "same", "since"]


def test_an_own_write_is_not_undone_by_an_older_list(view: View) -> None:
    view.take(pod(12))
    assert view.replace([pod(9)], "10") == ()
    assert version_of(view) == 12


def test_what_was_deleted_comes_back_by_no_older_word(view: View) -> None:
    view.take(pod(3))
    assert view.remove(REF, "1")
    assert not view.take(pod(4)), "a watch tells of what was before the deletion"
    assert view.replace([pod(4)], "5") == ()
    assert view.get(REF) is None
    assert view.take(pod(6, uid="2")), "another of its name is another object"


def test_the_deletion_of_one_object_does_not_take_its_successor(view: View) -> None:
    view.take(pod(6, uid="2"))
    assert not view.remove(REF, "1", "9")
    assert version_of(view) == 6


def test_a_deletion_is_remembered_for_minutes() -> None:
    now = 0.0
    view = View(Scope("Pod"), lambda: now)
    view.take(pod(3))
    view.remove(REF, "1", "5")
    now = 599.0
    assert not view.take(pod(4)), "an answer that was long on its way"
    now = 700.0
    view.take(pod(3, "b", uid="2"))
    view.remove(Ref("Pod", "n", "b"), "2", "8")
    assert list(view._deleted) == ["2"]


def test_who_had_left_the_scope_may_come_back(view: View) -> None:
    view.take(pod(3))
    view.remove(REF, "1", "5")
    assert not view.take(pod(5))
    assert view.take(pod(6)), "it has its label again"


def test_what_was_not_there_when_it_was_asked_for_is_gone_unless_it_has_come_since(view: View) -> None:
    view.take(pod(3))
    asked = view.version(REF)
    view.take(pod(4))
    assert not view.miss(REF, asked)
    assert view.miss(REF, view.version(REF))
    assert view.get(REF) is None
    assert view.version(REF) == 0


def test_after_a_restore_of_the_database_versions_begin_anew(view: View) -> None:
    view.take(pod(900))
    view.remove(Ref("Pod", "n", "b"), "2")
    view.clear()
    assert view.take(pod(3))
    assert view.take(pod(3, "b", uid="2"))


def test_who_loses_its_label_leaves_the_scope() -> None:
    view = View(Scope("Pod", label="x"))
    assert view.take(pod(1, x="1"))
    assert view.list("n", {"x": "1"})
    assert view.take(pod(2))
    assert view.get(REF) is None
    assert view.list("n", {"x": "1"}) == ()
    assert not view.take(pod(3)), "it was none of it"


def test_a_change_of_its_label_is_found_under_the_new_one() -> None:
    view = View(Scope("Pod", label="x"))
    view.take(pod(1, x="1"))
    view.take(pod(2, x="2"))
    assert view.list("n", {"x": "1"}) == ()
    assert len(view.list("n", {"x": "2"})) == 1
    assert view.list("n", {"x": "2", "y": "3"}) == ()


def test_who_reads_an_object_cannot_change_it(view: View) -> None:
    view.take(pod(1, x="1"))
    (view.get(REF) or {})["metadata"]["labels"]["x"] = "2"
    assert (view.get(REF) or {})["metadata"]["labels"] == {"x": "1"}


def test_what_was_read_off_an_object_is_read_once_for_each_version(view: View) -> None:
    read: list[str] = []

    def name(body: Any) -> str:
        read.append(body["metadata"]["resourceVersion"])
        return str(body["metadata"]["name"])

    view.take(pod(1))
    view.take(pod(2, "b", uid="2"))
    for _ in range(3):
        assert view.select(name) == ("a", "b")
    view.take(pod(3))
    assert view.select(name) == ("a", "b")
    assert read == ["1", "2", "3"]
    view.remove(REF, "1", "9")
    assert view.select(name) == ("b",)


def test_nothing_is_kept_that_nobody_reads(view: View) -> None:
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    body = pod(1)
    body["metadata"] |= {"managedFields": [{}], "annotations": {applied: "{}", "mine": "1"}}
    view.take(body)
    metadata = (view.get(REF) or {})["metadata"]
    assert "managedFields" not in metadata
    assert metadata["annotations"] == {"mine": "1"}


SCOPES = [
    (Scope("Pod"), None, {}, True),
    (Scope("Pod"), "n", {"x": "1"}, True),
    (Scope("Pod", "n"), "n", {}, True),
    (Scope("Pod", "n"), None, {}, False),
    (Scope("Pod", "n"), "m", {}, False),
    (Scope("Pod", label="x"), "n", {"x": "1"}, True),
    (Scope("Pod", label="x"), "n", {"y": "1"}, False),
    (Scope("Pod", name="a"), None, {}, False),
    (Scope("Secret"), None, {}, False),
]


@pytest.mark.parametrize(("scope", "namespace", "labels", "covered"), SCOPES)
def test_a_list_is_answered_by_a_scope_that_has_all_of_it(
    scope: Scope,
    namespace: str | None,
    labels: dict[str, str],
    covered: bool,  # noqa: FBT001 (a column of the table)
) -> None:
    assert View(scope).covers("Pod", namespace, labels) is covered
