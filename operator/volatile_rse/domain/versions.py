"""One path has one version in a dataset: what several sessions wrote under the same path is told by its names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from volatile_rse.domain.catalogue import Did, File

__all__ = ["is_same", "others_of", "own_of", "path_of", "same_of", "versions_in"]

_RECORD = "([a-z2-7]{10})"
_DIGEST = re.compile(rf".*\.{_RECORD}\.(-x[a-z2-7]{{32}})")
"""A name of which only a digest of dataset and path is left."""
_TEMPLATED = re.compile(rf".*/{_RECORD}/[a-z0-9-]+/([^/]+)")
"""``/{record}/{output}/{path}``, with which every template ends."""


def path_of(dataset: str, name: str) -> tuple[str, str] | None:
    """Read record and path, as it is written in names, from the name of a file; None: no session gave it this name."""
    found = re.fullmatch(rf"{re.escape(dataset)}\.{_RECORD}\.(.+)", name)
    found = found or _DIGEST.fullmatch(name) or _TEMPLATED.fullmatch(name)
    return None if found is None else (found[1], found[2])


def versions_in(dataset: Did, files: Iterable[File], content: Iterable[File], record_id: str) -> dict[Did, File]:
    """Give for each file the version of its path that a dataset has from another record; the same one if it has that.

    Parameters
    ----------
    content
        Of the dataset.
    record_id
        Of the files.
    """
    wanted = {path[1]: file for file in files if (path := path_of(dataset.name, file.did.name))}
    found: dict[Did, File] = {}
    # Somebody's file of another scope may be called so, and may be in the dataset: it is no session's for all that.
    for other in (file for file in content if file.did.scope == dataset.scope):
        path = path_of(dataset.name, other.did.name)
        if path is None or path[0] == record_id or path[1] not in wanted:
            continue
        file = wanted[path[1]]
        if file.did not in found or is_same(file, other):
            found[file.did] = other
    return found


def is_same(file: File, other: File) -> bool:
    """Tell whether two versions have the same content."""
    return (file.bytes, file.adler32) == (other.bytes, other.adler32)


Groups = Mapping[str, Sequence[File]]
"""Output -> files."""


def own_of(groups: Groups, versions: Mapping[Did, File]) -> dict[str, list[File]]:
    """Give the files whose path is free."""
    return {output: [file for file in files if file.did not in versions] for output, files in groups.items()}


def same_of(groups: Groups, versions: Mapping[Did, File]) -> dict[str, list[tuple[File, File]]]:
    """Give the files that their dataset has already with the same content, and what it has."""
    return {
        output: [(file, versions[file.did]) for file in files if _has_same(file, versions)]
        for output, files in groups.items()
    }


def others_of(groups: Groups, versions: Mapping[Did, File]) -> list[tuple[File, File]]:
    """Give the files whose path is taken by another version, and that version."""
    return [
        (file, versions[file.did])
        for files in groups.values()
        for file in files
        if file.did in versions and not _has_same(file, versions)
    ]


def _has_same(file: File, versions: Mapping[Did, File]) -> bool:
    return file.did in versions and is_same(file, versions[file.did])
