from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.reconcile.small_world import Small
from volatile_rse.api.rserecord import FrozenInput, Outcome, SessionTruth
from volatile_rse.domain.accounting import Used, used_between
from volatile_rse.domain.facts import Record
from volatile_rse.domain.times import stamp
from volatile_rse.reconcile.reading import read_record

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)


def hour(number: float) -> datetime:
    return MIDNIGHT + timedelta(hours=number)


@pytest.fixture(scope="module")
def some() -> Record:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    return read_record(small.record, small.clock.now())


def buffer(some: Record, begin: float, **changes: Any) -> Record:
    """Give a record of a buffer of 1Gi that begins at an hour."""
    status = some.status.model_copy(
        update={
            "session": SessionTruth(ready_at=None if (ready := changes.get("ready")) is None else stamp(hour(ready))),
            "inputs": [FrozenInput(name=name, files=1, bytes=50, digest="0" * 64) for name in ("a", "b")],
            "outcome": Outcome(files=2, bytes=30),
            "safe_at": None if (safe := changes.get("safe")) is None else stamp(hour(safe)),
            "freed_at": None if (freed := changes.get("freed")) is None else stamp(hour(freed)),
        }
    )
    claim = some.spec.claims[0].model_copy(update={"account": changes.get("account", "alice"), "namespace": "alice"})
    spec = some.spec.model_copy(update={"claims": [claim], "capacity": "1Gi", "class_name": "standard"})
    return replace(some, spec=spec, status=status, created=hour(begin))


def used(*numbers: int, account: str = "alice") -> Used:
    return Used("alice", account, "standard", *numbers)


GI = 1 << 30


@pytest.mark.parametrize(
    ("begin", "changes", "expected"),
    [
        (0, {}, [used(1, 24 * GI, 0, 0)]),
        (0, {"ready": 1}, [used(1, 24 * GI, 100, 0)]),
        (-5, {"ready": -1, "safe": 1, "freed": 2}, [used(1, 2 * GI, 0, 30)]),
        (0, {"ready": 0, "safe": 24, "freed": 25}, [used(1, 24 * GI, 100, 0)]),
        (20.5, {}, [used(1, 3 * GI + GI // 2, 0, 0)]),
        (-5, {"ready": -4, "safe": -3, "freed": -2}, []),
        (-5, {"ready": -4, "safe": -3, "freed": 0}, []),
        (24, {}, []),
        (30, {"ready": 31}, []),
    ],
)
def test_a_buffer_counts_for_the_hours_that_it_has_storage(
    some: Record, begin: float, changes: dict[str, float], expected: Sequence[Used]
) -> None:
    assert used_between([buffer(some, begin, **changes)], hour(0), hour(24)) == expected


def test_accounts_are_told_apart_and_their_buffers_added_up(some: Record) -> None:
    records = [
        buffer(some, 1, account="bob", ready=2),
        buffer(some, 0, ready=1, safe=2, freed=3),
        buffer(some, 4, ready=5, safe=6, freed=7),
    ]
    assert used_between(records, hour(0), hour(24)) == [
        used(2, 6 * GI, 200, 60),
        used(1, 23 * GI, 100, 0, account="bob"),
    ]


@given(
    times=st.lists(st.integers(-10, 34), min_size=4, max_size=4).map(sorted),
    cut=st.integers(0, 24),
)
def test_two_spans_count_what_one_counts(some: Record, times: list[int], cut: int) -> None:
    begin, ready, safe, freed = times
    records = [buffer(some, begin, ready=ready, safe=safe, freed=freed)]
    spans = [(hour(0), hour(24)), (hour(0), hour(cut)), (hour(cut), hour(24))]
    whole, first, second = (
        [sum(getattr(entry, name) for entry in used_between(records, *span)) for name in NAMES] for span in spans
    )
    assert whole == [one + other for one, other in zip(first, second, strict=True)]


NAMES = ("byte_hours", "bytes_in", "bytes_out")
