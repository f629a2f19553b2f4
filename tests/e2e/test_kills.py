"""Some sessions, some files, some random kills: the short form of ``make test-kills``."""

from __future__ import annotations

import pytest

from testbed import installation, kills

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.long]


def test_nothing_acknowledged_is_lost_and_nothing_stays_behind() -> None:
    installation.up()
    plan = kills.Plan(sessions=2, files=40, kills=8, pace=0.3)
    outcome = kills.run(plan)
    assert outcome.lost == []
    assert outcome.orphans == []
    assert sum(verdict.acknowledged for verdict in outcome.verdicts) == plan.files
    assert len(outcome.kills) == plan.kills
