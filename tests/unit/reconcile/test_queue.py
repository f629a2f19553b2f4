from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volatile_rse.reconcile.queue import _SPARE, KeyedQueue, Owner, _Ranked


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_come_when_they_are_due_and_earlier_additions_win() -> None:
    time = Time()
    queue = KeyedQueue(time, lambda _: ("a", "b"))
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


def owner(key: str) -> Owner:
    """Read an owner from a key such as ``namespace/account/1``."""
    namespace, account, _ = key.split("/")
    return namespace, account


def filled(*keys: str, most: int | None = None) -> KeyedQueue:
    queue = KeyedQueue(Time(), owner, most)
    for key in keys:
        queue.add(key)
    return queue


def one_by_one(queue: KeyedQueue, keys: int) -> list[str]:
    """Take keys with one worker."""
    taken = []
    for _ in range(keys):
        key = queue.take()
        assert key is not None
        taken.append(key)
        queue.done(key)
    return taken


def many(name: str, count: int) -> list[str]:
    return [f"{name}/{number:03}" for number in range(count)]


def test_who_has_five_hundred_keys_delays_another_by_one_visit() -> None:
    queue = filled(*many("greedy/a", 500), "other/b/1")
    assert "other/b/1" in one_by_one(queue, 2)


def test_who_comes_while_all_are_at_work_for_another_is_next() -> None:
    queue = filled(*many("greedy/a", 500))
    at_work = [queue.take() for _ in range(4)]
    queue.add("other/b/1")
    queue.done(str(at_work[0]))
    assert queue.take() == "other/b/1"


def test_who_makes_and_deletes_in_a_loop_is_no_newcomer_each_time() -> None:
    """Its keys come and go, one at a time: that it was served a moment ago is not forgotten with them."""
    queue = filled(*many("quiet/a", 3), *many("calm/a", 3))
    taken = []
    for number in range(12):
        queue.add(f"looping/a/{number}")
        taken += one_by_one(queue, 1)
    assert Counter(key.split("/")[0] for key in taken[:9]) == {"quiet": 3, "calm": 3, "looping": 3}


def test_within_a_namespace_accounts_take_turns_and_many_accounts_are_no_more_than_one_namespace() -> None:
    queue = filled(*many("hub/a", 50), *many("hub/b", 50), *many("lab/c", 50))
    taken = one_by_one(queue, 40)
    assert Counter(key.rpartition("/")[0] for key in taken) == {"hub/a": 10, "hub/b": 10, "lab/c": 20}


def test_of_one_owner_the_key_that_has_waited_longest_comes_first() -> None:
    time = Time()
    queue = KeyedQueue(time, owner)
    for due in (3, 1, 2):
        queue.add(f"a/a/{due}", due)
    time.now = 5
    assert one_by_one(queue, 3) == ["a/a/1", "a/a/2", "a/a/3"]


def test_the_last_worker_is_left_to_others_who_have_keys_for_any_time() -> None:
    queue = filled(*many("greedy/a", 9), most=3)
    queue.add("other/b/1", 1000)
    assert all(str(queue.take()).startswith("greedy") for _ in range(3))
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take()), daemon=True)
    worker.start()
    worker.join(0.05)
    assert taken == [], "a fourth of the same namespace"
    queue.add("other/b/1")
    worker.join(5)
    assert taken == ["other/b/1"]


def test_all_who_wait_are_woken_once_a_namespace_is_alone_again() -> None:
    queue = filled(*many("greedy/a", 3), most=1)
    assert queue.take() == "greedy/a/000"
    queue.add("other/b/1")
    assert queue.take() == "other/b/1"
    waiting = [taken_by(queue) for _ in range(2)]
    for taken, worker in waiting:
        worker.join(0.03)
        assert taken == []
    queue.done("other/b/1")
    for _, worker in waiting:
        worker.join(5)
    assert sorted(str(key) for taken, _ in waiting for key in taken) == ["greedy/a/001", "greedy/a/002"]


def test_who_is_alone_has_all_workers() -> None:
    queue = filled(*many("only/a", 9), most=3)
    assert len({queue.take() for _ in range(4)}) == 4


def test_a_key_whose_owner_was_learned_meanwhile_is_counted_for_it() -> None:
    owners: dict[str, Owner] = {}
    time = Time()
    queue = KeyedQueue(time, lambda key: owners.get(key, (key, "")))
    queue.add("k", 5)
    owners["k"] = ("n", "a")
    queue.add("k", 9)
    time.now = 6
    assert queue.take() == "k", "earlier, never later"
    queue.done("k")
    assert queue.due() == 0


def test_how_late_it_is_counts_all_owners() -> None:
    time = Time()
    queue = KeyedQueue(time, owner)
    queue.add("a/a/1", 1)
    queue.add("b/b/1", 4)
    queue.add("c/c/1", 100)
    time.now = 5
    assert (queue.due(), queue.lateness()) == (2, 4)
    assert queue.take() == "a/a/1"
    assert (queue.due(), queue.lateness()) == (1, 1)


