"""Every field of every kind, as the generated schemas have them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.unit.fuzz.hostile import ABSENT, Value
from volatile_rse.api.crds import KINDS, structural

__all__ = ["Field", "Path", "fields_of", "plant"]

Path = tuple[str | int, ...]
_DURATION = re.compile(r"\(s\|m\|h\|d\)")
_QUANTITY = re.compile(r"\(Ki\|Mi")


@dataclass(frozen=True, slots=True)
class Field:
    """One place in an object."""

    path: Path
    type: str
    """Of OpenAPI."""
    form: str
    """``Duration``, ``Quantity``, ``Time``, or the type."""

    def __str__(self) -> str:
        return ".".join(str(step) for step in self.path)


def fields_of(kind: str, part: str) -> tuple[Field, ...]:
    """List the fields of ``spec`` or ``status`` of a kind: leaves, and what holds them."""
    (found,) = [known for known in KINDS if known.name == kind]
    model = found.spec if part == "spec" else found.status
    if model is None:
        return ()
    return tuple(_walk((part,), structural(model)))


def _walk(path: Path, schema: Mapping[str, Any]) -> Iterator[Field]:
    type_ = schema.get("type", "string")
    yield Field(path, type_, _form(schema, type_))
    for name, inner in schema.get("properties", {}).items():
        yield from _walk((*path, name), inner)
    if isinstance(schema.get("items"), Mapping):
        yield from _walk((*path, 0), schema["items"])
    if isinstance(schema.get("additionalProperties"), Mapping):
        yield from _walk((*path, "sealed" if path[-1] == "steps" else "x"), schema["additionalProperties"])


def _form(schema: Mapping[str, Any], type_: str) -> str:
    pattern = schema.get("pattern", "")
    if schema.get("format") == "date-time":
        return "Time"
    if _DURATION.search(pattern):
        return "Duration"
    return "Quantity" if _QUANTITY.search(pattern) else type_


def plant(body: dict[str, Any], path: Path, value: Value) -> None:
    """Put a value into an object, with whatever has to be there to hold it."""
    place: Any = body
    for step, following in pairwise(path):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            if not place:
                place.append(empty)
            place = place[step]
        else:
            if not isinstance(place.get(step), type(empty)):
                place[step] = empty
            place = place[step]
    last = path[-1]
    if isinstance(last, int):
        place[:] = [] if value is ABSENT else [value, *place[1:]]
    elif value is ABSENT:
        place.pop(last, None)
    else:
        place[last] = value
