"""Where outputs go: of the RSEs that a request names, those that Rucio will let keep them in the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Output
from volatile_rse.domain.catalogue import Room
from volatile_rse.domain.problems import Problem

__all__ = ["Need", "full", "preferred", "problem_of_choice", "tight"]

_SHOWN = 5
"""RSEs that a message names."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a session needs at a destination. Unit: bytes."""

    most: int
    """What it may write."""
    before: int = 0
    """What its dataset has already: the first rule of an account at an RSE holds all of it."""
    held: frozenset[str] = frozenset()
    """RSEs where such a rule of its account holds the dataset."""

    def least(self, rse: str) -> int:
        """Give what has to fit besides the session's own files."""
        return 0 if rse in self.held else self.before


def full(rooms: Mapping[str, Room], need: Need) -> dict[str, str]:
    """Say of each RSE where nothing could be held why that is so."""
    found = {}
    for rse, room in rooms.items():
        if room.bytes is not None and room.bytes <= need.least(rse):
            also = f", and the dataset has {need.least(rse)} already" if need.least(rse) else ""
            found[rse] = f"{room.bytes} bytes are left by {room.by}{also}"
    return found


def preferred(rooms: Mapping[str, Room], need: Need) -> list[str]:
    """List the RSEs where something can be held, those with room for all that may come before others.

    First where the dataset is held already: elsewhere Rucio would copy what other sessions have put into it.
    """
    taken = set(rooms) - set(full(rooms, need))
    return sorted(taken, key=lambda rse: (rse not in need.held, tight(rooms[rse], need, rse), rse))


def tight(room: Room, need: Need, rse: str) -> bool:
    """Tell whether a session may write more than an account may lock."""
    return room.bytes is not None and room.bytes <= need.least(rse) + need.most


def problem_of_choice(
    output: Output, matching: int, why: Mapping[str, str], no_room: Collection[str], unasked: int = 0
) -> Problem:
    """Say why an output gets no destination.

    Parameters
    ----------
    matching
        RSEs of its expression.
    why
        RSE -> why it is left out.
    no_room
        Those of them that lack nothing but quota.
    unasked
        RSEs that nobody has looked at: there were too many of them.
    """
    destination = output.destination
    # What is easier to mend comes first.
    named = sorted(why, key=lambda rse: (rse not in no_room, rse))
    said = "; ".join(f"{rse}: {why[rse]}" for rse in named[:_SHOWN])
    more = f"; and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    if unasked:
        more += f". {unasked} were not looked at: name fewer, or those that you mean"
    left = matching - len(why) - unasked
    what = (
        f"spec.outputs[{output.name}].destination: {destination.copies} copies are asked for, and of {matching} RSEs "
        f"of {destination.rse_expression!r} {left} can keep them. {said}{more}."
    )
    enough = left + len(no_room) >= destination.copies
    return Problem(Reason.QUOTA_EXCEEDED if enough else Reason.NO_DESTINATION, what)