def taken_by(queue: KeyedQueue, *, slow: bool = False) -> tuple[list[str | None], threading.Thread]:
    """Have a thread take a key, which may have to wait."""
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take(slow=slow)), daemon=True)
    worker.start()
    return taken, worker


def test_a_slow_key_waits_in_a_lane_of_its_own_until_it_is_quick_again() -> None:
    queue = filled("a/a/1")
    assert not queue.is_slow("a/a/1")
    for slow in (False, True, True):
        assert queue.take(slow=slow) == "a/a/1"
        queue.add("a/a/1")
        queue.done("a/a/1", slow=True)
        assert queue.is_slow("a/a/1")
    assert queue.due() == 1
    queue.add("b/b/1")
    assert queue.take() == "b/b/1", "nobody waits behind it"
    assert queue.take(slow=True) == "a/a/1"
    queue.done("a/a/1")
    queue.add("a/a/1")
    assert not queue.is_slow("a/a/1")
    assert queue.take() == "a/a/1"


@pytest.mark.parametrize("was_slow", [False, True])
@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("again", ["while it is worked on", "afterwards"])
def test_a_key_that_changes_its_lane_is_worked_on_by_one_thread_at_a_time(
    again: str, *, was_slow: bool, is_slow: bool
) -> None:
    queue = filled("a/a/1")
    if was_slow:
        assert queue.take() == "a/a/1"
        queue.done("a/a/1", slow=True)
        queue.add("a/a/1")
    assert queue.take(slow=was_slow) == "a/a/1"
    waiting = {slow: taken_by(queue, slow=slow) for slow in (False, True)}
    if again == "while it is worked on":
        queue.add("a/a/1")
        for taken, worker in waiting.values():
            worker.join(0.03)
            assert taken == []
        assert queue.due() == 1
    queue.done("a/a/1", slow=is_slow)
    if again == "afterwards":
        queue.add("a/a/1")
    taken, worker = waiting[is_slow]
    worker.join(5)
    assert taken == ["a/a/1"]
    assert waiting[not is_slow][0] == []
    assert queue.due() == 0
    queue.close()
    waiting[not is_slow][1].join(5)
    assert waiting[not is_slow][0] == [None]


def test_owners_take_turns_in_the_slow_lane_too_and_the_last_thread_of_it_is_left_to_others() -> None:
    queue = KeyedQueue(Time(), owner, most=9, most_slow=2)
    for key in (*many("greedy/a", 9), "other/b/1"):
        queue.add(key)
        assert queue.take() == key
        queue.done(key, slow=True)
    for key in many("greedy/a", 9):
        queue.add(key)
    queue.add("other/b/1", 1000)
    at_work = [queue.take(slow=True) for _ in range(2)]
    taken, worker = taken_by(queue, slow=True)
    worker.join(0.05)
    assert taken == [], "a third of the same namespace"
    queue.add("other/b/1")
    worker.join(5)
    assert taken == ["other/b/1"]
    assert len(set(at_work)) == 2


@pytest.mark.parametrize("when", ["before it waits", "while it waits", "while it is worked on"])
def test_what_is_urgent_waits_once_among_the_quick_ones(when: str) -> None:
    queue = filled("a/a/1")
    assert queue.take() == "a/a/1"
    if when == "while it is worked on":
        queue.add("a/a/1", urgent=True)
    queue.done("a/a/1", slow=True)
    if when == "while it waits":
        queue.add("a/a/1", 1000)
        queue.add("a/a/1")
    queue.add("a/a/1", urgent=True)
    queue.add("a/a/1")
    assert queue.due() == 1
    assert queue.take() == "a/a/1"
    queue.add("a/a/1")
    queue.done("a/a/1", slow=True)
    assert queue.take(slow=True) == "a/a/1"
    queue.done("a/a/1", slow=True)
    assert queue.due() == 0


def test_what_is_forgotten_is_quick_if_it_comes_again() -> None:
    queue = filled("a/a/1")
    assert queue.take() == "a/a/1"
    queue.add("a/a/1")
    queue.done("a/a/1", slow=True)
    queue.forget(["a/a/1", "never/a/1"])
    assert not queue.is_slow("a/a/1")
    assert queue.take() == "a/a/1", "and it is not lost"


