"""The list of the session's inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from volatile_rse.session.errors import SessionError

__all__ = ["Input", "InputFile", "by_input", "read_list"]


class InputFile(NamedTuple):
    """One file of the frozen list."""

    did: str
    inputs: tuple[str, ...]
    """Names of the inputs that it belongs to."""
    path: str
    """On the buffer."""
    bytes: int
    adler32: str | None
    md5: str | None
    """Where Rucio has no adler32."""


class Input(NamedTuple):
    """One entry of ``spec.inputs``."""

    name: str
    files: tuple[InputFile, ...]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(file.bytes for file in self.files)


def read_list(text: str) -> list[InputFile]:
    """Read the list: a line of JSON a file.

    Raises
    ------
    SessionError
        It is no such list.
    """
    try:
        return [_file(json.loads(line)) for line in text.splitlines() if line]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"The list of inputs cannot be read ({type(error).__name__}: {error}): it was changed, or it is of a newer "
            "operator. Take the volatile-rse-session that comes with that."
        )
        raise SessionError(message) from error


def by_input(files: Iterable[InputFile]) -> Mapping[str, Input]:
    """Sort them by their inputs, which come in the order of the names."""
    found: dict[str, list[InputFile]] = {}
    for file in files:
        for name in file.inputs:
            found.setdefault(name, []).append(file)
    return {name: Input(name, tuple(found[name])) for name in sorted(found)}


def _file(line: Mapping[str, object]) -> InputFile:
    entries = line["inputs"]
    if not isinstance(entries, list):
        message = "inputs is no list"
        raise TypeError(message)
    path = "/" + str(line["url"]).split("://", 1)[1].partition("/")[2].lstrip("/")
    return InputFile(
        did=str(line["did"]),
        inputs=tuple(map(str, entries)),
        path=path,
        bytes=int(str(line["bytes"])),
        adler32=_text(line.get("adler32")),
        md5=_text(line.get("md5")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
