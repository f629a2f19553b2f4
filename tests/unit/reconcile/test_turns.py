"""Sessions of one operator that add to the same dataset at a time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from volatile_rse.adapters.clock import FakeClock
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.api.conditions import Reason
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.reconcile.datasets import Dataset, Datasets

OUT = Did("user.alice", "out")
WHERE: Dataset = ("https://rucio.example.org", OUT)
ONE, TWO = "aaaaaaaaaa", "bbbbbbbbbb"


def version(record: str, size: int = 1) -> File:
    return File(Did("user.alice", f"out.{record}.a"), size, "00000001")


def adding(record: str, size: int = 1, rse: str = "SITE-A") -> do.Attach:
    return do.Attach(OUT, rse, [version(record, size)])


@pytest.fixture
def catalogue() -> FakeCatalogue:
    catalogue = FakeCatalogue()
    for rse in ("SITE-A", "SITE-B"):
        catalogue.add_permanent(rse, "site")
    catalogue.ensure_dataset(OUT, "alice", ONE)
    return catalogue


@pytest.fixture
def datasets() -> Datasets:
    return Datasets(FakeClock().now)


def test_who_looked_before_another_one_added_looks_again(catalogue: FakeCatalogue, datasets: Datasets) -> None:
    datasets.made(WHERE)
    turns = {record: datasets.turn(WHERE, record) for record in (ONE, TWO)}
    assert not any(datasets.versions(catalogue, WHERE, [version(record)], record) for record in (ONE, TWO))
    for rse in ("SITE-A", "SITE-B"):
        datasets.attach(catalogue, WHERE, adding(ONE, rse=rse), ONE, turns[ONE])
    with pytest.raises(RefusedError) as caught:
        datasets.attach(catalogue, WHERE, adding(TWO), TWO, turns[TWO])
    assert caught.value.reason is Reason.CHANGED_MEANWHILE
    assert catalogue.content(OUT) == (version(ONE),)
    assert datasets.versions(catalogue, WHERE, [version(TWO)], TWO) == {version(TWO).did: version(ONE)}


def test_an_addition_without_an_answer_counts(catalogue: FakeCatalogue, datasets: Datasets) -> None:
    turn = datasets.turn(WHERE, TWO)
    catalogue.fail_next(after=True)
    with pytest.raises(UnreachableError):
        datasets.attach(catalogue, WHERE, adding(ONE), ONE, datasets.turn(WHERE, ONE))
    with pytest.raises(RefusedError):
        datasets.attach(catalogue, WHERE, adding(TWO), TWO, turn)


def test_a_buffer_that_adds_no_more_leaves_no_other_one_in_the_past(
    catalogue: FakeCatalogue, datasets: Datasets
) -> None:
    turn = datasets.turn(WHERE, TWO)
    datasets.attach(catalogue, WHERE, adding(ONE), ONE, datasets.turn(WHERE, ONE))
    datasets.forget(ONE)
    with pytest.raises(RefusedError):
        datasets.attach(catalogue, WHERE, adding(TWO), TWO, turn)


def test_a_path_that_is_taken_is_looked_for_once_a_minute(catalogue: FakeCatalogue) -> None:
    clock, calls = FakeClock(), []
    datasets, content = Datasets(clock.now), catalogue.content
    catalogue.attach(OUT, "SITE-A", [version(ONE)])
    catalogue.content = lambda dataset: calls.append(dataset) or content(dataset)  # type: ignore[method-assign,func-returns-value]
    for _ in range(121):
        assert datasets.versions(catalogue, WHERE, [version(TWO, 2)], TWO) == {version(TWO).did: version(ONE)}
        clock.turn(timedelta(seconds=1))
    assert len(calls) == 3
