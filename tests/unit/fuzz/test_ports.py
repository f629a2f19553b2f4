"""Every method of every port fails as nothing should, or gives what it never gives: for a while, amid a session."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.unit.fuzz.hostile import Value, shown
from tests.unit.fuzz.story import at, chosen, ends, is_whole
from tests.unit.fuzz.two import Two, Wrap
from volatile_rse.api.schema import ApiModel
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Cluster, Ref
from volatile_rse.ports.credentials import Authority

PORTS: Mapping[str, type] = {
    "catalogue": Catalogue,
    "buffer": Buffer,
    "endpoints": Endpoints,
    "cluster": Cluster,
    "authority": Authority,
}
METHODS = [(port, name) for port, kind in PORTS.items() for name in vars(kind) if not name.startswith("_")]
MOMENTS = ("asked", "serving", "keeping")
_ERRORS: tuple[Exception, ...] = (
    ValueError("x"), KeyError("x"), RecursionError(), OverflowError(), MemoryError(), TimeoutError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), AttributeError("x"), ZeroDivisionError(), StopIteration(),
)  # fmt: skip
_ODD: tuple[Value, ...] = (None, "x", "\ud800", 7, -7, 10**30, float("nan"), True, [], {}, ("x",), [None], {"x": None})
_BELIEVED = {
    "unsafe", "locked_by", "registered", "outputs", "report", "size", "rse", "standing", "replicas", "ledger_exists",
    "content", "copies", "get", "list", "can_write", "is_refused",
}  # fmt: skip
"""What is asked to learn whether bytes are safe, or still there: who answers wrongly in the right form is believed. So
these are only given what nobody can take for an answer."""


class Odd:
    """Stands before a port and does something else than it, for one method."""

    def __init__(self, port: Any, method: str, does: Callable[[Callable[[], Any]], Any], world: Two) -> None:
        self._port = port
        self._method = method
        self._does = does
        self._world = world

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._port, method)
        if method != self._method:
            return call

        def odd(*args: Any, **named: Any) -> Any:
            about = args[0] if args else None
            if isinstance(about, Mapping) and "metadata" in about:
                about = Ref(about["kind"], about["metadata"].get("namespace"), about["metadata"].get("name", ""))
            if isinstance(about, Ref) and not self._is_the_victim_s(about):
                return call(*args, **named)
            return self._does(lambda: call(*args, **named))

        return odd

    def _is_the_victim_s(self, ref: Ref) -> bool:
        victim = self._world.victim
        return victim.name in {ref.namespace, ref.name} or victim.record_id in ref.name


def before(world: Two, port: str, method: str, does: Callable[[Callable[[], Any]], Any]) -> Mapping[str, Wrap]:
    """Put it before a port."""
    return {port: lambda real: Odd(real, method, does, world)}


@pytest.mark.parametrize("port", PORTS)
def test_no_failure_of_a_port_keeps_a_buffer_from_its_end(port: str) -> None:
    wrong = {}
    names = [name for known, name in METHODS if known == port]
    cases = list(itertools.product(names, MOMENTS, _ERRORS, (False, True)))
    few = [
        (name, MOMENTS[at_ % len(MOMENTS)], _ERRORS[at_ % len(_ERRORS)], bool(at_ % 2))
        for at_, name in enumerate(names)
    ]
    for name, moment, error, late in chosen(cases, 0) if is_whole() else few:
        world = at(moment)

        def does(real: Callable[[], Any], error: Exception = error, *, late: bool = late) -> Any:
            if late:
                real()
            raise error

        if faults := ends(world, **before(world, port, name, does)):
            wrong[f"{name} {'done, then ' if late else ''}{type(error).__name__} while {moment}"] = faults
    assert not wrong


@pytest.mark.parametrize("port", PORTS)
def test_no_answer_of_a_port_keeps_a_buffer_from_its_end(port: str) -> None:
    wrong = {}
    names = [name for known, name in METHODS if known == port]
    cases = list(itertools.product(names, MOMENTS, range(len(_ODD) + 40)))
    for name, moment, number in chosen(cases, 8):
        world = at(moment)
        given: list[str] = []

        def does(real: Callable[[], Any], number: int = number, name: str = name, given: list[str] = given) -> Any:
            answer = real()
            found = next(itertools.islice(oddities(answer), number, None), answer)
            if name in _BELIEVED and isinstance(found, type(answer)):
                found = object()
            given.append(shown(found))
            return found

        if faults := ends(world, **before(world, port, name, does)):
            wrong[f"{name} gives {given[:1]} while {moment}"] = faults
    assert not wrong


def oddities(answer: Any) -> Iterator[Any]:
    """Give what an answer never is: something else, and the same with one part that is something else."""
    yield from _ODD
    match answer:
        case ApiModel():
            for name, value in itertools.product(type(answer).model_fields, _ODD):
                yield answer.model_copy(update={name: value})
        case Mapping():
            yield {**answer, "x": "x"}
            for key, value in itertools.product(answer, _ODD):
                yield {**answer, key: value}
        case list() | tuple() if answer:
            yield type(answer)([*answer, *answer])
            for value in (*_ODD, *oddities(answer[0])):
                yield type(answer)([value, *answer[1:]])
        case _ if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
            for field, value in itertools.product(dataclasses.fields(answer), _ODD):
                yield dataclasses.replace(answer, **{field.name: value})
