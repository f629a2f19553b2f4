"""The base of every model of the API, and the value formats that the kinds share."""

from __future__ import annotations

import contextlib
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

__all__ = [
    "DID",
    "LABEL_KEY",
    "LABEL_VALUE",
    "LARGEST",
    "LONGEST",
    "NAMESPACE_PATTERN",
    "NEAREST",
    "SCOPE",
    "Account",
    "ApiModel",
    "Count",
    "Cpu",
    "DnsLabel",
    "Durability",
    "Duration",
    "Moment",
    "NamespacePattern",
    "Quantity",
    "RSEExpression",
    "RelativePattern",
    "Scope",
    "ScopePattern",
    "StoredModel",
    "cel",
    "fault_of_label",
    "fault_of_text",
    "parse_duration",
    "parse_quantity",
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {
    "": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
}  # fmt: skip
_HOUR, _SIXTY = "([01][0-9]|2[0-3])", "[0-5][0-9]"
_MOMENT = rf"^2[0-9]{{3}}-[0-9]{{2}}-[0-9]{{2}}T{_HOUR}:{_SIXTY}:{_SIXTY}(Z|[+-]{_HOUR}:{_SIXTY})$"
"""A time that CEL and Python both can read: what is stored and cannot be read would fail each rule that compares it."""
_DIGITS = 20
"""No bound has more; Python reads no number of thousands of them."""

LONGEST = timedelta(days=3650)
"""Of every duration of the API: a time that is counted from now stays one that can be written."""

LARGEST = (1 << 63) - 1
"""Of every number of bytes or files: Kubernetes and JSON readers of other languages take no larger one."""

NEAREST = "nearest"
"""Key in the context of a validation error: the value to read in its place where it is stored already; None: absent."""


def cel(rule: str, message: str) -> JsonDict:
    """One validation rule that the API server evaluates.

    Parameters
    ----------
    rule
        CEL expression, true for a valid object.
    message
        What the user reads when it is false.
    """
    return {"rule": rule, "message": message}


def parse_duration(text: str) -> timedelta:
    """Turn ``90m`` into a time span; a longer one than the API allows is the longest.

    Raises
    ------
    ValueError
        The text is not in the one duration format.
    """
    return min(_span(text), LONGEST)


def parse_quantity(text: str) -> int:
    """Turn ``20Gi`` into a number of bytes; a larger one than the API allows is the largest.

    Raises
    ------
    ValueError
        The text is not a whole Kubernetes quantity.
    """
    return min(_size(text), LARGEST)


def _span(text: str) -> timedelta:
    if not re.fullmatch(r"[1-9][0-9]*[smhd]", text, re.ASCII):
        message = f"{text[:40]!r} is not a duration such as 90m, 8h or 30d"
        raise ValueError(message)
    seconds = _number(text[:-1]) * _SECONDS[text[-1]]
    return timedelta(seconds=min(seconds, 2 * int(LONGEST.total_seconds())))


def _size(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]*)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?", text, re.ASCII)
    if match is None:
        message = f"{text[:40]!r} is not a number of bytes such as 20Gi or 500M"
        raise ValueError(message)
    return _number(match[1]) * _BYTES[match[2] or ""]


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS


def _duration(value: object) -> str:
    longest, nearest = f"{LONGEST.days}d", None
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and _span(value) <= LONGEST:
            return value
        nearest = longest if isinstance(value, str) else None
    what = f"a duration is a whole number and one of s, m, h, d, such as 90m, 8h or 30d, and at most {longest}"
    raise _out_of_bounds(what, nearest)


def _moment(value: object) -> str:
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and not fault_of_text(_MOMENT, value):
            datetime.fromisoformat(value)
            return value
    what = "a time is one of RFC 3339 in whole seconds, such as 2026-12-01T18:00:00Z"
    raise _out_of_bounds(what, None)


def _quantity(value: object) -> str:
    with contextlib.suppress(ValueError):
        if isinstance(value, str) and _size(value) <= LARGEST:
            return value
    what = "a quantity is a whole number of bytes such as 20Gi or 500M, and less than 8192Pi"
    raise _out_of_bounds(what, str(LARGEST))


def _out_of_bounds(what: str, nearest: str | None) -> PydanticCustomError:
    return PydanticCustomError("out_of_bounds", "{what}", {"what": what, NEAREST: nearest})


def _count(value: object) -> object:
    return min(value, LARGEST) if isinstance(value, int) else value


Duration = Annotated[
    str,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[1-9][0-9]*(s|m|h|d)$",
            "maxLength": 12,
            "x-kubernetes-validations": [
                cel(
                    "int(self.substring(0, self.size() - 1)) <= (self.endsWith('d') ? 3650 : self.endsWith('h') ? 87600"
                    " : self.endsWith('m') ? 5256000 : 315360000)",
                    "a duration is at most 3650d",
                )
            ],
        }
    ),
]
"""The one duration format of the API: a whole number and one of ``s``, ``m``, ``h``, ``d``; at most 3650d."""

