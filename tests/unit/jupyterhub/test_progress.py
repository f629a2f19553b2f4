from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from volatile_rse.api.conditions import REMEDIES, Actor, Reason
from volatile_rse.jupyterhub import progress
from volatile_rse.jupyterhub.progress import State, progress_of

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
STORAGE = {"StorageReady": "True"}
RSE = {**STORAGE, "RSERegistered": "True"}


def body(conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    told = ((type_, said if isinstance(said, dict) else {"status": said}) for type_, said in conditions.items())
    made = [{"type": type_, **said} for type_, said in told]
    return {"metadata": {}, "status": {"rse": "VRSE-X", "conditions": made, **status}}


def stalled(message: object, reason: str = "DIDNotFound") -> dict[str, Any]:
    return body({"Stalled": {"status": "True", "reason": reason, "message": message}})


def staged(done: object, of: object, **more: Any) -> dict[str, Any]:
    return {"name": "a", "staged": done, "files": of, "bytes": 2 * 1024**3, **more}


@pytest.mark.parametrize(
    ("reason", "since", "said"),
    [
        ("StoragePending", "2026-12-01T11:59:01Z", ""),
        ("StoragePending", "2026-12-01T11:59:00Z", " No node has room."),
        ("StoragePending", "yesterday", " No node has room."),
        ("CapacityExceeded", "2026-12-01T11:59:59Z", " No node has room."),
    ],
)
def test_who_must_act_is_told_of_a_storage_that_takes_longer_than_any(reason: str, since: str, said: str) -> None:
    told = {"status": "False", "reason": reason, "message": "No node has room.", "lastTransitionTime": since}
    assert progress_of(body({"StorageReady": told}), NOW).line == f"The storage is being started.{said}"


@pytest.mark.parametrize(
    ("given", "state", "percent", "line"),
    [
        ({}, State.WAITING, 1, "Waiting for the operator of volatile RSEs."),
        (body({"Ready": "False"}), State.WAITING, 5, "The storage is being started."),
        (
            body({"StorageReady": {"status": "False", "reason": "NoRoom", "message": "No node has room."}}),
            State.WAITING,
            5,
            "The storage is being started. No node has room.",
        ),
        (body(STORAGE), State.WAITING, 12, "VRSE-X is being registered in Rucio."),
        (body(RSE), State.WAITING, 18, "Almost there."),
        (body(RSE, inputs=[staged(1, 4)]), State.WAITING, 33, "1 of 4 files staged, 2.0 GiB in all."),
        (
            body(RSE, inputs=[staged(4, 4, eta="2026-12-01T12:03:30Z"), staged(0, 12)]),
            State.WAITING,
            33,
            "4 of 16 files staged, 4.0 GiB in all, about 3 min left.",
        ),
        (
            body(RSE, inputs=[staged(3, 4, eta="2026-12-01T12:00:09Z")]),
            State.WAITING,
            64,
            "3 of 4 files staged, 2.0 GiB in all, about 9 s left.",
        ),
        (
            body(RSE, inputs=[staged(1, 4, stagedBytes=3 * 1024**3 // 2, eta="2026-12-01T12:05:00Z")]),
            State.WAITING,
            64,
            "1 of 4 files staged, 1.5 GiB of 2.0 GiB, about 5 min left.",
        ),
        (
            body(RSE, inputs=[staged(1, 2, stagedBytes=5), {"name": "b", "staged": 0, "files": 1, "stagedBytes": 0}]),
            State.WAITING,
            18,
            "1 of 3 files staged, 5 B of 2.0 GiB.",
        ),
        (
            body(RSE, inputs=[{"name": "a", "staged": 1, "files": 2, "bytes": 0, "stagedBytes": 0}]),
            State.WAITING,
            49,
            "1 of 2 files staged, 0 B of 0 B.",
        ),
        (
            body(RSE, inputs=[staged(4, 4, stagedBytes=2 * 1024**3)]),
            State.WAITING,
            79,
            "4 of 4 files staged, 2.0 GiB in all.",
        ),
        (body(RSE, inputs=[staged(2, 4, stagedBytes="x")]), State.WAITING, 18, "2 of 4 files staged, 0 B of 2.0 GiB."),
        (body(RSE, inputs=[staged(4, 4)]), State.WAITING, 79, "4 of 4 files staged, 2.0 GiB in all."),
        (body({**RSE, "Usable": "True"}), State.USABLE, 80, "The data are there, on VRSE-X."),
        (body({"Usable": {"reason": "SessionOver"}}), State.HELPLESS, 80, "The session is over before"),
        ({"metadata": {"deletionTimestamp": "x"}}, State.HELPLESS, 80, "The session is over before"),
        (stalled("x USER must act: y"), State.REFUSED, 80, "x USER must act: y"),
        (stalled("x ADMIN must act: y"), State.HELPLESS, 80, "x ADMIN must act"),
        (stalled(f"{'x' * 8000} ADMIN must act: y"), State.HELPLESS, 80, "xxx"),
        (stalled(3), State.REFUSED, 80, "The data cannot be had."),
        (body(RSE, inputs=[staged("x", None, eta="y"), 3]), State.WAITING, 18, "Almost there."),
        (body({"StorageReady": {"reason": "X", "message": "m" * 9000}}), State.WAITING, 5, "The stor"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_status(given: dict[str, Any], state: State, percent: int, line: str) -> None:
    found = progress_of(given, NOW)
    assert (found.state, found.percent) == (state, percent)
    assert found.line.startswith(line)
    assert len(found.line) < 700


def test_what_the_hub_chooses_is_not_its_users_to_mend() -> None:
    for reason in progress._OF_THE_HUB:
        assert REMEDIES[Reason(reason)].actor is Actor.USER
        found = progress_of(stalled("No such class. USER must act: Name one.", reason), NOW)
        assert found.state is State.HELPLESS
        assert found.line == "No such class. USER must act: Name one. On this hub that is its admin's to change."


def test_what_is_too_long_tells_still_who_must_act() -> None:
    line = progress_of(stalled(f"No RSE takes it: {'RSE, ' * 900}. USER must act: Choose another."), NOW).line
    assert line.startswith("No RSE takes it")
    assert line.endswith("USER must act: Choose another.")
