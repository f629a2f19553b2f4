"""RSEs, as Rucio tells of them and as they are remembered: single ones are told fresh, expressions minutes late."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from volatile_rse.adapters.rucio.answers import leads_somewhere, merged, why_no_destination, why_not_kept
from volatile_rse.adapters.rucio.doors import by_door, folder_of, looking, ordered, usual_paths, writing
from volatile_rse.adapters.rucio.marks import OWNER, is_operators
from volatile_rse.adapters.rucio.server import RucioServer, url_parts
from volatile_rse.api.addresses import host_of
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Did
from volatile_rse.ports.errors import UnreachableError

__all__ = ["RucioRses"]

_REMEMBERED = 10_000
"""RSEs that are known to be volatile, until all are asked for again."""
_KNOWN_FOR = 300.0
"""Seconds for which an RSE without our mark counts as permanent; one with it counts as volatile for good."""
_SITE_KNOWN_FOR = 60.0
"""Seconds for which the columns, doors and distances of permanent RSEs count as seen."""
_COLUMNS = (OWNER, "rse_type", "deterministic", "volatile", "staging_area", "availability_write")
_BUFFER = "it is the buffer of a session"
_DOORS_KNOWN_FOR = 86400.0
"""Seconds for which the hosts of an RSE count as seen: its door moves to another one once in years."""
_ASKED_AT_ONCE = 100
"""RSEs whose hosts are asked for in one go."""


class RucioRses:
    """All RSEs of one server: which are permanent, and where copies go at those."""

    def __init__(self, server: RucioServer) -> None:
        self._server = server
        self._permanent: dict[str, tuple[Mapping[str, Any], float]] = {}
        """RSE without our mark -> its attributes, and until when they count as seen."""
        self._volatile: set[str] = set()
        self._sites: dict[str, tuple[dict[str, Any] | None, float]] = {}
        self._spaces: dict[str, tuple[int | None, float]] = {}
        self._distances: dict[tuple[str, str], tuple[float, float]] = {}
        self._rows: tuple[Mapping[str, Mapping[str, Any]], float] = {}, 0.0
        """RSE -> its columns, and until when they count as seen."""
        self._exempt: tuple[frozenset[str], float] = frozenset(), 0.0
        self._folders: dict[str, tuple[str, float]] = {}
        """Host -> the folder of an RSE there, and until when that counts as seen."""
        self._asked: dict[str, float] = {}
        """RSE -> until when its hosts count as seen."""

    def get(self, rse: str) -> dict[str, Any] | None:
        """Describe an RSE as it is now; None: there is none."""
        found: dict[str, Any] | None = self._server.call(rse, "get_rse", rse, tolerate={"RSENotFound": None})
        return found

    def site(self, rse: str) -> dict[str, Any] | None:
        """Describe a permanent RSE, as it was a minute ago at most."""
        known = self._sites.get(rse)
        if known is None or time.monotonic() >= known[1]:
            known = self._sites[rse] = self.get(rse), time.monotonic() + _SITE_KNOWN_FOR
        return known[0]

    def attributes(self, rse: str) -> dict[str, Any]:
        """Give its attributes, none if there is no such RSE."""
        return self._server.call(rse, "list_rse_attributes", rse, tolerate={"RSENotFound": None}) or {}

    def is_volatile(self, rse: str) -> bool:
        """Tell whether an operator, any one, has made it: its copies are none to rely on."""
        return self._attributes_of_permanent(rse) is None

    def attributes_of_permanent(self, rse: str) -> Mapping[str, Any]:
        """Give the attributes of a permanent RSE, as they were some minutes ago at most; none of a buffer's."""
        return self._attributes_of_permanent(rse) or {}

    def _attributes_of_permanent(self, rse: str) -> Mapping[str, Any] | None:
        if rse in self._volatile:
            return None
        known = self._permanent.get(rse)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        attributes = self.attributes(rse)
        if is_operators(attributes):
            if len(self._volatile) >= _REMEMBERED:
                # Those of other operators go, and nobody tells.
                self._volatile.clear()
            self._volatile.add(rse)
            return None
        self._permanent[rse] = attributes, time.monotonic() + _KNOWN_FOR
        return attributes

    def permanent(self, expression: str, reason: Reason) -> frozenset[str]:
        """Name the RSEs of an expression that are no buffers by what their creation says.

        Rucio is asked once or twice, however many there are: those that come into question are asked about one by one.

        Parameters
        ----------
        reason
            That of an expression that is invalid or matches nothing.
        """
        return frozenset(rse for rse, row in self._matching(expression, reason).items() if not _is_buffer(row))

    def _matching(self, expression: str, reason: Reason) -> dict[str, Mapping[str, Any]]:
        """Give the columns of the RSEs of an expression; none of one that has just been deleted."""
        found = self._server.call(
            f"RSE expression {expression!r}",
            "list_rses",
            expression,
            tolerate={"InvalidRSEExpression": reason, "RSENotFound": reason},
        )
        names = [entry["rse"] for entry in found]
        rows = self._columns()
        if any(name not in rows for name in names):
            # Made since then.
            rows = self._columns(fresh=True)
        return {name: rows.get(name, {}) for name in sorted(names)}

    def _columns(self, *, fresh: bool = False) -> Mapping[str, Mapping[str, Any]]:
        """Describe all RSEs by their columns, as they were a minute ago at most: one question for all."""
        if fresh or time.monotonic() >= self._rows[1]:
            found = self._server.call("the RSEs", "list_rses")
            rows = {entry["rse"]: {key: entry.get(key) for key in _COLUMNS} for entry in found}
            self._rows = rows, time.monotonic() + _SITE_KNOWN_FOR
        return self._rows[0]

    def distance(self, rse: str, near: str | None) -> float:
        """Give the distance from an RSE to another one, infinite where Rucio knows none; a minute old at most."""
        if near is None or rse == near:
            return 0
        known = self._distances.get((rse, near))
        if known is None or time.monotonic() >= known[1]:
            rows = self._server.call(
                f"the distance from {rse} to {near}", "get_distance", rse, near, tolerate={"RSENotFound": None}
            )
            told = [row["distance"] for row in rows or () if row.get("distance") is not None]
            known = self._distances[rse, near] = min(told, default=float("inf")), time.monotonic() + _SITE_KNOWN_FOR
        return known[0]

    def folders(self, hosts: Collection[str]) -> Mapping[str, str | None]:
        """Give for each host the folder of a permanent RSE there, as it was a day ago at most."""
        now = time.monotonic()
        found: dict[str, str | None] = {host: url for host in hosts if (url := self._folder(host, now)) is not None}
        missing = set(hosts) - set(found)
        if not missing:
            return found
        rows = self._columns()
        names = sorted(rse for rse, row in rows.items() if not _is_buffer(row))
        unasked = [rse for rse in names if self._asked.get(rse, 0.0) <= now]
        for rse in unasked[:_ASKED_AT_ONCE]:
            self._see_doors(rse, now)
            if all(self._folder(host, now) is not None for host in missing):
                break
        is_whole = all(self._asked.get(rse, 0.0) > now for rse in names)
        for host in missing:
            url = self._folder(host, now)
            if url is not None or is_whole:
                found[host] = url
        return found

    def _folder(self, host: str, now: float) -> str | None:
        known = self._folders.get(host)
        return known[0] if known is not None and known[1] > now else None

    def _see_doors(self, rse: str, now: float) -> None:
        """Take note of the hosts of an RSE; one whose answer cannot be read has none."""
        try:
            site: Mapping[str, Any] = self.get(rse) or {"protocols": ()}
        except UnreachableError as error:
            if error.reason is not Reason.CATALOGUE_IMPLAUSIBLE:
                raise
            site = {"protocols": ()}
        self._asked[rse] = now + _DOORS_KNOWN_FOR
        for door in ordered(site, "read"):
            host, url = host_of(door["hostname"]), folder_of(door)
            if url is not None and leads_somewhere(url) and self._folder(host, now) is None:
                self._folders[host] = url, now + _DOORS_KNOWN_FOR

    def destinations(self, rse_expression: str) -> Mapping[str, str]:
        """Say of each RSE why outputs cannot be kept there, as far as its columns tell."""
        return {rse: _why_not(row) for rse, row in self._matching(rse_expression, Reason.NO_DESTINATION).items()}

    def doubt(self, rse: str) -> str:
        """Say why outputs cannot be kept on an RSE, by all that is known of it."""
        try:
            # Its doors first: they are what most lack.
            site = self.site(rse)
            why = "it has just been deleted" if site is None else why_no_destination(site)
            if not why and self.is_volatile(rse):
                why = _BUFFER
            return why or ("it is TAPE (its attribute staging_required)" if self.is_tape(rse) else "")
        except UnreachableError as error:
            if error.reason is not Reason.CATALOGUE_IMPLAUSIBLE:
                raise
            # One odd RSE keeps nobody from the others.
            return error.what.rstrip(".")

    def is_tape(self, rse: str) -> bool:
        """Tell whether a file that is there need not be on disk, as Rucio itself judges it."""
        row = self._columns().get(rse, {})
        return row.get("rse_type") == "TAPE" or bool(self.attributes_of_permanent(rse).get("staging_required"))

    def are_exempt(self) -> frozenset[str]:
        """Name the RSEs for which Rucio asks for no limit, as it was some minutes ago at most."""
        if time.monotonic() >= self._exempt[1]:
            found = self._server.call(
                "RSE expression 'mock'", "list_rses", "mock", tolerate={"InvalidRSEExpression": None}
            )
            self._exempt = frozenset(entry["rse"] for entry in found or ()), time.monotonic() + _KNOWN_FOR
        return self._exempt[0]

    def space_left(self, rse: str) -> int | None:
        """Give the bytes that fit on an RSE by its limit MaxSpaceAvailable; None: there is none."""
        limit = self._space(rse)
        if limit is None or limit < 0:
            return None
        rows = self._server.call(rse, "get_rse_usage", rse, filters={"source": "rucio"})
        return max(limit - sum(row.get("used") or 0 for row in rows), 0)

    def _space(self, rse: str) -> int | None:
        """Give that limit, as it was a minute ago at most: few RSEs have one."""
        known = self._spaces.get(rse)
        if known is None or time.monotonic() >= known[1]:
            told = merged(self._server.call(rse, "get_rse_limits", rse, tolerate={"RSENotFound": None}))
            limit = told.get("MaxSpaceAvailable")
            known = self._spaces[rse] = None if limit is None else int(limit), time.monotonic() + _SITE_KNOWN_FOR
        return known[0]

    def pfns(self, rse: str, files: Collection[Did], *, reads: bool = False) -> Mapping[Did, str]:
        """Compute PFNs: by ourselves where the rule is the usual one, since Rucio takes few names in a call.

        Parameters
        ----------
        reads
            By the door that Rucio sends readers to, and not by the one to write by.
        """
        site: Mapping[str, Any] = self.site(rse) or {"protocols": ()}
        door = looking(site) if reads else writing(site)
        if (usual := usual_paths(site, door)) is not None:
            prefix, path_of = usual
            return {did: f"{prefix}{path_of(did.scope, did.name)}" for did in files}
        operation = "read" if reads and ordered(site, "read") else "write"
        found: dict[Did, str] = {}
        for names in url_parts([str(did) for did in files]):
            answer = self._server.call(
                rse, "lfns2pfns", rse, names, protocol_domain="wan", operation=operation, scheme="davs"
            )
            given = {name: pfn for name, pfn in answer.items() if name in names}
            found.update({Did.parse(name): by_door(site, door, pfn) for name, pfn in given.items()})
        return found

    def is_deterministic(self, rse: str) -> bool:
        """Tell whether Rucio computes the paths of files there, and takes no other one from anybody."""
        return bool(self._columns().get(rse, {}).get("deterministic"))

    def forget(self, rse: str) -> None:
        """Drop what was remembered of an RSE that is gone."""
        self._volatile.discard(rse)
        memories: tuple[dict[str, Any], ...] = (self._permanent, self._sites, self._spaces)
        for memory in memories:
            memory.pop(rse, None)


def _is_buffer(row: Mapping[str, Any]) -> bool:
    """Tell by what was given in the very call that creates an RSE: a buffer that is half made has it, too."""
    return is_operators({OWNER: row.get(OWNER)})


def _why_not(row: Mapping[str, Any]) -> str:
    if not row:
        return "it has just been deleted"
    return _BUFFER if _is_buffer(row) else why_not_kept(row)