Moment = Annotated[
    str,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _MOMENT, "maxLength": 25}),
]
"""A time as people write it (RFC 3339), in whole seconds; the API server compares two of them as times."""

Durability = Literal["Pod", "Node", "Network"]
"""What the bytes of a buffer outlive: restarts of its containers only, also its pod, also its node; in this order."""

Quantity = Annotated[
    str,
    BeforeValidator(_quantity),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
            "maxLength": 20,
            "x-kubernetes-validations": [
                cel("quantity(self).isLessThan(quantity('8192Pi'))", "a quantity is less than 8192Pi")
            ],
        }
    ),
]
"""A number of bytes, written as Kubernetes writes whole quantities; less than 8192Pi, which is 2**63."""

Count = Annotated[int, Field(ge=0), BeforeValidator(_count)]
"""A number in a status: a sum of what others tell must not keep it from being written, and stops at the largest."""

Cpu = Annotated[str, Field(pattern=r"^[1-9][0-9]*m?$", max_length=8)]
"""Processor time, in cores or thousandths of one (``250m``)."""

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]

NAMESPACE_PATTERN = r"^[a-z0-9*]([-a-z0-9*]{0,61}[a-z0-9*])?$"
"""The name of a namespace, in which each ``*`` stands for any characters."""

NamespacePattern = Annotated[str, Field(max_length=63, json_schema_extra={"pattern": NAMESPACE_PATTERN})]
"""Its form is said to the API server alone: of a class, a wrong one concerns the grant that has it, and no other."""

Account = Annotated[str, Field(pattern=r"^[a-z0-9-_]{1,25}$", max_length=25)]
"""A Rucio account (``ACCOUNT`` in Rucio's generic schema)."""

SCOPE = r"^[a-zA-Z_\-.0-9]{1,25}$"

Scope = Annotated[str, Field(pattern=SCOPE, max_length=25)]
"""A Rucio scope (``SCOPE`` in Rucio's generic schema)."""

ScopePattern = Annotated[str, Field(pattern=r"^[a-zA-Z_\-.0-9]{0,25}[*]?$", min_length=1, max_length=26)]
"""A scope, or with ``*`` at its end all scopes that begin so."""

DID = Annotated[str, Field(pattern=r"^[a-zA-Z_\-.0-9]{1,25}:[A-Za-z0-9/][A-Za-z0-9.\-_/#]*$", max_length=526)]
"""``scope:name`` of a file, dataset or container (``NAME`` has at most 250 characters in Rucio, 500 at CMS)."""

RSEExpression = Annotated[str, Field(min_length=1, max_length=255)]

LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
"""The value of a label, as Kubernetes has it; at most 63 characters."""

LABEL_KEY = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
)
"""The key of a label; a prefix before the slash has at most 253 characters."""

_LABEL_VALUE_LENGTH, _LABEL_PREFIX_LENGTH = 63, 253

RelativePattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        # Said to the API server alone: a record of an earlier request must stay readable.
        json_schema_extra={
            "x-kubernetes-validations": [
                cel(
                    r"!self.matches(r'^[\s~!]|[^\\]\s$|[\x00\n\r]')",
                    "a path neither begins nor ends with a blank, begins with no ~ or !, and has one line",
                ),
                cel(
                    r"self.matches(r'^([^\\\x22\x27`$;|&<>()]|\\.)*$')",
                    "a path is a glob: write \\ before \" ' ` $ ; | & < > ( and ) where they mean themselves",
                ),
            ]
        },
    ),
]
"""A glob below the session's outbox (``patterns``); what the API server cannot judge of it is told by a condition."""


def fault_of_text(pattern: str, text: str) -> bool:
    """Tell whether a text is not as a pattern of a schema has it: there ``$`` is the end of all, line feeds too."""
    return not re.fullmatch(pattern.removesuffix("$"), text)


def fault_of_label(key: str, value: str) -> str:
    """Say why no object can have this label; empty: one can."""
    if not re.fullmatch(LABEL_KEY, key) or len(key.partition("/")[0]) > _LABEL_PREFIX_LENGTH:
        return f"{key!r} is no key of a label"
    if not re.fullmatch(LABEL_VALUE, value) or len(value) > _LABEL_VALUE_LENGTH:
        return f"{value!r} is no value of a label: letters, digits, '-', '_' and '.', at most 63, no space"
    return ""


class ApiModel(BaseModel):
    """Fields in camelCase, unknown ones refused, attribute docstrings become descriptions."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def dump(self) -> dict[str, Any]:
        """Give the object as Kubernetes stores it: camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StoredModel(ApiModel):
    """A part of a status that the operator reads again: what a newer one has added is left as it is."""

    model_config = ConfigDict(extra="ignore")
