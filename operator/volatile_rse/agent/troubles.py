"""What does not work in the agent itself: told in its reports, until it works again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from volatile_rse.agent.ballast import is_full
from volatile_rse.api.agent import Failure
from volatile_rse.api.text import WORDS, visible

__all__ = ["Troubles", "explain"]

_SHOWN = 20


def explain(error: Exception) -> str:
    """Say what went wrong, and who must act."""
    said = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if is_full(error):
        return f"{said}: USER must delete files that are not needed, or the next buffer needs a greater capacity"
    return f"{said}: ADMIN must read the log of the agent's container, and look at its volume"


class Troubles:
    """The parts of the agent that have a trouble now, and which.

    Parameters
    ----------
    changed
        Called when there is something new to report.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._errors: dict[str, str] = {}

    def tell(self, what: str, error: str | None) -> None:
        """Say what a part of the agent has met; None: it is over."""
        said = None if error is None else visible(error, WORDS)
        with self._lock:
            if self._errors.get(what) == said:
                return
            if said is None:
                del self._errors[what]
            else:
                self._errors[what] = said
        self._changed()

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Say what comes out of a piece of work, and that it is over once it went well."""
        try:
            yield
        except Exception as error:
            self.tell(what, explain(error))
            raise
        self.tell(what, None)

    def failures(self) -> list[Failure]:
        """Give the first ones, in the order in which they came."""
        with self._lock:
            first = list(self._errors.items())[:_SHOWN]
        return [Failure(what=f"agent: {what}", error=error) for what, error in first]
