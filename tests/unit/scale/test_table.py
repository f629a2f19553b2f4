"""What docs/benchmarks.md says of many buffers."""

from __future__ import annotations

from typing import Any

import pytest

from testbed import scale_table

GOOD = {
    "limit": 900, "made_seconds": 1.2, "pods_seconds": 19.0, "ready_seconds": 25.04, "p50": 12.0,
    "p99": 24.0, "burst_requests": 40.0, "burst_writes": 14.0, "burst_calls": 5.0, "burst_cpu": 0.1,
    "burst_api": 0.2, "burst_controllers": 0.1, "burst_by": '{"create Pod": 1.0, "get Secret": 0.25}',
    "idle_by": '{"get Lost": 0.0001}',
    "idle_requests": 0.05, "idle_calls": 0.0, "idle_cpu": 0.001, "idle_writes": 0.0, "rss_mib": 120.0,
    "restart_seconds": 9.0, "restart_writes": 0.0, "restart_requests": 1.0, "deletion_seconds": 60.0,
    "deletion_requests": 50.0,
}  # fmt: skip


def one(assembly: str, size: int, **changes: Any) -> dict[str, Any]:
    found = {"size": size, "pods": size, "ready": size, "visited": size, "closed": size, **GOOD, **changes}
    return {f"{assembly}.{size}.{key}": value for key, value in found.items() if value is not None}


def lines(*runs: dict[str, Any], sizes: str = "[100, 300, 1000]", delay: float = 0.0) -> dict[str, str]:
    """Give the rows by what they tell."""
    known: dict[str, Any] = {"sizes": sizes, "delay": delay}
    for run in runs:
        known |= run
    text = list(scale_table.section(known))
    return {line.split("|")[1].strip(): line for line in text if line.startswith("|")} | {"text": "\n".join(text)}


ALL = (one("before", 100), one("after", 100), one("after", 300), one("after", 1000))


def test_each_assembly_and_size_has_a_column() -> None:
    said = lines(*ALL)
    assert said["what"] == "| what | before, 100 | after, 100 | after, 300 | after, 1,000 | aim |"
    widths = {line.count("|") for name, line in said.items() if name != "text"}
    assert widths == {7}


@pytest.mark.parametrize(
    ("size", "key", "row", "good", "bad"),
    [
        (300, "pods_seconds", "the first written to all storage pods created", 20.0, 20.1),
        (300, "p99", "each written to its being Ready, p99", 30.0, 30.1),
        (1000, "ready_seconds", "the first written to all Ready", 120.0, 120.1),
        (1000, "rss_mib", "memory then", 175.0, 175.1),
        (1000, "idle_requests", "requests of an idle buffer in a minute", 0.1, 0.11),
        (1000, "idle_writes", "writes while nothing happens", 0.0, 1.0),
        (1000, "restart_seconds", "a new process, until it has visited all", 30.0, 30.1),
        (1000, "restart_writes", "its writes", 0.0, 1.0),
    ],
)
def test_aims(size: int, key: str, row: str, good: float, bad: float) -> None:
    others = [run for run in ALL if f"after.{size}.size" not in run]
    assert lines(*others, one("after", size, **{key: good}))[row].rstrip(" |").endswith(", reached")
    assert lines(*others, one("after", size, **{key: bad}))[row].rstrip(" |").endswith(", missed")
    assert "reached" not in lines(*others)[row], "of what was not measured nothing is said"


def test_a_burst_that_did_not_end_reaches_nothing_and_says_how_far_it_came() -> None:
    cut = one("after", 300, pods=299, ready=250, idle_requests=None, p99=1.0)
    said = lines(cut, sizes="[300]")
    assert "| 299 of 300 in 900 s |" in said["the first written to all storage pods created"]
    assert "| 250 of 300 in 900 s |" in said["the first written to all Ready"]
    assert "| - |" in said["requests of an idle buffer in a minute"]
    assert "missed" in said["each written to its being Ready, p99"]


def test_what_a_buffer_costs_among_many() -> None:
    few = one("after", 100)
    assert "1.00 times as many requests, 1.00 times" in lines(few, one("after", 1000))["text"]
    grown = lines(few, one("after", 1000, burst_cpu=0.125))["text"]
    assert "1.25 times as much processor time as among 100 (aim: 1.2, missed)" in grown
    assert "costs" not in lines(few, sizes="[100]")["text"]
    assert "costs" not in lines(few, one("after", 1000, ready=999))["text"]


def test_what_the_requests_were() -> None:
    said = lines(*ALL)["text"]
    assert "Among 1,000 a buffer's requests until it is Ready are: create Pod 1, get Secret 0.25." in said
    assert "idle minute are" not in said
    assert "requests until" not in lines(one("before", 100))["text"]


def test_a_delay_is_told() -> None:
    assert "answer\nafter 20 ms: " in lines(*ALL, delay=0.02)["text"]
    assert "answer\nat once: " in lines(*ALL)["text"]


def test_where_the_time_of_the_greatest_goes() -> None:
    said = lines(*ALL)["text"]
    parts = "operator 100 s, API server and etcd 200 s, other controllers 100 s of processor time"
    assert f"Where the time of 1,000 goes: {parts}" in said
    assert "Where the time" not in lines(one("after", 100, ready=99))["text"]
