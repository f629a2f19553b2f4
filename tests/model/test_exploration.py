"""What people and machines may do to one session, in every order: no invariant breaks, and it always ends well."""

from __future__ import annotations

import os

import pytest

from tests.model.exploring import Exploration, play, roots
from tests.model.two_outputs import ACTIONS, act, begin, copied, digest, snapshot

SECONDS = float(os.environ.get("MODEL_SECONDS", "30")) * 2 / 3
"""The rest is for the random walks."""
_DEEPEST = 6
"""Words beyond a root: more than ten minutes suffice for."""


@pytest.mark.slow
def test_no_sequence_breaks_an_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    exploration = Exploration()
    try:
        exploration.run(_DEEPEST, SECONDS)
    finally:
        with capsys.disabled():
            print(f"\nmodel: {exploration}")  # noqa: T201
    assert exploration.depth >= 1


def test_the_main_way_is_begun_at_each_stage() -> None:
    stages = {copied(frozen).truth.get("phase") for _, frozen in roots()}
    assert {"Serving", "Keeping", "Hiding", "Draining", "Closed"} <= stages


def test_everything_can_happen_somewhere_near_the_main_way() -> None:
    possible: set[str] = set()
    for _, frozen in roots():
        possible |= {word for word in ACTIONS if act(copied(frozen), word)}
    # These undo others, which come first.
    assert set(ACTIONS) - possible == {
        "foreign_rule_ends", "input_back", "rucio_up", "buffer_up", "destinations_take",
    }  # fmt: skip


def test_copies_live_their_own_lives() -> None:
    small = begin()
    act(small, "step_all", "step_all")
    before, frozen = digest(small), snapshot(small)
    act(small, "rucio_down", "step_all")
    copy = copied(frozen)
    assert digest(copy) == before != digest(small)
    act(copy, "step_all")
    assert digest(copy) != before
    assert digest(copied(frozen)) == before
    assert copy.catalogue.registered(copy.ledger)


def test_random_names_are_no_difference() -> None:
    one, other = begin(), begin()
    assert one.record_id != other.record_id
    act(one, "step_all", "step_all", "a_minute", "step_all")
    act(other, "step_all", "step_all", "a_minute", "step_all")
    assert digest(one) == digest(other)


@pytest.mark.parametrize("way", [("hours",), ("deleted",), ("volume_lost",), ("rucio_down",)])
def test_what_matters_is_a_difference(way: tuple[str, ...]) -> None:
    one, other = begin(), begin()
    act(one, "step_all", "step_all", "step_all")
    act(other, "step_all", "step_all", "step_all", *way)
    assert digest(one) != digest(other)


def test_a_way_leads_where_it_was_left() -> None:
    way, frozen = roots()[len(roots()) // 2]
    assert digest(play(way, to_the_end=False)) == digest(copied(frozen))
