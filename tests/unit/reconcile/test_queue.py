from __future__ import annotations

import threading

from volatile_rse.reconcile.queue import KeyedQueue


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_come_when_they_are_due_and_earlier_additions_win() -> None:
    time = Time()
    queue = KeyedQueue(time)
    queue.add("late", 10)
    queue.add("soon", 5)
    queue.add("late", 1)
    queue.add("soon", 7)
    time.now = 20
    assert [queue.take(), queue.take()] == ["late", "soon"]


def test_a_time_that_is_centuries_away_ends_no_thread() -> None:
    queue = KeyedQueue()
    queue.add("a", 1e15)
    queue.add("b", 0.05)
    assert queue.take() == "b"
    other = threading.Timer(0.05, queue.close)
    other.start()
    assert queue.take() is None, "it waits, and no call of the system fails"


def test_a_key_is_given_to_one_worker_at_a_time_and_not_forgotten() -> None:
    queue = KeyedQueue(Time())
    queue.add("a")
    assert queue.take() == "a"
    queue.add("a")
    queue.add("b")
    assert queue.take() == "b"
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take()))
    worker.start()
    worker.join(0.05)
    assert taken == []
    queue.done("a")
    worker.join(5)
    assert taken == ["a"]


def test_closing_lets_workers_go() -> None:
    queue = KeyedQueue()
    queue.add("never", 1000)
    worker = threading.Thread(target=queue.take)
    worker.start()
    queue.close()
    worker.join(5)
    assert not worker.is_alive()
