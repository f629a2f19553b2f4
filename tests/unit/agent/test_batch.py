from __future__ import annotations

import threading

import pytest

from tests.unit.agent.conftest import until
from volatile_rse.agent import batch
from volatile_rse.agent.batch import Batch
from volatile_rse.agent.troubles import Troubles


@pytest.fixture
def troubles() -> Troubles:
    return Troubles(lambda: None)


def test_what_comes_while_something_is_written_is_written_together(troubles: Troubles) -> None:
    written: list[list[int]] = []
    go_on = threading.Event()

    def write(items: list[int]) -> None:
        written.append(items)
        go_on.wait(5)

    made = Batch("test", write, troubles)
    made.start()
    made.add(0)
    until(lambda: written)
    for number in range(1, 500):
        made.add(number)
    go_on.set()
    made.stop()
    assert [len(items) for items in written] == [1, 499]


def test_the_last_one_is_not_kept_waiting(troubles: Troubles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_PAUSE", 60)
    written: list[int] = []
    made = Batch("test", written.extend, troubles)
    made.start()
    made.add(0)
    until(lambda: written == [0])
    made.add(1)
    made.add(2, last=True)
    until(lambda: written == [0, 1, 2])
    made.stop()


def test_a_failed_writing_is_repeated_with_all_of_it_and_told_meanwhile(
    troubles: Troubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_AFTER_FAILURE", 0.01)
    written: list[list[int]] = []
    said: list[list[tuple[str, str]]] = []

    def write(items: list[int]) -> None:
        written.append(list(items))
        said.append([(failure.what, failure.error) for failure in troubles.failures()])
        if len(written) < 3:
            raise OSError(28, "no space left on device")

    made = Batch("test", write, troubles)
    made.add(1)
    made.start()
    until(lambda: len(written) == 3)
    made.add(2)
    made.stop()
    assert written[0] == written[2][: len(written[0])] == [1]
    assert written[-1][-1] == 2
    full = "[Errno 28] no space left on device: USER must delete files that are not needed"
    assert said[0] == []
    assert [[(what, error.startswith(full)) for what, error in told] for told in said[1:3]] == [
        [("agent: test", True)]
    ] * 2
    assert troubles.failures() == []


def test_the_end_does_not_wait_for_what_cannot_be_written(troubles: Troubles) -> None:
    def write(_: list[int]) -> None:
        raise OSError(28, "no space left on device")

    made = Batch("test", write, troubles)
    made.add(1)
    made.start()
    made.stop()
