"""Threads that the agent cannot do without."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

__all__ = ["worker"]

_log = logging.getLogger(__name__)
_DEFECT = 70
"""Exit code, as sysexits.h has it."""


def worker(name: str, run: Callable[[], None]) -> threading.Thread:
    """Make a thread whose death is that of the process.

    An agent of which a part is dead answers as if all were well, for ever. One that ends is started again by
    Kubernetes, goes on with what the disk has, and is missed by the operator if that does not help.
    """

    def guarded() -> None:
        try:
            run()
        except BaseException:
            _log.critical("the thread %s is dead: this process ends, to be started again", name, exc_info=True)
            _end(_DEFECT)
            raise

    return threading.Thread(target=guarded, name=name, daemon=True)


def _end(code: int) -> None:
    # At once: whatever is under way may be broken off at any time, and the rest could wait for the dead.
    os._exit(code)
