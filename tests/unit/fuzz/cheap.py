"""What lets thousands of cases be cheap: nothing is copied or signed twice, and equal worlds are told as such."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import marshal
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from enum import Enum
from types import FunctionType, MethodType
from typing import Any, TypeVar

from tests.unit.fuzz.readings import guarded
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.fake_cluster import FakeCluster
from volatile_rse.ports.cluster import Object, Ref
from volatile_rse.ports.credentials import Authority, KeyPair, TokenClaims

__all__ = ["LentCluster", "RememberingAuthority", "digest_of"]

T = TypeVar("T")
_CANONICAL = 2
"""Format of marshal in which equal values are equal bytes: later ones tell who refers to what."""


class LentCluster(FakeCluster):
    """Gives all who read an object the same one for as long as it does not change, and sees to it that nobody does.

    Each version is written down as it is given, and compared with that when the next one comes, and in the end.
    """

    def __init__(self, *namespaces: str, now: Callable[[], datetime], uids: Callable[[], str]) -> None:
        self._lent: dict[Ref, tuple[str, Object, bytes]] = {}
        super().__init__(*namespaces, now=now, uids=uids)

    def _given(self, ref: Ref) -> Object:
        stored = self._objects[ref]
        version = stored["metadata"]["resourceVersion"]
        lent = self._lent.get(ref)
        if lent is not None and lent[0] == version:
            return lent[1]
        if lent is not None:
            self._take_back(ref)
        text = marshal.dumps(stored, _CANONICAL)
        given = guarded(ref, marshal.loads(text))  # noqa: S302 (its own bytes)
        self._lent[ref] = version, given, text
        return given

    def take_back(self) -> None:
        """End all loans.

        Raises
        ------
        AssertionError
            Somebody has changed what the API server gave.
        """
        for ref in tuple(self._lent):
            self._take_back(ref)

    def _take_back(self, ref: Ref) -> None:
        _, given, text = self._lent.pop(ref)
        assert marshal.dumps(_bare(given), _CANONICAL) == text, (
            f"somebody has changed {ref}, as the API server gave it: {given}"
        )


def _bare(value: Any) -> Any:
    """Give an object as it was before its parts were guarded."""
    if isinstance(value, dict):
        return {key: _bare(inner) for key, inner in dict.items(value)}
    return [_bare(inner) for inner in list.__iter__(value)] if isinstance(value, list) else value


class RememberingAuthority(Authority):
    """An authority that signs the same thing at the same time once: what it gives is real, and the same in every case.

    Parameters
    ----------
    pair
        Its certificate and key.
    now
        The time.
    """

    def __init__(self, pair: tuple[str, str], now: Callable[[], datetime]) -> None:
        self._now = now
        self._real = LocalAuthority(*pair, now)

    def bundle(self) -> str:
        """Give the authority's certificate."""
        return self._once(self._real.bundle)

    def server(self, names: Sequence[str], lifetime: timedelta) -> KeyPair:
        """Issue a certificate for host names."""
        return self._once(lambda: self._real.server(names, lifetime), "server", tuple(names), lifetime, self._now())

    def client(self, name: str, lifetime: timedelta) -> KeyPair:
        """Issue a client certificate."""
        return self._once(lambda: self._real.client(name, lifetime), "client", name, lifetime, self._now())

    def jwks(self, issuer: str) -> Mapping[str, Any]:
        """Give the public key of an issuer."""
        return self._once(lambda: self._real.jwks(issuer), "jwks", issuer)

    def token(self, claims: TokenClaims) -> str:
        """Sign a token."""
        return self._once(lambda: self._real.token(claims), "token", claims, self._now())

    def digest(self, about: str, content: bytes) -> str:
        """Give an HMAC."""
        return self._once(lambda: self._real.digest(about, content), "digest", about, content)

    def _once(self, give: Callable[[], T], *asked: Any) -> T:
        try:
            known = asked in _SIGNED
        except TypeError:
            # Asked for what is no name at all.
            return give()
        if not known:
            _SIGNED[asked] = give()
        found: T = _SIGNED[asked]
        return found


_SIGNED: dict[tuple[Any, ...], Any] = {}
"""Of the one authority of this process: what it was asked, and when -> what it gave."""
_FORGOTTEN = {"journal", "events", "faults", "steps", "took", "_lent"}
"""What is only told of the past: nothing that anybody does depends on it."""


def digest_of(world: object) -> bytes:
    """Digest all that a world is: of two that are equal, the same becomes, as nothing in them is left to chance."""
    return hashlib.blake2b(marshal.dumps(_plain(world), _CANONICAL), digest_size=16).digest()


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str() | int() | float() | bytes():
            # An enum of texts is no plain text to marshal.
            return (type(value).__name__, value.value) if isinstance(value, Enum) else value
        case dict():
            try:
                return marshal.dumps(value, _CANONICAL)
            except ValueError:
                return [(_plain(key), _plain(inner)) for key, inner in value.items()]
        case list() | tuple():
            return [type(value).__name__, *map(_plain, value)]
        case AbstractSet():
            return sorted(marshal.dumps(_plain(inner), _CANONICAL) for inner in value)
        case Enum() | datetime() | timedelta() | itertools.count() | range():
            return repr(value)
        case FunctionType() | MethodType():
            return value.__qualname__
        case _:
            return type(value).__qualname__, [
                (name, _plain(inner)) for name, inner in _parts(value) if name not in _FORGOTTEN
            ]


def _parts(value: object) -> Sequence[tuple[str, Any]]:
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    # Nothing else may pass unseen: what has neither fields nor a dictionary fails here.
    return list(vars(value).items())
