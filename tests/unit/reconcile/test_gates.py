"""Pods that wait for their buffer by a gate, and pods that only look like a session's."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from volatile_rse.adapters.fake_cluster import FakeCluster
from volatile_rse.api.conditions import Reason
from volatile_rse.api.injection import GATE
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.reconcile import gates
from volatile_rse.reconcile.gates import Gates, release_gates
from volatile_rse.reconcile.session_pods import is_given, secrets_of

NAMESPACE, NAME = "alice", "run"
KEY, REQUEST = (NAMESPACE, NAME), Ref("VolatileRSE", NAMESPACE, NAME)
OTHER = "example.org/licence"
GIVEN = {"volumes": [{"name": "v", "secret": {"secretName": "run-vrse"}}]}


class Place:
    """A cluster, an operator's clock, and what is known of pods."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.cluster = FakeCluster(NAMESPACE, now=lambda: self.time)
        self.gates = Gates(self.cluster, lambda: self.time)

    def pod(self, name: str, *gates: str, session: str = NAME, **spec: object) -> Ref:
        ref = Ref("Pod", NAMESPACE, name)
        metadata = {"namespace": NAMESPACE, "name": name, "labels": {SESSION_LABEL: session}}
        whole = {"containers": [{"name": "main"}], **GIVEN, **spec}
        if gates:
            whole["schedulingGates"] = [{"name": gate} for gate in gates]
        self.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole})
        return ref

    def buffer(self, status: str, reason: str, message: str = "", phase: str = "Pending") -> None:
        metadata = {"namespace": NAMESPACE, "name": NAME}
        body = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "metadata": metadata, "spec": {}}
        self.cluster.create(body)
        entry = {"type": "Usable", "status": status, "reason": reason, "message": message}
        self.cluster.set_status(REQUEST, {"phase": phase, "conditions": [entry]})

    def gates_of(self, ref: Ref) -> list[str]:
        body = self.cluster.get(ref)
        assert body is not None
        return [gate["name"] for gate in body["spec"].get("schedulingGates") or ()]

    def said(self) -> list[str]:
        return [event.reason for event in self.cluster.events]

    def look(self) -> None:
        self.time += timedelta(minutes=1)
        self.gates.sweep()
        while self.gates._due:
            key = self.gates.take()
            assert key is not None
            self.gates.look(key)


def test_a_pod_waits_until_its_buffer_is_usable_and_keeps_gates_of_others() -> None:
    place = Place()
    mine, both = place.pod("mine", GATE), place.pod("both", OTHER, GATE)
    place.buffer("False", "InProgress", "Waiting for 2 files.")
    place.look()
    assert (place.gates_of(mine), place.gates_of(both)) == ([GATE], [OTHER, GATE])
    assert [event.message for event in place.cluster.events] == [
        "This pod starts when VolatileRSE alice/run is usable. Waiting for 2 files."
    ] * 2
    place.buffer("True", "Usable")
    place.look()
    assert (place.gates_of(mine), place.gates_of(both)) == ([], [OTHER])
    assert place.said()[2:] == ["BufferUsable"] * 2
    writes = len(place.cluster.journal)
    place.look()
    assert len(place.cluster.journal) == writes, "there is nothing left to do"


def test_a_pod_is_told_once_and_again_when_its_buffer_has_come_further() -> None:
    place = Place()
    place.pod("mine", GATE)
    place.look()
    place.look()
    assert place.said() == ["UnknownVolatileRSE"]
    for number in range(3):
        place.buffer("False", "InProgress", f"{number} of 3 files.", phase="Staging")
        place.look()
    assert place.said()[1:] == ["WaitingForBuffer"]
    for number in range(100):
        place.buffer("False", "InProgress", phase=f"Phase{number}")
        place.look()
    assert len(place.said()) == 20
    ended = place.pod("late", GATE)
    place.buffer("False", "SessionEnded", "The session has ended (TtlExpired).")
    place.look()
    assert (place.said()[20:], place.gates_of(ended)) == (["SessionOver"], [GATE])


def test_a_pod_that_came_before_its_buffer_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    place.pod("mine", GATE)
    monkeypatch.setattr(gates, "YOUTH", timedelta(seconds=-0.9))
    place.gates.look(KEY)
    assert (place.said(), place.gates._later) == ([], {})
    monkeypatch.setattr(gates, "YOUTH", timedelta(seconds=0.1))
    monkeypatch.setattr(gates, "_SLACK", timedelta())
    place.gates.look(KEY)
    assert place.said() == []
    place.time += timedelta(seconds=11)
    assert place.gates.take() == KEY
    place.gates.look(KEY)
    assert place.said() == ["UnknownVolatileRSE"]


def test_who_waits_for_pods_is_let_go_at_the_end() -> None:
    place = Place()
    threading.Timer(0.1, place.gates.close).start()
    assert place.gates.take() is None


def test_a_pod_that_has_ended_or_is_going_is_left_alone() -> None:
    place = Place()
    over, going = place.pod("over", GATE), place.pod("going", GATE, nodeName="n")
    place.cluster.set_status(over, {"phase": "Failed"})
    place.cluster.delete(going, (place.cluster.get(going) or {})["metadata"]["uid"])
    place.buffer("True", "Usable")
    place.look()
    assert (place.gates_of(over), place.gates_of(going), place.said()) == ([GATE], [GATE], [])


