from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volatile_rse.domain.session import (
    EndReason,
    Leases,
    Limits,
    Observation,
    SessionState,
    advance,
    end_of,
)
from volatile_rse.domain.times import FAR

T0 = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(start_timeout=timedelta(minutes=60), ttl=timedelta(minutes=480), end_grace=timedelta(minutes=5))
GONE, RUNNING, FINISHED = (False, False), (True, False), (False, True)


def walk(*seen: tuple[int, tuple[bool, bool]], deleting_at: int | None = None) -> SessionState:
    state = SessionState()
    for minute, (running, finished) in seen:
        state = advance(
            state,
            Observation(
                now=T0 + timedelta(minutes=minute),
                usable=True,
                pods_running=running,
                pods_finished=finished,
                deleting=minute == deleting_at,
            ),
            LIMITS,
        )
    return state


def test_a_session_that_comes_and_goes_ends_after_the_grace() -> None:
    assert walk((0, GONE), (1, RUNNING), (9, GONE), (13, GONE)).ended_at is None
    ended = walk((0, GONE), (1, RUNNING), (9, GONE), (14, GONE))
    assert ended.end_reason is EndReason.PODS_GONE
    assert ended.started_at == T0 + timedelta(minutes=1)


def test_a_retried_job_within_the_grace_is_no_end() -> None:
    assert walk((0, GONE), (1, RUNNING), (9, GONE), (13, RUNNING), (30, RUNNING)).ended_at is None


def test_the_grace_counts_anew_after_a_return() -> None:
    state = walk((0, GONE), (1, RUNNING), (9, GONE), (13, RUNNING), (14, GONE), (18, GONE))
    assert state.ended_at is None


def test_a_pod_that_came_and_went_unseen_is_a_session() -> None:
    assert walk((0, GONE), (10, FINISHED), (15, FINISHED)).end_reason is EndReason.PODS_GONE


UNKNOWN, NONE, GONE_AGAIN = None, Leases(), Leases(taken=True)


def leased(minutes: int) -> Leases:
    return Leases(T0 + timedelta(minutes=minutes))


def walk_leased(*seen: tuple[int, Leases | None]) -> SessionState:
    state = SessionState()
    for minute, leases in seen:
        now = T0 + timedelta(minutes=minute)
        state = advance(state, Observation(now, usable=True, pods_running=False, leases=leases), LIMITS)
    return state


@pytest.mark.parametrize(
    ("seen", "ended"),
    [
        pytest.param([(0, NONE), (1, leased(31)), (200, leased(230))], None, id="held"),
        pytest.param([(1, leased(31)), (31, NONE), (35, NONE)], None, id="within the grace"),
        pytest.param([(1, leased(31)), (31, NONE), (36, NONE)], EndReason.PODS_GONE, id="released or lost"),
        pytest.param([(1, leased(31)), (31, NONE), (35, leased(65)), (40, leased(65))], None, id="taken again"),
        pytest.param([(1, leased(31)), (20, UNKNOWN), (30, UNKNOWN)], None, id="nobody tells, and it was to hold"),
        pytest.param(
            [(1, leased(31)), (31, UNKNOWN), (35, UNKNOWN)], None, id="nobody tells, and it was over just now"
        ),
        pytest.param([(1, leased(31)), (31, UNKNOWN), (36, UNKNOWN)], EndReason.PODS_GONE, id="nobody tells any more"),
        pytest.param([(1, leased(31)), (2, leased(5)), (6, UNKNOWN), (11, UNKNOWN)], EndReason.PODS_GONE, id="shorter"),
        pytest.param([(1, leased(31)), (60, UNKNOWN), (61, leased(99)), (70, leased(99))], None, id="renewed unseen"),
        pytest.param([(1, UNKNOWN), (61, UNKNOWN)], EndReason.NOBODY_CAME, id="never known"),
        pytest.param([(1, NONE), (61, NONE)], EndReason.NOBODY_CAME, id="none came"),
        pytest.param([(1, NONE), (20, GONE_AGAIN), (24, GONE_AGAIN)], None, id="come and gone, and grace"),
        pytest.param([(1, NONE), (20, GONE_AGAIN), (25, GONE_AGAIN)], EndReason.PODS_GONE, id="come and gone unseen"),
        pytest.param([(1, leased(9999)), (481, leased(9999))], EndReason.TTL_EXPIRED, id="no longer than its ttl"),
    ],
)
def test_leases_hold_a_session(seen: list[tuple[int, Leases | None]], ended: EndReason | None) -> None:
    assert walk_leased(*seen).end_reason is ended


