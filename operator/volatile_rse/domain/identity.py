"""Identities that are computed, never drawn: the same request always means the same record, RSE and names."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

__all__ = ["Identity", "identify"]

_LENGTH = 10
"""Characters of a record id: 50 bits, so that a million buffers collide with a chance below one in a thousand."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What one buffer is known by, whatever its class calls its RSE."""

    record_id: str
    """Ten lower-case base32 characters."""
    record: str
    """Name of the RSERecord, and of the buffer's objects in the operator's buffer namespace."""


def identify(instance: str, uid: str) -> Identity:
    """Name the buffer of a VolatileRSE.

    Parameters
    ----------
    instance
        Configured name of the operator and the id of its cluster.
    uid
        ``metadata.uid`` of the VolatileRSE: a new object of the same name is another buffer, since a Rucio server
        refuses a deleted RSE name and caches names for 900 s.
    """
    digest = hashlib.sha256(f"{instance}\0{uid}".encode()).digest()
    record_id = base64.b32encode(digest).decode().lower()[:_LENGTH]
    return Identity(record_id=record_id, record=f"vrse-{record_id}")
