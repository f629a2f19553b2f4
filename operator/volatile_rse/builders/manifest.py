"""The work of a buffer's agent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from volatile_rse.api.addresses import is_below, place_of
from volatile_rse.api.agent import InputFile, Manifest, OutputRule, SiteTokens
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import FrozenInput, RSERecordSpec
from volatile_rse.api.text import WORDS, visible
from volatile_rse.builders.session import store_path
from volatile_rse.domain.catalogue import Barred, Did, File
from volatile_rse.domain.frozen import distinct
from volatile_rse.domain.naming import layout_of

__all__ = ["SiteAccess", "is_in_force", "manifest", "manifest_digest", "with_sources", "with_words"]

_OF_WORK = 48
"""Hex digits of a digest that tell the work; the others tell what was found since where it is."""

_SOURCES = 64
"""Of one file, at most, by the agent's protocol: the nearest ones."""


@dataclass(frozen=True, slots=True)
class SiteAccess:
    """How a buffer reaches the permanent sites."""

    tokens: Mapping[str, SiteTokens]
    """Host name -> its tokens."""
    trust: str | None
    """Certificates of the sites' authorities (PEM); None: the system's."""
    anonymous: frozenset[str] = frozenset()
    """Hosts that are read without a token."""
    plain: frozenset[str] = frozenset()
    """Hosts whose redirections to plain http are followed by who reads."""

    def needed(self, sources: Collection[str], destinations: Collection[str]) -> SiteAccess:
        """Leave what one buffer needs: to read at its sources; to write, and to read that again, at its destinations.

        Hosts that there is no token for are named without one.
        """
        found = {}
        for host in {*sources, *destinations}:
            given, is_destination = self.tokens.get(host, SiteTokens()), host in destinations
            write = given.write if is_destination else None
            # What was written there is looked at by who may; where everybody may read, that is the agent's own doing.
            read = None if host in self.anonymous else given.read or write
            found[host] = given.model_copy(update={"read": read, "write": write, "plain_redirects": host in self.plain})
        return replace(self, tokens=found)

    def fault(self, url: str, *, writes: bool) -> tuple[Reason, str] | None:
        """Say why there is no token for what a URL names: there is none for its host, or that is not for this URL."""
        place = place_of(url)
        if place is None:
            return Reason.CREDENTIAL_MISMATCH, url
        if place.host in self.anonymous and not writes:
            return None
        if (tokens := self.tokens.get(place.host)) is None or (tokens.write if writes else tokens.read) is None:
            return Reason.CREDENTIAL_MISSING, place.host
        outside = tokens.paths is not None and not is_below(place, tokens.paths)
        return (Reason.CREDENTIAL_MISMATCH, url) if outside else None

    def opening(self, url: str) -> str | None:
        """Give the token to ask about a file with that was written there; None: there is none for it."""
        if (place := place_of(url)) is None or (tokens := self.tokens.get(place.host)) is None:
            return None
        token, is_inside = tokens.read or tokens.write, tokens.paths is None or is_below(place, tokens.paths)
        return token.get_secret_value() if token is not None and is_inside else None


def manifest_digest(
    inputs: Iterable[FrozenInput], access: SiteAccess, rules: Sequence[OutputRule] = (), *, staging: bool
) -> str:
    """Identify the work without asking where the inputs are: the same while list and credentials are.

    Parameters
    ----------
    access
        What is sent of it, and no more: what opens other sites sends nothing anew.
    staging
        Whether inputs are still wanted; not after the session's end.
    """
    parts: list[object] = [
        sorted((entry.name, entry.digest) for entry in inputs),
        [_told(host, tokens) for host, tokens in sorted(access.tokens.items())],
        access.trust,
        staging,
    ]
    if rules:
        parts.append([rule.dump() for rule in rules])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _told(host: str, tokens: SiteTokens) -> list[object]:
    secrets = [secret and secret.get_secret_value() for secret in (tokens.read, tokens.write)]
    return [host, *secrets, tokens.paths, *(["plain"] if tokens.plain_redirects else [])]


def with_sources(digest: str, found: Mapping[Did, Sequence[str]]) -> str:
    """Identify the same work with sources that were found since."""
    told = json.dumps(sorted((str(did), list(pfns)) for did, pfns in found.items()))
    return digest[:_OF_WORK] + hashlib.sha256(told.encode()).hexdigest()[_OF_WORK:]


def is_in_force(digest: str, told: str | None) -> bool:
    """Tell whether an agent that tells this digest has the work, wherever it looks for it."""
    return told is not None and told[:_OF_WORK] == digest[:_OF_WORK]


def manifest(
    record: RSERecordSpec,
    digest: str,
    inputs: Mapping[str, Iterable[File]],
    sources: Mapping[Did, Sequence[str]],
    access: SiteAccess,
) -> Manifest:
    """Write the manifest; a file of which nothing is said in ``sources`` is left out, and so never counts as staged."""
    files = [
        InputFile(
            scope=file.did.scope,
            name=file.did.name,
            entries=entries,
            path=store_path(file.did, layout_of(record.class_snapshot.naming)),
            bytes=file.bytes,
            adler32=file.adler32 or None,
            md5=file.md5 or None,
            # Those that can be read come first: the others are for the words of a file that comes from nowhere.
            sources=sorted(sources[file.did], key=lambda url: access.fault(url, writes=False) is not None)[:_SOURCES],
        )
        for file, entries in distinct(inputs).items()
        if file.did in sources
    ]
    return Manifest(
        digest=digest,
        claims=[claim.uid for claim in record.claims],
        inputs=files,
        credentials=dict(access.tokens),
        trust=access.trust,
    )


def with_words(inputs: Iterable[InputFile], barred: Mapping[Did, Barred]) -> list[InputFile]:
    """Say of files that come from nowhere where Rucio has them, to an agent that knows such words."""
    return [
        file.model_copy(update={"barred": visible(str(where), WORDS)})
        if (where := barred.get(Did(file.scope, file.name))) is not None
        else file
        for file in inputs
    ]
