"""What lies in the outboxes while sessions write: looked at now and then, and never read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from volatile_rse.agent.outbox import below, first_rule, is_excluded, is_written, shown, walk
from volatile_rse.agent.places import Places
from volatile_rse.agent.troubles import Troubles
from volatile_rse.agent.worker import worker
from volatile_rse.api.agent import OutputRule, OutputTotals

__all__ = ["Inventory", "Seen", "with_live"]

_log = logging.getLogger(__name__)
_PERIOD = 15.0
_SHARE = 20
"""A look at a great tree is followed by this many times its own length of rest."""
_LONGEST = 600.0
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look gave."""

    totals: tuple[OutputTotals, ...] = ()
    unmatched: tuple[str, ...] = ()


class Inventory:
    """Looks at the outboxes in the background, as long as there are rules to tell them by.

    Parameters
    ----------
    changed
        Called when there is something new to report.
    """

    def __init__(
        self, places: Places, changed: Callable[[], None], troubles: Troubles, *, period: float = _PERIOD
    ) -> None:
        self._places = places
        self._changed = changed
        self._troubles = troubles
        self._period = period
        self._wake = threading.Condition()
        self._claims: Sequence[str] = ()
        self._rules: Sequence[OutputRule] = ()
        self._ended = False
        self._seen = Seen()
        self._thread = worker("inventory", self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, claims: Sequence[str], rules: Sequence[OutputRule]) -> None:
        """Tell the files of these outboxes by these rules; without rules there is nothing to look for."""
        with self._wake:
            self._claims, self._rules = claims, rules
            if not rules:
                self._seen = Seen()
            self._wake.notify_all()

    @property
    def seen(self) -> Seen:
        """Give the last look."""
        return self._seen

    def look(self) -> None:
        """Look once."""
        rules = self._rules
        seen = self._look(self._claims, rules)
        with self._wake:
            if rules is not self._rules or seen == self._seen:
                return
            self._seen = seen
        self._changed()

    def _run(self) -> None:
        pause = self._period
        with self._wake:
            while not self._ended:
                if self._rules:
                    self._wake.release()
                    begun = time.monotonic()
                    try:
                        with self._troubles.told("inventory"):
                            self.look()
                    except Exception:  # noqa: BLE001 (numbers must not cost the agent its other work)
                        _log.exception("the outboxes cannot be looked at")
                    finally:
                        pause = min(max(self._period, _SHARE * (time.monotonic() - begun)), _LONGEST)
                        self._wake.acquire()
                if not self._ended:
                    self._wake.wait(pause if self._rules else None)

    def _look(self, claims: Iterable[str], rules: Sequence[OutputRule]) -> Seen:
        sums: dict[tuple[str, str | None], list[int]] = {}
        unmatched: list[str] = []
        for claim in claims:
            root = self._places.area("outbox", claim)
            for found in walk(root):
                if not found.regular or is_excluded(found.path):
                    continue
                rule = first_rule(claim, found.path, rules)
                if rule is None and len(unmatched) < _EXAMPLES:
                    unmatched.append(shown(found.path))
                total = sums.setdefault((claim, rule.name if rule else None), [0, 0, 0])
                total[0] += 1
                total[1] += found.status.st_size
                total[2] += found.torn or is_written(below(root, found.path)) is True
        totals = (
            OutputTotals(claim=claim, name=name, files=files, bytes=size, open=torn)
            for (claim, name), (files, size, torn) in sums.items()
        )
        return Seen(tuple(totals), tuple(unmatched))


def with_live(ledger: Iterable[OutputTotals], seen: Seen) -> list[OutputTotals]:
    """Add what was seen in the outboxes to what the ledger has taken already."""
    sums = {(total.claim, total.name): total for total in ledger}
    for total in seen.totals:
        taken = sums.get((total.claim, total.name))
        sums[total.claim, total.name] = (
            total
            if taken is None
            else taken.model_copy(
                update={
                    "files": taken.files + total.files,
                    "bytes": taken.bytes + total.bytes,
                    "open": total.open,
                }
            )
        )
    return list(sums.values())
