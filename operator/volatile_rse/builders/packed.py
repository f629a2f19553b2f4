"""Long lists, compressed into as many ConfigMaps as they need: Kubernetes takes at most 1 MiB of data in one.

The first has the list's own name, names the others, and comes last: where it is, the list is whole. The others are
called by what is in them, so that a list which is written again takes none away from one that counts.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["pack", "unpack"]

_MOST = 700 << 10
"""Bytes of one ConfigMap, also as text of a request."""
_OTHERS = "others"


def pack(first: Mapping[str, Any], key: str, text: str) -> list[dict[str, Any]]:
    """Give the objects that hold a text, in the order in which they are to be created.

    Parameters
    ----------
    first
        The ConfigMap without data; the others are made like it.
    key
        Of the data in each of them.
    """
    packed = gzip.compress(text.encode(), mtime=0)
    pieces = [packed[at : at + _MOST] for at in range(0, len(packed), _MOST)]
    others = [_filled(first, key, piece, f"{first['metadata']['name']}-{_digest(piece)}") for piece in pieces[1:]]
    body = _filled(first, key, pieces[0], first["metadata"]["name"])
    if others:
        body["data"] = {_OTHERS: "\n".join(other["metadata"]["name"] for other in others)}
    return [*others, body]


def unpack(body: Mapping[str, Any], key: str, read: Callable[[str], Mapping[str, Any] | None]) -> str:
    """Read a text from the first of its objects.

    Parameters
    ----------
    read
        Gives another one by its name.

    Raises
    ------
    LookupError
        One of them is gone, or is not what it was.
    """
    pieces = [base64.b64decode(body["binaryData"][key])]
    for name in (body.get("data") or {}).get(_OTHERS, "").split():
        other = read(name)
        piece = b"" if other is None else base64.b64decode(other["binaryData"][key])
        if not name.endswith(f"-{_digest(piece)}"):
            message = f"ConfigMap {name} is gone or was changed"
            raise LookupError(message)
        pieces.append(piece)
    return gzip.decompress(b"".join(pieces)).decode()


def _filled(first: Mapping[str, Any], key: str, piece: bytes, name: str) -> dict[str, Any]:
    metadata = {**first["metadata"], "name": name}
    return {**first, "metadata": metadata, "binaryData": {key: base64.b64encode(piece).decode()}}


def _digest(piece: bytes) -> str:
    return hashlib.sha256(piece).hexdigest()[:16]
