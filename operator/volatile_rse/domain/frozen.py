"""The list of input files, as it is frozen: one line of JSON a file, and a digest over each input's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping

from volatile_rse.api.volatilerse import Input
from volatile_rse.domain.catalogue import Did, File

__all__ = ["digest_of", "distinct", "is_enough", "least_of", "read_lines", "usable", "write_lines"]


def write_lines(inputs: Mapping[str, Iterable[File]]) -> str:
    """Write the files of every input."""
    return "".join(
        json.dumps([name, *_told(file)], separators=(",", ":")) + "\n"
        for name, files in sorted(inputs.items())
        for file in sorted(files)
    )


def _told(file: File) -> list[object]:
    """Tell a file; one with an adler32 as ever, since digests of such lists are stored."""
    told: list[object] = [file.did.scope, file.did.name, file.bytes, file.adler32]
    if file.lack:
        return [*told, file.md5, file.lack]
    return [*told, file.md5] if file.md5 else told


def read_lines(text: str) -> dict[str, tuple[File, ...]]:
    """Read what ``write_lines`` wrote; an input without files is absent."""
    inputs: dict[str, list[File]] = {}
    for line in text.splitlines():
        name, scope, file, *others = json.loads(line)
        inputs.setdefault(name, []).append(File(Did(scope, file), *others))
    return {name: tuple(files) for name, files in inputs.items()}


def usable(files: Iterable[File]) -> tuple[File, ...]:
    """Leave out the files that can never be staged."""
    return tuple(file for file in files if not file.lack)


def distinct(inputs: Mapping[str, Iterable[File]]) -> dict[File, list[str]]:
    """Give every file that can be staged once, with the inputs that it belongs to."""
    entries: dict[File, list[str]] = {}
    for name, files in sorted(inputs.items()):
        for file in usable(files):
            entries.setdefault(file, []).append(name)
    return dict(sorted(entries.items()))


def least_of(entry: Input, files: int) -> int:
    """Tell without how many of its files an input cannot be begun with."""
    return math.ceil(files * entry.minimum_percent / 100)


def is_enough(entry: Input, files: Collection[File]) -> bool:
    """Tell whether an input can be begun with when all that can be staged is."""
    return len(usable(files)) >= least_of(entry, len(files))


def digest_of(files: Iterable[File]) -> str:
    """Give SHA-256 of the lines, in hex."""
    return hashlib.sha256(write_lines({"": files}).encode()).hexdigest()
