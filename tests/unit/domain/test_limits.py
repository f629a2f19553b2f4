from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from volatile_rse.api.rserecord import Outcome, RSERecordSpec, RSERecordStatus
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import OwnerLimits, VolatileRSEClassSpec
from volatile_rse.domain.facts import Record, Usage
from volatile_rse.domain.limits import problem_of_files, problem_of_owner, surplus
from volatile_rse.domain.times import stamp

NOW = datetime(2026, 11, 30, tzinfo=UTC)
REQUEST = {
    "className": "standard",
    "account": "alice",
    "capacity": "1Ti",
    "inputs": [{"name": "in", "did": "user.alice:in"}],
}
SPEC = VolatileRSESpec.model_validate(REQUEST)


def record(name: str = "r", *, days: float = 1, held: bool = False, limit: int = 2, **what: Any) -> Record:
    """Make a closed record that was made so many days ago."""
    place = {"namespace": what.pop("namespace", "alice"), "namespaceUID": what.pop("namespace_uid", "u")}
    owner = {"uid": name, "name": name, **place}
    class_ = VolatileRSEClassSpec.example() | {"limits": {"perOwner": {"closedRecords": limit, "files": 10}}}
    connection = {"server": "https://r", "account": "ops", "userpass": {"secretName": "s"}, "ledgerScope": "v"}
    spec = {
        "recordId": "abcdefghij", "rseName": "R", "instance": "i", "ledger": "v:l", "capacity": "1Gi",
        "className": what.pop("class_name", "standard"), "classSnapshot": class_, "connectionName": "rucio",
        "connectionSnapshot": connection,
        "claims": [{**owner, "account": what.pop("account", "alice"), "request": REQUEST}],
    }  # fmt: skip
    made = NOW - timedelta(days=days)
    status = RSERecordStatus(**{"closed_at": stamp(made), **what})
    return Record(name, f"uid-{name}", "1", RSERecordSpec.model_validate(spec), status, created=made, held=held)


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (Usage(buffers=19, bytes=3 << 40, files=499_999, recent=119, over=199), None),
        (Usage(buffers=20), "has 20 buffers, and may have 20"),
        (Usage(bytes=(3 << 40) + 1), "uses 3298534883329 bytes, and may use 4Ti with the 1Ti that are asked for"),
        (Usage(files=500_000), "has 500000 files on its buffers, and may have 500000"),
        (Usage(recent=120), "has begun 120 buffers within an hour, and may begin 120"),
        (Usage(over=200), "has 200 VolatileRSEs whose sessions are over, and may have 200: delete some"),
        (Usage(buffers=20, recent=120), "has 20 buffers, and may have 20; has begun 120 buffers"),
    ],
)
def test_an_owner_gets_no_more_than_the_defaults_allow(used: Usage, said: str | None) -> None:
    problem = problem_of_owner("lab", SPEC, OwnerLimits(), used)
    if said is None:
        assert problem is None
        return
    assert problem is not None
    assert problem.what.startswith(f"Account 'alice' in namespace 'lab' {said}")
    assert problem.what.endswith(f"by limits.perOwner of class {SPEC.class_name!r}.")


@pytest.mark.parametrize(("used", "files"), [(0, 10), (4, 6), (99, 0)])
def test_files_of_all_buffers_of_an_owner_up_to_the_limit(used: int, files: int) -> None:
    assert problem_of_files("alice", record(), files, Usage(files=used)) is None


@pytest.mark.parametrize(("used", "files"), [(4, 7), (0, 11), (99, 1)])
def test_the_files_of_all_buffers_of_an_owner_are_bounded(used: int, files: int) -> None:
    problem = problem_of_files("alice", record(), files, Usage(files=used))
    assert problem is not None
    assert f"has {used} files on its other buffers, and may have 10 with the {files} of these inputs" in problem.what


LOST: list[dict[str, Any]] = [
    {"losses": ["the storage was lost"]},
    {"lost_files": 1},
    {"outcome": Outcome(files=1, bytes=1, exceptions=["torn: a"])},
]


@pytest.mark.parametrize(
    ("records", "going"),
    [
        pytest.param([record("a"), record("b")], [], id="as many as there may be"),
        pytest.param([record("a", days=3), record("b", days=5), record("c")], ["b"], id="the oldest"),
        pytest.param([record("a", held=True), record("b"), record("c")], [], id="none whose VolatileRSE is there"),
        pytest.param([record("a", account="bob"), record("b"), record("c")], [], id="each account by itself"),
        pytest.param([record("a", namespace="lab"), record("b"), record("c")], [], id="each namespace by itself"),
        pytest.param([record("a", namespace_uid="v"), record("b"), record("c")], [], id="one made again by itself"),
        pytest.param([record("a", namespace_uid=None), record("b"), record("c")], [], id="an earlier version's"),
        pytest.param([record("a", class_name="fast"), record("b"), record("c")], [], id="each class by itself"),
        pytest.param([record(name, days=0.01) for name in "abcd"], [], id="none of the last hour"),
        pytest.param([record("a", days=0.01), record("b"), record("c")], ["b"], id="those of the last hour count"),
        pytest.param(
            [record("a", days=9, limit=1), record("b", days=1, limit=3), record("c", days=2, limit=1)],
            [],
            id="by the newest limit",
        ),
        *(
            pytest.param([record("a", days=9, **what), record("b"), record("c")], ["b"], id=f"not {what}")
            for what in LOST
        ),
        pytest.param(
            [record(name, days=days, **LOST[0]) for name, days in zip("abc", (1, 2, 3), strict=True)],
            ["c"],
            id="losses alone are bounded, too",
        ),
    ],
)
def test_of_too_many_closed_records_the_oldest_go(records: list[Record], going: list[str]) -> None:
    assert [found.name for found in surplus(records, NOW)] == going


def test_a_record_that_is_not_closed_never_goes() -> None:
    living = [dataclasses.replace(record(name), status=RSERecordStatus()) for name in "abcdef"]
    assert surplus(living, NOW) == []
