"""What the agent of a buffer tells, as far as it can be believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from volatile_rse.api.agent import CopyState, InputState, OutputState, Report
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import agent_host
from volatile_rse.domain.clocks import problem_of_skew, skew_of
from volatile_rse.domain.facts import Facts, Record
from volatile_rse.domain.plausible import (
    counts_unlisted,
    doubt_inputs,
    doubt_memory,
    doubt_outputs,
    doubt_report,
    listed_alone,
    of_list,
    recounted,
    without_removed,
)
from volatile_rse.domain.stage import Stage
from volatile_rse.ports import deadline
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError
from volatile_rse.reconcile.faults import failed
from volatile_rse.reconcile.gather.look import Look, guarded
from volatile_rse.reconcile.world import World

__all__ = ["believe", "buffer_of", "copies", "inputs", "outputs", "recount", "report", "told"]

_PAGES = 1000
"""Of a listing, each of a thousand files: the operator has no room for more."""
_LISTING = timedelta(minutes=5)
_TOKENS = {Stage.SERVING, Stage.FENCING}
"""Stages in which tokens are shown to the buffer."""


def buffer_of(world: World, record: Record, facts: Facts) -> Buffer:
    """Give the client of a buffer's agent.

    Raises
    ------
    UnreachableError
        BUFFER_UNREACHABLE: its pod has no address.
    """
    pod = facts.storage.pod
    if pod is None or not pod.address:
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, f"The storage pod of {record.name} has no address.")
    return world.buffer(pod.address, agent_host(record.spec.record_id))


@guarded
def report(look: Look) -> None:
    """Ask how it stands."""
    pod = look.facts.storage.pod
    if pod is None or pod.over or not pod.address:
        return
    try:
        before = look.world.clock.now()
        told = _buffer(look).report()
        _compare_clocks(look, told, before)
        told = without_removed(look.record, told)
        believe(look, doubt_report(look.record, told))
        look.set(report=told)
    except PortError as error:
        # A pod that is starting has no agent yet: that is no problem but a state.
        if pod.ready:
            look.problems.append(failed(error))
        look.set(unreported=deadline.is_over(error))


def inputs(look: Look) -> tuple[InputState, ...]:
    """List the inputs, each as far as it is staged."""
    states, frozen = tuple(_pages(look, _buffer(look).inputs)), look.facts.frozen or {}
    if look.record.status.mended:
        return listed_alone(frozen, states)
    if look.record.status.removed and look.facts.frozen is not None:
        # The agent goes on telling of what it was to stage before.
        states = of_list(frozen, states)
    believe(look, doubt_inputs(frozen, states))
    return states


def recount(look: Look) -> None:
    """Count only the inputs on the list, where the agent counts others too; what cannot be counted is not known."""
    report = look.facts.report
    if report is None or not counts_unlisted(look.record, report):
        return
    states, problems = look.ask(inputs, look), look.problems
    unreported = states is None and problems[-1].reason is Reason.OUT_OF_TIME
    counted = None if states is None else recounted(report, look.facts.frozen or {}, states)
    look.set(inputs=states, report=counted, unreported=unreported)


def outputs(look: Look) -> tuple[OutputState, ...]:
    """List what the session has left or published."""
    states = tuple(_pages(look, _buffer(look).outputs))
    believe(look, doubt_outputs(look.record, states))
    if look.facts.report is not None:
        believe(look, doubt_memory(look.record, look.facts.report.volume, states))
    return states


@guarded
def told(look: Look) -> None:
    """List outputs whatever is to be believed of them, also while the inventory runs."""
    pod = look.facts.storage.pod
    if pod is not None and pod.ready and not pod.over and pod.address:
        look.set(told=look.ask(lambda: tuple(_pages(look, _buffer(look).outputs))))


def copies(look: Look) -> tuple[CopyState, ...]:
    """List the copies, each as far as it is."""
    return tuple(_pages(look, _buffer(look).copies))


def believe(look: Look, doubt: str) -> None:
    """Go no further by the word of an agent that tells what cannot be."""
    if doubt:
        message = f"The agent of {look.record.name} cannot be believed: {doubt}."
        raise RefusedError(Reason.BUFFER_IMPLAUSIBLE, message)


def _compare_clocks(look: Look, told: Report, before: datetime) -> None:
    """Tell of a clock that is too far off, wherever tokens are shown to the buffer."""
    if told.clock is None or look.stage not in _TOKENS:
        return
    skew = skew_of(told.clock, before, look.world.clock.now())
    if problem := problem_of_skew(look.record.name, skew):
        look.problems.append(problem)


def _buffer(look: Look) -> Buffer:
    return buffer_of(look.world, look.record, look.facts)


def _pages(look: Look, read: Callable[[int], Any]) -> Iterable[Any]:
    """Read a listing to its end, which comes in bounded time: an agent that never ends it cannot be believed."""
    after, until = 0, look.world.clock.now() + _LISTING
    for _ in range(_PAGES):
        page = read(after)
        yield from page.items
        if page.next is None:
            return
        if page.next <= after or not page.items:
            believe(look, f"after {after} its listing goes on at {page.next}, with {len(page.items)} items before that")
        after = page.next
        if look.world.clock.now() > until:
            what = f"The agent of {look.record.name} has not listed its files within {_LISTING.total_seconds():g} s."
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, what)
    believe(look, f"its listing has more than {_PAGES} pages")
