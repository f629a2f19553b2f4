"""Names of output files in Rucio, and the path that Rucio computes from a name."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Literal

__all__ = [
    "NAME_LENGTH",
    "Layout",
    "escape",
    "fault_of_path",
    "file_name",
    "hash_path",
    "lfn_name",
    "rse_path",
    "scope_folder",
    "scope_parts",
]

Layout = Literal["hash", "identity"]
"""One of Rucio's own ``lfn2pfn`` algorithms: they are on every server."""

NAME_LENGTH = 250
"""Rucio refuses longer names."""

_PATH_LENGTH = 1000
"""Characters of a path below the RSE's prefix that an agent takes."""

_NO_PART = re.compile(r"(^|/)[.]{0,2}(/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
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
    tail = f"{infix}{_digest(dataset.encode() + bytes(1) + path)}"
    start = re.sub(r"[^A-Za-z0-9.\-_]", "-", dataset).lstrip(".-_") or "dataset"
    return start[: NAME_LENGTH - len(tail)] + tail


def file_name(template: str | None, record_id: str, did: tuple[str, str], output: str, path: bytes) -> str:
    """Name an output file by a template; without one, as ``lfn_name`` does.

    In a template every placeholder is a part of its own between two ``/``, and no value contains ``/``. So record,
    output and path can be read from a name, and no two of these triples get the same one. The path is escaped to one
    part, too: no file's name can be the folder of another one.

    Parameters
    ----------
    template
        With ``{kind}`` and ``{owner}`` (``user`` and ``alice`` of scope ``user.alice``), ``{record}``, ``{output}``,
        ``{path}``; judged before, by ``domain.naming``.
    did
        Scope and name of the dataset that the file goes to.
    output
        Name of the output that takes the file.
    """
    scope, dataset = did
    if template is None:
        return lfn_name(dataset, record_id, path)
    kind, owner = scope_parts(scope)
    known = {"kind": kind, "owner": owner, "record": record_id, "output": output}
    readable = template.format(**known, path=escape(path))
    if len(readable) <= NAME_LENGTH:
        return readable
    return template.format(**known, path=_digest(path))


def scope_parts(scope: str) -> tuple[str, str]:
    """Split ``user.alice`` into ``user`` and ``alice``."""
    kind, _, owner = scope.partition(".")
    return kind, owner


def rse_path(layout: Layout, scope: str, name: str) -> str:
    """Compute the path of a file below the RSE's prefix; slashes that follow each other are one, as on a disk."""
    path = (hash_path if layout == "hash" else identity_path)(scope, name)
    return re.sub("/+", "/", path) if "//" in path else path


def fault_of_path(path: str) -> str:
    """Say why a path below an RSE's prefix is no place of its own for a file; empty: it is one."""
    if len(path) > _PATH_LENGTH:
        return f"has {len(path)} characters, more than {_PATH_LENGTH}"
    if _NO_PART.search(path):
        return "has an empty part, or one that is . or .."
    return "has a control character" if _CONTROL.search(path) else ""


def escape(path: bytes) -> str:
    """Write a path in the characters of a name: ``/`` as ``--``, what is not plain as ``-`` and two hex digits."""
    return "".join(_escape_byte(byte) for byte in path)


def hash_path(scope: str, name: str) -> str:
    """Compute the path below an RSE's prefix as Rucio's ``hash`` algorithm of deterministic RSEs does."""
    digest = hashlib.md5(f"{scope}:{name}".encode(), usedforsecurity=False).hexdigest()
    return f"{scope_folder(scope)}/{digest[0:2]}/{digest[2:4]}/{name}"


def identity_path(scope: str, name: str) -> str:
    """Compute the path below an RSE's prefix as Rucio's ``identity`` algorithm does."""
    return f"{scope_folder(scope)}/{name}"


def scope_folder(scope: str) -> str:
    """Give the folder below the RSE's prefix that all files of a scope are in, as Rucio computes it.

    Folders nest: ``group/x`` has all that ``group/x/y`` has.
    """
    # The dots of other scopes stay.
    return scope.replace(".", "/") if scope.startswith(("user", "group")) else scope


def _escape_byte(byte: int) -> str:
    character = bytes([byte])
    if _PLAIN.match(character):
        return character.decode()
    return "--" if character == b"/" else f"-{byte:02X}"


def _digest(what: bytes) -> str:
    # No escaped path contains "-x".
    digest = hashlib.sha256(what).digest()[:_DIGEST_BYTES]
    return f"-x{base64.b32encode(digest).decode().lower()}"
