"""Results that are written together: what costs the same for one and for a hundred is paid once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from volatile_rse.agent.troubles import Troubles
from volatile_rse.agent.worker import worker

__all__ = ["Batch"]

_log = logging.getLogger(__name__)
_PAUSE = 0.25
"""Seconds from one writing to the next."""
_AFTER_FAILURE = 2.0
_MANY = 200
_Item = TypeVar("_Item")


class Batch(Generic[_Item]):
    """A thread that writes what was added: the first at once, what follows it together.

    Parameters
    ----------
    name
        Of the thread.
    write
        Writes items; if it fails, they are given again.
    troubles
        Hears of it, for as long as it fails.
    """

    def __init__(self, name: str, write: Callable[[list[_Item]], None], troubles: Troubles) -> None:
        self._name = name
        self._write = write
        self._troubles = troubles
        self._change = threading.Condition()
        self._items: list[_Item] = []
        self._urgent = False
        self._ended = False
        self._thread = worker(name, self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is there, and end."""
        with self._change:
            self._ended = True
            self._change.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def add(self, item: _Item, *, last: bool = False) -> None:
        """Have an item written.

        Parameters
        ----------
        last
            Nothing follows soon: what is there need not wait for it.
        """
        with self._change:
            self._items.append(item)
            self._urgent |= last
            if last or len(self._items) in {1, _MANY}:
                self._change.notify_all()

    def _run(self) -> None:
        while items := self._next():
            pause = _PAUSE
            try:
                with self._troubles.told(self._name):
                    self._write(items)
            except Exception:  # noqa: BLE001 (whatever it was: the results must not be lost)
                # The volume may be full: what was done stands on the disk, and is not done anew.
                _log.exception("%d results are not written", len(items))
                pause = _AFTER_FAILURE
                with self._change:
                    if self._ended:
                        return
                    self._items[:0] = items
                    self._change.wait_for(lambda: self._ended, pause)
                continue
            with self._change:
                self._change.wait_for(lambda: self._ended or self._urgent or len(self._items) >= _MANY, pause)

    def _next(self) -> list[_Item]:
        with self._change:
            self._change.wait_for(lambda: self._ended or self._items)
            items, self._items = self._items, []
            self._urgent = False
            return items
