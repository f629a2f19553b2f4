"""The owner's or an admin's consent to the loss of outputs that are not safe, and what it is a consent to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta

from volatile_rse.api.agent import OutputState
from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Discard
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Facts, Lost, Record
from volatile_rse.domain.problems import Problem

__all__ = [
    "LAST_TRY",
    "consent_of",
    "dids_of",
    "digest_of_lost",
    "is_unacknowledged",
    "lost_of",
    "read_lost",
    "refused_consent",
    "write_lost",
]

LAST_TRY = timedelta(seconds=30)
"""From the consent, and from the inventory, until it is used: what can still become safe does."""


def consent_of(facts: Facts, record: Record) -> Discard | None:
    """Give the consent that names this very buffer: its owner's, or an admin's once there is no VolatileRSE.

    It cannot be taken back: one that was seen counts, whatever becomes of the object that it was written into.
    """
    if record.status.consent is not None:
        return record.status.consent
    consent = record.spec.discard if facts.request is None else _of_owner(facts)
    return consent if consent is not None and consent.rse == record.spec.rse_name else None


def refused_consent(facts: Facts, record: Record) -> tuple[Problem, ...]:
    """Say which consent names another buffer, or is none as long as its owner can give it."""
    owner, admin, rse = _of_owner(facts), record.spec.discard, record.spec.rse_name
    for consent in (owner, admin):
        if consent is not None and consent.rse != rse:
            what = f"The discard names RSE {consent.rse!r}, and this buffer's is {rse!r}: nothing is discarded."
            return (Problem(Reason.DISCARD_REFUSED, what),)
    if admin is not None and facts.request is not None and owner is None:
        where = f"VolatileRSE {facts.request.namespace}/{facts.request.name}"
        what = f"The discard of record {record.name} counts once {where} is gone: until then its owner gives up there."
        return (Problem(Reason.DISCARD_REFUSED, what),)
    return ()


def is_unacknowledged(record: Record) -> bool:
    """Tell whether outputs went with the storage before they were safe, and nobody has consented to that yet."""
    return bool(record.status.lost_files) and record.status.discarded is None


def _of_owner(facts: Facts) -> Discard | None:
    return None if facts.request is None else facts.request.discard


def lost_of(
    states: Iterable[OutputState], dids: Iterable[Did] = (), copies: Mapping[Did, tuple[str, ...]] | None = None
) -> tuple[Lost, ...]:
    """List what is given up: files of the buffer, and files that only the catalogue knows of.

    Parameters
    ----------
    copies
        What lies at destinations without being known there.
    """
    files = {_lost(state, copies or {}) for state in states}
    named = {file.did for file in files}
    return tuple(sorted(files | {Lost("", str(did), 0, "") for did in dids if str(did) not in named}))


def _lost(state: OutputState, copies: Mapping[Did, tuple[str, ...]]) -> Lost:
    did = Did(state.scope or "", state.name or "")
    return Lost(state.path, str(did) if state.name else "", state.bytes, state.adler32 or "", copies.get(did, ()))


def write_lost(files: Iterable[Lost]) -> str:
    """Write the list, one line of JSON a file."""
    return "".join(json.dumps(_told(file)) + "\n" for file in files)


def _told(file: Lost) -> dict[str, object]:
    told: dict[str, object] = {"path": file.path, "did": file.did, "bytes": file.bytes, "adler32": file.adler32}
    return told | {"copies": file.copies} if file.copies else told


def read_lost(text: str) -> tuple[Lost, ...]:
    """Read the list."""
    told = [json.loads(line) for line in text.splitlines()]
    return tuple(
        Lost(line["path"], line["did"], line["bytes"], line["adler32"], tuple(line.get("copies", ()))) for line in told
    )


def dids_of(files: Iterable[Lost]) -> frozenset[Did]:
    """Give the names of those that have one."""
    return frozenset(Did.parse(file.did) for file in files if file.did)


def digest_of_lost(files: Iterable[Lost]) -> str:
    """Give SHA-256 of the list, in hex."""
    return hashlib.sha256(write_lost(files).encode()).hexdigest()
