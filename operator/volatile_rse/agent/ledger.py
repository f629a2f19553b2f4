"""The agent's memory: the state of every input, output and copy, in SQLite on the volume.

One version counts all changes; each row carries the version of its last one. What the disk says counts for more: the
rows of inputs and outputs are made anew from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from volatile_rse.api.agent import (
    CopyState,
    CopyTotals,
    Failure,
    InputState,
    InputTotals,
    OutputState,
    OutputTotals,
    SealRequest,
    SealState,
)
from volatile_rse.api.schema import LARGEST, ApiModel
from volatile_rse.api.text import WORDS, visible

__all__ = ["Ledger", "Row", "copy_row", "input_row", "is_short", "output_key", "output_row", "short"]

_log = logging.getLogger(__name__)
_State = TypeVar("_State", InputState, OutputState, CopyState)
_KINDS: dict[type, str] = {InputState: "input", OutputState: "output", CopyState: "copy"}
_LONGEST, _DIGEST = 1000, 32
"""Bytes of a path that is kept as it is, and of a digest."""
_SHOWN = 20
"""Failures of each kind that a report names."""
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS item (
    kind TEXT, key BLOB, did TEXT, groups TEXT, bytes INTEGER, version INTEGER, state TEXT, error TEXT, body TEXT,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS item_version ON item (kind, version);
CREATE INDEX IF NOT EXISTS item_did ON item (kind, did);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
INSERT OR IGNORE INTO fact VALUES ('version', '0');
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A state and where it belongs."""

    key: bytes
    state: InputState | OutputState | CopyState
    did: str
    groups: Sequence[str]
    """What its totals are told by."""
    bytes: int


def input_row(state: InputState, entries: Sequence[str]) -> Row:
    """Place an input."""
    return Row(state.path.encode(), state, f"{state.scope}:{state.name}", entries, state.bytes)


def output_key(claim: str, path: bytes, area: str = "") -> bytes:
    """Name an output; ``area`` sets apart what has the path of another one."""
    return (f"{claim}//{area}/" if area else f"{claim}/").encode() + short(path)


def short(path: bytes) -> bytes:
    """Give a path that an attribute of a file has room for: of a very long one a digest, behind a NUL as in no path."""
    if len(path) <= _LONGEST:
        return path
    return path[: _LONGEST - _DIGEST - 1] + bytes(1) + hashlib.sha256(path).digest()


def is_short(path: bytes) -> bool:
    """Tell whether it only stands for the path that the disk has."""
    return bytes(1) in path


def output_row(state: OutputState, path: bytes, area: str = "") -> Row:
    """Place an output; ``path`` is the one that the disk has."""
    key = output_key(state.claim, path, area)
    # What programs leave lying about is nobody's file, and missed by nobody.
    groups = [] if state.state == "excluded" else [json.dumps([state.claim, state.output])]
    return Row(key, state, f"{state.scope}:{state.name}", groups, state.bytes)


def copy_row(state: CopyState, size: int) -> Row:
    """Place a copy."""
    return Row(copy_key(state.scope, state.name, state.rse), state, f"{state.scope}:{state.name}", ["copy"], size)


def copy_key(scope: str, name: str, rse: str) -> bytes:
    """Name a copy."""
    return f"{scope}:{name} {rse}".encode()


