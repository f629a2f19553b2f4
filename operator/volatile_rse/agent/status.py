"""The status file of a session: how it stands, for who has its token and no right in Kubernetes."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from volatile_rse.agent.ballast import is_full
from volatile_rse.agent.places import Places
from volatile_rse.agent.troubles import Troubles
from volatile_rse.agent.worker import worker
from volatile_rse.api.agent import OutputTotals, Report, SessionWords, ToldOutput, status_path

__all__ = ["StatusFile", "status_text"]

_log = logging.getLogger(__name__)
_PERIOD = 1.0
"""Seconds between two looks for something new."""
_SHARE = 20
"""A text that took long to make is followed by this many times as long without another one."""
_LONGEST = 60.0


class StatusFile:
    """Writes it anew when something has changed, since the operator has said something of the session.

    Parameters
    ----------
    report
        Gives the state of the buffer.
    changed
        Tells whether that is newer than a version.
    """

    def __init__(
        self, places: Places, report: Callable[[], Report], changed: Callable[[int], bool], troubles: Troubles
    ) -> None:
        self._places = places
        self._report = report
        self._changed = changed
        self._troubles = troubles
        self._words: SessionWords | None = None
        self._written: tuple[str, int] | None = None
        self._wake = threading.Condition()
        self._ended = False
        self._thread = worker("status", self._run)

    @property
    def digest(self) -> str | None:
        """What the operator has said last, by its digest."""
        words = self._words
        return None if words is None else words.digest

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the file stays as it is."""
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, words: SessionWords) -> None:
        """Say this from now on."""
        with self._wake:
            self._words = words
            self._wake.notify_all()

    def look(self) -> None:
        """Write the file, if there is something new to say."""
        words, written = self._words, self._written
        if words is None or (written is not None and written[0] == words.digest and not self._changed(written[1])):
            return
        report = self._report()
        self._put(words.claim, status_text(words, report, datetime.now(UTC)))
        self._written = words.digest, report.version

    def _run(self) -> None:
        pause = _PERIOD
        with self._wake:
            while not self._ended:
                self._wake.release()
                begun = time.monotonic()
                try:
                    with self._troubles.told("status file"):
                        self.look()
                except Exception:  # noqa: BLE001 (told in the report, and tried again)
                    _log.exception("the status file of the session is not written")
                finally:
                    pause = min(max(_PERIOD, _SHARE * (time.monotonic() - begun)), _LONGEST)
                    self._wake.acquire()
                if not self._ended:
                    self._wake.wait(pause)

    def _put(self, claim: str, text: str) -> None:
        path = self._places.on_disk(status_path(claim))
        fresh = self._places.control / "status"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text)
            fresh.chmod(0o444)
            fresh.replace(path)
        except OSError as error:
            if not is_full(error) or not path.exists():
                raise
            # What the session can do about a full volume has to be told all the same: in the room of the file itself.
            path.chmod(0o644)
            with path.open("r+b") as stream:
                stream.write(text.encode())
                stream.truncate()
            path.chmod(0o444)


def status_text(words: SessionWords, report: Report, now: datetime) -> str:
    """Write what is known, as JSON."""
    said: dict[str, Any] = {
        "updated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "rse": words.rse,
        "usable": words.usable,
        "expires": words.expires,
        "endedAt": words.ended_at,
        "inputs": [
            {
                "name": total.name,
                "files": total.files,
                "staged": total.staged,
                "failed": total.failed,
                "bytes": total.bytes,
                "stagedBytes": total.staged_bytes,
            }
            for total in report.inputs
            if total.name in words.inputs
        ],
        "outputs": [_output(told, report.outputs) for told in words.outputs],
        "unmatched": _unmatched(report),
        "stagingRate": report.staging_rate,
        "bytesFree": report.space.bytes_free,
        "warnings": [warned.dump() for warned in words.warnings],
    }
    return json.dumps({key: value for key, value in said.items() if value is not None}, indent=1) + os.linesep


def _output(told: ToldOutput, totals: Iterable[OutputTotals]) -> dict[str, Any]:
    found = next((total for total in totals if total.name == told.name), None)
    counts = {} if found is None else {key: getattr(found, key) for key in ("files", "open", "bytes", "sealed")}
    return {
        "name": told.name,
        "files": 0,
        "open": 0,
        "bytes": 0,
        "sealed": 0,
        **counts,
        "registered": told.registered,
        "safe": told.safe,
    }


def _unmatched(report: Report) -> dict[str, Any]:
    totals = [total for total in report.outputs if total.name is None]
    return {
        "files": sum(total.files for total in totals),
        "bytes": sum(total.bytes for total in totals),
        "paths": report.unmatched,
    }
