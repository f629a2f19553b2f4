"""Answers of the catalogue that are remembered for a while, for looks that destroy nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from volatile_rse.domain.catalogue import DatasetState, Did
from volatile_rse.ports.catalogue import Catalogue

__all__ = ["remembering"]

_STEADY = timedelta(hours=1)
"""For what changes by our own deeds only, as a rule; where it does not, a deed fails, and it is asked for anew."""
_LONGEST = timedelta(hours=12)
"""What was the same for hours is asked for after as many hours again, up to this."""
_FETCHING = timedelta(minutes=1)
"""From the choice of the sources until the agent has them; from a look at a dataset until something is copied."""
_LIVES: Mapping[str, timedelta] = {
    "ledger_exists": _STEADY,
    "rse": _STEADY,
    "registered": _STEADY,
    "unsafe": _STEADY,
    "locked_by": _STEADY,
    "sources": _FETCHING,
    "dataset": _FETCHING,
    "maker": _FETCHING,
}
_SETTLED: Mapping[str, Callable[[Any], bool]] = {
    # Nothing is missing; the rule holds. What is not so yet is asked for at every look.
    "unsafe": lambda missing: not missing,
    "locked_by": lambda rule: rule is not None,
}
_CHANGED_BY: Mapping[str, tuple[str, ...]] = {
    "ensure_ledger": ("ledger_exists", "registered"),
    "ensure_rse": ("rse",),
    "register": ("registered",),
    "ensure_dataset": ("dataset", "maker"),
    "attach": ("unsafe", "locked_by"),
    "ensure_rule": ("locked_by",),
    "allow_deletion": ("rse",),
    "delete_rse": ("ledger_exists", "rse", "registered"),
    "expire_ledger": ("ledger_exists", "rse", "registered"),
}


@dataclass(frozen=True, slots=True)
class _Answer:
    what: Any
    since: datetime
    """When it was given first, and has been the same since."""
    until: datetime
    """How long it counts."""


def remembering(catalogue: Catalogue, now: Callable[[], datetime]) -> Catalogue:
    """Wrap the catalogue for one buffer: by this way its steady answers are asked for once an hour, and ever less."""
    return cast("Catalogue", _Remembering(catalogue, now))


class _Remembering:
    def __init__(self, catalogue: Catalogue, now: Callable[[], datetime]) -> None:
        self._catalogue = catalogue
        self._now = now
        self._answers: dict[str, dict[bytes, _Answer]] = {}
        """Method -> digest of what was asked -> answer."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._catalogue, method)
        if method in _LIVES:
            return lambda *args: self._remembered(method, call, args)
        if method in _CHANGED_BY:
            return lambda *args, **named: self._changing(method, call, args, named)
        return cast("Callable[..., Any]", call)

    def _remembered(self, method: str, call: Callable[..., object], args: tuple[object, ...]) -> object:
        now, answers, asked = self._now(), self._answers.setdefault(method, {}), _digest(args)
        known = answers.get(asked)
        if known is not None and now < known.until:
            return known.what
        # An answer that does not come leaves none behind.
        answers.pop(asked, None)
        what = call(*args)
        if _SETTLED.get(method, _always)(what):
            since = known.since if known is not None and known.what == what else now
            answers[asked] = _Answer(what, since, now + _life(method, now - since))
        return what

    def _changing(
        self, method: str, call: Callable[..., object], args: tuple[Any, ...], named: Mapping[str, Any]
    ) -> object:
        # Also when it fails: it may have happened all the same.
        before = {stale: self._answers.pop(stale, {}) for stale in _CHANGED_BY[method]}
        answer = call(*args, **named)
        if method == "ensure_dataset" and answer is True:
            self._know_own_dataset(*args)
        if method == "ensure_ledger":
            now, ledger = self._now(), _digest(args[:1])
            absent = ledger in before["ledger_exists"] and before["ledger_exists"][ledger].what is False
            self._answers["ledger_exists"] = {ledger: _Answer(what=True, since=now, until=now + _STEADY)}
            if absent:
                self._answers["registered"] = {ledger: _Answer(what=frozenset(), since=now, until=now + _STEADY)}
        if method == "register" and (known := before["registered"].get(asked := _digest(args[1:2]))) is not None:
            grown = replace(known, what=known.what | {file.did for file in args[2]})
            self._answers["registered"] = {asked: grown}
        return answer

    def _know_own_dataset(self, dataset: Did, account: str, maker: str) -> None:
        now, asked = self._now(), _digest((dataset,))
        state = DatasetState(account, is_dataset=True, open=True)
        for method, what in (("dataset", state), ("maker", maker)):
            self._answers[method] = {asked: _Answer(what, since=now, until=now + _FETCHING)}


def _digest(args: tuple[object, ...]) -> bytes:
    """Name what was asked: of thousands of files nothing but this is kept."""
    return hashlib.sha256(repr(args).encode()).digest()


def _life(method: str, same_for: timedelta) -> timedelta:
    least = _LIVES[method]
    return least if least < _STEADY else min(max(least, same_for), _LONGEST)


def _always(_: object) -> bool:
    return True
