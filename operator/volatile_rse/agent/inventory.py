"""What sessions have written and nobody has sealed yet: looked at now and then, and never read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from volatile_rse.agent.ledger import Ledger, output_key, output_row
from volatile_rse.agent.links import REMOVED, is_link, remove
from volatile_rse.agent.outbox import Found, below, first_rule, is_excluded, is_written, shown, walk
from volatile_rse.agent.places import AREAS, Places
from volatile_rse.agent.troubles import Troubles, explain
from volatile_rse.agent.worker import worker
from volatile_rse.api.agent import OutputRule, OutputState, OutputTotals
from volatile_rse.api.schema import LARGEST
from volatile_rse.api.text import visible

__all__ = ["Inventory", "Seen", "with_live"]

_log = logging.getLogger(__name__)
_PERIOD = 15.0
_SHARE = 20
"""A look at a great tree is followed by this many times its own length of rest."""
_LONGEST = 600.0
_EXAMPLES = 20
_NAME = 200
"""Characters of a path that cannot be read."""
_UNREAD = "what cannot be read"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look gave."""

    totals: tuple[OutputTotals, ...] = ()
    unmatched: tuple[str, ...] = ()


class Inventory:
    """Looks at the areas of sessions in the background, as long as there are rules to tell their files by.

    Parameters
    ----------
    ledger
        Counts that there is something new to report, and tells what it has counted itself.
    """

    def __init__(self, places: Places, ledger: Ledger, troubles: Troubles, *, period: float = _PERIOD) -> None:
        self._places = places
        self._ledger = ledger
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
        """Tell the files of these claims by these rules; without rules there is nothing to look for."""
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
        unread: list[str] = []
        seen = self._look(self._claims, rules, unread)
        more = f", and {len(unread) - 1} others" if len(unread) > 1 else ""
        self._troubles.tell(_UNREAD, f"{unread[0]}{more}" if unread else None)
        with self._wake:
            if rules is not self._rules or seen == self._seen:
                return
            self._seen = seen
        self._ledger.bump()

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
                        _log.exception("what sessions have written cannot be looked at")
                    finally:
                        pause = min(max(self._period, _SHARE * (time.monotonic() - begun)), _LONGEST)
                        self._wake.acquire()
                if not self._ended:
                    self._wake.wait(pause if self._rules else None)

    def _look(self, claims: Iterable[str], rules: Sequence[OutputRule], unread: list[str]) -> Seen:
        sums: dict[tuple[str, str | None], list[int]] = {}
        unmatched: list[str] = []
        for claim in claims:
            for area, found in self._files(claim, unread):
                rule = first_rule(claim, found.path, rules)
                if rule is None and len(unmatched) < _EXAMPLES:
                    unmatched.append(shown(found.path) if area == "outbox" else f"publish/{shown(found.path)}")
                total = sums.setdefault((claim, rule.name if rule else None), [0, 0, 0])
                total[0] += 1
                total[1] += found.status.st_size
                total[2] += found.torn or is_written(below(self._places.area(area, claim), found.path)) is True
        totals = (
            OutputTotals(claim=claim, name=name, files=files, bytes=min(size, LARGEST), open=torn)
            for (claim, name), (files, size, torn) in sums.items()
        )
        return Seen(tuple(totals), tuple(unmatched))

    def _files(self, claim: str, unread: list[str]) -> Iterator[tuple[str, Found]]:
        """Give what a claim has left, but not what programs leave lying about, nor what is in the ledger already."""

        def failed(path: bytes, error: OSError) -> None:
            unread.append(f"{visible(shown(path), _NAME)}: {explain(error)}")

        # As files go: one that is moved meanwhile is told twice, rather than not at all.
        for area in reversed(AREAS):
            for found in walk(self._places.area(area, claim), failed):
                if is_link(found):
                    self._remove(claim, area, found)
                if not found.regular or is_excluded(found.path):
                    continue
                # What was published before under its path is told as failed.
                if area != "publish" or not self._ledger.get(OutputState, output_key(claim, found.path, area)):
                    yield area, found

    def _remove(self, claim: str, area: str, found: Found) -> None:
        """Remove a link while XRootD serves, and tell it before, since it is not there any more at the end."""
        rule = first_rule(claim, found.path, self._rules)
        state = OutputState(
            version=0, claim=claim, path=shown(found.path), state="skipped", bytes=0,
            output=rule.name if rule else None, error=REMOVED,
        )  # fmt: skip
        row = output_row(state, found.path)
        if self._ledger.get(OutputState, row.key) is None:
            self._ledger.put([row])
        remove(below(self._places.area(area, claim), found.path))


def with_live(ledger: Iterable[OutputTotals], seen: Seen) -> list[OutputTotals]:
    """Add what was seen of the sessions' files to what the ledger has taken already."""
    sums = {(total.claim, total.name): total for total in ledger}
    for total in seen.totals:
        taken = sums.get((total.claim, total.name))
        sums[total.claim, total.name] = (
            total
            if taken is None
            else taken.model_copy(
                update={
                    "files": taken.files + total.files,
                    "bytes": min(taken.bytes + total.bytes, LARGEST),
                    "open": total.open,
                }
            )
        )
    return list(sums.values())