@pytest.mark.parametrize("again", [True, False])
def test_a_pod_that_changes_meanwhile_is_looked_at_again(again: bool) -> None:  # noqa: FBT001 (a column)
    place = Place()
    mine = place.pod("mine", GATE)
    place.buffer("True", "Usable")
    for _ in range(1 if again else 9):
        place.cluster.fail_next(RefusedError(Reason.CHANGED_MEANWHILE, "it has changed"))
    place.look()
    assert place.gates_of(mine) == ([] if again else [GATE])


def test_a_session_of_many_pods_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_AT_ONCE", 2)
    place = Place()
    refs = [place.pod(f"pod-{number}", GATE) for number in range(5)]
    place.pod("other", GATE, session="other")
    place.buffer("True", "Usable")
    place.gates.sweep()
    turns = []
    while place.gates._due:
        key = place.gates.take()
        assert key is not None
        place.gates.look(key)
        turns.append((key[1], sum(not place.gates_of(ref) for ref in refs)))
    assert {name for name, _ in turns[:2]} == {NAME, "other"}
    assert [turn for turn in turns if turn[0] == NAME] == [(NAME, 2), (NAME, 4), (NAME, 5)]


def test_a_name_that_no_label_can_have_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server would refuse the selector, each time that somebody visits the VolatileRSE."""
    place = Place()
    asked = list[object]()

    def lists(*args: object) -> tuple[()]:
        asked.append(args)
        return ()

    monkeypatch.setattr(place.cluster, "list", lists)
    for name in ("x" * 63, "x" * 64):
        place.gates.look((NAMESPACE, name))
    assert asked == [("Pod", NAMESPACE, {SESSION_LABEL: "x" * 63})]


def test_a_label_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No object is asked for that has no name: the API server would take that for a list."""
    place = Place()
    place.pod("empty", session="", volumes=[])
    monkeypatch.setattr(place.cluster, "get", lambda ref: pytest.fail(f"{ref} was asked for"))
    place.look()
    assert place.said() == ["NotInjected"]


def test_a_refusal_is_an_error_for_who_asked() -> None:
    place = Place()
    place.pod("mine", GATE)
    place.buffer("True", "Usable")
    place.cluster.fail_next(RefusedError(Reason.CLUSTER_REFUSED, "no right"))
    with pytest.raises(RefusedError, match="no right"):
        place.look()


def test_a_pod_that_cannot_be_let_go_keeps_no_other_one() -> None:
    place = Place()
    refs = [place.pod(name, GATE) for name in ("a", "b", "c")]
    place.buffer("True", "Usable")
    place.cluster.fail_next(RefusedError(Reason.CLUSTER_REFUSED, "somebody else's policy denies it"))
    with pytest.raises(RefusedError, match="denies it"):
        place.look()
    assert [place.gates_of(ref) for ref in refs] == [[GATE], [], []]


def test_a_pod_with_the_label_alone_is_told_that_it_has_nothing() -> None:
    place = Place()
    place.pod("bare", volumes=[])
    place.buffer("True", "Usable")
    place.look()
    place.look()
    assert place.said() == ["NotInjected"]
    assert place.cluster.events[0].about == Ref("Pod", NAMESPACE, "bare")


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        (None, "WaitingForBuffer"),
        ("odd", "WaitingForBuffer"),
        ([3, {"type": ["Usable"], "status": "True"}], "WaitingForBuffer"),
        ([{"type": "Usable", "status": "True", "reason": "NoReasonOfOurs"}], "BufferUsable"),
    ],
)
def test_whatever_a_status_has_is_read(conditions: object, reason: str) -> None:
    place = Place()
    place.pod("mine", GATE)
    place.buffer("False", "Pending")
    place.cluster.set_status(REQUEST, {"conditions": conditions})
    place.look()
    assert place.said() == [reason]


def test_without_an_operator_no_pod_waits_any_more() -> None:
    place = Place()
    refs = [place.pod("a", GATE), place.pod("b", OTHER, GATE), place.pod("c", GATE, session="other")]
    place.cluster.fail_next(UnreachableError(Reason.CLUSTER_UNREACHABLE, "down"))
    release_gates(place.cluster)
    assert [place.gates_of(ref) for ref in refs] == [[], [OTHER], []]


def test_who_cannot_let_them_go_is_told() -> None:
    place = Place()
    place.pod("a", GATE)
    place.cluster.fail_next(RefusedError(Reason.CLUSTER_REFUSED, "no right"))
    with pytest.raises(RefusedError, match="no right"):
        release_gates(place.cluster)


ENV = {"valueFrom": {"secretKeyRef": {"name": "run-vrse", "key": "token"}}, "name": "T"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (GIVEN, True),
        ({"volumes": [{"projected": {"sources": [{"secret": {"name": "run-vrse"}}]}}]}, True),
        ({"containers": [{"env": [ENV]}]}, True),
        ({"initContainers": [{"env": [ENV]}]}, True),
        ({"containers": [{"envFrom": [{"secretRef": {"name": "run-vrse"}}]}]}, True),
        ({"volumes": [{"secret": {"secretName": "other-vrse"}}]}, False),
        ({"volumes": [{"configMap": {"name": "run-vrse"}}]}, False),
        ({"volumes": "odd", "containers": [3, {"env": {}}, {"env": [{"valueFrom": "x"}]}]}, False),
        ({"volumes": [{"secret": {"secretName": 3}}]}, False),
        (None, False),
    ],
)
def test_a_pod_is_given_its_session_by_its_secret(spec: Mapping[str, Any] | None, expected: bool) -> None:  # noqa: FBT001 (a column)
    body = {"metadata": {"labels": {SESSION_LABEL: "run"}}, "spec": spec}
    assert is_given(body) is expected
    assert all(isinstance(name, str) for name in secrets_of(body))
