"""What each call of Rucio's client gives, as far as the adapters read it: an answer of another shape counts as none.

Anybody may write into Rucio what its schema lets pass, and what stands between may answer anything. Sizes and checksums
of single files are not judged here but where a file is read: one odd file says nothing of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from volatile_rse.api.schema import LARGEST

__all__ = ["ANSWERS", "fault_of", "is_text"]

_LONGEST = 2048
"""Characters of a name; Rucio's columns have less."""
_SHOWN = 60
_LAST_PORT = 65535

Shape = Callable[[object], str]
"""Gives what is wrong, with its place before it; empty: nothing."""


def fault_of(method: str, answer: object) -> str:
    """Say what of an answer cannot be; empty: nothing."""
    return ANSWERS.get(method, _anything)(answer)


def is_text(value: object) -> bool:
    """Tell whether a value can be a name of Rucio's: characters that can be printed and encoded, on one line."""
    return isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST


def _anything(_: object) -> str:
    return ""


def _such(value: object) -> str:
    """Show a value, never much of it."""
    try:
        text = ascii(value)
    except (RecursionError, ValueError):
        return f" is a {type(value).__name__}"
    return f" is {text}" if len(text) <= _SHOWN else f" is {text[:_SHOWN]}…"


def _that(holds: Callable[[Any], bool]) -> Shape:
    return lambda value: "" if holds(value) else _such(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_number(value: object) -> bool:
    """Tell whether a value is a number, infinity too: Rucio writes a limit without end so."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST
    return whole or (isinstance(value, float) and not math.isnan(value) and (math.isinf(value) or abs(value) < LARGEST))


_TEXT = _that(is_text)
_STRING = _that(lambda value: isinstance(value, str))
_COUNT = _that(_is_count)
_NUMBER = _that(_is_number)
_FINITE = _that(lambda value: _is_number(value) and math.isfinite(value))
_MOMENT = _that(lambda value: isinstance(value, datetime))
_FLAG = _that(lambda value: isinstance(value, bool | int))
_PORT = _that(lambda value: _is_count(value) and value <= _LAST_PORT)
_OBJECT = _that(lambda value: isinstance(value, Mapping))


def _or_none(shape: Shape) -> Shape:
    return lambda value: "" if value is None else shape(value)


def _fields(_optional: Mapping[str, Shape] | None = None, /, **required: Shape) -> Shape:
    """Ask for an object with these fields, some of which may be absent; others are not read."""

    def judge(value: object) -> str:
        if not isinstance(value, Mapping):
            return _such(value)
        for name, shape in required.items():
            if name not in value:
                return f".{name} is absent"
            if fault := shape(value[name]):
                return f".{name}{fault}"
        for name, shape in (_optional or {}).items():
            if name in value and (fault := shape(value[name])):
                return f".{name}{fault}"
        return ""

    return judge


def _list(shape: Shape, *, least: int = 0) -> Shape:
    def judge(value: object) -> str:
        if not isinstance(value, list | tuple):
            return _such(value)
        if len(value) < least:
            return f" has {len(value)} entries"
        return next((f"[{at}]{fault}" for at, entry in enumerate(value) if (fault := shape(entry))), "")

    return judge


def _map(shape: Shape) -> Shape:
    def judge(value: object) -> str:
        if not isinstance(value, Mapping):
            return _such(value)
        if wrong := next((key for key in value if not is_text(key)), None):
            return f" has a key that{_such(wrong)}"
        return next((f".{key}{fault}" for key, entry in value.items() if (fault := shape(entry))), "")

    return judge


def _one_or_many(shape: Shape) -> Shape:
    many = _list(shape)
    return lambda value: many(value) if isinstance(value, list) else shape(value)


def _merged(shape: Shape) -> Shape:
    """Ask for one object of entries, or for several that are read as one: the client gives both."""
    return _one_or_many(_map(shape))


_NAMES = {"scope": _TEXT, "name": _TEXT}
_DOOR = _fields(
    {"domains": _or_none(_map(_fields({"read": _or_none(_FINITE), "write": _or_none(_FINITE)})))},
    scheme=_TEXT, hostname=_TEXT, port=_PORT, prefix=_TEXT, impl=_TEXT,
)  # fmt: skip
_RSE = _fields(
    {"lfn2pfn_algorithm": _or_none(_STRING)}, deterministic=_FLAG,
    protocols=_list(_DOOR), availability_read=_FLAG, availability_write=_FLAG, availability_delete=_FLAG,
)  # fmt: skip
_ROW = _fields(
    {
        **dict.fromkeys(("deterministic", "volatile", "staging_area", "availability_write"), _or_none(_FLAG)),
        **dict.fromkeys(("ISP", "rse_type"), _or_none(_STRING)),
    },
    rse=_TEXT,
)
"""By an expression Rucio gives the name alone."""
_RULE = _fields(
    None,
    id=_TEXT, account=_TEXT, rse_expression=_TEXT, state=_TEXT, copies=_COUNT, locked=_FLAG, locks_ok_cnt=_COUNT,
    locks_stuck_cnt=_COUNT, expires_at=_or_none(_MOMENT), **_NAMES,
)  # fmt: skip
"""Its comment may be anything: the client makes a moment of a text that looks like one."""
_REPLICA = _fields(
    {
        "states": _map(_TEXT),
        "rses": _map(_anything),
        "pfns": _that(lambda value: _fault_of_pfns(value) == ""),
        "adler32": _or_none(_STRING),
    },
    **_NAMES,
)


def _fault_of_pfns(value: object) -> str:
    """Judge what names are read with: a PFN itself may be any text, since one that leads nowhere is left out."""
    if not isinstance(value, Mapping) or not all(isinstance(pfn, str) for pfn in value):
        return _such(value)
    info = _fields({"priority": _or_none(_NUMBER), "domain": _or_none(_STRING)}, rse=_TEXT)
    return next((fault for entry in value.values() if (fault := info(entry))), "")


ANSWERS: Mapping[str, Shape] = {
    "whoami": _anything,
    "list_files": _list(_fields(scope=_STRING, name=_STRING)),
    "list_content": _list(_fields(type=_TEXT, **_NAMES)),
    "get_did": _fields(
        {"open": _or_none(_FLAG), "bytes": _or_none(_FINITE)}, type=_TEXT, account=_TEXT, length=_or_none(_COUNT)
    ),
    "get_metadata": _OBJECT,
    "get_metadata_bulk": _list(_fields({"md5": _or_none(_STRING)}, scope=_STRING, name=_STRING)),
    "list_dids": _list(_TEXT),
    "add_dids": _anything,
    "add_dataset": _anything,
    "attach_dids_to_dids": _anything,
    "set_metadata": _anything,
    "set_metadata_bulk": _anything,
    "get_rse": _RSE,
    "list_rse_attributes": _OBJECT,
    "list_rses": _list(_ROW),
    "get_distance": _list(_fields({"distance": _or_none(_NUMBER)})),
    "lfns2pfns": _map(_STRING),
    "get_rse_usage": _list(_fields({"used": _or_none(_FINITE)})),
    "get_rse_limits": _merged(_or_none(_FINITE)),
    "add_rse": _anything,
    "update_rse": _anything,
    "delete_rse": _anything,
    "add_rse_attribute": _anything,
    "delete_rse_attribute": _anything,
    "add_protocol": _anything,
    "update_protocols": _anything,
    "delete_protocols": _anything,
    "delete_rse_limits": _anything,
    "list_replicas": _list(_REPLICA),
    "set_tombstone": _anything,
    "update_replicas_states": _anything,
    "get_local_account_usage": _list(_fields({"bytes_limit": _or_none(_NUMBER)}, rse=_TEXT, bytes=_or_none(_FINITE))),
    "get_global_account_limits": _merged(_fields(resolved_rses=_list(_TEXT), limit=_or_none(_NUMBER))),
    "list_account_attributes": _list(_one_or_many(_fields(key=_TEXT, value=_anything))),
    "list_scopes": _list(_TEXT),
    "add_replication_rule": _list(_TEXT, least=1),
    "update_replication_rule": _anything,
    "list_did_rules": _list(_RULE),
    "list_associated_rules_for_file": _list(_fields(id=_TEXT)),
    "get_replication_rule": _RULE,
    "get_dataset_locks_by_rse": _list(_fields(rule_id=_TEXT)),
    "list_replica_locks": _list(_fields(rse=_TEXT, state=_TEXT, **_NAMES)),
}
"""Method of the client -> what it gives; a method that is not here is not called."""
