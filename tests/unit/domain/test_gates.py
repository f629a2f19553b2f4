"""What is done for a pod with a session's label."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.gates import BufferFact, Release, SessionPod, Told, judge

POD = SessionPod("alice", "dimuon", gated=True, given=True, age=timedelta(minutes=1))
PENDING = BufferFact(reason="InProgress", phase="Staging", message="Waiting for 3 of 9 files.")


@pytest.mark.parametrize(
    ("pod", "buffer", "reason", "words", "warns"),
    [
        (POD, PENDING, Reason.WAITING_FOR_BUFFER, "alice/dimuon is usable. Waiting for 3 of 9 files.", False),
        (POD, BufferFact(), Reason.WAITING_FOR_BUFFER, "alice/dimuon is usable.", False),
        (
            POD,
            BufferFact(fails=True, reason="DIDNotFound", message="No such DID. USER must act: …"),
            Reason.WAITING_FOR_BUFFER,
            "No such DID. USER must act",
            True,
        ),
        (POD, None, Reason.UNKNOWN_VOLATILE_RSE, "alice/dimuon, which does not exist. USER must act", True),
        (POD, BufferFact(over=True, message="It ended."), Reason.SESSION_OVER, "is over. It ended. USER must", True),
        # Whatever else is said of one that is over.
        (POD, BufferFact(over=True, usable=True), Reason.SESSION_OVER, "is over. USER must act", True),
        (replace(POD, given=False), None, Reason.NOT_INJECTED, "does not keep it alive. ADMIN must act", True),
        (replace(POD, given=False, gated=False), PENDING, Reason.NOT_INJECTED, "reads and writes nothing", True),
    ],
)  # fmt: skip
def test_a_pod_is_told_what_it_waits_for(
    pod: SessionPod,
    buffer: BufferFact | None,
    reason: Reason,
    words: str,
    warns: bool,  # noqa: FBT001 (a column)
) -> None:
    said = judge(pod, buffer)
    assert isinstance(said, Told)
    assert (said.reason, said.warns) == (reason, warns)
    assert words in said.message


@pytest.mark.parametrize("given", [True, False])
def test_a_pod_that_waits_is_let_go_when_its_buffer_is_usable(given: bool) -> None:  # noqa: FBT001 (a column)
    """Also where somebody has written the gate by hand, and no Secret."""
    assert judge(replace(POD, given=given), BufferFact(usable=True)) == Release()


@pytest.mark.parametrize(
    ("pod", "buffer"),
    [
        (replace(POD, gated=False), PENDING),
        (replace(POD, gated=False), None),
        (replace(POD, age=timedelta(seconds=5)), None),
    ],
)
def test_nothing_is_said_of_a_pod_that_runs_or_came_a_moment_before_its_buffer(
    pod: SessionPod, buffer: BufferFact | None
) -> None:
    assert judge(pod, buffer) is None


def test_what_was_told_is_told_again_only_when_the_buffer_has_come_further() -> None:
    keys = [
        said.key
        for buffer in (PENDING, replace(PENDING, message="Waiting for 2 of 9 files."), replace(PENDING, phase="Ready"))
        if isinstance(said := judge(POD, buffer), Told)
    ]
    assert keys[0] == keys[1] != keys[2]
