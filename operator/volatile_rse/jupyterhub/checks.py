"""Whether a dataset exists, told while it is typed: the hub asks Rucio, by a login of its own."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyterhub.handlers.base import BaseHandler
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.log import app_log
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.web import HTTPError, authenticated

from volatile_rse.jupyterhub.choices import is_did
from volatile_rse.jupyterhub.progress import size_of

__all__ = ["HANDLERS", "DidHandler", "Found", "Rucio"]

_PATIENCE = 8.0
"""Seconds of an answer."""
_LIVES = 1800.0
"""Seconds for which a token is used; Rucio's live an hour."""
_UNAUTHORIZED, _NOT_FOUND, _BAD_GATEWAY, _BAD_REQUEST = 401, 404, 502, 400


@dataclass(frozen=True)
class Found:
    """What is told beside a DID."""

    found: bool
    said: str


@dataclass
class Rucio:
    """A Rucio server: ``c.VolatileRSESpawner.vrse_check = Rucio(...)``. Passwords and tokens are read from files."""

    server: str
    account: str
    username: str = ""
    password_file: str = ""
    token_file: str = ""
    """A token that something else renews, instead of name and password."""
    ca: str | None = None
    """File of the authorities to trust; None: the system's."""
    _token: str = field(default="", repr=False)
    _since: float = field(default=0.0, repr=False)
    _clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, SimpleAsyncHTTPClient] = field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )

    def __deepcopy__(self, memo: object) -> Rucio:
        """Stay one for all servers, with one login: a hub copies its configuration for each."""
        return self

    async def __call__(self, did: str) -> Found | None:
        """Look a DID up; None: that could not be done."""
        scope, _, name = did.partition(":")
        path = f"/dids/{quote(scope)}/{quote(name)}?dynamic_depth=FILE"
        try:
            answer = await self._get(path, {"X-Rucio-Auth-Token": await self._authenticated()})
            if answer.code == _UNAUTHORIZED:
                self._token = ""
                answer = await self._get(path, {"X-Rucio-Auth-Token": await self._authenticated()})
        except (OSError, HTTPClientError) as error:
            app_log.warning("%s cannot be asked for DIDs: %s", self.server, error)
            return None
        except ValueError as error:
            # Its words may be those of a header.
            app_log.warning("%s cannot be asked for DIDs: %s", self.server, type(error).__name__)
            return None
        if answer.code == _NOT_FOUND:
            return Found(found=False, said="does not exist in Rucio, or the hub may not see it")
        if answer.error is not None:
            app_log.warning("%s answers %s when it is asked for a DID", self.server, answer.code)
            return None
        return _described(answer)

    async def _authenticated(self) -> str:
        if self.token_file:
            return Path(self.token_file).read_text().strip()  # noqa: ASYNC240 (a small mounted file)
        if not self._token or time.monotonic() - self._since > _LIVES:
            password = Path(self.password_file).read_text().strip()  # noqa: ASYNC240 (as above)
            said = {
                "X-Rucio-Account": self.account,
                "X-Rucio-Username": self.username,
                "X-Rucio-Password": password,
            }
            answer = await self._get("/auth/userpass", said)
            answer.rethrow()
            self._token, self._since = answer.headers.get("X-Rucio-Auth-Token", ""), time.monotonic()
        return self._token

    async def _get(self, path: str, headers: Mapping[str, str]) -> HTTPResponse:
        context = ssl.create_default_context(cafile=self.ca) if self.server.startswith("https:") else None
        request = HTTPRequest(
            self.server.rstrip("/") + path,
            headers=dict(headers),
            connect_timeout=_PATIENCE,
            request_timeout=_PATIENCE,
            # Whoever answers might send the token elsewhere.
            follow_redirects=False,
            ssl_options=context,
        )
        return await self._client().fetch(request, raise_error=False)

    def _client(self) -> SimpleAsyncHTTPClient:
        """Give one of its own: a slow Rucio takes no place of the hub's, and curl's knows no ``ssl_options``."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = SimpleAsyncHTTPClient(force_instance=True)
        return self._clients[loop]


class DidHandler(BaseHandler):  # type: ignore[misc]
    """``GET /hub/volatile-rse/did?did=SCOPE:NAME`` for whoever is logged in."""

    @authenticated
    async def get(self) -> None:
        """Answer what is found of a DID."""
        did, check = self.get_argument("did", ""), getattr(self.current_user.spawner, "vrse_check", None)
        if not is_did(did):
            raise HTTPError(_BAD_REQUEST, "no DID")
        found = await check(did) if check is not None else None
        if found is None:
            raise HTTPError(_BAD_GATEWAY, "Rucio could not be asked")
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"found": found.found, "said": found.said}))


HANDLERS = [(r"/volatile-rse/did", DidHandler)]
"""For ``c.JupyterHub.extra_handlers``."""


def _described(answer: HTTPResponse) -> Found | None:
    try:
        said: Any = json.loads(answer.body)
    except ValueError:
        return None
    if not isinstance(said, Mapping) or not isinstance(said.get("type"), str):
        return None
    parts = [said["type"][:40].lower()]
    if isinstance(files := said.get("length"), int):
        parts.append("1 file" if files == 1 else f"{files} files")
    if isinstance(size := said.get("bytes"), int):
        parts.append(size_of(size))
    return Found(found=True, said=", ".join(parts))
