from __future__ import annotations

from volatile_rse.agent.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_entry_is_idle_since_its_last_byte_or_since_it_was_heard_of() -> None:
    clock = Clock()
    progress = Progress(clock)
    assert progress.idle("a") is None
    progress.expect(["a", "b"])
    clock.now += 10
    progress.arrived(["a"], 5)
    clock.now += 3.5
    assert (progress.idle("a"), progress.idle("b")) == (3, 13)


def test_a_new_manifest_does_not_make_an_idle_entry_fresh() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.expect(["a", "b"])
    clock.now += 60
    progress.expect(["a", "c"])
    progress.arrived(["b"], 1)
    assert (progress.idle("a"), progress.idle("b"), progress.idle("c")) == (60, None, 0)


def test_the_rate_is_of_the_last_half_minute() -> None:
    clock = Clock()
    progress = Progress(clock)
    assert progress.rate() is None
    progress.expect(["a"])
    for _ in range(80):
        progress.arrived(["a"], 100)
        clock.now += 0.125
    assert progress.rate() == 800
    clock.now += 20
    assert progress.rate() == 8_000 // 30
    clock.now += 11
    assert progress.rate() == 0
