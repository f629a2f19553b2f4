"""What a request to the session's buffer has to bring along, and no request to anybody else."""

from __future__ import annotations

import os
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

from volatile_rse.session.errors import SessionError
from volatile_rse.session.mounted import Mounted, mounted

__all__ = ["Access", "access"]

_ADDRESSES = ("VRSE_DAVS_URL", "VRSE_PUBLIC_DAVS_URL")
"""Where the buffer is, for who is in the cluster and for who is not."""
_HTTPS = 443


class Access(NamedTuple):
    """Of one request."""

    token: str
    context: ssl.SSLContext
    """Trusts the buffer's authority, and nobody else."""


def access(url: str) -> Access | None:
    """Give what a request for this URL brings along; nothing, if it is none of the session's buffer.

    Both are read afresh, so that a renewed token is the next request's.

    Raises
    ------
    SessionError
        The URL is the buffer's, and the session is over.
    """
    origin = _origin(url)
    if origin is None:
        return None
    try:
        found = mounted()
    except SessionError:
        if origin in {_origin(os.environ.get(key, "")) for key in _ADDRESSES}:
            raise
        return None
    if origin not in {_origin(found.optional(key) or "") for key in _ADDRESSES}:
        return None
    return Access(found.token(), _context(found))


_CONTEXTS: dict[object, ssl.SSLContext] = {}
"""The latest one: with another context a client begins a connection anew."""


def _context(found: Mounted) -> ssl.SSLContext:
    stamp = (found, found.stamp_of(found.authority_file))
    context = _CONTEXTS.get(stamp)
    if context is None:
        context = ssl.create_default_context(cadata=found.authority())
        # Of two threads that come here at once each has a good one.
        _CONTEXTS.clear()
        _CONTEXTS[stamp] = context
    return context


def _origin(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _HTTPS
    except ValueError:
        return None
    return (parts.hostname, port) if parts.scheme.lower() == "https" and parts.hostname else None
