"""Answers of the catalogue that are remembered for a short while, for looks that destroy nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from volatile_rse.ports.catalogue import Catalogue

__all__ = ["remembering"]

_LIFE = timedelta(seconds=30)
_REMEMBERED = ("ledger_exists", "rse", "registered")
"""What is asked at every look, and changes by our own deeds only, as a rule."""
_CHANGED_BY: Mapping[str, tuple[str, ...]] = {
    "ensure_ledger": ("ledger_exists",),
    "ensure_rse": ("rse",),
    "register": ("registered",),
    "allow_deletion": ("rse",),
    "delete_rse": _REMEMBERED,
    "expire_ledger": _REMEMBERED,
}


def remembering(catalogue: Catalogue, now: Callable[[], datetime]) -> Catalogue:
    """Wrap the catalogue for one buffer: by this way its few steady answers are asked for twice a minute."""
    return cast("Catalogue", _Remembering(catalogue, now))


class _Remembering:
    def __init__(self, catalogue: Catalogue, now: Callable[[], datetime]) -> None:
        self._catalogue = catalogue
        self._now = now
        self._answers: dict[str, tuple[str, datetime, object]] = {}
        """Method -> its arguments, when it was asked, and what the answer was."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._catalogue, method)
        if method in _REMEMBERED:
            return lambda *args: self._remembered(method, call, args)
        if method in _CHANGED_BY:
            return lambda *args: self._changing(method, call, args)
        return cast("Callable[..., Any]", call)

    def _remembered(self, method: str, call: Callable[..., object], args: tuple[object, ...]) -> object:
        asked, now = repr(args), self._now()
        known = self._answers.get(method)
        if known is not None and known[0] == asked and now < known[1] + _LIFE:
            return known[2]
        # An answer that does not come leaves none behind.
        self._answers.pop(method, None)
        answer = call(*args)
        self._answers[method] = (asked, now, answer)
        return answer

    def _changing(self, method: str, call: Callable[..., object], args: tuple[object, ...]) -> object:
        try:
            return call(*args)
        finally:
            # Also when it failed: it may have happened all the same.
            for stale in _CHANGED_BY[method]:
                self._answers.pop(stale, None)
