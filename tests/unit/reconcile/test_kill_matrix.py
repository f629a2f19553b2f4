"""The operator dies, or an answer is lost, at every single effect of every way that a session may go."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Literal, get_args

import pytest

from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.scenarios import (
    ALL,
    QUICK,
    Scenario,
    comes_and_goes,
    deleted_in_the_middle,
    the_storage_pod_and_its_claim_are_deleted,
)
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


def run(scenario: Scenario, number: int, mode: Mode) -> list[do.Effect]:
    """Play a scenario with one strike; give the effects that it took."""
    small = Small()
    small.apply = strikes_at(small, number, mode)
    scenario(small)
    ends_well(small)
    rests(small)
    return small.applied


STRUCK: tuple[Mode, ...] = ("killed before", "killed after", "answer lost")
"""What every scenario has to bear."""
THOROUGH = (comes_and_goes, deleted_in_the_middle, the_storage_pod_and_its_claim_are_deleted)
"""Scenarios that have to bear the rest, too: between them they have nearly every effect."""


def _is_quick(scenario: Scenario, mode: Mode) -> bool:
    return (scenario in QUICK and mode == "killed after") or (scenario is comes_and_goes and mode == "never arrived")


PAIRS: list[tuple[Scenario, Mode]] = [
    (scenario, mode) for scenario in ALL for mode in get_args(Mode) if mode in STRUCK or scenario in THOROUGH
]
CASES = [
    pytest.param(
        scenario, mode, marks=() if _is_quick(scenario, mode) else pytest.mark.slow, id=f"{scenario.__name__}-{mode}"
    )
    for scenario, mode in PAIRS
]


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_it_ends_well(scenario: Scenario) -> None:
    assert len(run(scenario, 0, "killed after")) > 10


def chosen(scenario: Scenario, mode: Mode, effects: int, *, whole: bool) -> range:
    """Number the effects that are struck.

    In the thin matrix the rarer ways are struck at every fourth effect, each mode at others: the whole one takes
    eight minutes.
    """
    if whole or scenario in QUICK:
        return range(1, effects + 1)
    return range(1 + get_args(Mode).index(mode) % 4, effects + 1, 4)


def is_whole() -> bool:
    """Tell whether there is time for all strikes."""
    return os.environ.get("VRSE_MATRIX") == "whole"


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
    effects = len(run(scenario, 0, mode))
    numbers = chosen(scenario, mode, effects, whole=is_whole())
    for done in [workers.submit(strike, scenario, number, mode, effects) for number in numbers]:
        done.result()
    record_property("plans", len(numbers))
    assert effects > 10


def test_every_effect_is_struck() -> None:
    """By each mode in the whole matrix, and by some mode in the thin one; what is counted is what is run."""
    whole: set[tuple[Mode, type]] = set()
    thin: set[type] = set()
    applied = {scenario: run(scenario, 0, "killed after") for scenario in ALL}
    for scenario, mode in PAIRS:
        effects = applied[scenario]
        whole |= {(mode, type(effects[at - 1])) for at in chosen(scenario, mode, len(effects), whole=True)}
        thin |= {type(effects[at - 1]) for at in chosen(scenario, mode, len(effects), whole=False)}
    every = set(get_args(do.Effect))
    assert thin == every
    assert {(mode, kind) for mode in STRUCK for kind in every} <= whole
