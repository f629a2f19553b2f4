"""Every place in an answer of JSON, each with all that does not belong there."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from tests.unit.fuzz.hostile import ABSENT, Value, of_type

__all__ = ["altered", "places_of", "values_for"]

Place = tuple[str | int, ...]


def places_of(answer: object, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """List the places of an answer, the whole first, each with its type as OpenAPI calls it."""
    yield place, _type_of(answer)
    if isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from places_of(value, (*place, key))
    elif isinstance(answer, list):
        for at, value in enumerate(answer):
            yield from places_of(value, (*place, at))


def altered(answer: Any, place: Place, value: Value) -> Any:
    """Give a copy with another value at a place."""
    if not place:
        return None if value is ABSENT else value
    changed = copy.deepcopy(answer)
    holder = changed
    for step in place[:-1]:
        holder = holder[step]
    if value is not ABSENT:
        holder[place[-1]] = value
    elif isinstance(holder, list):
        del holder[int(place[-1])]
    else:
        holder.pop(place[-1])
    return changed


def values_for(kind: str) -> tuple[Value, ...]:
    """Give what does not belong there."""
    return of_type(kind)


def _type_of(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "integer"
        case list():
            return "array"
        case Mapping():
            return "object"
        case _:
            return "string"
