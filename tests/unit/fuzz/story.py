"""One case: a world at some moment, something hostile, its owner who deletes, and what must be true in the end."""

from __future__ import annotations

import functools
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tests.unit.fuzz.fields import Path, plant
from tests.unit.fuzz.hostile import Value
from tests.unit.fuzz.two import Two, Wrap
from volatile_rse.ports.cluster import Ref

__all__ = [
    "MOMENTS",
    "at",
    "chosen",
    "ends",
    "is_every",
    "is_whole",
    "mended",
    "planted",
    "ref_of",
    "stored_at",
    "told",
]

T = TypeVar("T")
_LONG = 60
"""Steps, of which each is as long as nothing happens: hours, where somebody waits for a deadline."""
_SHORT = 8
_FOR_AN_ADMIN = r"RSERecord \S+ cannot be read|nothing was sent there|does not exist"
"""What nobody waits for the end of: it is told, and an admin has to mend it."""
_STILL = 10
"""Steps in which nothing changes, of a minute each."""


def is_whole() -> bool:
    """Tell whether cases are drawn from all that there are, and not from the worst ones alone."""
    return "VRSE_FUZZ" in os.environ


def is_every() -> bool:
    """Tell whether all cases are tried, and none is drawn."""
    return os.environ.get("VRSE_FUZZ") == "whole"


def chosen(cases: Sequence[T], share: int) -> Sequence[T]:
    """Draw as many cases as there is time for: ``VRSE_FUZZ`` says how many, or ``whole``; ``VRSE_FUZZ_SEED`` which."""
    asked = os.environ.get("VRSE_FUZZ", str(share))
    if asked == "whole" or len(cases) <= int(asked):
        return cases
    return random.Random(int(os.environ.get("VRSE_FUZZ_SEED", "1"))).sample(cases, int(asked))  # noqa: S311 (no secret)


def _asked(_world: Two) -> None:
    """Nobody has looked at anything yet."""


def _preparing(world: Two) -> None:
    assert world.run(lambda world: world.cluster.get(world.victim.record), 5)


def _serving(world: Two) -> None:
    world.victim.stays = True
    assert world.run(lambda world: world.victim.wrote, 30)


def _keeping(world: Two) -> None:
    world.victim.failing = True
    assert world.run(lambda world: world.truth(world.victim).get("phase") == "Keeping", 40)


_REACHED: Mapping[str, Callable[[Two], None]] = {
    "asked": _asked,
    "preparing": _preparing,
    "serving": _serving,
    "keeping": _keeping,
}
MOMENTS = tuple(_REACHED)


@functools.cache
def _reached(moment: str) -> Two:
    world = Two()
    _REACHED[moment](world)
    assert not world.faults
    return world


def at(moment: str) -> Two:
    """Give a world at a moment."""
    return _reached(moment).copied()


def ref_of(world: Two, kind: str) -> Ref:
    """Name the victim's object of a kind."""
    own = {"VolatileRSE": world.victim.ref, "RSERecord": world.victim.record}
    return own.get(kind) or Ref(kind, None, world.victim.name)


def stored_at(moment: str, kind: str) -> tuple[dict[str, Any], datetime]:
    """Give the victim's object of a kind as it is stored at a moment, and the time."""
    world = _reached(moment)
    return world.cluster._objects[ref_of(world, kind)], world.clock.now()


def planted(world: Two, kind: str, path: Path, value: Value) -> None:
    """Change an object of the victim's behind the back of validation, as if an older kind had let it pass."""
    with world.cluster.unchecked(ref_of(world, kind)) as body:
        plant(body, path, value)


