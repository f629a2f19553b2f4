"""The operator dies, or an answer is lost, at every single effect of every way that a session may go."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, get_args

import pytest

from tests.unit.reconcile.branches import Branches
from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.scenarios import (
    ALL,
    QUICK,
    Scenario,
    a_rule_on_the_buffer_alone_is_ended,
    an_older_operator_has_made_it,
    comes_and_goes,
    deleted_in_the_middle,
    entries_are_added_and_removed,
    it_is_deleted_when_it_is_finished,
    known_outputs_are_lost_before_anybody_registered_them,
    somebody_changes_what_the_session_was_given,
    the_storage_pod_and_its_claim_are_deleted,
)
from tests.unit.reconcile.small_world import REQUEST, Killed, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.world import World

Mode = Literal["killed before", "killed after", "answer lost", "never arrived", "overtaken"]

STRUCK: tuple[Mode, ...] = ("killed before", "killed after", "answer lost")
"""What every scenario has to bear."""
THOROUGH = (comes_and_goes, deleted_in_the_middle, the_storage_pod_and_its_claim_are_deleted)
"""Scenarios that have to bear the rest, too: between them they have nearly every effect."""
WHOLE = os.environ.get("VRSE_MATRIX") == "whole"
"""There is time for all strikes."""
_SHARE = 30
"""Of so many effects the thin matrix strikes one in each mode, beside those that a scenario alone has."""


def modes_of(scenario: Scenario) -> tuple[Mode, ...]:
    """Tell what a scenario has to bear."""
    return get_args(Mode) if scenario in THOROUGH else STRUCK


@dataclass
class Played:
    """What a scenario did, and where it was struck."""

    effects: list[type] = field(default_factory=list)
    struck: set[tuple[Mode, type]] = field(default_factory=set)
    branches: Branches = field(default_factory=Branches)


def is_chosen(scenario: Scenario, mode: Mode, effects: list[type], usual: frozenset[type]) -> bool:
    """Tell whether the thin matrix strikes the last of these effects.

    It strikes a whole session once in each of its kinds of effects, every other scenario likewise in those that no such
    session has, and a share of all, each mode at others. So each kind is struck in every mode in which it can be.
    """
    number, kind = len(effects), effects[-1]
    first = kind not in effects[:-1]
    shift = ALL.index(scenario) + get_args(Mode).index(mode) * _SHARE // len(STRUCK)
    return (first and (scenario is QUICK[0] or kind not in usual)) or (number + shift) % _SHARE == 0


class Strikes(Small):
    """The small world, with effects counted, and struck where that is due."""

    def __init__(self, scenario: Scenario, due: Callable[[Mode, list[type]], bool]) -> None:
        super().__init__()
        self.played = Played()
        self._scenario = scenario
        self._due = due
        self.apply = self._strike

    def _strike(self, world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        judge(self, effect)
        mode = self._branch(effect)
        if mode == "killed before":
            raise Killed
        if mode == "never arrived":
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, "the call never arrived")
        if mode == "overtaken":
            # Another process does all that can be done, between this one's look and its deed.
            Reconciler(world).visit(self.record_id, (REQUEST.namespace or "", REQUEST.name))
        execute(world, connections, facts, effect)
        if mode == "killed after":
            raise Killed
        if mode == "answer lost":
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, "the answer was lost")

    def _branch(self, effect: do.Effect) -> Mode | None:
        """Go on in another process for each strike that is due; give it there."""
        played = self.played
        if played.branches.is_branch:
            return None
        played.effects.append(type(effect))
        for mode in modes_of(self._scenario):
            if self._due(mode, played.effects):
                played.struck.add((mode, type(effect)))
                name = f"{self._scenario.__name__}, {mode} effect {len(played.effects)}, {type(effect).__name__}"
                if played.branches.starts(name):
                    return mode
        return None


def play(scenario: Scenario, due: Callable[[Mode, list[type]], bool]) -> Played:
    """Play a scenario, and from every effect at which a strike is due on once more for it."""
    small = Strikes(scenario, due)
    with small.played.branches.played():
        scenario(small)
        ends_well(small)
        rests(small)
    return small.played


def play_struck(scenario: Scenario, usual: frozenset[type]) -> Played:
    """Play a scenario with all strikes for which there is time."""
    return play(scenario, lambda mode, effects: WHOLE or is_chosen(scenario, mode, effects, usual))


def kinds_of(scenario: Scenario) -> frozenset[type]:
    """Tell which kinds of effects a scenario has."""
    return frozenset(play(scenario, lambda _mode, _effects: False).effects)


@cache
def usual() -> frozenset[type]:
    """Give the kinds of effects of a session to which nothing happens."""
    return kinds_of(QUICK[0])


CASES = [
    pytest.param(scenario, marks=() if scenario in QUICK else pytest.mark.slow, id=scenario.__name__)
    for scenario in ALL
]


@pytest.mark.parametrize("scenario", CASES)
def test_a_strike_at_any_effect_changes_nothing_of_the_end(
    scenario: Scenario, workers: ProcessPoolExecutor, record_property: Callable[[str, object], None]
) -> None:
    played = workers.submit(play_struck, scenario, usual()).result()
    record_property("plans", played.branches.plans)
    played.branches.check()
    assert len(played.effects) > 10
    assert played.branches.plans >= len(played.effects) // _SHARE * len(modes_of(scenario))
    # With those of QUICK[0] these are all that there are: whatever the whole matrix strikes, this one strikes.
    own = set(played.effects) if scenario is QUICK[0] else set(played.effects) - usual()
    assert {(mode, kind) for mode in modes_of(scenario) for kind in own} <= played.struck


def test_every_effect_is_struck() -> None:
    """What a scenario has of its own is struck in it: so one with each kind is enough to see that none is missing."""
    with_others = (
        a_rule_on_the_buffer_alone_is_ended,
        an_older_operator_has_made_it,
        entries_are_added_and_removed,
        it_is_deleted_when_it_is_finished,
        known_outputs_are_lost_before_anybody_registered_them,
        somebody_changes_what_the_session_was_given,
        the_storage_pod_and_its_claim_are_deleted,
    )
    kinds = usual().union(*map(kinds_of, with_others))
    assert kinds == set(get_args(do.Effect))
    assert set(modes_of(QUICK[0])) == set(get_args(Mode))
