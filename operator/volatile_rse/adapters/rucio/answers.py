"""What Rucio's answers say: read without asking."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from volatile_rse.api.names import hash_path, identity_path
from volatile_rse.domain.catalogue import Did, File

__all__ = ["checksum_of", "file_of", "is_past", "letter_of", "moment_of", "source_pfns", "usual_paths"]

_PFN, _PFN_LENGTH = re.compile(r"(davs|https)://[^/]+/.+"), 2048
"""What an agent takes as a source."""
_PLAIN_PROTOCOLS = {"rucio.rse.protocols.gfal", "rucio.rse.protocols.webdav"}
"""They make a PFN of scheme, host, port, prefix and path, and of nothing else."""
_PATHS: Mapping[str, Callable[[str, str], str]] = {"hash": hash_path, "identity": identity_path}
"""Algorithms of Rucio's own, which are the same on every server."""
_LETTERS = {
    "AVAILABLE": "A",
    "UNAVAILABLE": "U",
    "COPYING": "C",
    "BEING_DELETED": "B",
    "BAD": "D",
    "TEMPORARY_UNAVAILABLE": "T",
}


def file_of(entry: Mapping[str, Any]) -> File:
    """Read a file that has a size and a checksum."""
    return File(Did(entry["scope"], entry["name"]), int(entry["bytes"]), checksum_of(entry))


def checksum_of(entry: Mapping[str, Any]) -> str:
    """Read a checksum as all others are written; zeros if there is none."""
    return str(entry.get("adler32") or "").lower().rjust(8, "0")


def moment_of(told: datetime | None) -> datetime | None:
    """Read one of Rucio's moments: UTC without saying so."""
    return None if told is None else told.replace(tzinfo=UTC)


def is_past(told: datetime | None) -> bool:
    """Tell whether one of Rucio's moments has come."""
    moment = moment_of(told)
    return moment is not None and moment <= datetime.now(UTC)


def letter_of(state: str) -> str:
    """Give the letter by which Rucio itself calls a replica's state."""
    return _LETTERS.get(state, state[:1])


def source_pfns(entry: Mapping[str, Any], ranks: Mapping[str, float]) -> tuple[str, ...]:
    """Give where a replica can be read, the nearest first; ranks say how far each RSE that may be read is."""
    found = [(ranks.get(info["rse"]), info.get("priority", 0), pfn) for pfn, info in entry["pfns"].items()]
    return tuple(pfn for rank, _, pfn in sorted(row for row in found if row[0] is not None) if _has_host(pfn))


def _has_host(pfn: str) -> bool:
    """Tell whether a URL leads anywhere: an RSE may have been given any host, as ``[::1``."""
    try:
        return bool(urlsplit(pfn).hostname) and len(pfn) <= _PFN_LENGTH and _PFN.fullmatch(pfn) is not None
    except ValueError:
        return False


def usual_paths(site: Mapping[str, Any] | None) -> tuple[str, Callable[[str, str], str]] | None:
    """Give what stands before the path in all PFNs of an RSE, and what makes it; None if only Rucio can tell."""
    known = site or {"protocols": ()}
    doors = [
        door
        for door in known["protocols"]
        if door["scheme"] == "davs" and (door.get("domains") or {}).get("wan", {}).get("write")
    ]
    path_of = _PATHS.get(known.get("lfn2pfn_algorithm") or "")
    if not known.get("deterministic") or path_of is None or len(doors) != 1:
        return None
    (door,) = doors
    odd = not door["port"] or "://" in door["hostname"] or door.get("extended_attributes")
    if odd or door["impl"].rpartition(".")[0] not in _PLAIN_PROTOCOLS:
        return None
    prefix = "/".join(["", *door["prefix"].strip("/").split("/"), ""]) if door["prefix"].strip("/") else "/"
    return f"davs://{door['hostname']}:{door['port']}{prefix}", path_of