def ends(world: Two, **wraps: Wrap) -> list[str]:
    """Have the owner delete in the midst of it, and everybody else go on; say what is wrong in the end.

    Parameters
    ----------
    wraps
        What stands before the ports until some time after the deletion.
    """
    world.run(_never, _SHORT // 2, **wraps)
    if not wraps:
        return _once_for_each_state(world, _ends_from_here)
    _is_deleted(world)
    world.run(_is_over, _SHORT, **wraps)
    return _once_for_each_state(world, _ends_after_deletion)


def _once_for_each_state(world: Two, ends_from: Callable[[Two], list[str]]) -> list[str]:
    """Go on from here, unless another case that had come to the very same has ended well.

    Nothing in a world is left to chance, so the same becomes of it; what is hostile has been overcome in the same way.
    """
    state = ends_from.__name__, world.digest()
    if state in _ENDED_WELL:
        return []
    faults = len(world.faults)
    wrong = ends_from(world)
    if not wrong and len(world.faults) == faults:
        _ENDED_WELL.add(state)
    return wrong


_ENDED_WELL: set[tuple[str, bytes]] = set()


def _ends_from_here(world: Two) -> list[str]:
    _is_deleted(world)
    return _ends_after_deletion(world)


def _is_deleted(world: Two) -> None:
    victim = world.victim
    victim.failing = victim.stays = False
    world.delete(victim.ref)


def _ends_after_deletion(world: Two) -> list[str]:
    victim = world.victim
    if not world.run(_is_settled, _LONG) and _asks_for_consent(world):
        # What cannot be safe any more is its owner's to give up.
        world.consent(victim)
        for later in (timedelta(hours=2), timedelta(minutes=20), timedelta(minutes=20)):
            world.clock.turn(later)
            world.run(_is_over, _SHORT)
        world.run(_is_over, _LONG)
    if (
        not _is_over(world)
        and (missing := re.search(r"(?:Secret|ConfigMap) ops/(\S+)", told(world)))
        and not world.faults
    ):
        # What a name leads to that nobody has made is told, and an admin makes it.
        world.add_named(victim, missing[1])
        world.run(_is_over, _LONG)
    wrong = [*_wrong(world), *_wrong_of_other(world)]
    world.cluster.take_back()
    return wrong


def mended(world: Two, kind: str, body: Mapping[str, Any]) -> None:
    """Put an object's spec and status back as they were, as an admin does by hand."""
    with world.cluster.unchecked(ref_of(world, kind)) as stored:
        stored.update({part: body[part] for part in ("spec", "status") if part in body})


def told(world: Two) -> str:
    """Give all that is said of the victim."""
    status = (world.cluster.get(world.victim.ref) or {}).get("status") or {}
    conditions = status.get("conditions") if isinstance(status, Mapping) else ()
    said = [str(world.truth(world.victim).get("message"))]
    return " ".join([*said, *(str(entry) for entry in conditions or ())])


def _never(_world: Two) -> bool:
    return False


def _is_over(world: Two) -> bool:
    victim = world.victim
    record = world.cluster.get(victim.record)
    return world.is_gone(victim) and (record is None or world.is_closed(victim))


def _is_settled(world: Two) -> bool:
    """Tell whether it is over, or waits for an admin, which has no deadline; so has a record that is forged."""
    if _is_over(world):
        return True
    return world.still >= _STILL and bool(world.forged or re.search(_FOR_AN_ADMIN, told(world)))


def _asks_for_consent(world: Two) -> bool:
    return "discard" in told(world)


def _wrong(world: Two) -> Iterator[str]:
    victim = world.victim
    if not _is_over(world):
        yield f"is not over: gone {world.is_gone(victim)}, {world.truth(victim).get('phase')}: {told(world)[:300]}"
        return
    if left := world.leftovers(victim):
        yield f"leaves {left}"
    if world.cluster.get(victim.record) and not world.consents and not world.is_kept(victim):
        yield "I1: outputs are not kept, and nobody gave them up"
    for ref in (ref_of(world, "VolatileRSEClass"), ref_of(world, "RucioConnection")):
        world.delete(ref)
    world.run(lambda world: not _held(world), 3)
    if held := _held(world):
        yield f"holds {held}"


def _held(world: Two) -> list[str]:
    return [
        str(ref)
        for ref in (ref_of(world, "VolatileRSEClass"), ref_of(world, "RucioConnection"))
        if world.cluster.get(ref)
    ]


def _wrong_of_other(world: Two) -> Iterable[str]:
    other = world.other
    if not world.run(lambda world: world.is_closed(other), _LONG):
        yield f"the other one does not go on: {world.truth(other)}"
    if not world.is_kept(other):
        yield "the other one's outputs are not kept"
    if other.record_id in " ".join(world.faults):
        yield f"faults of the other one: {world.faults}"
