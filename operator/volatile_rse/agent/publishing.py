"""Files that a session publishes: renamed into ``/publish/<claim>/``, and sealed while it still runs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from volatile_rse.agent.gate import Gate
from volatile_rse.agent.ledger import Ledger, Row, output_key
from volatile_rse.agent.outbox import Found, below, first_rule, is_excluded, is_written, shown, walk
from volatile_rse.agent.places import Places, sync
from volatile_rse.agent.sealing import Find, Sealing, set_apart
from volatile_rse.agent.troubles import Troubles, explain
from volatile_rse.agent.worker import worker
from volatile_rse.api.agent import Manifest, OutputState
from volatile_rse.api.text import visible

__all__ = ["Publishing"]

_log = logging.getLogger(__name__)
_PERIOD = 1.0
_LONGEST = 1000
"""Bytes of a path that is taken at once; XRootD itself names hardly a longer one."""
_NAME = 200
"""Characters of a path that waits."""
_TOO_LONG = f"its path has more than {_LONGEST} bytes: it is taken when the session ends"
_UNKNOWN = "whether it is still being written cannot be told: it is taken when the session ends"
_IN_THE_WAY = "a published file that is still open to write is in its way: USER must close that one, or rename this one"


class Publishing:
    """Takes what is published, for as long as the gate is open."""

    def __init__(self, places: Places, ledger: Ledger, gate: Gate, sealing: Sealing, troubles: Troubles) -> None:
        self._places = places
        self._ledger = ledger
        self._gate = gate
        self._sealing = sealing
        self._troubles = troubles
        self._manifest: Manifest | None = None
        self._ended = threading.Event()
        self._thread = worker("publishing", self._run)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def take(self, manifest: Manifest) -> None:
        """Work by this manifest from now on."""
        self._manifest = manifest

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD):
            try:
                with self._troubles.told("publishing"):
                    self.look()
            except Exception:  # noqa: BLE001 (the next look, or the inventory at the end, takes what this one did not)
                _log.exception("what is published cannot be taken now")

    def look(self) -> None:
        """Take what is there."""
        manifest = self._manifest
        if manifest is None or manifest.record_id is None or not manifest.continuous:
            return
        with self._sealing.working:
            # Once a fence is wanted, the inventory takes the rest.
            is_open = self._gate.desired().mode == "open"
            for claim in manifest.claims:
                waiting = self._of(claim, manifest, manifest.record_id) if is_open else []
                more = f", and {len(waiting) - 1} others wait" if len(waiting) > 1 else ""
                self._troubles.tell(f"publish/{claim}", f"{waiting[0]}{more}" if waiting else None)

    def _of(self, claim: str, manifest: Manifest, record_id: str) -> list[str]:
        """Take what a claim publishes, and tell what has to wait."""
        apart: list[Row] = []
        waiting: list[str] = []
        for find in self._finds("publish", claim, manifest, waiting):
            if self._is_sealed(find):
                apart.append(set_apart(find))
            elif why := self._withdraw(find):
                waiting.append(f"{_name(find.path)}: {why}")
        known = self._ledger.every(OutputState)
        rows = {row.key: row for row in apart}
        if new := [row for key, row in rows.items() if key not in known]:
            self._ledger.put(new)
        if gone := [key for key in known if key.startswith(f"{claim}//publish/".encode()) and key not in rows]:
            self._ledger.drop(gone)
        ready = []
        for find in self._finds("taken", claim, manifest, waiting):
            written = is_written(find.source)
            if written is None:
                waiting.append(f"{_name(find.path)}: {_UNKNOWN}")
            elif not written:
                ready.append(find)
        self._sealing.seal(ready, record_id)
        return waiting

    def _withdraw(self, find: Find) -> str | None:
        """Take a file out of the session's reach, where nobody gets another handle of it; or say why it has to wait."""
        if len(find.path) > _LONGEST:
            return _TOO_LONG
        taken = below(self._places.area("taken", find.state.claim), find.path)
        try:
            _make_way(taken)
            if taken.is_file():
                # An earlier one of this path, which is still being written.
                return None
            taken.parent.mkdir(parents=True, exist_ok=True)
            find.source.rename(taken)
            taken.chmod(0o600)
            sync(taken.parent)
        except FileNotFoundError:
            # The session has taken it back.
            return None
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return _IN_THE_WAY
        except OSError as error:
            _log.warning("%s of claim %s cannot be taken: %s", find.state.path, find.state.claim, error)
            return explain(error)
        return None

    def _finds(self, area: str, claim: str, manifest: Manifest, waiting: list[str]) -> Iterator[Find]:
        """Give the files to be taken; what cannot be read waits, and keeps none of them back."""
        root = self._places.area(area, claim)

        def failed(path: bytes, error: OSError) -> None:
            waiting.append(f"{_name(path)}: {explain(error)}")

        for found in walk(root, failed):
            rule = first_rule(claim, found.path, manifest.outputs)
            if rule is None or rule.name not in manifest.continuous or not _is_whole(found):
                continue
            state = OutputState(
                version=0, claim=claim, path=shown(found.path), state="found", bytes=found.status.st_size,
                output=rule.name,
            )  # fmt: skip
            yield Find(found.path, below(root, found.path), rule, state, area)

    def _is_sealed(self, find: Find) -> bool:
        known = self._ledger.get(OutputState, output_key(find.state.claim, find.path))
        return known is not None and known.state == "sealed"


def _name(path: bytes) -> str:
    """Write a path so that there is room to say what is wrong with it."""
    return visible(shown(path), _NAME)


def _make_way(taken: Path) -> None:
    """Remove the directories that what was sealed has left where a file is to be."""
    folders = [os.fspath(taken)]
    # Those that are found follow; each comes before what is in it. A session may have made a thousand, one in another.
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    for folder in reversed(folders):
        with suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106 (a path of a thousand parts costs as much each time)


def _is_whole(found: Found) -> bool:
    return found.regular and not found.torn and not is_excluded(found.path)
