"""One look at the world of one record: what it has to go by, and what it has found so far.

The modules that ask one part of the world each take it along: what gives nothing back has set facts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Facts, Piece, Record
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import Stage, stage_of
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.faults import problem_of
from volatile_rse.reconcile.lease import LeaseLostError
from volatile_rse.reconcile.world import World

__all__ = ["Look", "guarded"]

P = ParamSpec("P")
T = TypeVar("T")
_LIVE = {Stage.HIDING, Stage.DRAINING, Stage.CLOSED}
"""Stages that destroy: what Rucio said before does not count there."""


class Look:
    """One look at one record's world; what cannot be asked becomes a problem, and the rest goes on."""

    def __init__(self, world: World, connections: Connections, facts: Facts, record: Record) -> None:
        self.world = world
        self.connections = connections
        self.record = record
        self.spec = record.spec
        self.claim = record.spec.claims[0]
        self.ledger = Did.parse(record.spec.ledger)
        self.stage = stage_of(record.status)
        self.facts = facts
        """What is known so far."""
        self.problems: list[Problem] = []
        self.bodies: Mapping[Piece, Mapping[str, Any]] = {}
        """The buffer's objects."""
        self.maps: Mapping[str, Mapping[str, Any]] = {}
        """The buffer's ConfigMaps, by name."""
        self.resolved: Mapping[str, tuple[File, ...] | None] = {}
        """What was found of each input, whatever is wrong with others; None: it is refused."""
        self.no_tokens: tuple[str, ...] = ()
        """What is wrong in the Secret of the sites' tokens."""

    def set(self, **found: object) -> None:
        """Add to the facts."""
        self.facts = dataclasses.replace(self.facts, **found)  # type: ignore[arg-type]

    def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Give the answer, or None and a problem."""
        with self.tolerant(_named(call)):
            return call(*args, **kwargs)
        return None

    @contextmanager
    def tolerant(self, what: str) -> Iterator[None]:
        """Make a problem of what fails within, whatever the answers were.

        Parameters
        ----------
        what
            Is asked.
        """
        try:
            yield
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 (logged with its traceback)
            where = f"{self.record.name}: an answer could not be used, to the question for {what}"
            self.problems.append(problem_of(self.world.telemetry, error, where))

    @contextmanager
    def apart(self) -> Iterator[list[Problem]]:
        """Have the problems of what is asked within told by themselves, and not as those of the buffer."""
        before, self.problems = self.problems, []
        problems = self.problems
        try:
            with self.tolerant("an entry that was added"):
                yield problems
        finally:
            self.problems = before

    def catalogue(self) -> Catalogue:
        """Give the catalogue; its memory counts as long as nothing is destroyed."""
        return self.live() if self.stage in _LIVE else self.connections.remembering(self.spec)

    def live(self) -> Catalogue:
        """Give the catalogue without its memory."""
        return self.connections.of(self.spec.connection_snapshot, self.spec.connection_name)

    def safety(self) -> Catalogue:
        """Give the catalogue for whether outputs are safe: what a session has published may be told from memory."""
        if self.stage is Stage.SERVING:
            return self.catalogue()
        return self.live()

    def steady(self) -> Catalogue:
        """Give the catalogue for what does not change before it is destroyed."""
        if self.stage is Stage.HIDING:
            return self.connections.remembering(self.spec)
        if self.stage in _LIVE:
            self.connections.forget(self.spec.record_id)
        return self.catalogue()


def guarded(ask: Callable[Concatenate[Look, P], None]) -> Callable[Concatenate[Look, P], None]:
    """Have what cannot be used of one part of the world be a problem of that part: the rest goes on."""

    @wraps(ask)
    def asked(look: Look, /, *args: P.args, **kwargs: P.kwargs) -> None:
        look.ask(ask, look, *args, **kwargs)

    return asked


def _named(call: Callable[..., object]) -> str:
    """Say what a function asks for: the part of the world that its module is named after, and its own name."""
    function = getattr(call, "__qualname__", type(call).__qualname__)
    module = str(getattr(call, "__module__", "")).rpartition(".")[2]
    return f"{module}.{function.partition('.<locals>')[0].lstrip('_')}"