class Ledger:
    """The rows, for all threads of the agent.

    Parameters
    ----------
    path
        File of the ledger.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        try:
            self._database = _opened(path)
        except sqlite3.OperationalError:
            # The volume is full or not there: nothing is wrong with the file.
            raise
        except sqlite3.DatabaseError:
            _log.exception("%s is damaged: it is put aside and made anew from the disk", path)
            for part in path.parent.glob(f"{path.name}*"):
                part.rename(path.parent / f"damaged.{part.name}")
            self._database = _opened(path)
        self._version = int(self._fact("version") or 0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    @property
    def version(self) -> int:
        """Of the last change."""
        return self._version

    def bump(self) -> None:
        """Count a change of something that has no row, also on a full volume: the next row brings the number along."""
        with self._lock:
            try:
                with self._changing():
                    self._version += 1
            except sqlite3.OperationalError as error:
                _log.warning("the ledger's version is not written: %s", error)
                self._version += 1

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows, all or none."""
        with self._changing():
            self._database.executemany(
                "REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (self._values(row) for row in rows)
            )

    def drop(self, keys: Sequence[bytes]) -> None:
        """Forget outputs that are no more."""
        with self._changing():
            self._version += 1
            self._database.executemany("DELETE FROM item WHERE kind = 'output' AND key = ?", [(key,) for key in keys])

    def get(self, model: type[_State], key: bytes) -> _State | None:
        """Read one row."""
        found = self._read("SELECT body FROM item WHERE kind = ? AND key = ?", _KINDS[model], key)
        return model.model_validate_json(found[0][0]) if found else None

    def every(self, model: type[_State]) -> dict[bytes, _State]:
        """Read every row of a kind."""
        found = self._read("SELECT key, body FROM item WHERE kind = ?", _KINDS[model])
        return {key: model.model_validate_json(body) for key, body in found}

    def input_entries(self) -> dict[bytes, list[str]]:
        """Read of every input which entries it belongs to."""
        return {
            key: json.loads(groups) for key, groups in self._read("SELECT key, groups FROM item WHERE kind = 'input'")
        }

    def page(self, model: type[_State], after: int, limit: int) -> tuple[list[_State], int | None]:
        """Read what changed after a version, and from where to read on."""
        query = "SELECT body FROM item WHERE kind = ? AND version > ? ORDER BY version LIMIT ?"
        found = [model.model_validate_json(body) for (body,) in self._read(query, _KINDS[model], after, limit + 1)]
        return found[:limit], found[limit - 1].version if len(found) > limit else None

    def sealed(self, scope: str, name: str) -> OutputState | None:
        """Find a sealed output by its name."""
        query = "SELECT body FROM item WHERE kind = 'output' AND did = ? AND state = 'sealed'"
        found = self._read(query, f"{scope}:{name}")
        return OutputState.model_validate_json(found[0][0]) if found else None

    def input_totals(self) -> list[InputTotals]:
        """Add up the inputs of each entry."""
        return [
            InputTotals(
                name=name, files=sums.files(), bytes=sums.bytes(), staged=sums.files("staged"),
                failed=sums.files("failed"), staged_bytes=sums.bytes("staged"),
            )
            for name, sums in self._totals("input").items()
        ]  # fmt: skip

    def output_totals(self) -> list[OutputTotals]:
        """Add up the files of each output."""
        totals = []
        for group, sums in self._totals("output").items():
            claim, name = json.loads(group)
            counts = {state: sums.files(state) for state in ("sealed", "torn", "failed")}
            totals.append(OutputTotals(claim=claim, name=name, files=sums.files(), bytes=sums.bytes(), **counts))
        return totals

    def copy_totals(self) -> CopyTotals:
        """Add up the copies."""
        sums = self._totals("copy").get("copy", _Sums({}))
        return CopyTotals(
            files=sums.files(), verified=sums.files("verified"), failed=sums.files("failed"), bytes=sums.bytes(),
            verified_bytes=sums.bytes("verified"),
        )  # fmt: skip

    def failures(self) -> list[Failure]:
        """Give the first errors of each kind."""
        query = "SELECT body FROM item WHERE kind = ? AND error IS NOT NULL ORDER BY version LIMIT ?"
        failures = []
        for kind, field in (("input", "path"), ("output", "path"), ("copy", "pfn")):
            bodies = [json.loads(body) for (body,) in self._read(query, kind, _SHOWN)]
            failures += [Failure(what=body[field], error=body["error"]) for body in bodies]
        return failures

    def unmatched(self) -> list[str]:
        """Name some files that no output takes."""
        query = "SELECT body FROM item WHERE kind = 'output' AND state = 'unmatched' ORDER BY version LIMIT ?"
        return [json.loads(body)["path"] for (body,) in self._read(query, _SHOWN)]

    def seal(self) -> tuple[SealRequest, SealState] | None:
        """Tell what was asked to be sealed, and how far that is."""
        request, state = self._fact("seal.request"), self._fact("seal.state")
        if request is None or state is None:
            return None
        return SealRequest.model_validate_json(request), SealState.model_validate_json(state)

    def put_seal(self, request: SealRequest, state: SealState) -> None:
        """Write what was asked to be sealed, and how far that is."""
        facts = [("seal.request", _written(request)), ("seal.state", _written(state))]
        with self._changing():
            self._version += 1
            self._database.executemany("REPLACE INTO fact VALUES (?, ?)", facts)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            before = self._version
            try:
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._database.execute("UPDATE fact SET value = ? WHERE name = 'version'", (str(self._version),))
                self._database.execute("COMMIT")
            except BaseException:
                self._version = before
                # SQLite may have done so by itself, and does where the volume is full.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _values(self, row: Row) -> tuple[str | bytes | int | None, ...]:
        self._version += 1
        # A row that breaks the protocol's bounds could never be read again, and with it no other one.
        error = None if row.state.error is None else visible(row.state.error, WORDS)
        state = row.state.model_copy(update={"version": self._version, "error": error})
        groups, body = json.dumps(row.groups), _written(state)
        kind = _KINDS[type(state)]
        return kind, row.key, row.did, groups, row.bytes, self._version, state.state, state.error, body

    def _read(self, query: str, *values: str | bytes | int) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    def _fact(self, name: str) -> str | None:
        found: list[tuple[str]] = self._read("SELECT value FROM fact WHERE name = ?", name)
        return found[0][0] if found else None

    def _totals(self, kind: str) -> dict[str, _Sums]:
        query = (
            "SELECT part.value, state, count(*), total(bytes) FROM item, json_each(item.groups) AS part"
            " WHERE kind = ? GROUP BY part.value, state"
        )
        totals: dict[str, _Sums] = {}
        for group, state, files, size in self._read(query, kind):
            # ``sum`` ends the report where it leaves 64 bits; a session may make files of holes that large.
            totals.setdefault(group, _Sums({})).states[state] = int(files), int(size)
        return totals


def _written(model: ApiModel) -> str:
    """Write what is there alone: the version before refuses a field that it does not know, even an empty one."""
    return model.model_dump_json(exclude_none=True)


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.executescript(_SCHEMA)
    return database


@dataclass(frozen=True, slots=True)
class _Sums:
    """Number of files and of bytes, by state."""

    states: dict[str, tuple[int, int]]

    def files(self, state: str | None = None) -> int:
        return self._sum(0, state)

    def bytes(self, state: str | None = None) -> int:
        return min(self._sum(1, state), LARGEST)

    def _sum(self, which: int, state: str | None) -> int:
        return sum(pair[which] for name, pair in self.states.items() if state in {None, name})
