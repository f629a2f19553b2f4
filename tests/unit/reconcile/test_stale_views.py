"""Watches that are late, and one that tells nothing for long: every way that a session may go ends as it would."""

from __future__ import annotations

import pytest

from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.scenarios import ALL, Scenario
from tests.unit.reconcile.small_world import Small
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.world import World


@pytest.mark.parametrize("late", [3, 7])
@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_views_that_are_late_change_nothing_of_the_end(scenario: Scenario, late: int) -> None:
    small = Small()
    small.hears_every = late

    def judged(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        judge(small, effect)
        execute(world, connections, facts, effect)

    small.apply = judged
    scenario(small)
    ends_well(small)
    small.hears_every = 1
    rests(small)
