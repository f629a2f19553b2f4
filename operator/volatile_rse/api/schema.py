"""The base of every model of the API, and the value formats that the kinds share."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

__all__ = [
    "DID",
    "LABEL_KEY",
    "LABEL_VALUE",
    "SCOPE",
    "Account",
    "ApiModel",
    "Cpu",
    "DnsLabel",
    "Durability",
    "Duration",
    "Quantity",
    "RSEExpression",
    "RelativePattern",
    "Scope",
    "ScopePattern",
    "StoredModel",
    "cel",
    "fault_of_label",
    "parse_duration",
    "parse_quantity",
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BINARY = {"": 0, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}
_DECIMAL = {"k": 3, "M": 6, "G": 9, "T": 12, "P": 15}

Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]*(s|m|h|d)$", max_length=12)]
"""The one duration format of the API: a whole number and one of ``s``, ``m``, ``h``, ``d``."""

Durability = Literal["Pod", "Node", "Network"]
"""What the bytes of a buffer outlive: restarts of its containers only, also its pod, also its node; in this order."""

Quantity = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$", max_length=20)]
"""A number of bytes, written as Kubernetes writes whole quantities."""

Cpu = Annotated[str, Field(pattern=r"^[1-9][0-9]*m?$", max_length=8)]
"""Processor time, in cores or thousandths of one (``250m``)."""

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]

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

RelativePattern = Annotated[str, Field(min_length=1, max_length=255)]
"""A glob below the session's outbox; that it does not escape the outbox is judged with a condition."""


def parse_duration(text: str) -> timedelta:
    """Turn ``90m`` into a time span.

    Raises
    ------
    ValueError
        The text is not in the one duration format.
    """
    if not re.fullmatch(r"[1-9][0-9]*[smhd]", text):
        message = f"{text!r} is not a duration such as 90m, 8h or 30d"
        raise ValueError(message)
    return timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])


def parse_quantity(text: str) -> int:
    """Turn ``20Gi`` into a number of bytes.

    Raises
    ------
    ValueError
        The text is not a whole Kubernetes quantity.
    """
    match = re.fullmatch(r"([1-9][0-9]*)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?", text)
    if match is None:
        message = f"{text!r} is not a number of bytes such as 20Gi or 500M"
        raise ValueError(message)
    number, unit = int(match[1]), match[2] or ""
    return number << _BINARY[unit] if unit in _BINARY else int(Decimal(number).scaleb(_DECIMAL[unit]))


def fault_of_label(key: str, value: str) -> str:
    """Say why no object can have this label; empty: one can."""
    if not re.fullmatch(LABEL_KEY, key) or len(key.partition("/")[0]) > _LABEL_PREFIX_LENGTH:
        return f"{key!r} is no key of a label"
    if not re.fullmatch(LABEL_VALUE, value) or len(value) > _LABEL_VALUE_LENGTH:
        return f"{value!r} is no value of a label: letters, digits, '-', '_' and '.', at most 63, no space"
    return ""


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
