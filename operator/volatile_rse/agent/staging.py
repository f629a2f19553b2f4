"""Inputs from sites onto the volume: checked, resumed, tried elsewhere, finished by one rename."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from volatile_rse.agent import checksum
from volatile_rse.agent.crew import Crew, backoff
from volatile_rse.agent.ledger import Ledger, Row, input_row
from volatile_rse.agent.places import Places, sync
from volatile_rse.agent.progress import Progress
from volatile_rse.agent.transfer import Access, Line, TransferError
from volatile_rse.api.agent import InputFile, InputState

__all__ = ["Staging"]

_log = logging.getLogger(__name__)
_ROUNDS = 3
"""How often all sources fail before the file counts as failed."""
_RESERVE = 16 << 20
"""Bytes that stay free for the ledger and the gate."""
_WORDS = 512
State = Literal["wanted", "staged", "failed"]


class Staging:
    """Fetches the inputs of the manifest in force.

    Parameters
    ----------
    first, cap
        Seconds before the first repetition, and before any.
    """

    def __init__(
        self, places: Places, ledger: Ledger, *, threads: int = 4, first: float = 1.0, cap: float = 300.0
    ) -> None:
        self._places = places
        self._ledger = ledger
        self.progress = Progress()
        self._first, self._cap = first, cap
        self._lock = threading.Lock()
        self._files: dict[str, InputFile] = {}
        self._access = Access()
        self._rounds: dict[str, int] = {}
        self._arriving: set[_Download] = set()
        """What will still need space."""
        self._crew: Crew[str] = Crew("staging", threads, self._work)

    def start(self) -> None:
        """Begin."""
        self._crew.start()

    def stop(self) -> None:
        """End; what has arrived is kept."""
        self._crew.stop()

    def take(self, files: list[InputFile], access: Access) -> None:
        """Work on these files from now on, and on no others; what the disk has already is staged."""
        self._crew.forget()
        self.progress.expect({name for file in files for name in file.entries})
        rows, missing = [], []
        before = {state.path: state for state in self._ledger.every(InputState).values()}
        for file in files:
            state: State = "staged" if self._present(file) else "wanted"
            if state == "wanted":
                missing.append(file.path)
            row = _row(file, state)
            known = before.get(file.path)
            if known is None or known.model_copy(update={"version": 0}) != row.state:
                rows.append(row)
        if rows:
            self._ledger.put(rows)
        with self._lock:
            self._files = {file.path: file for file in files}
            self._access = access
            self._rounds.clear()
        self._crew.call(missing)

    def _present(self, file: InputFile) -> bool:
        path = self._places.on_disk(file.path)
        try:
            return path.stat().st_size == file.bytes and checksum.remembered(path) == file.adler32
        except OSError:
            return False

    def _work(self, line: Line, path: str) -> float | None:
        """Try every source once."""
        with self._lock:
            file, access = self._files.get(path), self._access
        if file is None:
            return None
        if self._present(file):
            # It arrived while a new manifest came.
            self._ledger.put([_row(file, "staged")])
            return None
        errors = []
        for source in file.sources:
            try:
                self._fetch(line, file, source, access)
            except (TransferError, OSError) as error:
                errors.append(str(error))
                _log.warning("%s is not staged: %s", path, error)
            else:
                self._ledger.put([_row(file, "staged")])
                _log.info("%s is staged", path)
                return None
            if self._files.get(path) is not file:
                return None
        return self._failed(file, "; ".join(errors)[:_WORDS])

    def _failed(self, file: InputFile, error: str) -> float | None:
        with self._lock:
            if self._files.get(file.path) is not file:
                # The new manifest has asked for it anew, or for it no longer.
                return None
            rounds = self._rounds[file.path] = self._rounds.get(file.path, 0) + 1
        self._ledger.put([_row(file, "failed" if rounds >= _ROUNDS else "wanted", error)])
        return backoff(rounds, self._first, self._cap)

    def _fetch(self, line: Line, file: InputFile, source: str, access: Access) -> None:
        partial = self._places.partial / hashlib.sha256(file.path.encode()).hexdigest()
        partial.parent.mkdir(parents=True, exist_ok=True)
        arrived = partial.stat().st_size if partial.exists() else 0
        if arrived > file.bytes:
            partial.unlink()
            arrived = 0
        download = _Download(file, partial, arrived, self.progress)
        try:
            with self._room(file, download):
                if download.missing:
                    line.get(source, access, arrived, download.receive, lambda: self._files.get(file.path) is None)
        finally:
            download.close()
        download.check(source)
        self._finish(file, partial)

    def _finish(self, file: InputFile, partial: Path) -> None:
        target = self._places.on_disk(file.path)
        checksum.remember(partial, file.adler32)
        partial.chmod(0o444)
        sync(partial)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(target)
        sync(target.parent)

    @contextmanager
    def _room(self, file: InputFile, download: _Download) -> Iterator[None]:
        """Keep room for a file while it arrives."""
        with self._lock:
            volume = os.statvfs(self._places.data)
            # What has arrived is no longer free: only the rest of each file is still to be kept.
            promised = sum(other.missing for other in self._arriving)
            free = volume.f_bavail * volume.f_frsize - promised - _RESERVE
            if download.missing > free:
                message = (
                    f"{file.path} needs {download.missing} bytes and the volume has {max(free, 0)} to spare: "
                    "the owner must free space or ask for a greater volume"
                )
                raise TransferError(message)
            self._arriving.add(download)
        try:
            yield
        finally:
            with self._lock:
                self._arriving.discard(download)


class _Download:
    """A file that arrives, and its checksum."""

    def __init__(self, file: InputFile, partial: Path, arrived: int, progress: Progress) -> None:
        self._progress = progress
        self._file = file
        self._partial = partial
        self._size = arrived
        self._begun = False
        # What an earlier attempt left is read again: nothing else vouches for it.
        self._sum = checksum.of_file(partial) if arrived else checksum.EMPTY
        self._stream = partial.open("r+b" if arrived else "wb")
        self._stream.seek(arrived)

    @property
    def missing(self) -> int:
        """Bytes that are still to come."""
        return self._file.bytes - self._size

    def receive(self, data: bytes, begin: int) -> None:
        """Take a piece."""
        if not self._begun and begin != self._size:
            self._stream.seek(0)
            self._stream.truncate()
            self._size, self._sum = 0, checksum.EMPTY
        self._begun = True
        if self._size + len(data) > self._file.bytes:
            message = f"the site has more than the {self._file.bytes} bytes of the catalogue"
            raise TransferError(message)
        self._stream.write(data)
        self._sum = checksum.extend(self._sum, data)
        self._size += len(data)
        self._progress.arrived(self._file.entries, len(data))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def check(self, source: str) -> None:
        """Compare with the catalogue; a file that is wrong as a whole is dropped, a short one is kept."""
        if self._size < self._file.bytes:
            message = f"{source} ended after {self._size} of {self._file.bytes} bytes"
            raise TransferError(message)
        found = checksum.digits(self._sum)
        if found != self._file.adler32:
            self._partial.unlink()
            message = (
                f"{source} has adler32 {found}, not {self._file.adler32}: the site's operators must check the file"
            )
            raise TransferError(message)


def _row(file: InputFile, state: State, error: str | None = None) -> Row:
    made = InputState(
        version=0, scope=file.scope, name=file.name, path=file.path, bytes=file.bytes, adler32=file.adler32,
        state=state, error=error,
    )  # fmt: skip
    return input_row(made, file.entries)
