"""The work of a buffer's agent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from volatile_rse.api.agent import InputFile, Manifest, OutputRule
from volatile_rse.api.rserecord import FrozenInput, RSERecordSpec
from volatile_rse.builders.session import store_path
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.frozen import distinct
from volatile_rse.domain.naming import layout_of

__all__ = ["SiteAccess", "is_in_force", "manifest", "manifest_digest", "with_sources"]

_OF_WORK = 48
"""Hex digits of a digest that tell the work; the others tell what was found since where it is."""

_SOURCES = 64
"""Of one file, at most, by the agent's protocol: the nearest ones."""


@dataclass(frozen=True, slots=True)
class SiteAccess:
    """How a buffer reaches the permanent sites."""

    tokens: Mapping[str, str] = field(repr=False)
    """Host name -> bearer token."""
    trust: str | None
    """Certificates of the sites' authorities (PEM); None: the system's."""


def manifest_digest(
    inputs: Iterable[FrozenInput], access: SiteAccess, rules: Sequence[OutputRule] = (), *, staging: bool
) -> str:
    """Identify the work without asking where the inputs are: the same while list and credentials are.

    Parameters
    ----------
    staging
        Whether inputs are still wanted; not after the session's end.
    """
    parts: list[object] = [
        sorted((entry.name, entry.digest) for entry in inputs),
        sorted(access.tokens.items()),
        access.trust,
        staging,
    ]
    if rules:
        parts.append([rule.dump() for rule in rules])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
            adler32=file.adler32,
            sources=list(sources[file.did])[:_SOURCES],
        )
        for file, entries in distinct(inputs).items()
        if file.did in sources
    ]
    return Manifest(
        digest=digest,
        claims=[claim.uid for claim in record.claims],
        inputs=files,
        credentials={host: SecretStr(token) for host, token in access.tokens.items()},
        trust=access.trust,
    )
