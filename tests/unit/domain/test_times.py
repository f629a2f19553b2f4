"""Times end where calendars do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from volatile_rse.domain.times import FAR, earlier, later, stamp, when

NOW = datetime(2026, 11, 30, 9, tzinfo=UTC)
FIRST = datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "span", "after", "before"),
    [
        (NOW, timedelta(days=1), NOW + timedelta(days=1), NOW - timedelta(days=1)),
        (NOW, timedelta(days=9_999_999), FAR, FIRST),
        (NOW, timedelta.max, FAR, FIRST),
        (FAR, timedelta(seconds=2), FAR, FAR - timedelta(seconds=2)),
        (FIRST, timedelta(seconds=2), FIRST + timedelta(seconds=2), FIRST),
        (NOW, timedelta.min, FIRST, FAR),
    ],
)
def test_what_lies_beyond_is_the_end(moment: datetime, span: timedelta, after: datetime, before: datetime) -> None:
    assert (later(moment, span), earlier(moment, span)) == (after, before)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (NOW, "2026-11-30T09:00:00Z"),
        (NOW.replace(microsecond=7), "2026-11-30T09:00:00Z"),
        (NOW.replace(tzinfo=timezone(timedelta(hours=2))), "2026-11-30T07:00:00Z"),
        (FIRST, "0001-01-01T00:00:00Z"),
        (FAR, "9999-12-31T23:59:59Z"),
        (FAR.replace(tzinfo=timezone(timedelta(hours=-2))), "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_written_as_kubernetes_does(time: datetime, text: str) -> None:
    assert stamp(time) == text


@pytest.mark.parametrize(
    ("text", "time"),
    [("2026-11-30T09:00:00Z", NOW), ("2026-11-30T11:00:00+02:00", NOW), ("2026-11-30T09:00:00", NOW), (None, None)],
)
def test_a_time_that_is_read_can_be_compared(text: str | None, time: datetime | None) -> None:
    assert when(text) == time


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        when("yesterday")
