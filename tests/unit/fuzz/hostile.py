"""What nobody in their right mind writes or answers, by the type of what belongs there."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

__all__ = ["ABSENT", "TEXTS", "Value", "of_type", "shown", "worst"]


class _Absent(Enum):
    """One of its kind, also in another process."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent.ABSENT
"""The field is not there at all."""
Value = Any


def _deep(levels: int) -> Value:
    found: Value = "x"
    for _ in range(levels):
        found = [found]
    return found


TEXTS: tuple[str, ...] = (
    "",
    " ",
    "0",
    "-7",
    "1" * 40,
    "NaN",
    "1e400",
    "99999999999d",
    "9999999d",
    "999999999s",
    "0s",
    "99999999999999999Pi",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "2030-01-01T00:00:00",
    "2030-13-45T99:99:99Z",
    "2030-01-01",
    "yesterday",
    "\x00",
    "\x1b[31mred",
    "\u202eabc",
    "\ud800",
    "a\nb\r\nSet-Cookie: c",
    "üñí/…",
    "../../etc/passwd",
    "a:b:c",
    "{x}",
    "%s%n",
    "x" * 5000,
    "[::1",
)
_OTHERS: tuple[Value, ...] = (None, True, -7, 0, 1.5, float("nan"), 10**30, [], {}, [None], {"": None}, _deep(50))
_NUMBERS: tuple[Value, ...] = (
    0, -1, -7, 1, 2**31, 2**63, 10**30, 10**400, 1.5, float("nan"), float("inf"), True, "7", "", None, [], {}, "\ud800",
)  # fmt: skip
_FLAGS: tuple[Value, ...] = (None, 0, 2, "true", "", [], {}, float("nan"))
_MANY: tuple[Value, ...] = (None, [], [None], [[]], [{}], ["x"] * 3000, {"0": 1}, "x", 7, _deep(50))
_MAPS: tuple[Value, ...] = (
    None,
    {},
    [],
    "x",
    7,
    {"": ""},
    {"x": None},
    {"\ud800": "\ud800"},
    {"a\nb": "c\x00"},
    _deep(50),
)
_WORST: dict[str, tuple[Value, ...]] = {
    "Duration": ("99999999999d", "9999999d", None),
    "Quantity": ("99999999999999999Pi", "-7"),
    "Time": ("9999-12-31T23:59:59Z", "2030-01-01T00:00:00", "0001-01-01T00:00:00Z"),
    "string": ("\ud800\n\x1b[31m", "", 7),
    "integer": (-7, 10**30),
    "number": (float("nan"),),
    "boolean": ("", None),
    "array": ([None], "x"),
    "object": ([], {"": None}),
}


def of_type(kind: str) -> tuple[Value, ...]:
    """Give all values for what should be of a type of OpenAPI."""
    match kind:
        case "integer" | "number":
            return (ABSENT, *_NUMBERS)
        case "boolean":
            return (ABSENT, *_FLAGS)
        case "array":
            return (ABSENT, *_MANY)
        case "object":
            return (ABSENT, *_MAPS)
        case _:
            return (ABSENT, *_OTHERS, *TEXTS)


def worst(kind: str) -> tuple[Value, ...]:
    """Give the few values of a form that have done harm."""
    return _WORST[kind]


def shown(value: Value) -> str:
    """Name a value in the id of a case: short, and of plain letters."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:30]}…({len(text)})".replace("…", "..")
