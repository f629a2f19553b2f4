"""fsspec's ``https``: requests to the session's buffer bring token and authority along, all others stay what they are.

The distribution names it as an entry point of fsspec, so it is there in every process without a call:
``uproot.open("https://...:Events")``. It needs fsspec and aiohttp, and is imported by fsspec alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from volatile_rse.session.access import access

__all__ = ["BufferFileSystem"]

_METHODS = frozenset({"delete", "get", "head", "options", "patch", "post", "put", "request"})
_AUTHORIZATION = "authorization"


class _Client:
    """A session of aiohttp with what each request needs more.

    Parameters
    ----------
    session
        That asks; aiohttp wants nobody to inherit from it.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the session has
        found = getattr(self._session, name)
        if name not in _METHODS:
            return found

        def ask(*words: Any, **more: Any) -> Any:  # noqa: ANN401 - as the session's own
            # ``request(method, url)``, but ``get(url)``.
            place = 1 if name == "request" else 0
            url = more["url"] if "url" in more else words[place]
            return found(*words, **_completed(str(url), more))

        return ask


def _completed(url: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add what is not said already."""
    needed = access(url)
    if needed is None:
        return given
    headers = dict(given.get("headers") or {})
    if _AUTHORIZATION not in {name.lower() for name in headers}:
        headers["Authorization"] = f"Bearer {needed.token}"
    return {"ssl": needed.context, **given, "headers": headers}


async def _client(**options: Any) -> _Client:  # noqa: ANN401 - aiohttp's
    return _Client(aiohttp.ClientSession(**options))


class BufferFileSystem(HTTPFileSystem):  # type: ignore[misc] # fsspec ships no types
    """fsspec's file system of http, which knows the session's buffer."""

    def __init__(self, *words: Any, get_client: Any = _client, **options: Any) -> None:  # noqa: ANN401 - fsspec's
        super().__init__(*words, get_client=get_client, **options)
