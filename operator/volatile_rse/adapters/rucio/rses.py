"""RSEs, as Rucio tells of them and as they are remembered: single ones are told fresh, expressions minutes late."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from volatile_rse.adapters.rucio.answers import merged, why_no_destination
from volatile_rse.adapters.rucio.doors import by_door, looking, ordered, usual_paths, writing
from volatile_rse.adapters.rucio.marks import is_operators
from volatile_rse.adapters.rucio.server import RucioServer, url_parts
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Did
from volatile_rse.ports.errors import UnreachableError

__all__ = ["RucioRses"]

_REMEMBERED = 10_000
"""RSEs that are known to be volatile, until all are asked for again."""
_KNOWN_FOR = 300.0
"""Seconds for which an RSE without our mark counts as permanent; one with it counts as volatile for good."""
_SITE_KNOWN_FOR = 60.0
"""Seconds for which the doors of a permanent RSE count as seen."""


class RucioRses:
    """All RSEs of one server: which are permanent, and where copies go at those."""

    def __init__(self, server: RucioServer) -> None:
        self._server = server
        self._permanent: dict[str, tuple[Mapping[str, Any], float]] = {}
        """RSE without our mark -> its attributes, and until when they count as seen."""
        self._volatile: set[str] = set()
        self._sites: dict[str, tuple[dict[str, Any] | None, float]] = {}
        self._spaces: dict[str, tuple[int | None, float]] = {}

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

    def permanent(self, expression: str, reason: Reason) -> list[str]:
        """List the permanent RSEs of an expression; the reason is that of one that is invalid or matches nothing."""
        return [rse for rse in self._matching(expression, reason) if not self.is_volatile(rse)]

    def _matching(self, expression: str, reason: Reason) -> list[str]:
        found = self._server.call(
            f"RSE expression {expression!r}",
            "list_rses",
            expression,
            tolerate={"InvalidRSEExpression": reason, "RSENotFound": reason},
        )
        return [entry["rse"] for entry in found]

    def distance(self, rse: str, near: str | None) -> float:
        """Give the distance from an RSE to another one, infinite where Rucio knows none."""
        if near is None or rse == near:
            return 0
        rows = self._server.call(
            f"the distance from {rse} to {near}", "get_distance", rse, near, tolerate={"RSENotFound": None}
        )
        known = [row["distance"] for row in rows or () if row.get("distance") is not None]
        return min(known, default=float("inf"))

    def destinations(self, rse_expression: str) -> Mapping[str, str]:
        """Say of each RSE why outputs cannot be kept there."""
        return {rse: self._why_not(rse) for rse in sorted(self._matching(rse_expression, Reason.NO_DESTINATION))}

    def _why_not(self, rse: str) -> str:
        try:
            if self.is_volatile(rse):
                return "it is the buffer of a session"
            site = self.site(rse)
        except UnreachableError as error:
            if error.reason is not Reason.CATALOGUE_IMPLAUSIBLE:
                raise
            # One odd RSE keeps nobody from the others.
            return error.what.rstrip(".")
        return "it has just been deleted" if site is None else why_no_destination(site)

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
        return bool((self.site(rse) or {}).get("deterministic"))

    def forget(self, rse: str) -> None:
        """Drop what was remembered of an RSE that is gone."""
        self._volatile.discard(rse)
        memories: tuple[dict[str, Any], ...] = (self._permanent, self._sites, self._spaces)
        for memory in memories:
            memory.pop(rse, None)
