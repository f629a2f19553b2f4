from __future__ import annotations

from datetime import timedelta

import pytest

from volatile_rse.api.leases import fault_of_lease_name, time_of_lease

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("content", "time", "fault"),
    [
        (b"", HOUR, ""),
        (b" \n", HOUR, ""),
        (b"24h", DAY, ""),
        (b"90m\n", timedelta(minutes=90), ""),
        (b"7d", 7 * DAY, ""),
        (b"8d", 7 * DAY, "8d counts as 7d, the longest"),
        (b"999999999999d", 7 * DAY, "999999999999d counts as 7d, the longest"),
        (b"two hours", HOUR, "is no duration"),
        (b"0h", HOUR, "is no duration"),
        (b"-1h", HOUR, "is no duration"),
        (b"\xff\x00", HOUR, "is no duration"),
        ("٢h".encode(), HOUR, "is no duration"),
        (b"1" * 63 + b"h", 7 * DAY, "the longest"),
    ],
)
def test_what_a_lease_says(content: bytes, time: timedelta, fault: str) -> None:
    found, said = time_of_lease(content)
    assert (found, bool(said)) == (time, bool(fault))
    assert fault in said


@pytest.mark.parametrize("name", ["a", "job-42", "1234_7.batch", "A" * 63])
def test_names(name: str) -> None:
    assert fault_of_lease_name(name) == ""


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "A" * 64, "a b", "ä", "a\n", "a\udcff", "a:b"])
def test_what_is_no_name(name: str) -> None:
    assert "63" in fault_of_lease_name(name)
