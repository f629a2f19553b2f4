"""RSEs, as Rucio tells of them and as they are remembered: single ones are told fresh, expressions minutes late."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from volatile_rse.adapters.rucio.answers import usual_paths
from volatile_rse.adapters.rucio.marks import is_operators
from volatile_rse.adapters.rucio.server import RucioServer, url_parts
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Did
from volatile_rse.ports.errors import RefusedError

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
        self._permanent_until: dict[str, float] = {}
        self._volatile: set[str] = set()
        self._sites: dict[str, tuple[dict[str, Any] | None, float]] = {}

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
        if rse in self._volatile:
            return True
        if time.monotonic() < self._permanent_until.get(rse, 0):
            return False
        attributes = self.attributes(rse)
        if is_operators(attributes):
            if len(self._volatile) >= _REMEMBERED:
                # Those of other operators go, and nobody tells.
                self._volatile.clear()
            self._volatile.add(rse)
            return True
        self._permanent_until[rse] = time.monotonic() + _KNOWN_FOR
        return False

    def permanent(self, expression: str, reason: Reason) -> list[str]:
        """List the permanent RSEs of an expression; the reason is that of one that is invalid or matches nothing."""
        found = self._server.call(
            f"RSE expression {expression!r}",
            "list_rses",
            expression,
            tolerate={"InvalidRSEExpression": reason, "RSENotFound": reason},
        )
        return [entry["rse"] for entry in found if not self.is_volatile(entry["rse"])]

    def distance(self, rse: str, near: str | None) -> float:
        """Give the distance from an RSE to another one, infinite where Rucio knows none."""
        if near is None or rse == near:
            return 0
        rows = self._server.call(
            f"the distance from {rse} to {near}", "get_distance", rse, near, tolerate={"RSENotFound": None}
        )
        known = [row["distance"] for row in rows or () if row.get("distance") is not None]
        return min(known, default=float("inf"))

    def destinations(self, rse_expression: str) -> tuple[str, ...]:
        """List permanent, writable RSEs with davs."""
        names = []
        for name in self.permanent(rse_expression, Reason.NO_DESTINATION):
            found = self.site(name)
            if found and found["availability_write"] and any(door["scheme"] == "davs" for door in found["protocols"]):
                names.append(name)
        if not names:
            what = f"No permanent RSE of {rse_expression!r} can be written by davs."
            raise RefusedError(Reason.NO_DESTINATION, what)
        return tuple(sorted(names))

    def pfns(self, rse: str, files: Collection[Did]) -> Mapping[Did, str]:
        """Compute PFNs: by ourselves where the rule is the usual one, since Rucio takes few names in a call."""
        if (usual := usual_paths(self.site(rse))) is not None:
            prefix, path_of = usual
            return {did: f"{prefix}{path_of(did.scope, did.name)}" for did in files}
        found: dict[Did, str] = {}
        for names in url_parts([str(did) for did in files]):
            answer = self._server.call(rse, "lfns2pfns", rse, names, operation="write", scheme="davs")
            found.update({Did.parse(name): pfn for name, pfn in answer.items()})
        return found

    def host(self, rse: str) -> str:
        """Give the host of an RSE's davs door."""
        doors = [door for door in (self.site(rse) or {}).get("protocols", ()) if door["scheme"] == "davs"]
        if not doors:
            raise RefusedError(Reason.NO_DESTINATION, f"RSE {rse} has no davs protocol.")
        return str(doors[0]["hostname"])

    def is_deterministic(self, rse: str) -> bool:
        """Tell whether Rucio computes the paths of files there, and takes no other one from anybody."""
        return bool((self.site(rse) or {}).get("deterministic"))

    def forget(self, rse: str) -> None:
        """Drop what was remembered of an RSE that is gone."""
        self._volatile.discard(rse)
        for known in (self._permanent_until, self._sites):
            known.pop(rse, None)
