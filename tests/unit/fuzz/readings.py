"""Which cases are the same: the operator reads an object as one that it has read before.

What a part of an object is read as by its model alone, nothing else can depend on. That it is by its model alone is no
promise: such a part is lent to the operator so that it breaks where anything but the model looks into it.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.ports.cluster import Object, Ref
from volatile_rse.ports.errors import PortError
from volatile_rse.reconcile.reading import read_class, read_connection, read_partly, read_record

__all__ = ["PEEPED", "guarded", "reading_of"]

PEEPED: list[str] = []
"""Who has looked into a part that is read by its model alone: must stay empty."""
_MODELS = (
    ("/pydantic/", ""), ("/volatile_rse/api/", ""), ("/reconcile/stored.py", ""), ("/copy.py", ""),
    ("/unit/fuzz/", ""), ("/fake_cluster.py", ""),
    ("/reconcile/execute.py", "extend_record"),
)  # fmt: skip
"""Files of the models, of what reads by them, of what plays the cluster, and a function that copies entries unread."""

Path = tuple[str | int, ...]
_BY_MODEL: Mapping[str, Mapping[Path, frozenset[str]]] = {
    "VolatileRSE": {("spec", "inputs"): frozenset(), ("spec", "outputs"): frozenset()},
    "VolatileRSEClass": {("spec",): frozenset({"connectionName"})},
    "RucioConnection": {("spec",): frozenset()},
    "RSERecord": {
        ("spec", "classSnapshot"): frozenset({"exposure"}),
        ("spec", "connectionSnapshot"): frozenset(),
        ("spec", "public"): frozenset(),
        ("spec", "claims", 0, "request"): frozenset({"session", "teardown"}),
    },
}
"""Kind -> parts that are read by their model alone, each with the keys that are looked at besides."""
_READ: Mapping[str, Sequence[Callable[[Object, datetime], object]]] = {
    "VolatileRSE": (lambda body, _: VolatileRSESpec.model_validate(body.get("spec")),),
    "VolatileRSEClass": (lambda body, _: read_class(body),),
    "RucioConnection": (lambda body, _: read_connection(body),),
    "RSERecord": (read_record, read_partly),
}


def reading_of(kind: str, path: Path, body: Object, now: datetime) -> tuple[Sequence[object], Object] | None:
    """Say what the operator reads: by the model, and besides; None: it may read everything."""
    for root, looked_at in _BY_MODEL.get(kind, {}).items():
        if path[: len(root)] == root and len(path) > len(root) and isinstance(_at(body, root), dict | list):
            rest = copy.deepcopy(dict(body))
            *way, last = root
            part = _at(body, root)
            # Their own models read what is looked at of a request: where it is no mapping, it counts as absent.
            kept = looked_at if last != "request" else ()
            _at(rest, tuple(way))[last] = (
                {key: part[key] for key in sorted(kept) if key in part} if isinstance(part, dict) else []
            )
            return [_read(read, body, now) for read in _READ[kind]], rest
    return None


def _read(read: Callable[[Object, datetime], object], body: Object, now: datetime) -> object:
    try:
        return repr(read(body, now))
    except PortError as error:
        return type(error).__name__, error.what
    except ValidationError as error:
        first = error.errors()[0]
        return str(first["loc"]), first["msg"]


def _at(body: Any, path: Path) -> Any:
    for step in path:
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def guarded(ref: Ref, body: dict[str, Any]) -> Object:
    """Have each look into a part that is read by its model alone be written down."""
    for root, looked_at in _BY_MODEL.get(ref.kind, {}).items():
        *way, last = root
        holder, part = _at(body, tuple(way)), _at(body, root)
        name = f"{ref.kind}.{'.'.join(map(str, root))}"
        if isinstance(part, dict):
            holder[last] = _Guarded(part, name, looked_at)
        elif isinstance(part, list):
            holder[last] = _GuardedList(part, name)
    return body


def _note(name: str) -> None:
    frame = sys._getframe(2)
    if frame.f_code.co_name == "_look" or frame.f_code.co_filename == __file__:
        frame = sys._getframe(3)
    file = frame.f_code.co_filename
    if not any(known in file and frame.f_code.co_name.startswith(function) for known, function in _MODELS):
        PEEPED.append(f"{name} by {file}:{frame.f_lineno}")


class _Guarded(dict[str, Any]):
    """Says so when somebody looks into it; what is written in C looks without asking, and is the model."""

    def __init__(self, part: Mapping[str, Any], name: str, looked_at: frozenset[str]) -> None:
        super().__init__(part)
        self._name = name
        self._looked_at = looked_at

    def _look(self, key: object = None) -> None:
        if key not in self._looked_at:
            _note(self._name)

    def __getitem__(self, key: str) -> Any:
        self._look(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._look(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._look(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return super().__iter__()

    def keys(self) -> Any:
        self._look()
        return super().keys()

    def values(self) -> Any:
        self._look()
        return super().values()

    def items(self) -> Any:
        self._look()
        return super().items()

    def __eq__(self, other: object) -> bool:
        self._look()
        return super().__eq__(other)

    __hash__ = None

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in super().items()}


class _GuardedList(list[Any]):
    """The same of a list."""

    def __init__(self, part: list[Any], name: str) -> None:
        super().__init__(part)
        self._name = name

    def __getitem__(self, at: Any) -> Any:
        _note(self._name)
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Any]:
        _note(self._name)
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        _note(self._name)
        return super().__eq__(other)

    __hash__ = None

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in super().__iter__()]
