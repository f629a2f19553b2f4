"""Which of an RSE's protocols is used for what: the order of Rucio itself, and the PFNs that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from volatile_rse.api.names import hash_path, identity_path

__all__ = ["Door", "by_door", "folder_of", "looking", "ordered", "usual_paths", "why_no_door", "writing"]

Door = Mapping[str, Any]
"""A protocol, as Rucio tells it."""

_PLAIN_PROTOCOLS = {"rucio.rse.protocols.gfal", "rucio.rse.protocols.webdav"}
"""They make a PFN of scheme, host, port, prefix and path, and of nothing else."""
_PATHS: Mapping[str, Callable[[str, str], str]] = {"hash": hash_path, "identity": identity_path}
"""Algorithms of Rucio's own, which are the same on every server."""


def ordered(site: Mapping[str, Any], operation: str, *, scheme: str = "davs", domain: str = "wan") -> list[Door]:
    """List the protocols for an operation, the preferred one first.

    As Rucio 41.5.1 does (``rsemanager.get_protocols_ordered``): the lowest number comes first, 0 before 1, and null
    means never. Among equals Rucio takes any; here host and port decide, so that the answer stays the same.

    Parameters
    ----------
    site
        As ``get_rse`` gives it.
    operation
        ``read``, ``write``, ``delete``, ``third_party_copy_read`` or ``third_party_copy_write``.
    """
    ranked = [
        (rank, str(door["hostname"]), int(door["port"]), door)
        for door in site["protocols"]
        if door["scheme"] == scheme and (rank := _rank(door, operation, domain)) is not None
    ]
    return [door for *_, door in sorted(ranked, key=lambda row: row[:3])]


def writing(site: Mapping[str, Any]) -> Door | None:
    """Give the davs protocol that copies are written by; None if there is none to write by from outside.

    It is one by which Rucio lists replicas, if that may be written by: two doors need not lead to the same files.
    """
    doors, listed = ordered(site, "write"), _listed(site)
    return next((door for door in doors if door in listed), doors[0] if doors else None)


def looking(site: Mapping[str, Any]) -> Door | None:
    """Give the davs protocol by which Rucio lists replicas: where readers are sent, so where a copy has to be."""
    listed, door = _listed(site), writing(site)
    return door if door in listed or not listed else listed[0]


def _listed(site: Mapping[str, Any]) -> list[Door]:
    """Give the doors by which ``list_replicas`` names a file: one, or equals of which it takes any."""
    doors = ordered(site, "read")
    return [door for door in doors if _rank(door, "read", "wan") == _rank(doors[0], "read", "wan")]


def _rank(door: Door, operation: str, domain: str) -> float | None:
    rank: float | None = ((door.get("domains") or {}).get(domain) or {}).get(operation)
    return rank


def why_no_door(site: Mapping[str, Any]) -> str:
    """Say why nothing can be written by davs from outside; empty: it can."""
    if not any(door["scheme"] == "davs" for door in site["protocols"]):
        return "it has no davs protocol"
    return "" if ordered(site, "write") else "its davs protocol is read-only (no priority for wan write)"


def usual_paths(site: Mapping[str, Any], door: Door | None) -> tuple[str, Callable[[str, str], str]] | None:
    """Give what stands before the path in all PFNs by a door, and what makes it; None if only Rucio can tell."""
    path_of = _PATHS.get(site.get("lfn2pfn_algorithm") or "")
    if not site.get("deterministic") or path_of is None or door is None or not _is_plain(door):
        return None
    return _base(door), path_of


def folder_of(door: Door) -> str | None:
    """Give the URL of the folder that all files by a door are in; None: only Rucio can tell."""
    return _base(door) if _is_plain(door) else None


def by_door(site: Mapping[str, Any], door: Door | None, pfn: str) -> str:
    """Give a PFN of Rucio's by another of the davs protocols of an RSE; as it is where that cannot be told."""
    if door is None or not _is_plain(door) or pfn.startswith(_base(door)):
        return pfn
    others: Sequence[Door] = [other for other in site["protocols"] if other["scheme"] == "davs" and _is_plain(other)]
    rests = [pfn.removeprefix(_base(other)) for other in others if pfn.startswith(_base(other))]
    return f"{_base(door)}{rests[0]}" if rests else pfn


def _is_plain(door: Door) -> bool:
    """Tell whether a PFN of a protocol is scheme, host, port, prefix and path, and nothing else."""
    odd = not door["port"] or "://" in door["hostname"] or door.get("extended_attributes")
    return not odd and door["impl"].rpartition(".")[0] in _PLAIN_PROTOCOLS


def _base(door: Door) -> str:
    """Give what stands before the path in all PFNs of a plain protocol."""
    prefix = "/".join(["", *door["prefix"].strip("/").split("/"), ""]) if door["prefix"].strip("/") else "/"
    return f"davs://{door['hostname']}:{door['port']}{prefix}"
