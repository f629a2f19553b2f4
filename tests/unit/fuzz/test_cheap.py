"""What makes the cases cheap changes nothing in them: without these, cases would be taken for the same that are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.fuzz import story
from tests.unit.fuzz.readings import PEEPED, guarded, reading_of
from tests.unit.fuzz.story import MOMENTS, at, ends, planted, ref_of, stored_at
from tests.unit.fuzz.two import Two
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reading import read_class

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def lived(moment: str) -> Two:
    world = at(moment)
    planted(world, "RSERecord" if moment != "asked" else "VolatileRSE", ("status", "x"), "\ud800")
    story._ENDED_WELL.clear()
    assert not ends(world)
    return world


@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_in_a_life_is_left_to_chance(moment: str) -> None:
    first, second = lived(moment), lived(moment)
    assert first.digest() == second.digest()


def test_worlds_that_differ_in_anything_are_not_the_same() -> None:
    world = at("serving")
    digests = {world.digest()}
    world.clock.turn(timedelta(seconds=1))
    digests.add(world.digest())
    world.victim.buffer.write(world.victim.uid, "more", b"")
    digests.add(world.digest())
    world.catalogue.down = True
    digests.add(world.digest())
    planted(world, "RSERecord", ("status", "x"), None)
    digests.add(world.digest())
    assert len(digests) == 5


def test_who_changes_what_the_api_server_gave_is_told() -> None:
    world = at("serving")
    given = world.cluster.get(world.victim.record)
    assert given is world.cluster.get(world.victim.record)
    given["metadata"]["labels"] = {}  # type: ignore[index]
    with pytest.raises(AssertionError, match="somebody has changed RSERecord"):
        world.cluster.take_back()


def test_a_look_past_the_model_is_told() -> None:
    body, _ = stored_at("serving", "VolatileRSEClass")
    given = guarded(Ref("VolatileRSEClass", None, "alice"), {**body})
    read_class(given)
    assert given["spec"]["connectionName"] == "alice"
    assert not PEEPED
    exec(compile("given['spec']['storage']", "somewhere.py", "exec"), {"given": given})  # noqa: S102 (another file's look)
    assert PEEPED == ["VolatileRSEClass.spec by somewhere.py:1"]
    PEEPED.clear()


@pytest.mark.parametrize(
    ("path", "one", "other", "same"),
    [
        (("spec", "maxTtl"), "99999999999d", "9999999d", True),
        (("spec", "maxTtl"), "99999999999d", "1h", False),
        (("spec", "connectionName"), 7, 8, False),
        (("spec", "sites"), 7, 8, True),
        (("spec", "sites"), 7, [7], False),
    ],
)
def test_cases_are_the_same_by_what_is_read(path: tuple[str, str], one: object, other: object, *, same: bool) -> None:
    body, now = stored_at("serving", "VolatileRSEClass")
    first, second = [
        reading_of("VolatileRSEClass", path, {**body, "spec": {**body["spec"], path[1]: value}}, now)
        for value in (one, other)
    ]
    assert first is not None
    assert (first == second) is same


@pytest.mark.parametrize("kind", ["VolatileRSE", "RSERecord"])
def test_what_may_be_read_in_any_way_is_the_same_as_nothing_else(kind: str) -> None:
    world = at("serving")
    body = world.cluster.get(ref_of(world, kind)) or {}
    assert reading_of(kind, ("status", "phase"), body, NOW) is None
