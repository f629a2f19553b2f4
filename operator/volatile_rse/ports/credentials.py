"""What the operator signs: certificates and session tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

__all__ = ["Authority", "KeyPair", "TokenClaims"]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its key, PEM."""

    certificate: str
    key: str = field(repr=False)


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
        """Issue a certificate for host names; the first one is the common name (shortened if over 64 characters).

        Raises
        ------
        RefusedError
            CONFIGURATION_INVALID: they can be no names of hosts.
        """

    def client(self, name: str, lifetime: timedelta) -> KeyPair:
        """Issue a client certificate."""

    def jwks(self, issuer: str) -> Mapping[str, Any]:
        """Give the public key of an issuer of tokens: ``{"keys": […]}``, the same one whenever it is asked for.

        Its private part is derived anew for each token, and stored nowhere.
        """

    def token(self, claims: TokenClaims) -> str:
        """Sign a token with the key of its issuer (ES256)."""

    def digest(self, about: str, content: bytes) -> str:
        """Give a digest that nobody else can make: what bears it is as this operator wrote it.

        Parameters
        ----------
        about
            Whose content it is: the digest of another one's says nothing.
        """