@pytest.mark.parametrize("keys", [1, 300])
def test_what_is_added_and_taken_again_and_again_leaves_nothing_behind(keys: int) -> None:
    time, names = Time(), [f"{number % 7}/{number % 30}/{number}" for number in range(keys)]
    queue = KeyedQueue(time, owner)
    for _ in range(20_000 // keys):
        for key in names:
            queue.add(key, 5000)
            queue.add(key)
            assert queue.take() is not None
        for key in names:
            queue.done(key)
    ranked = [thing for lane in queue._lanes() for thing in vars(lane).values() if isinstance(thing, _Ranked)]
    assert max(len(one._heap) for one in (queue._oldest, *ranked)) <= 2 * keys + _SPARE


SIZES = st.dictionaries(st.sampled_from(["a/1", "b/1", "c/1", "c/2"]), st.integers(1, 30), min_size=1)
"""Owner -> how many keys it has."""
KEYS = st.tuples(st.sampled_from("xyz"), st.sampled_from("ab"), st.integers(0, 9)).map(lambda k: "/".join(map(str, k)))
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, st.integers(0, 9)),
        st.tuples(st.sampled_from(["take", "take slow"]), st.just(""), st.just(0)),
        st.tuples(st.sampled_from(["done", "done slow"]), st.just(""), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 5)),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(DEEDS, st.sampled_from([None, 1, 3]))
def test_whatever_is_done_no_key_is_lost_or_given_early_or_twice(
    deeds: list[tuple[str, str, int]], most: int | None
) -> None:
    time = Time()
    queue = KeyedQueue(time, owner, most, most)
    due: dict[str, float] = {}
    # In which lane each was taken.
    at_work: dict[str, bool] = {}
    slow: set[str] = set()
    for deed, key, number in deeds:
        if deed == "add":
            queue.add(key, number)
            due[key] = min(due.get(key, float("inf")), time.now + number)
        elif deed == "wait":
            time.now += number
        elif deed.startswith("done") and at_work:
            finished = list(at_work)[number % len(at_work)]
            del at_work[finished]
            queue.done(finished, slow="slow" in deed)
            slow = slow | {finished} if "slow" in deed else slow - {finished}
        elif deed.startswith("take") and len(at_work) < 6:
            lane = "slow" in deed
            of_lane = {key: moment for key, moment in due.items() if (key in slow) is lane}
            if may_take(of_lane, at_work, time.now, most, lane=lane):
                taken = queue.take(slow=lane)
                assert taken is not None
                assert taken not in at_work
                assert (taken in slow) is lane
                assert due.pop(taken) <= time.now
                at_work[taken] = lane
        assert queue.due() == sum(moment <= time.now for moment in due.values())


def may_take(due: dict[str, float], at_work: dict[str, bool], now: float, most: int | None, *, lane: bool) -> bool:
    """Tell whether there is a key for another worker of a lane."""
    busy = Counter(owner(key)[0] for key, taken_in in at_work.items() if taken_in is lane)
    known = {owner(key)[0] for key in due} | set(busy)
    ready = [owner(key)[0] for key, moment in due.items() if moment <= now and key not in at_work]
    return any(most is None or busy[namespace] < most or known == {namespace} for namespace in ready)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a/1", "b/1", "c/1", "c/2"]), st.integers(1, 30), min_size=1), st.integers(1, 4)
)
def test_the_first_key_of_an_owner_waits_for_one_turn_of_each_other_at_most(
    sizes: dict[str, int], workers: int
) -> None:
    queue = filled(*(key for name, size in sizes.items() for key in many(name, size)))
    at_work: list[str] = []
    seen: dict[str, int] = {}
    for turn in range(sum(sizes.values())):
        if len(at_work) == workers:
            queue.done(at_work.pop(0))
        key = str(queue.take())
        at_work.append(key)
        seen.setdefault(key.rpartition("/")[0], turn)
    namespaces = len({name[0] for name in sizes})
    for name, turn in seen.items():
        others = 2 * namespaces if name[0] == "c" and len([one for one in sizes if one[0] == "c"]) > 1 else namespaces
        assert turn < others, f"{name} had its first turn after {turn} of others"


@pytest.mark.parametrize("threads", [1, 2, 12])
def test_threads_of_both_lanes_work_on_all_of_it(threads: int) -> None:
    keys, visits = [*many("a/a", 40), *many("b/b", 40)], 6
    queue = KeyedQueue(owner_of=owner, most=max(threads - 1, 1), most_slow=max(threads - 1, 1))
    taken: Counter[str] = Counter()
    at_work: set[str] = set()
    twice: list[str] = []
    finished, lock = threading.Event(), threading.Lock()

    def work(*, slow: bool) -> None:
        while (key := queue.take(slow=slow)) is not None:
            with lock:
                twice.extend({key} & at_work)
                at_work.add(key)
                taken[key] += 1
                number = taken[key]
                if sum(taken.values()) == visits * len(keys):
                    finished.set()
            if number % 2 and number < visits:
                queue.add(key)
            with lock:
                at_work.remove(key)
            # Each goes from lane to lane, a third of them at each visit.
            queue.done(key, slow=(int(key[-1]) + number) % 3 == 0)
            if not number % 2 and number < visits:
                queue.add(key, 0.001)

    workers = [
        threading.Thread(target=work, kwargs={"slow": slow}, daemon=True)
        for slow in (False, True)
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    for key in keys:
        queue.add(key)
    assert finished.wait(30)
    queue.close()
    for worker in workers:
        worker.join(5)
    assert not any(worker.is_alive() for worker in workers)
    assert twice == []
    assert set(taken.values()) == {visits}
