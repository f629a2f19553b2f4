"""What Rucio's answers say: read without asking."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from volatile_rse.adapters.rucio.doors import why_no_door
from volatile_rse.api.schema import LARGEST
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.plausible import NO_CHECKSUM

__all__ = [
    "archive_of",
    "checksum_of",
    "input_of",
    "is_past",
    "is_without_adler32",
    "lacking",
    "leads_somewhere",
    "letter_of",
    "merged",
    "moment_of",
    "size_of",
    "source_pfns",
    "why_no_destination",
    "why_not_kept",
]

_PFN, _PFN_LENGTH = re.compile(r"(davs|https)://[!-.0-~]+/[!-~]+"), 2048
"""What an agent takes as a source."""
_ADLER32, _MD5 = re.compile(r"[0-9a-fA-F]{1,8}"), re.compile(r"[0-9a-fA-F]{32}")
_SHOWN = 40
_LETTERS = {
    "AVAILABLE": "A",
    "UNAVAILABLE": "U",
    "COPYING": "C",
    "BEING_DELETED": "B",
    "BAD": "D",
    "TEMPORARY_UNAVAILABLE": "T",
}


def input_of(entry: Mapping[str, Any], md5: object = None) -> File:
    """Read a file as an input, with what it lacks. Rucio takes any number as a size, and any text as a checksum.

    Parameters
    ----------
    md5
        Its other checksum, as far as Rucio tells one.
    """
    did, adler32 = Did(entry["scope"], entry["name"]), entry.get("adler32")
    if fault := _fault_of_text(did) or _fault_of_size(entry.get("bytes")):
        return lacking(did, fault)
    if isinstance(adler32, str) and _ADLER32.fullmatch(adler32):
        return File(did, size_of(entry), checksum_of(entry))
    if isinstance(md5, str) and _MD5.fullmatch(md5):
        return File(did, size_of(entry), "", md5.lower())
    sums = (("adler32", adler32), ("md5", md5))
    told = [f"the {kind} checksum {ascii(sum_)[:_SHOWN]}" for kind, sum_ in sums if sum_]
    return lacking(did, f"has {' and '.join(told)}, which is none" if told else NO_CHECKSUM)


def is_without_adler32(entry: Mapping[str, Any]) -> bool:
    """Tell whether a file could be an input by another checksum."""
    told = entry.get("adler32")
    if _fault_of_text(Did(entry["scope"], entry["name"])) or _fault_of_size(entry.get("bytes")):
        return False
    return not isinstance(told, str) or _ADLER32.fullmatch(told) is None


def lacking(did: Did, fault: str) -> File:
    """Give a file that can be no input: nothing of it is ever fetched."""
    return File(did, 0, "", lack=fault)


def _fault_of_size(size: object) -> str:
    if size is None:
        return "has no size"
    return "" if _is_size(size) else f"has a size of {ascii(size)[:_SHOWN]}"


def _is_size(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= LARGEST


def _fault_of_text(did: Did) -> str:
    try:
        # Whether it is a path on the buffer is judged where its inputs are.
        str(did).encode()
    except UnicodeEncodeError:
        return "has a name that is no text"
    return ""


def checksum_of(entry: Mapping[str, Any]) -> str:
    """Read a checksum as all others are written; zeros if there is none that can be."""
    told = entry.get("adler32")
    return told.lower().rjust(8, "0") if isinstance(told, str) and _ADLER32.fullmatch(told) else "00000000"


def size_of(entry: Mapping[str, Any]) -> int:
    """Read the size of a file that is no input: 0 if it has none that can be."""
    size = entry.get("bytes")
    return size if isinstance(size, int) and 0 <= size <= LARGEST else 0


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


def merged(answer: object) -> dict[str, Any]:
    """Read what Rucio's client gives as a dictionary, or as a list of one or of several."""
    if isinstance(answer, Mapping):
        return dict(answer)
    parts = answer if isinstance(answer, list | tuple) else ()
    return {key: value for part in parts for key, value in part.items()}


def source_pfns(entry: Mapping[str, Any], ranks: Mapping[str, float | None]) -> tuple[str, ...]:
    """Give where a file can be read from outside, the nearest first; ranks say how far each RSE is that may be read."""
    found = [
        (ranks.get(info["rse"]), info.get("priority") or 0, pfn)
        for pfn, info in (entry.get("pfns") or {}).items()
        if info.get("domain") in {None, "wan"}
    ]
    return tuple(pfn for rank, _, pfn in sorted(row for row in found if row[0] is not None) if leads_somewhere(pfn))


def archive_of(entry: Mapping[str, Any], rses: Collection[str]) -> str | None:
    """Give the PFN of the archive that a file is inside of, on one of the RSEs; None: it is in none.

    Rucio gives that PFN for the file, with a question for it that a client of XRootD understands.
    """
    found = sorted(pfn for pfn, info in entry["pfns"].items() if info.get("domain") == "zip" and info["rse"] in rses)
    return ascii(found[0].partition("?")[0])[1:-1] if found else None


def leads_somewhere(pfn: str) -> bool:
    """Tell whether a URL leads anywhere: an RSE may have been given any host, as ``[::1``."""
    try:
        return bool(urlsplit(pfn).hostname) and len(pfn) <= _PFN_LENGTH and _PFN.fullmatch(pfn) is not None
    except ValueError:
        return False


def why_no_destination(site: Mapping[str, Any]) -> str:
    """Say why outputs cannot be kept on an RSE; empty: they can.

    Rucio would say so late, once copies are registered or held, or never, and lose what it was to keep.
    """
    return ", ".join(filter(None, [why_not_kept(site), why_no_door(site)]))


def why_not_kept(row: Mapping[str, Any]) -> str:
    """Say the same by the columns of an RSE alone, which Rucio tells of all at once."""
    return ", ".join(why for is_so, why in _NO_DESTINATION if is_so(row))


_NO_DESTINATION: Sequence[tuple[Callable[[Mapping[str, Any]], bool], str]] = (
    (lambda site: not site["deterministic"], "it is not deterministic: Rucio cannot tell where a file goes"),
    (lambda site: bool(site.get("volatile")), "it is volatile: Rucio registers nothing there"),
    (lambda site: bool(site.get("staging_area")), "it is a staging area: what is there is no copy to keep"),
    (lambda site: site.get("rse_type") == "TAPE", "it is TAPE: files cannot be read back there when they are verified"),
    (lambda site: not site["availability_write"], "it may not be written (availability_write is False)"),
)
