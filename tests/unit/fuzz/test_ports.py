"""Every method of every port fails as nothing should, or gives what it never gives: for a while, amid a session."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.unit.fuzz.hostile import Value, shown
from tests.unit.fuzz.story import at, chosen, ends, is_every, is_whole
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


_DOES = {
    "ensure_ledger", "take_ledger", "ensure_rse", "register", "ensure_dataset", "attach", "ensure_rule", "expire_rule",
    "hide", "suspend", "resume", "allow_deletion", "delete_rse", "expire_ledger", "send_manifest", "tell_session",
    "fence", "seal", "copy", "create", "apply", "merge", "delete", "event",
}  # fmt: skip
"""What changes something; all else only tells."""


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


@functools.cache
def answers_of(port: str, method: str, moment: str) -> int:
    """Count what there is to give instead of the answers of a method; 0: it is not asked after that moment."""
    world, most = at(moment), 0

    def does(real: Callable[[], Any]) -> Any:
        nonlocal most
        done = world.done()
        answer = real()
        assert method in _DOES or world.done() == done
        most = max(most, sum(1 for _ in oddities(answer)))
        return answer

    assert not ends(world, **before(world, port, method, does))
    return most


def _names(port: str) -> list[str]:
    return [name for known, name in METHODS if known == port]


def failures() -> Iterator[ParameterSet]:
    """Give each port with its cases; where all are tried, each method at each moment: a run can be gone on with."""
    for port in PORTS:
        names = _names(port)
        few = [
            (name, MOMENTS[at_ % len(MOMENTS)], _ERRORS[at_ % len(_ERRORS)], bool(at_ % 2))
            for at_, name in enumerate(names)
        ]
        cases = list(itertools.product(names, MOMENTS, _ERRORS, (False, True)))
        if is_every():
            for (name, moment), of_it in itertools.groupby(cases, key=lambda case: case[:2]):
                yield pytest.param(port, tuple(of_it), id=f"{port}-{name}-{moment}")
        else:
            yield pytest.param(port, chosen(cases, 0) if is_whole() else few, id=port)


@pytest.mark.parametrize(("port", "cases"), list(failures()))
def test_no_failure_of_a_port_keeps_a_buffer_from_its_end(
    port: str, cases: Sequence[tuple[str, str, Exception, bool]]
) -> None:
    wrong = {}
    for name, moment, error, late in cases:
        if is_every() and (not answers_of(port, name, moment) or (late and name not in _DOES)):
            # Nobody asks it in what follows; or it does nothing that could be done before it fails.
            continue
        world = at(moment)

        def does(real: Callable[[], Any], error: Exception = error, *, late: bool = late) -> Any:
            if late:
                real()
            raise error

        if faults := ends(world, **before(world, port, name, does)):
            wrong[f"{name} {'done, then ' if late else ''}{type(error).__name__} while {moment}"] = faults
    assert not wrong


def odd_answers() -> Iterator[ParameterSet]:
    """Give each port with its cases, as above: a method, a moment, and which of the odd answers; None: all of them."""
    for port in PORTS:
        if is_every():
            for name, moment in itertools.product(_names(port), MOMENTS):
                yield pytest.param(port, ((name, moment, None),), id=f"{port}-{name}-{moment}")
        else:
            cases = list(itertools.product(_names(port), MOMENTS, range(len(_ODD) + 40)))
            yield pytest.param(port, chosen(cases, 8), id=port)


@pytest.mark.parametrize(("port", "cases"), list(odd_answers()))
def test_no_answer_of_a_port_keeps_a_buffer_from_its_end(
    port: str, cases: Sequence[tuple[str, str, int | None]]
) -> None:
    wrong = {}
    for name, moment, asked in cases:
        numbers = iter(range(answers_of(port, name, moment)) if asked is None else (asked,))
        for number in numbers:
            odd = OddAnswers(name, number)
            world = at(moment)
            if faults := ends(world, **before(world, port, name, odd.give)):
                wrong[f"{name} gives {odd.given[:1]} while {moment}"] = faults
            # The next ones would be given the same.
            collections.deque(itertools.islice(numbers, odd.same), maxlen=0)
    assert not wrong


class OddAnswers:
    """Gives one of the odd answers, each time that it is asked."""

    def __init__(self, name: str, number: int) -> None:
        self._believed = name in _BELIEVED
        self._number = number
        self._sizes: list[int] = []
        """How many odd answers there were each time."""
        self._alike = number >= len(_ODD) and self._believed
        self.given: list[str] = []

    def give(self, real: Callable[[], Any]) -> Any:
        """Give it, or where there are not as many the right one."""
        answer = real()
        found = next(itertools.islice(oddities(answer), self._number, None), answer)
        if self._believed and isinstance(found, type(answer)):
            found = object()
        elif found is not answer:
            self._alike = False
        if self._alike:
            self._sizes.append(sum(1 for _ in oddities(answer)))
        self.given.append(shown(found))
        return found

    @property
    def same(self) -> int:
        """Count the odd answers after this one that would have been the same thing each time: no answer at all."""
        larger = [size for size in self._sizes if size > self._number]
        return min(larger) - self._number - 1 if self._alike and larger else 0


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
