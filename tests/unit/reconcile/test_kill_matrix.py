"""The operator dies, or an answer is lost, at every single effect of every way that a session may go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import pytest

from tests.unit.reconcile.small_world import Apply, Killed, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts, Piece
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.world import World

Mode = Literal["killed before", "killed after", "answer lost"]
Scenario = Callable[[Small], None]
FILES = ("kept/a", "kept/b")
_DESTROY = {Piece.POD, Piece.VOLUME}


def comes_and_goes(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*FILES, "other/c")
    small.end_pod()
    small.until(small.is_closed)
    assert small.condition("Ready")["reason"] == "Completed"
    assert small.is_kept(*FILES)
    small.delete()
    small.until(lambda: small.is_gone)


def deleted_in_the_middle(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*FILES)
    small.delete()
    small.until(small.is_closed)
    assert small.is_kept(*FILES)
    assert small.is_gone


def deleted_before_it_was_ready(small: Small) -> None:
    small.request()
    small.step()
    small.delete()
    small.until(small.is_closed_or_never)
    assert small.is_gone


def nobody_comes(small: Small) -> None:
    small.request(session={"podSelector": {"matchLabels": {"session": "run"}}, "startTimeout": "3s"}, inputs=[])
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "NobodyCame"


def in_memory(small: Small) -> None:
    small.use_memory()
    comes_and_goes(small)


def copies_fail_at_first(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*FILES)
    small.end_pod()
    small.fail_copies(steps=4)
    small.until(small.is_closed, 120)
    assert small.is_kept(*FILES)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        comes_and_goes,
        deleted_in_the_middle,
        deleted_before_it_was_ready,
        nobody_comes,
        in_memory,
        copies_fail_at_first,
    )
}


def strikes_at(small: Small, number: int, mode: Mode) -> Apply:
    """Carry out effects, and fail at one of them."""
    count = 0

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        nonlocal count
        count += 1
        judge(small, effect)
        if count == number and mode == "killed before":
            raise Killed
        execute(world, connections, facts, effect)
        if count == number and mode == "killed after":
            raise Killed
        if count == number:
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, "the answer was lost")

    return apply


def judge(small: Small, effect: do.Effect) -> None:
    """Invariants that hold at every moment."""
    if isinstance(effect, do.DropPiece) and effect.piece in _DESTROY and small.written:
        assert small.is_kept(*small.written), f"I1: {effect} while outputs are not safe"
    if isinstance(effect, do.DropPiece | do.SwapService | do.AllowDeletion):
        shown = [did for did, state in small.catalogue.replicas(small.rse, small.ledger).items() if state == "A"]
        assert not shown, f"{effect} while Rucio still sends people to {shown}"
    if isinstance(effect, do.EnsureRse):
        assert small.record, "I2: an RSE without a record"
    if isinstance(effect, do.DeleteRse):
        assert not small.catalogue.replicas(small.rse, small.ledger), "I2: an RSE that still holds replicas"
    if isinstance(effect, do.IssueSession):
        assert small.truth["session"].get("readyAt"), "a session that nobody remembers"


def ends_well(small: Small) -> None:
    assert small.leftovers() == []
    assert not small.catalogue.has_rse(small.rse)
    assert not small.catalogue.ledger_exists(small.ledger)
    assert not small.has_session()


def run(scenario: Scenario, number: int, mode: Mode) -> int:
    """Play a scenario with one strike; give the number of effects that it took."""
    small = Small()
    small.apply = strikes_at(small, number, mode)
    scenario(small)
    ends_well(small)
    return len(small.applied)


MODES = [mode if mode == "killed after" else pytest.param(mode, marks=pytest.mark.slow) for mode in get_args(Mode)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_strike_at_any_effect_changes_nothing_of_the_end(
    name: str, mode: Mode, record_property: Callable[[str, object], None]
) -> None:
    effects = run(SCENARIOS[name], 0, mode)
    for number in range(1, effects + 1):
        try:
            run(SCENARIOS[name], number, mode)
        except BaseException as error:
            error.add_note(f"{name}, {mode} effect {number} of {effects}")
            raise
    record_property("plans", effects)
    assert effects > 10


def test_every_effect_is_struck_somewhere() -> None:
    seen: set[type] = set()
    for scenario in SCENARIOS.values():
        small = Small()
        scenario(small)
        seen |= {type(effect) for effect in small.applied}
    small = Small()
    comes_and_goes(small)
    # Only somebody else's rule is ended, and none of these scenarios has one.
    assert set(get_args(do.Effect)) - seen == {do.ExpireRule}
