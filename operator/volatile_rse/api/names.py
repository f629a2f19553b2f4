"""Names of output files in Rucio, and the path that Rucio computes from a name."""

from __future__ import annotations

import base64
import hashlib
import re

__all__ = ["NAME_LENGTH", "escape", "hash_path", "lfn_name"]

NAME_LENGTH = 250
"""Rucio refuses longer names."""

_PLAIN = re.compile(rb"[A-Za-z0-9._]")
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-_]*")
_DIGEST_BYTES = 20
"""Of SHA-256 in a hashed name: 32 characters of base32."""


def lfn_name(dataset: str, record_id: str, path: bytes) -> str:
    """Name an output file ``<dataset>.<record id>.<escaped path>``.

    Two different triples never get the same name, so no later session collides with an earlier one and no file of a
    session with another. Where the readable form is too long, ambiguous or no name that Rucio takes, the path is
    replaced by ``-x`` and a digest of dataset and path: no escaped path contains ``-x``.

    Parameters
    ----------
    dataset
        Name of the dataset that the file goes to.
    record_id
        Ten characters, the identity of the buffer.
    path
        Below the session's outbox, as the disk has it: it need not be UTF-8.
    """
    infix = f".{record_id}."
    readable = f"{dataset}{infix}{escape(path)}"
    # A reader finds the dataset before the first infix: that must be the one that stands here.
    unambiguous = readable.find(infix) == len(dataset)
    if unambiguous and len(readable) <= NAME_LENGTH and _DATASET.fullmatch(dataset):
        return readable
    digest = hashlib.sha256(dataset.encode() + b"\0" + path).digest()[:_DIGEST_BYTES]
    tail = f"{infix}-x{base64.b32encode(digest).decode().lower()}"
    start = re.sub(r"[^A-Za-z0-9.\-_]", "-", dataset).lstrip(".-_") or "dataset"
    return start[: NAME_LENGTH - len(tail)] + tail


def escape(path: bytes) -> str:
    """Write a path in the characters of a name: ``/`` as ``--``, what is not plain as ``-`` and two hex digits."""
    return "".join(_escape_byte(byte) for byte in path)


def hash_path(scope: str, name: str) -> str:
    """Compute the path below an RSE's prefix as Rucio's ``hash`` algorithm of deterministic RSEs does."""
    digest = hashlib.md5(f"{scope}:{name}".encode(), usedforsecurity=False).hexdigest()
    # As Rucio does: the dots of other scopes stay.
    folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    return f"{folder}/{digest[0:2]}/{digest[2:4]}/{name}"


def _escape_byte(byte: int) -> str:
    character = bytes([byte])
    if _PLAIN.match(character):
        return character.decode()
    return "--" if character == b"/" else f"-{byte:02X}"
