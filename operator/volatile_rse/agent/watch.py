"""Whether XRootD still serves: it may take connections and answer none of them until it is started anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pycurl

from volatile_rse.agent.places import Places
from volatile_rse.agent.worker import worker
from volatile_rse.agent.xrootd import INNER
from volatile_rse.api.agent import DAVS_PORT

__all__ = ["Hearing", "Watch", "answers", "count_restart", "restarts"]

_log = logging.getLogger(__name__)
_INTERVAL = 15.0
"""Seconds from one question to the next."""
_TIMEOUT = 10.0
"""Seconds that an answer may take: a server that is merely busy gives one in a fraction of it."""
_MISSES = 4
_MISSES_AT_FIRST = 12
"""Of a server that has answered nothing yet: it may be starting, and what it never could, no restart mends."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What came of the questions to one server."""

    misses: int = 0
    """In a row, the last ones."""
    heard: bool = False
    """It has answered once."""

    def after(self, *, answered: bool) -> Hearing:
        """Add one question."""
        return Hearing(heard=True) if answered else replace(self, misses=self.misses + 1)

    @property
    def is_lost(self) -> bool:
        """Tell whether only a restart helps."""
        return self.misses >= (_MISSES if self.heard else _MISSES_AT_FIRST)


def answers(port: int = DAVS_PORT, timeout: float = _TIMEOUT, host: str = INNER) -> bool:
    """Ask a server of this pod what it can do; a refusal is an answer, and no file is touched.

    XRootD is asked where nobody else reaches it: those who wait for it to take their connections do not delay this one.

    Parameters
    ----------
    timeout
        Seconds until the whole answer is there: one that comes byte by byte is none.
    """
    line = pycurl.Curl()
    line.setopt(pycurl.URL, f"https://{host}:{port}/")
    line.setopt(pycurl.CUSTOMREQUEST, "OPTIONS")
    line.setopt(pycurl.NOSIGNAL, 1)
    line.setopt(pycurl.PROXY, "")
    line.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    line.setopt(pycurl.TIMEOUT_MS, int(timeout * 1000))
    # Is it alive, not: who is it. A certificate that is over is no reason to restart.
    line.setopt(pycurl.SSL_VERIFYPEER, 0)
    line.setopt(pycurl.SSL_VERIFYHOST, 0)
    line.setopt(pycurl.WRITEFUNCTION, len)
    try:
        line.perform()
    except pycurl.error:
        return False
    finally:
        line.close()
    return True


class Watch:
    """Asks one server again and again, in a thread of its own, since an answer may take long.

    Parameters
    ----------
    asks
        Tells whether the server answers.
    """

    def __init__(self, asks: Callable[[], bool] = answers, interval: float = _INTERVAL) -> None:
        self._asks = asks
        self._interval = interval
        self._hearing = Hearing()
        self._ended = threading.Event()
        self._thread = worker("watch", self._listen)

    def start(self) -> None:
        """Begin to ask, once the server listens."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()

    @property
    def is_lost(self) -> bool:
        """Tell whether the server has to be ended."""
        return self._hearing.is_lost

    def _listen(self) -> None:
        while not self._ended.is_set():
            asked = time.monotonic()
            self._hearing = self._hearing.after(answered=self._asks())
            if self._hearing.misses:
                _log.warning("XRootD did not answer, %d times in a row", self._hearing.misses)
            self._ended.wait(max(asked + self._interval - time.monotonic(), 0))


def _counter(places: Places) -> Path:
    return places.control / "xrootd.restarts"


def count_restart(places: Places) -> None:
    """Remember on the volume that a server was ended because it answered nobody."""
    fresh = _counter(places).with_suffix(".new")
    try:
        fresh.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(str(restarts(places) + 1))
        fresh.replace(_counter(places))
    except OSError as error:
        # A number must not keep anything from being started again, and the volume may be full.
        _log.warning("a restart is not counted: %s", error)


def restarts(places: Places) -> int:
    """Tell how often that was; what cannot be read counts as never, since nothing depends on it."""
    try:
        return int(_counter(places).read_text())
    except (OSError, ValueError):
        return 0
