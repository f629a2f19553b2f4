"""Users' datasets, to which several sessions may add files at a time."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Output
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import DatasetState, Did, File
from volatile_rse.domain.versions import versions_in
from volatile_rse.ports import deadline
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError

__all__ = ["Dataset", "Datasets", "dataset_of"]

Dataset = tuple[str, Did]
"""Server and name."""
_YOUNG = timedelta(minutes=1)
"""For so long what was just made counts as empty, and a path as taken, while nobody here adds to it."""
_LOCKS = 16


class Datasets:
    """Lets one session add to a dataset at a time, and only upon its content as it is.

    One process of the operator does all writes of its cluster. That two clusters add the same path to one dataset at
    the same moment is not seen.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._making = threading.Lock()
        self._added: Counter[Dataset] = Counter()
        self._own: Counter[tuple[Dataset, str]] = Counter()
        self._made: dict[Dataset, datetime] = {}
        self._taken: dict[tuple[Dataset, str], tuple[datetime, object, Mapping[Did, File]]] = {}
        """Dataset and record -> when and of what it was asked, and which paths were taken."""

    def made(self, dataset: Dataset) -> None:
        """Hear of one that was just made."""
        now = self._now()
        with self._making:
            self._made = {known: since for known, since in self._made.items() if now < since + _YOUNG} | {dataset: now}

    def versions(
        self, catalogue: Catalogue, dataset: Dataset, files: Sequence[File], record_id: str
    ) -> Mapping[Did, File]:
        """Compare files with the content, as ``versions_in`` does; where paths are taken, not oftener than needed."""
        made, now = self._made.get(dataset), self._now()
        if made is not None and now < made + _YOUNG and not self._added[dataset]:
            return {}
        key, asked = (dataset, record_id), (self._added[dataset], frozenset(files))
        since, before, known = self._taken.get(key, (now, None, {}))
        if before == asked and now < since + _YOUNG:
            return known
        found = versions_in(dataset[1], files, catalogue.content(dataset[1]), record_id)
        self._taken.pop(key, None)
        if found:
            self._taken[key] = now, asked, found
        return found

    def turn(self, dataset: Dataset, record_id: str) -> int:
        """Count what others have added: to be asked before the content."""
        return self._added[dataset] - self._own[dataset, record_id]

    def attach(self, catalogue: Catalogue, dataset: Dataset, effect: do.Attach, record_id: str, turn: int) -> None:
        """Add files, if nobody else has added any since this turn.

        Raises
        ------
        RefusedError
            CHANGED_MEANWHILE: somebody has. As ``Catalogue.attach``.
        UnreachableError
            CATALOGUE_UNREACHABLE: Rucio takes too long for another session's. As ``Catalogue.attach``.
        """
        lock, what = self._locks[hash(dataset) % _LOCKS], f"Files of another session are being added to {dataset[1]}"
        with deadline.held(lock, Reason.CATALOGUE_UNREACHABLE, what):
            if self.turn(dataset, record_id) != turn:
                what = f"Another session has added files to {dataset[1]} since it was looked at."
                raise RefusedError(Reason.CHANGED_MEANWHILE, what)
            # Counted before: it may have happened also when no answer comes.
            self._added[dataset] += 1
            self._own[dataset, record_id] += 1
            catalogue.attach(effect.dataset, effect.rse, effect.files)

    def forget(self, record_id: str) -> None:
        """Drop what was counted of a buffer that adds no more."""
        for known in (self._own, self._taken):
            # At once: other threads add theirs meanwhile.
            for key in tuple(known):
                if key[1] == record_id:
                    del known[key]


def dataset_of(catalogue: Catalogue, output: Output) -> DatasetState | None:
    """Look at an output's dataset; whose it is is asked only where that matters."""
    did = Did(output.scope, output.dataset)
    known = catalogue.dataset(did)
    if known is None or output.if_exists != "Fail":
        return known
    return dataclasses.replace(known, maker=catalogue.maker(did))
