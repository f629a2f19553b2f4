"""The operator dies, or an answer is lost, at single writes to cluster, catalogue and buffer within its effects.

What is struck is generated from the calls that happen. The last write of an effect is left out: the kill matrix of
the effects strikes there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, cast, get_args

import pytest

from tests.unit.reconcile.branches import Branches
from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.scenarios import ALL, QUICK, Scenario
from tests.unit.reconcile.small_world import Killed, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.world import Login, World

Mode = Literal["killed", "answer lost"]
Port = Literal["cluster", "catalogue", "buffer"]
_OF_CLUSTER = frozenset({"create", "apply", "merge", "delete"})
_OF_BUFFER = frozenset({"send_manifest", "fence", "seal", "copy"})
_LOST: dict[Port, Reason] = {
    "cluster": Reason.CLUSTER_UNREACHABLE,
    "catalogue": Reason.CATALOGUE_UNREACHABLE,
    "buffer": Reason.BUFFER_UNREACHABLE,
}
_SHARE = 24
"""Of so many writes within effects the thin matrix strikes one."""


@dataclass(frozen=True, slots=True)
class Write:
    """A single write of the operator that was carried out."""

    port: Port
    effect: int
    """Number of the effect that it is part of; 0: of none, as the words of a status are."""
    kind: str
    """Of the effect."""


@dataclass
class Written(Small):
    """The small world, with the operator's writes counted and one of them struck."""

    strikes: Mapping[int, Sequence[Mode]] = field(default_factory=dict)
    """Number of a write -> how it is struck, each time in another process."""
    branches: Branches = field(default_factory=Branches)
    writes: list[Write] = field(default_factory=list)
    _visiting: bool = False
    _effect: tuple[int, str] = (0, "")
    _effects: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.apply = self._judged

    def visit(self) -> None:
        """Count from here on."""
        self._visiting = True
        try:
            super().visit()
        finally:
            self._visiting = False
            self._effect = 0, ""

    def _judged(self, world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        judge(self, effect)
        self._effects += 1
        self._effect = self._effects, type(effect).__name__
        try:
            execute(world, connections, facts, effect)
        finally:
            self._effect = 0, ""

    def world(self) -> World:
        """Give ports that count."""
        world = super().world()
        cluster, fresh = (
            cast("Any", _Counting(seen, _OF_CLUSTER, lambda: self._wrote("cluster")))
            for seen in (world.cluster, world.fresh)
        )
        return replace(world, cluster=cluster, fresh=fresh)

    def _connect(self, login: Login) -> Catalogue:
        # Its writes are finer than its calls: the making of an RSE is several.
        catalogue, dies = self.catalogue, type(self.catalogue)._wrote

        def wrote() -> None:
            dies(catalogue)
            self._wrote("catalogue")

        catalogue._wrote = wrote  # type: ignore[method-assign]
        return super()._connect(login)

    def _agent_at(self, address: str, name: str) -> Buffer:
        buffer: Any = _Counting(super()._agent_at(address, name), _OF_BUFFER, lambda: self._wrote("buffer"))
        return buffer  # type: ignore[no-any-return]

    def _wrote(self, port: Port) -> None:
        if not self._visiting:
            return
        self.writes.append(Write(port, *self._effect))
        number = len(self.writes)
        for mode in () if self.branches.is_branch else self.strikes.get(number, ()):
            if self.branches.starts(f"{mode} at write {number}: {self.writes[-1]}"):
                if mode == "killed":
                    raise Killed
                raise UnreachableError(_LOST[port], "the answer was lost")


class _Counting:
    def __init__(self, port: object, methods: frozenset[str], wrote: Callable[[], None]) -> None:
        self._port = port
        self._methods = methods
        self._wrote = wrote

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._port, method)
        return self._counted(call) if method in self._methods else call

    def _counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **named: object) -> object:
            answer = call(*args, **named)
            self._wrote()
            return answer

        return counted


def run(scenario: Scenario, strikes: Mapping[int, Sequence[Mode]] | None = None) -> Written:
    """Play a scenario, and from each write that is to be struck on once more for each strike."""
    small = Written(strikes=strikes or {})
    with small.branches.played():
        scenario(small)
        ends_well(small)
        rests(small)
    return small


def inner(writes: Sequence[Write]) -> list[int]:
    """Number the writes after which an effect goes on, or which are part of none."""
    following = pairwise((*writes, Write("cluster", 0, "")))
    return [number for number, (one, next_) in enumerate(following, 1) if one.effect in {0, next_.effect}]


def chosen(scenario: Scenario, mode: Mode, writes: Sequence[Write]) -> list[int]:
    """Choose what is struck: all of them, or the share for which there is time."""
    numbers = inner(writes)
    if os.environ.get("VRSE_MATRIX") == "whole" or (scenario is QUICK[0] and mode == "killed"):
        return numbers
    # Each scenario and each mode begins at another one.
    return numbers[(ALL.index(scenario) + 5 * get_args(Mode).index(mode)) % _SHARE :: _SHARE]


def strike(scenario: Scenario) -> tuple[int, Branches]:
    """Play a scenario to count its writes, then with the strikes that are chosen of them; give both."""
    writes = run(scenario).writes
    struck = {mode: set(chosen(scenario, mode, writes)) for mode in get_args(Mode)}
    strikes = {number: [mode for mode in struck if number in struck[mode]] for number in range(1, len(writes) + 1)}
    branches = run(scenario, strikes).branches
    assert branches.plans == sum(map(len, struck.values())), "it went another way the second time"
    return len(writes), branches


CASES = [
    pytest.param(scenario, marks=() if scenario is QUICK[0] else pytest.mark.slow, id=scenario.__name__)
    for scenario in ALL
]


@pytest.mark.parametrize("scenario", CASES)
def test_a_strike_within_an_effect_changes_nothing_of_the_end(
    scenario: Scenario, workers: ProcessPoolExecutor, record_property: Callable[[str, object], None]
) -> None:
    writes, branches = workers.submit(strike, scenario).result()
    record_property("plans", branches.plans)
    branches.check()
    assert writes > 10
