"""Somebody deletes whatever there is, at every moment of the ways that a session may go; events are lost, views old.

A moment is one before each effect, between the operator's look and its deed, and one before each step of the world, so
that rests without any effect are met, too. What there is to delete is listed from the world itself at each moment.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Literal
from unittest import mock

import pytest

from tests.unit.reconcile.branches import Branches
from tests.unit.reconcile.judge import ends_well, judge, rests
from tests.unit.reconcile.living_world import WAYS, Living, Way
from tests.unit.reconcile.small_world import REQUEST, Killed
from volatile_rse.adapters.kubernetes import RESOURCES
from volatile_rse.api.crds import KINDS as OUR_KINDS
from volatile_rse.builders.objects import KINDS, name_of
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts, Piece
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile import reconciler
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.gather import look_closely
from volatile_rse.reconcile.lease import is_destructive
from volatile_rse.reconcile.world import World

Mode = Literal["seen", "unseen", "cut off"]
"""The operator goes on at once; it dies, and no event reaches its successor for a while; Rucio does not answer."""
Victims = dict[str, tuple[Ref, ...]]

WHOLE = os.environ.get("VRSE_MATRIX") == "whole"
_NOT_DELETED = {"Event", "Lease", "PersistentVolume"}
"""What is lost with a volume is shown by test_storage_loss.py."""
_KEPT = {f"Namespace {name}" for name in ("kube-system", "default", "ops", "bufs")}
"""With these the operator itself is gone."""
_SILENCE = 6
"""Steps without any event, or without Rucio."""
_BACK = (1, 2, 4, 8)
"""Looks by which a view is old: the one before, and those of a visit before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One deletion in one way; without a victim only the events are lost."""

    way: Way
    moment: int
    stage: str
    victim: str
    mode: Mode

    def __str__(self) -> str:
        return f"{self.way.name}, moment {self.moment} ({self.stage}): {self.victim or 'nothing'}, {self.mode}"


# What there is to delete.


def victims(small: Living) -> Victims:
    """Name all objects that are there, and what may well go together; the names are the same in every run."""
    found: Victims = {}
    for kind in sorted(set(RESOURCES) - _NOT_DELETED):
        for body in small.cluster.list(kind):
            ref = Ref(kind, body["metadata"].get("namespace"), body["metadata"]["name"])
            found[f"{kind} {ref.name}".replace(small.record_id, "ID")] = (ref,)
    found = {name: refs for name, refs in found.items() if name not in _KEPT}
    pod, claim = (Ref(KINDS[piece], "bufs", name_of(small.record_id, piece)) for piece in (Piece.POD, Piece.VOLUME))
    if {(pod,), (claim,)} <= set(found.values()):
        found["pod and claim"] = (pod, claim)
    if (REQUEST,) in found.values():
        found["VolatileRSE run by force"] = (REQUEST,)
    found["all buffers"] = tuple(ref for (ref, *_) in found.values() if ref.namespace == "bufs")
    return {name: refs for name, refs in found.items() if refs}


def paired(found: Victims) -> Victims:
    """Have a credential go with each."""
    secrets = [name for name, (ref, *_) in found.items() if (ref.kind, ref.namespace) == ("Secret", "ops")]
    return {f"{name} and {secret}": found[name] + found[secret] for secret in secrets for name in found}


def delete(small: Living, victim: str) -> None:
    found = victims(small)
    refs, forced = (found | paired(found)).get(victim, ()), "by force" in victim
    # Nobody is left in whose name its outputs could be waited for.
    small.may_go |= forced or Ref("Namespace", None, "alice") in refs
    for ref in refs:
        if forced and ref == REQUEST:
            small.cluster.merge(ref, {"metadata": {"finalizers": None}})
        if body := small.cluster.get(ref):
            small.cluster.delete(ref, body["metadata"]["uid"])


# How it is played.


def at_each_moment(small: Living, called: Callable[[], bool], *, dies: bool = False) -> None:
    """Call before each step and before each effect, which is judged first; True: something has happened."""
    struck: Facts | None = None

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        nonlocal struck
        # What happened after the look cannot be known; only what nobody can take back must be right all the same, and
        # an address with nothing behind it gets something again.
        if facts is not struck or (is_destructive(effect) and not isinstance(effect, do.SwapService)):
            judge(small, effect)
        if called():
            struck = facts
            if dies:
                raise Killed
        execute(world, connections, facts, effect)

    small.apply, small.at_moment = apply, called


def carry_out(way: Way, mode: Mode, plans: Sequence[Plan]) -> Branches:
    """Go a way, and delete at each moment what the plans say, each in a process of its own; see that all ends well."""
    small, branches, moments = Living(way), Branches(), itertools.count(1)
    due: dict[int, list[Plan]] = {}
    for plan in plans:
        due.setdefault(plan.moment, []).append(plan)
    ended = False

    def strike() -> bool:
        nonlocal ended
        for plan in () if branches.is_branch else due.get(next(moments), ()):
            if branches.starts(str(plan)):
                ended = any(word in plan.victim for word in ("VolatileRSE run", "alice", "job"))
                hit(small, plan)
                return True
        return False

    at_each_moment(small, strike, dies=mode == "unseen")
    with branches.played():
        small.play()
        came_well_through(small, ended=ended)
    assert branches.plans == len(plans), "it went another way the second time"
    return branches


def hit(small: Living, plan: Plan) -> None:
    """Delete what the plan says."""
    delete(small, plan.victim)
    if plan.mode == "unseen":
        small.forget()
        small.deaf = _SILENCE
    if plan.mode == "cut off":
        small.cutting = _SILENCE


def came_well_through(small: Living, *, ended: bool = False) -> None:
    """Look at what is left, and at what was told on the way."""
    ends_well(small)
    rests(small)
    assert small.written or small.lost or ended, "the session never came to write"
    assert small.given_up or small.is_kept(*small.written)
    if small.lost:
        assert small.way.memory, "bytes went with something that they were not on"
        assert any("the storage was lost" in text for text in small.said), "bytes were lost, and nobody was told"


@cache
def plans_of(way: Way, mode: Mode = "seen", *, pairs: bool = False) -> list[Plan]:
    """List all that can be deleted at each moment."""
    small = Living(way)
    plans: list[Plan] = []
    moments = itertools.count(1)

    def look() -> bool:
        moment, stage, found = next(moments), str(small.truth.get("phase")), victims(small)
        names = paired(found) if pairs else found
        plans.extend(Plan(way, moment, stage, name, mode) for name in (*names, *([] if mode == "seen" else [""])))
        return False

    at_each_moment(small, look)
    small.play()
    return plans


def one_a_stage(plans: Iterable[Plan]) -> list[Plan]:
    """Choose one moment for each victim in each stage; here an early one, there a late one."""
    groups: dict[tuple[str, str], list[Plan]] = {}
    for plan in plans:
        groups.setdefault((plan.stage, plan.victim), []).append(plan)
    return [group[number * 7 % len(group)] for number, group in enumerate(groups.values())]


def where_it_rests(plans: Iterable[Plan]) -> list[Plan]:
    """Leave out the stages that go the same way as in other ways."""
    return [plan for plan in plans if plan.stage == plan.way.rests]


def look_back(way: Way, number: int, back: int) -> int:
    """Have the operator act once upon what it saw some looks before; give the number of looks."""
    small = Living(way)
    looks: list[Facts] = []

    def view(world: World, connections: Connections, glimpsed: Facts) -> Facts:
        looks.append(look_closely(world, connections, glimpsed))
        return looks[-1 - back] if len(looks) == number > back else looks[-1]

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        # A session's Secret that comes after its end is taken away at the next look; all else must be right.
        if facts is looks[-1] or not isinstance(effect, do.IssueSession):
            judge(small, effect)
        execute(world, connections, facts, effect)

    small.apply = apply
    try:
        with mock.patch.object(reconciler, "look_closely", view):
            small.play()
            seen = len(looks)
            came_well_through(small)
        assert not small.lost
        assert not small.truth.get("losses"), "a loss is told that there was not"
    except BaseException as error:
        error.add_note(f"{way.name}, look {number}: acts upon what it saw {back} looks before")
        raise
    return seen


class Matrix:
    """Carries out plans on all cores, and counts them."""

    def __init__(self, workers: ProcessPoolExecutor, record: Callable[[str, object], None]) -> None:
        self._workers = workers
        self._record = record

    def play(self, deed: Callable[..., object], plans: Sequence[tuple[object, ...]]) -> None:
        done = [self._workers.submit(deed, *plan) for plan in plans]
        failed = [error for future in done if (error := future.exception()) is not None]
        self._record("plans", len(plans))
        if failed:
            told = "\n".join(f"{' '.join(getattr(error, '__notes__', ()))}: {error!r}" for error in failed[:20])
            message = f"{len(failed)} of {len(plans)} plans end badly:\n{told}"
            raise AssertionError(message) from failed[0]

    def delete(self, plans: Sequence[Plan]) -> None:
        branches = self._workers.submit(carry_out, plans[0].way, plans[0].mode, plans).result()
        self._record("plans", branches.plans)
        branches.check()


@pytest.fixture
def matrix(workers: ProcessPoolExecutor, record_property: Callable[[str, object], None]) -> Matrix:
    return Matrix(workers, record_property)


each_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)


# What is played always.


@each_way
def test_what_is_deleted_where_a_way_rests_changes_nothing_of_the_end(way: Way, matrix: Matrix) -> None:
    plans = one_a_stage(where_it_rests(plans_of(way)))
    assert len(plans) > 10
    matrix.delete(plans)


def test_a_view_that_is_a_little_old_does_no_harm(matrix: Matrix) -> None:
    looks = look_back(WAYS[0], 0, 0)
    matrix.play(look_back, [(WAYS[0], number, _BACK[number % len(_BACK)]) for number in range(2, looks, 6)])


def test_every_piece_of_a_buffer_and_every_kind_of_ours_is_deleted_somewhere() -> None:
    deleted = {plan.victim for plan in plans_of(WAYS[0])}
    assert {f"{kind} {name_of('ID', piece)}" for piece, kind in KINDS.items()} <= deleted
    assert {kind.name for kind in OUR_KINDS} <= {name.split()[0] for name in deleted}


# What takes long: with VRSE_MATRIX=whole at every moment, else at a share of one for each victim where the ways differ.


def share(plans: list[Plan], part: int = 1) -> list[Plan]:
    """Choose what is played now: of the first way all stages, of the others that in which they rest, and a few more."""
    if not WHOLE:
        chosen = one_a_stage(plans if plans[0].way is WAYS[0] else where_it_rests(plans))
    elif plans[0].way is WAYS[0]:
        chosen = plans
    else:
        chosen = [*where_it_rests(plans), *(plan for plan in plans[::5] if plan.stage != plan.way.rests)]
    return chosen[::part]


@pytest.mark.slow
@each_way
def test_whatever_is_deleted_changes_nothing_of_the_end(way: Way, matrix: Matrix) -> None:
    plans = plans_of(way)
    # What is quick is played already.
    others = [plan for plan in one_a_stage(plans) if plan.stage != way.rests]
    matrix.delete(share(plans) if WHOLE else others[:: 3 if way is WAYS[0] else 20])


@pytest.mark.slow
@each_way
def test_what_is_deleted_while_nobody_looks(way: Way, matrix: Matrix) -> None:
    matrix.delete(share(plans_of(way, "unseen"), 3 if WHOLE else 8))


@pytest.mark.slow
@each_way
def test_what_is_deleted_while_rucio_does_not_answer(way: Way, matrix: Matrix) -> None:
    matrix.delete(share(plans_of(way, "cut off"), 5 if WHOLE else 12))


@pytest.mark.slow
@each_way
def test_what_goes_with_a_credential_that_only_people_bring_back(way: Way, matrix: Matrix) -> None:
    matrix.delete(share(plans_of(way, pairs=True), 25 if WHOLE else 20))


@pytest.mark.slow
@each_way
def test_old_views_do_no_harm(way: Way, matrix: Matrix) -> None:
    looks = look_back(way, 0, 0)
    plans = [(way, number, back) for number in range(2, looks + 1) for back in _BACK]
    matrix.play(look_back, plans if WHOLE else plans[::101])
