"""The operator dies, or an answer is lost, at every single effect of every way that a session may go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Literal, get_args

import pytest

from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.scenarios import ALL, QUICK, Scenario, comes_and_goes, deleted_in_the_middle
from tests.unit.reconcile.small_world import REQUEST, Apply, Killed, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.world import World

Mode = Literal["killed before", "killed after", "answer lost", "never arrived", "overtaken"]


def strikes_at(small: Small, number: int, mode: Mode) -> Apply:
    """Carry out effects, and fail at one of them."""
    count = 0

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        nonlocal count
        count += 1
        judge(small, effect)
        if count == number and mode == "killed before":
            raise Killed
        if count == number and mode == "never arrived":
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, "the call never arrived")
        if count == number and mode == "overtaken":
            # Another process does all that can be done, between this one's look and its deed.
            Reconciler(world).visit(small.record_id, (REQUEST.namespace or "", REQUEST.name))
        execute(world, connections, facts, effect)
        if count == number and mode == "killed after":
            raise Killed
        if count == number and mode == "answer lost":
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, "the answer was lost")

    return apply


def run(scenario: Scenario, number: int, mode: Mode) -> int:
    """Play a scenario with one strike; give the number of effects that it took."""
    small = Small()
    small.apply = strikes_at(small, number, mode)
    scenario(small)
    ends_well(small)
    rests(small)
    return len(small.applied)


STRUCK: tuple[Mode, ...] = ("killed before", "killed after", "answer lost")
"""What every scenario has to bear."""
THOROUGH = (comes_and_goes, deleted_in_the_middle)
"""Scenarios that have to bear the rest, too: between them they have nearly every effect."""


def _is_quick(scenario: Scenario, mode: Mode) -> bool:
    return (scenario in QUICK and mode == "killed after") or (scenario is comes_and_goes and mode == "never arrived")


CASES = [
    pytest.param(
        scenario, mode, marks=() if _is_quick(scenario, mode) else pytest.mark.slow, id=f"{scenario.__name__}-{mode}"
    )
    for scenario in ALL
    for mode in get_args(Mode)
    if mode in STRUCK or scenario in THOROUGH
]


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_it_ends_well(scenario: Scenario) -> None:
    assert run(scenario, 0, "killed after") > 10


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Give a process for each core; forked, so that they have the bugs that were seeded in this one.

    Beside tests of the testbed there is one, and it stands back.
    """
    beside = "PYTEST_XDIST_WORKER" in os.environ
    niceness = 10 if beside else 0
    with ProcessPoolExecutor(1 if beside else None, get_context("fork"), os.nice, (niceness,)) as pool:
        yield pool


def strike(scenario: Scenario, number: int, mode: Mode, effects: int) -> None:
    """Play a scenario with one strike, and say which one it was if it ends badly."""
    try:
        run(scenario, number, mode)
    except BaseException as error:
        error.add_note(f"{scenario.__name__}, {mode} effect {number} of {effects}")
        raise


@pytest.mark.parametrize(("scenario", "mode"), CASES)
def test_a_strike_at_any_effect_changes_nothing_of_the_end(
    scenario: Scenario, mode: Mode, workers: ProcessPoolExecutor, record_property: Callable[[str, object], None]
) -> None:
    effects = run(scenario, 0, mode)
    # Without VRSE_MATRIX=whole the rarer ways are struck at every fourth effect, each mode at others: the whole matrix
    # takes eight minutes.
    thin = scenario not in QUICK and os.environ.get("VRSE_MATRIX") != "whole"
    numbers = range(1 + get_args(Mode).index(mode) % 4, effects + 1, 4) if thin else range(1, effects + 1)
    for done in [workers.submit(strike, scenario, number, mode, effects) for number in numbers]:
        done.result()
    record_property("plans", len(numbers))
    assert effects > 10


def test_every_effect_is_struck_somewhere() -> None:
    seen: set[type] = set()
    for scenario in ALL:
        small = Small()
        scenario(small)
        small.delete()
        for _ in range(3):
            small.step()
        seen |= {type(effect) for effect in small.applied}
    assert set(get_args(do.Effect)) == seen
