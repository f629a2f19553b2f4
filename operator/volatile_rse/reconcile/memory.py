"""Answers of the catalogue that are remembered for a while, for looks that destroy nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from volatile_rse.ports.catalogue import Catalogue

__all__ = ["remembering"]

_LIVES: Mapping[str, timedelta] = {
    # They change by our own deeds only, as a rule; where they do not, a deed fails, and they are asked for anew.
    "ledger_exists": timedelta(hours=1),
    "rse": timedelta(hours=1),
    "registered": timedelta(hours=1),
    # From the choice of the sources until the agent has them.
    "sources": timedelta(minutes=1),
}
_CHANGED_BY: Mapping[str, tuple[str, ...]] = {
    "ensure_ledger": ("ledger_exists", "registered"),
    "ensure_rse": ("rse",),
    "register": ("registered",),
    "allow_deletion": ("rse",),
    "delete_rse": ("ledger_exists", "rse", "registered"),
    "expire_ledger": ("ledger_exists", "rse", "registered"),
}
_Answer = tuple[tuple[object, ...], datetime, Any]
"""What was asked, when, and what the answer was."""


def remembering(catalogue: Catalogue, now: Callable[[], datetime]) -> Catalogue:
    """Wrap the catalogue for one buffer: by this way its steady answers are asked for once an hour."""
    return cast("Catalogue", _Remembering(catalogue, now))


class _Remembering:
    def __init__(self, catalogue: Catalogue, now: Callable[[], datetime]) -> None:
        self._catalogue = catalogue
        self._now = now
        self._answers: dict[str, _Answer] = {}
        """By method."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._catalogue, method)
        if method in _LIVES:
            return lambda *args: self._remembered(method, call, args)
        if method in _CHANGED_BY:
            return lambda *args: self._changing(method, call, args)
        return cast("Callable[..., Any]", call)

    def _remembered(self, method: str, call: Callable[..., object], args: tuple[object, ...]) -> object:
        now = self._now()
        known = self._answers.get(method)
        if known is not None and known[0] == args and now < known[1] + _LIVES[method]:
            return known[2]
        # An answer that does not come leaves none behind.
        self._answers.pop(method, None)
        answer = call(*args)
        self._answers[method] = (args, now, answer)
        return answer

    def _changing(self, method: str, call: Callable[..., object], args: tuple[Any, ...]) -> object:
        # Also when it fails: it may have happened all the same.
        before = {stale: self._answers.pop(stale, None) for stale in _CHANGED_BY[method]}
        answer = call(*args)
        if method == "ensure_ledger":
            self._answers["ledger_exists"] = (args[:1], self._now(), True)
        if method == "register" and (known := before["registered"]) is not None and known[0] == args[1:2]:
            self._answers["registered"] = (*known[:2], known[2] | {file.did for file in args[2]})
        return answer
