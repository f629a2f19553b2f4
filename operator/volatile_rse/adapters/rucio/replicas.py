"""Replicas in Rucio: which there are, where they can be read, and how those of a buffer are hidden."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from volatile_rse.adapters.rucio.answers import archive_of, checksum_of, letter_of, source_pfns
from volatile_rse.adapters.rucio.rses import RucioRses
from volatile_rse.adapters.rucio.server import RucioServer, parts
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Barred, Did, File, Standing
from volatile_rse.ports.errors import RefusedError, UnreachableError

__all__ = ["RucioReplicas"]

_LOCKED: Mapping[str, Reason | None] = {
    "ReplicaIsLocked": Reason.FOREIGN_RULE,
    "ReplicaNotFound": None,
    "RSENotFound": None,
}


class RucioReplicas:
    """The replicas of one server."""

    def __init__(self, server: RucioServer, rses: RucioRses) -> None:
        self._server = server
        self._rses = rses
        self._locked: set[str] = set()
        """RSEs of which a replica could not be hidden, because a rule locks it."""

    def sources(
        self, files: Collection[File], rse_expression: str, near: str | None = None, trusted: Collection[str] = ()
    ) -> Mapping[Did, tuple[str, ...]]:
        """Give the davs PFNs of AVAILABLE replicas on permanent RSEs."""
        allowed, ranks = self._rses.permanent(rse_expression, Reason.NO_REPLICA), dict[str, float | None]()
        found: dict[Did, tuple[str, ...]] = {}
        for did, entry in self._readable([file.did for file in files]):
            # Of hundreds of RSEs, those that have some of the files are asked about.
            for rse in {info["rse"] for info in entry["pfns"].values()} - ranks.keys():
                ranks[rse] = self._rank(rse, near, trusted) if rse in allowed else None
            if pfns := source_pfns(entry, ranks):
                found[did] = pfns
        return found

    def barred(self, files: Collection[Did], rse_expression: str) -> Mapping[Did, Barred]:
        """Say which files are on tape, or inside an archive."""
        allowed = self._rses.permanent(rse_expression, Reason.NO_REPLICA)
        found: dict[Did, Barred] = {}
        for did, entry in self._readable(files):
            there = sorted(allowed & {rse for rse, state in entry["states"].items() if letter_of(state) == "A"})
            if (archive := archive_of(entry, allowed)) is not None:
                found[did] = Barred(Reason.IN_ARCHIVE, archive)
            elif tapes := [rse for rse in there if self._rses.is_tape(rse)]:
                found[did] = Barred(Reason.ON_TAPE, tapes[0])
        return found

    def _readable(self, files: Collection[Did]) -> Iterator[tuple[Did, dict[str, Any]]]:
        """List what may be read by davs from outside."""
        return self._listed(files, schemes=["davs"], domain="wan", ignore_availability=False)

    def _rank(self, rse: str, near: str | None, trusted: Collection[str]) -> float | None:
        """Tell how far an RSE is; None: it is no source."""
        is_known = rse in trusted or self._rses.is_deterministic(rse)
        if not is_known or self._rses.is_volatile(rse) or self._rses.is_tape(rse):
            return None
        return self._rses.distance(rse, near)

    def letters(self, rse: str, ledger: Did) -> Mapping[Did, str]:
        """Give the states of the ledger's replicas on the buffer."""
        found = self._listed([ledger], all_states=True)
        return {did: letter_of(entry["states"][rse]) for did, entry in found if rse in entry.get("states", {})}

    def unsafe(self, files: Collection[File], rses: Sequence[str]) -> tuple[Did, ...]:
        """Give the files that are not at their destination."""
        wanted = {file.did: file.adler32 for file in files}
        safe = {
            did
            for did, entry in self._listed(list(wanted))
            if set(rses) <= set(entry.get("rses", {})) and checksum_of(entry) == wanted.get(did)
        }
        return tuple(sorted(set(wanted) - safe))

    def standing(self, rse: str, ledger: Did) -> Standing:
        """Give replicas, and which have no AVAILABLE one on a permanent RSE."""
        here: dict[Did, str] = {}
        last = []
        for did, entry in self._listed([ledger], all_states=True):
            states = entry.get("states", {})
            if rse not in states:
                continue
            here[did] = letter_of(states[rse])
            there = [name for name, state in states.items() if name != rse and letter_of(state) == "A"]
            if all(self._rses.is_volatile(name) for name in there):
                last.append(did)
        return Standing(here, tuple(sorted(last)))

    def hide(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas, unless a rule locks one: Rucio would hide it all the same."""
        for part in parts(files):
            self._refuse_locked(rse, part)
            self._set_states(rse, part, "B")

    def suspend(self, rse: str, files: Collection[Did]) -> None:
        """Hide replicas whose bytes are lost; unlike ``hide``, without a tombstone."""
        for part in parts(files):
            self._set_states(rse, part, "T")

    def resume(self, rse: str, files: Collection[Did]) -> None:
        """Show replicas whose bytes are back."""
        for part in parts(files):
            self._set_states(rse, part, "A")

    def met_lock(self, rse: str) -> bool:
        """Tell whether a replica of an RSE could not be hidden, because a rule locks it."""
        return rse in self._locked

    def forget_locks(self, rse: str) -> None:
        """Drop what was remembered: no rule locks any, or the RSE is gone."""
        self._locked.discard(rse)

    def _refuse_locked(self, rse: str, files: Sequence[Did]) -> None:
        """Find out whether rules lock any: Rucio lists no rule by RSE, but refuses a tombstone under a lock."""
        names = [{"rse": rse, "scope": did.scope, "name": did.name} for did in files]
        try:
            if self._server.call(rse, "set_tombstone", names, tolerate=_LOCKED) is not None:
                return
        except RefusedError as error:
            if error.reason is Reason.FOREIGN_RULE:
                self._locked.add(rse)
            raise
        # One that the reaper took ends the whole call: ask again for what is left.
        left = self._left(rse, files)
        if left:
            self._refuse_locked(rse, left)

    def _set_states(self, rse: str, files: Sequence[Did], letter: str) -> None:
        states = [{"scope": did.scope, "name": did.name, "state": letter} for did in files]
        absent = {"ReplicaNotFound": None, "RSENotFound": None}
        if self._server.call(rse, "update_replicas_states", rse, states, tolerate=absent) is not None:
            return
        # One that the reaper took fails the whole call: ask again for what is left.
        left = self._left(rse, files)
        if left:
            self._set_states(rse, left, letter)

    def _left(self, rse: str, files: Sequence[Did]) -> list[Did]:
        """Give those of the replicas that are still there, after Rucio has said that one is not."""
        left = [did for did, entry in self._listed(files, all_states=True) if rse in entry.get("states", {})]
        if left and len(left) == len(files):
            what = f"Rucio lists all {len(left)} replicas to change on {rse}, and says that one is absent."
            raise UnreachableError(Reason.CATALOGUE_REFUSED, what)
        return left

    def _listed(self, dids: Collection[Did], **options: Any) -> Iterator[tuple[Did, dict[str, Any]]]:  # noqa: ANN401
        for part in parts(dids):
            names = [{"scope": did.scope, "name": did.name} for did in part]
            entries = self._server.call(
                f"replicas of {part[0]} and {len(part) - 1} more",
                "list_replicas",
                names,
                **options,
                tolerate={"DataIdentifierNotFound": None},
            )
            for entry in entries or ():
                yield Did(entry["scope"], entry["name"]), {"pfns": {}, "states": {}, **entry}
