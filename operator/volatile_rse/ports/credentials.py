"""What the operator signs: certificates and session tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

__all__ = ["Authority", "KeyPair", "SessionKey", "TokenClaims"]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class SessionKey:
    """The key by which one buffer's session tokens are signed (ES256)."""

    private: str
    """JWK, JSON."""
    jwks: Mapping[str, Any]
    """``{"keys": […]}``: the public part."""


@dataclass(frozen=True, slots=True)
class TokenClaims:
    """A token of the WLCG profile 1.0."""

    issuer: str
    subject: str
    audience: str
    scope: str
    """Space separated: ``storage.read:/store storage.modify:/outbox/…``."""
    expires: datetime


class Authority(Protocol):
    """The operator's own certificate authority and token signer."""

    def bundle(self) -> str:
        """Give the certificates to trust (PEM)."""

    def server(self, names: Sequence[str], lifetime: timedelta) -> KeyPair:
        """Issue a certificate for host names; the first one is the common name (shortened if over 64 characters)."""

    def client(self, name: str, lifetime: timedelta) -> KeyPair:
        """Issue a client certificate."""

    def session_key(self, buffer: str) -> SessionKey:
        """Derive the key of a buffer: the same one whenever it has to be made again, so that tokens stay good.

        Parameters
        ----------
        buffer
            What the buffer is called in tokens.
        """

    def session_token(self, key: str, claims: TokenClaims) -> str:
        """Sign a token with a session key's private JWK."""
