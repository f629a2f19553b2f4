"""Breadth first over all sequences of what may happen, from the start and from each stage of the main way."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from tests.model.two_outputs import ACTIONS, Restless, Snapshot, act, begin, copied, digest, end, snapshot

__all__ = ["Exploration", "play", "roots"]

Way = tuple[str, ...]
_LONGEST = 60
"""Words of the main way: more than it needs."""
_WHOLE = ("step_all",)
_PIECEMEAL = ("one_truth", "others_only")
"""The main way in visits of one operator, and of operators that die with each truth they write."""


def play(way: Sequence[str], *, to_the_end: bool = True) -> Restless:
    """Walk a way from the request, as a failure names it; then all must end well."""
    small = begin()
    act(small, *way)
    if to_the_end:
        end(small)
    return small


@cache
def roots() -> tuple[tuple[Way, Snapshot], ...]:
    """Give the ways to the stages of the main way that its record tells from each other, and where each leads."""
    found: dict[object, tuple[Way, Snapshot]] = {}
    for pace in (_WHOLE, _PIECEMEAL):
        for way, small in _main_way(pace):
            if (where := _where(small)) not in found:
                found[where] = way, snapshot(small)
    return tuple(found.values())


def _main_way(pace: Way) -> Iterator[tuple[Way, Restless]]:
    """Go from the request to the closed record: a session writes, publishes, and ends when its pod does."""
    small = begin()
    way: Way = ()
    for _ in range(_LONGEST):
        yield way, small
        if small.is_closed():
            return
        further = (*_what_people_do(small), *pace)
        way += further
        with _told(way):
            act(small, *further)
    message = f"the main way does not end: {way}"
    raise AssertionError(message)


def _what_people_do(small: Restless) -> Way:
    session = small.truth.get("session") or {}
    if "pod_starts" not in _done(small) and small.has_session():
        return ("pod_starts",)
    if session.get("startedAt") and not small.written:
        return ("write_file", "publish_file")
    if small.written and not session.get("lastSeenAt") and small.is_kept("live/0"):
        return ("pod_ends",) if "pod_ends" not in _done(small) else ()
    return ("a_minute",) if session.get("lastSeenAt") and not session.get("endedAt") else ()


def _done(small: Restless) -> set[str]:
    pod = next(iter(small.cluster.list("Pod", "alice")), None)
    if pod is None:
        return set()
    return {"pod_starts"} | ({"pod_ends"} if (pod.get("status") or {}).get("phase") == "Succeeded" else set())


def _where(small: Restless) -> tuple[object, ...]:
    """Name the truths of the record, and what people have done."""
    truth = small.truth
    session, steps = truth.get("session") or {}, truth.get("steps") or {}
    truths = tuple(name for name in ("inputs", "safeAt", "freedAt", "closedAt") if truth.get(name))
    return truths, tuple(sorted(session)), tuple(sorted(steps)), small.written, small.has_session()


@dataclass
class Exploration:
    """What was looked at so far."""

    transitions: int = 0
    depth: int = 0
    """Every sequence of so many words was tried, from every root."""
    known: set[bytes] = field(default_factory=set)
    """States that were looked at; from each of them all was brought to its end."""
    ended: set[bytes] = field(default_factory=set)
    """States on the ways to these ends."""

    def __str__(self) -> str:
        return (
            f"{len(self.known)} states, each brought to its end, by {self.transitions} transitions; "
            f"all sequences of {self.depth} from each root"
        )

    def run(self, depth: int, seconds: float = float("inf")) -> None:
        """Go deeper, level by level, up to a depth or for some time; the first level is always finished."""
        until = time.monotonic() + seconds
        level = [found for way, frozen in roots() if (found := self._look(way, copied(frozen)))]
        while level and self.depth < depth:
            # The time may be over in the middle: then the states looked at shall lie around all roots.
            random.Random(self.depth).shuffle(level)  # noqa: S311 (always the same order)
            following: list[tuple[Way, Snapshot]] = []
            for way, frozen in level:
                if self.depth and time.monotonic() > until:
                    return
                following += self._neighbours(way, frozen)
            level = following
            self.depth += 1

    def _neighbours(self, way: Way, frozen: Snapshot) -> Iterator[tuple[Way, Snapshot]]:
        """Let each thing happen that can."""
        for word in ACTIONS:
            small, longer = copied(frozen), (*way, word)
            with _told(longer):
                if not act(small, word):
                    continue
            self.transitions += 1
            if found := self._look(longer, small):
                yield found

    def _look(self, way: Way, small: Restless) -> tuple[Way, Snapshot] | None:
        """Keep a state that is new, and bring it to its end."""
        state = digest(small)
        if state in self.known:
            return None
        self.known.add(state)
        frozen = snapshot(small)
        with _told(way):
            end(small, self.ended)
        return way, frozen


class _told:  # noqa: N801 (read as a word)
    """Say which way it was that ends badly, so that it can be walked again."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            error.add_note(f"play({list(self._way)!r})")
