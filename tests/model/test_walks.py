"""Long random walks through what people and machines may do to one session: farther than all sequences can be tried."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.scenarios import FILES
from tests.unit.reconcile.small_world import Killed, Small
from volatile_rse.builders.objects import name_of
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts, Piece
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.world import World

SECONDS = float(os.environ.get("MODEL_SECONDS", "30")) / 3
"""The rest is the bounded exploration's."""
_LENGTH = 14
"""Actions of a walk."""
_FREEZE = 120
"""Steps within which everything has to end once all is well again."""


@dataclass
class Walk:
    """One way through the small world; the same number is always the same way."""

    number: int
    small: Small = field(default_factory=Small)
    taken: list[str] = field(default_factory=list)
    _deadly: int | None = None
    _pod: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.number)  # noqa: S311 (a walk that can be walked again)
        self.small.apply = self._apply
        self.small.request()

    def _apply(self, world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        judge(self.small, effect)
        if self._deadly is not None:
            self._deadly -= 1
        if self._deadly == 0 and self.random.random() < 0.5:
            raise Killed
        execute(world, connections, facts, effect)
        if self._deadly == 0:
            raise Killed

    def go(self) -> None:
        """Take an action that is possible."""
        action = self.random.choice(ACTIONS)
        self.taken.append(action.__name__)
        action(self)

    def state(self) -> tuple[object, ...]:
        """Say where it is, as far as two ways to the same place are one."""
        small = self.small
        with small.peeking():
            replicas = small.catalogue.replicas(small.rse, small.ledger)
            exists = small.catalogue.has_rse(small.rse)
        pieces = tuple(sorted(left.split("-", 2)[-1] for left in small.leftovers()))
        flags = (small.catalogue.down, small.buffer.down, small.has_session(), small.is_gone, exists, self._pod)
        truth = small.truth
        times = tuple(bool(truth.get(name)) for name in ("safeAt", "freedAt", "closedAt"))
        return truth.get("phase"), times, flags, pieces, tuple(sorted(replicas.values())), len(small.written)

    # What may happen.

    def step(self) -> None:
        self.small.step()

    def steps(self) -> None:
        for _ in range(self.random.randint(2, 6)):
            self.small.step()

    def pod_starts(self) -> None:
        if not self._pod and self.small.has_session():
            self.small.start_pod()
            self._pod = True

    def pod_ends(self) -> None:
        if self.small.cluster.get(Ref("Pod", "alice", "job")) is not None:
            self.small.end_pod()

    def write(self) -> None:
        """Write as a session can: with its token, through an open door."""
        small = self.small
        if small.has_session() and small.buffer.gate.mode == "open" and not small.truth.get("steps"):
            count = self.random.randint(1, len(FILES))
            small.write(*FILES[: max(count, len(small.written))])

    def delete(self) -> None:
        self.small.delete()

    def kill(self) -> None:
        self._deadly = self.random.randint(1, 8)

    def operator_restarts(self) -> None:
        self.small.forget()

    def agent_restarts(self) -> None:
        self.small.buffer.restart()

    def storage_pod_goes(self) -> None:
        ref = Ref("Pod", "bufs", name_of(self.small.record_id, Piece.POD))
        body = self.small.cluster.get(ref)
        if body is not None:
            self.small.cluster.delete(ref, body["metadata"]["uid"])
            self.small.buffer.restart()

    def rucio_down(self) -> None:
        self.small.catalogue.down = True

    def rucio_up(self) -> None:
        self.small.catalogue.down = False

    def buffer_down(self) -> None:
        self.small.buffer.down = True

    def buffer_up(self) -> None:
        self.small.buffer.down = False

    def copies_fail(self) -> None:
        self.small.fail_copies(self.random.randint(1, 10))

    def time_passes(self) -> None:
        self.small.clock.turn(timedelta(minutes=self.random.choice([1, 30, 120])))

    def ends(self) -> None:
        """Let all be well again, and the VolatileRSE be deleted."""
        small = self.small
        small.catalogue.down = small.buffer.down = False
        self._deadly = None
        small.delete()
        small.until(lambda: small.is_closed_or_never() and small.is_gone, _FREEZE)
        if small.record:
            assert small.is_kept(*small.written), f"I1: {small.written}"
        ends_well(small)
        rests(small)


ACTIONS: list[Callable[[Walk], None]] = [
    Walk.step,
    Walk.steps,
    Walk.steps,
    Walk.pod_starts,
    Walk.pod_ends,
    Walk.write,
    Walk.write,
    Walk.delete,
    Walk.kill,
    Walk.operator_restarts,
    Walk.agent_restarts,
    Walk.storage_pod_goes,
    Walk.rucio_down,
    Walk.rucio_up,
    Walk.buffer_down,
    Walk.buffer_up,
    Walk.copies_fail,
    Walk.time_passes,
]


def walk(number: int) -> set[tuple[object, ...]]:
    """Walk one way; give the states on it."""
    way, seen = Walk(number), set()
    try:
        for _ in range(_LENGTH):
            way.go()
            seen.add(way.state())
        way.ends()
    except BaseException as error:
        error.add_note(f"walk {number}: {', '.join(way.taken)}")
        raise
    return seen


@pytest.mark.slow
def test_no_way_breaks_an_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    seen: set[tuple[object, ...]] = set()
    began, number = time.monotonic(), 0
    while time.monotonic() - began < SECONDS:
        seen |= walk(number)
        number += 1
    with capsys.disabled():
        print(f"\nmodel: {number} walks, {len(seen)} states")  # noqa: T201
    assert len(seen) > 1


@pytest.mark.parametrize("number", range(8))
def test_some_ways_every_time(number: int) -> None:
    walk(number)
