"""The agent's parts, put together: what the service serves."""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from volatile_rse.agent import abilities, ballast, leases, listing
from volatile_rse.agent.copying import Copying
from volatile_rse.agent.gate import Gate, GateError
from volatile_rse.agent.inventory import Inventory, with_live
from volatile_rse.agent.ledger import Ledger
from volatile_rse.agent.places import Places
from volatile_rse.agent.publishing import Publishing
from volatile_rse.agent.sealing import Sealing
from volatile_rse.agent.staging import Staging
from volatile_rse.agent.status import StatusFile
from volatile_rse.agent.transfer import Access
from volatile_rse.agent.troubles import Troubles
from volatile_rse.agent.watch import restarts
from volatile_rse.agent.worker import worker
from volatile_rse.api.agent import Failure, GateState, Manifest, Report, SessionWords, Space

__all__ = ["Buffer"]

_log = logging.getLogger(__name__)
_FAILURES = 60
"""That a report names."""
_PERIOD = 10.0
"""Seconds from one look at the room that is kept to the next."""
_KNOWS = ["outputs", "continuous", "sourceless", "listing", "md5", "plainRedirects", "barred", "leases", "status"]


class Buffer:
    """One buffer's volume and the work on it.

    Parameters
    ----------
    places
        Where it is.
    first
        Seconds before a failed transfer is repeated for the first time.
    """

    def __init__(self, places: Places, *, first: float = 1.0) -> None:
        places.make()
        self.places = places
        self._lacks = abilities.lacking(places)
        self.ledger = _ledger(places)
        self.gate = Gate(places)
        self.troubles = Troubles(self.ledger.bump)
        self.staging = Staging(places, self.ledger, self.troubles, first=first)
        self.sealing = Sealing(places, self.ledger, self.gate)
        self.publishing = Publishing(places, self.ledger, self.gate, self.sealing, self.troubles)
        self.inventory = Inventory(places, self.ledger, self.troubles)
        self.copying = Copying(places, self.ledger, self.troubles, first=first)
        self.leases = leases.Leases(places)
        self.status = StatusFile(places, self.report, self.changed, self.troubles)
        self._taking = threading.Lock()
        self._telling = threading.Lock()
        self._volume = places.volume()
        self._manifest: Manifest | None = None
        self._told: tuple[GateState, GateState] | None = None
        self._trust = tempfile.TemporaryDirectory(prefix="trust-")
        self._room = threading.Lock()
        self._ended = threading.Event()
        self._keeper = worker("room", self._keep_room)

    def start(self) -> None:
        """Begin to work."""
        self.keep_room()
        self._keeper.start()
        self.staging.start()
        self.copying.start()
        self.sealing.start()
        self.inventory.start()
        self.publishing.start()
        self.status.start()

    def stop(self) -> None:
        """End; all that was done is kept."""
        self._ended.set()
        self.status.stop()
        self.inventory.stop()
        self.publishing.stop()
        self.staging.stop()
        self.copying.stop()
        self._trust.cleanup()

    def take(self, manifest: Manifest) -> None:
        """Work by this manifest from now on."""
        with self._taking:
            for claim in manifest.claims:
                for area in ("outbox", "publish"):
                    (self.places.namespace / area / claim).mkdir(parents=True, exist_ok=True)
                leases.make(self.places, claim)
            listing.write(self.places, manifest)
            access = Access.of(manifest, Path(self._trust.name))
            self.staging.take(manifest.inputs, access)
            self.copying.take(access)
            self.inventory.take(manifest.claims, manifest.outputs)
            self.publishing.take(manifest)
            self._manifest = manifest
            self.ledger.bump()

    def tell(self, words: SessionWords) -> None:
        """Say this in the session's status file from now on."""
        self.status.take(words)
        self.ledger.bump()

    def fence(self, generation: int) -> GateState:
        """Close the outboxes for good, also on a full volume."""
        with self._room:
            try:
                return self.gate.fence(generation)
            except OSError as error:
                if not ballast.is_full(error):
                    raise
                ballast.drop(self.places)
                return self.gate.fence(generation)

    def keep_room(self) -> None:
        """Keep room for the fence and what follows it, as long as a session can fill the volume."""
        with self._room:
            try:
                with self.troubles.told("room for the end of the session"):
                    if self.gate.desired().mode == "open":
                        self.gate.prepare()
                        ballast.load(self.places)
            except (OSError, GateError) as error:
                _log.warning("no room is kept for the end of the session: %s", error)

    def _keep_room(self) -> None:
        while not self._ended.wait(_PERIOD):
            self.keep_room()

    def changed(self, version: int) -> bool:
        """Tell whether there is something newer to report."""
        return self.ledger.version != version or self._gates() != self._told

    def report(self) -> Report:
        """Tell all, as it is now."""
        gates, manifest = self._gates(), self._manifest
        with self._telling:
            if gates != self._told:
                self._told = gates
                self.ledger.bump()
        # Before the ledger: a file that gets its name meanwhile is told twice, rather than not at all.
        partial_files, partial_bytes = self.staging.partial()
        # Read first: what changes meanwhile is told again, under a later version.
        version = self.ledger.version
        seal = self.sealing.state()
        taken = self.ledger.output_totals()
        seen = self.inventory.seen if seal is None else None
        return Report(
            version=version,
            clock=int(time.time()),
            volume=self._volume,
            manifest=manifest.digest if manifest else None,
            sites=sorted(manifest.credentials) if manifest else [],
            desired=gates[0],
            actual=gates[1],
            inputs=[
                total.model_copy(update={"idle": self.staging.progress.idle(total.name)})
                for total in self.ledger.input_totals()
            ],
            seal=seal,
            outputs=taken if seen is None else with_live(taken, seen),
            copies=self.ledger.copy_totals(),
            failures=self._failures(),
            space=self._space(),
            staging_rate=self.staging.progress.rate(),
            unmatched=self.ledger.unmatched() if seen is None else list(seen.unmatched),
            knows=_KNOWS,
            xrootd_restarts=restarts(self.places),
            partial_files=partial_files,
            partial_bytes=partial_bytes,
            lacks=self._lacks,
            leases=None if manifest is None else self.leases.look(manifest.claims),
            told=self.status.digest,
        )

    def _failures(self) -> list[Failure]:
        """Give the files that failed, and what keeps the agent from its work."""
        troubles = self.troubles.failures()
        return [*self.ledger.failures()[: _FAILURES - len(troubles)], *troubles]

    def _gates(self) -> tuple[GateState, GateState]:
        return self.gate.desired(), self.gate.actual()

    def _space(self) -> Space:
        volume = os.statvfs(self.places.data)
        return Space(
            bytes=volume.f_blocks * volume.f_frsize, bytes_free=volume.f_bavail * volume.f_frsize,
            inodes=volume.f_files, inodes_free=volume.f_favail,
        )  # fmt: skip


def _ledger(places: Places) -> Ledger:
    """Open the ledger, also on a volume that the session has filled."""
    path = places.control / "ledger.sqlite"
    try:
        return Ledger(path)
    except sqlite3.OperationalError as error:
        if not ballast.is_full(error):
            raise
        _log.warning("the ledger cannot be opened (%s): the room that is kept for it is given back", error)
        ballast.drop(places)
        return Ledger(path)
