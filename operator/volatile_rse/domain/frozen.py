"""The list of input files, as it is frozen: one line of JSON a file, and a digest over each input's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping

from volatile_rse.api.volatilerse import Input
from volatile_rse.domain.catalogue import Did, File

__all__ = ["digest_of", "distinct", "least_of", "read_lines", "write_lines"]


def write_lines(inputs: Mapping[str, Iterable[File]]) -> str:
    """Write the files of every input."""
    return "".join(
        json.dumps([name, file.did.scope, file.did.name, file.bytes, file.adler32], separators=(",", ":")) + "\n"
        for name, files in sorted(inputs.items())
        for file in sorted(files)
    )


def read_lines(text: str) -> dict[str, tuple[File, ...]]:
    """Read what ``write_lines`` wrote; an input without files is absent."""
    inputs: dict[str, list[File]] = {}
    for line in text.splitlines():
        name, scope, file, size, adler32 = json.loads(line)
        inputs.setdefault(name, []).append(File(Did(scope, file), size, adler32))
    return {name: tuple(files) for name, files in inputs.items()}


def distinct(inputs: Mapping[str, Iterable[File]]) -> dict[File, list[str]]:
    """Give every file once, with the inputs that it belongs to."""
    entries: dict[File, list[str]] = {}
    for name, files in sorted(inputs.items()):
        for file in files:
            entries.setdefault(file, []).append(name)
    return dict(sorted(entries.items()))


def least_of(entry: Input, files: int) -> int:
    """Tell without how many of its files an input cannot be begun with."""
    return math.ceil(files * entry.minimum_percent / 100)


def digest_of(files: Iterable[File]) -> str:
    """Give SHA-256 of the lines, in hex."""
    return hashlib.sha256(write_lines({"": files}).encode()).hexdigest()