def test_a_lease_begins_a_session_and_small_renewals_change_nothing_that_is_kept() -> None:
    def renewed(state: SessionState, minute: int, until: int) -> SessionState:
        now = T0 + timedelta(minutes=minute)
        return advance(state, Observation(now, usable=True, pods_running=False, leases=leased(until)), LIMITS)

    state = walk_leased((0, NONE), (7, leased(67)))
    assert (state.started_at, state.leased_until) == (T0 + timedelta(minutes=7), T0 + timedelta(minutes=67))
    for minute in range(8, 13):
        assert renewed(state, minute, minute + 60) == state
    for minute, until in ((13, 73), (8, 66), (67, 68)):
        assert renewed(state, minute, until).leased_until == T0 + timedelta(minutes=until)


def test_nobody_comes() -> None:
    assert walk((0, GONE), (59, GONE)).ended_at is None
    assert walk((0, GONE), (60, GONE)).end_reason is EndReason.NOBODY_CAME


def test_what_was_written_tells_of_a_pod_that_nobody_saw() -> None:
    seen = Observation(now=T0 + LIMITS.start_timeout, usable=True, pods_running=False, written=True)
    early = Observation(now=T0 + timedelta(minutes=59), usable=True, pods_running=False, written=True)
    assert advance(SessionState(ready_at=T0), early, LIMITS).ended_at is None, "somebody may be writing still"
    assert advance(SessionState(ready_at=T0), seen, LIMITS).end_reason is EndReason.PODS_GONE


def test_a_session_ends_with_its_ttl_even_while_a_pod_runs() -> None:
    assert walk((0, GONE), (1, RUNNING), (480, RUNNING)).end_reason is EndReason.TTL_EXPIRED


def test_deletion_ends_a_session_at_once_and_before_it_is_ready() -> None:
    assert walk((0, GONE), (1, RUNNING), (2, RUNNING), deleting_at=2).end_reason is EndReason.DELETED
    state = advance(SessionState(), Observation(T0, usable=False, pods_running=False, deleting=True), LIMITS)
    assert state.end_reason is EndReason.DELETED


def hours(number: float) -> datetime:
    return T0 + timedelta(hours=number)


@pytest.mark.parametrize(
    ("extendable", "extended", "asked", "expected"),
    [
        (24, None, None, None),
        (24, None, 7, None),
        (24, None, 8, None),
        (24, None, 9, 9),
        (24, None, 24, 24),
        (24, None, 25, 24),
        (24, 12, None, 12),
        (24, 12, 10, 12),
        (24, 12, 12, 12),
        (24, 12, 13, 13),
        (24, 24, 100, 24),
        (8, None, 9, None),
        (None, None, 9, None),
        (None, 12, 13, 12),
    ],
)
def test_until_when_a_session_lives(
    extendable: float | None, extended: float | None, asked: float | None, expected: float | None
) -> None:
    """Hours from first Ready; its ttl gives it eight."""
    state = SessionState(
        ready_at=T0,
        extendable_until=None if extendable is None else hours(extendable),
        extended_until=None if extended is None else hours(extended),
        started_at=T0,
    )
    seen = Observation(T0, usable=True, pods_running=True, extend_until=None if asked is None else hours(asked))
    after = advance(state, seen, LIMITS)
    assert after.extended_until == (None if expected is None else hours(expected))
    assert end_of(after, LIMITS) == hours(expected or 8)
    assert advance(after, seen, LIMITS) == after
    for moment, ended in ((hours(expected or 8) - timedelta(seconds=1), False), (hours(expected or 8), True)):
        late = advance(after, replace(seen, now=moment), LIMITS)
        assert (late.end_reason is EndReason.TTL_EXPIRED) is ended


@pytest.mark.parametrize(("max_ttl", "expected"), [(1, 8), (8, 8), (24, 24), (10**9, None)])
def test_how_far_it_can_be_extended_is_known_once_it_is_ready(max_ttl: float, expected: float | None) -> None:
    limits = replace(LIMITS, max_ttl=min(timedelta(hours=max_ttl), timedelta.max))
    state = advance(SessionState(), Observation(T0, usable=True, pods_running=False), limits)
    assert state.extendable_until == (FAR if expected is None else hours(expected))


def test_an_end_of_what_was_never_ready() -> None:
    state = advance(SessionState(), Observation(T0, usable=False, pods_running=False, extend_until=hours(9)), LIMITS)
    assert state == SessionState()
    assert end_of(state, LIMITS) is None


def test_nothing_counts_before_the_first_ready() -> None:
    state = advance(SessionState(), Observation(T0, usable=False, pods_running=True), LIMITS)
    assert state == SessionState()


@given(st.lists(st.tuples(st.integers(0, 600), st.sampled_from([GONE, RUNNING, FINISHED])), max_size=12))
def test_an_end_is_irrevocable_and_repetition_changes_nothing(steps: list[tuple[int, tuple[bool, bool]]]) -> None:
    state = SessionState()
    for minute, (running, finished) in sorted(steps, key=lambda step: step[0]):
        seen = Observation(T0 + timedelta(minutes=minute), usable=True, pods_running=running, pods_finished=finished)
        after = advance(state, seen, LIMITS)
        assert advance(after, seen, LIMITS) == after
        if state.ended_at is not None:
            assert after == state
        state = after
