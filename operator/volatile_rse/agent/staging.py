"""Inputs from sites onto the volume: checked, resumed, tried elsewhere, finished by one rename."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Literal

from volatile_rse.agent import checksum
from volatile_rse.agent.batch import Batch
from volatile_rse.agent.ledger import Ledger, Row, input_row
from volatile_rse.agent.multi import Engine, Steps, backoff
from volatile_rse.agent.places import Places, sync, sync_all
from volatile_rse.agent.progress import Progress
from volatile_rse.agent.transfer import Access, TransferError, get, without_query
from volatile_rse.agent.troubles import Troubles
from volatile_rse.api.agent import InputFile, InputState

__all__ = ["Staging"]

_log = logging.getLogger(__name__)
_SLOTS = 8
"""Files that arrive at a time."""
_LONGEST_PAUSE = 300.0
"""Seconds before any repetition."""
_ROUNDS = 3
"""How often all sources fail before the file counts as failed."""
_RESERVE = 16 << 20
"""Bytes that stay free for the ledger and the gate."""
_PIECE = 1 << 18
_SETTLES = 0.3
"""Seconds after which what has arrived should have its name."""
_WORDS = 512
State = Literal["wanted", "staged", "failed"]


class Staging:
    """Fetches the inputs of the manifest in force.

    A file that has arrived waits with others for one sync of the volume, and only then gets its name: what has its name
    is whole, also after the machine's power failed. The name itself need not be synced: without it the file is staged
    again, from the partial one if that is there.

    Paths are strings here: with small files, what a ``Path`` costs is a good part of what a file costs.

    Parameters
    ----------
    first
        Seconds before the first repetition.
    """

    def __init__(self, places: Places, ledger: Ledger, troubles: Troubles, *, first: float) -> None:
        self._places = places
        self._namespace = os.fspath(places.namespace)
        self._partials = os.fspath(places.partial)
        self._ledger = ledger
        self.progress = Progress()
        self._first = first
        self._lock = threading.RLock()
        self._files: dict[str, InputFile] = {}
        self._access = Access()
        self._rounds: dict[str, int] = {}
        self._arriving: set[_Download] = set()
        """What will still need space."""
        self._settling: set[str] = set()
        """What has arrived and has no name yet."""
        self._engine: Engine[str] = Engine("staging", _SLOTS, self._work, troubles)
        self._arrived: Batch[InputFile] = Batch("settling", self._settle, troubles)
        self._writer = ThreadPoolExecutor(1, "writing")

    def start(self) -> None:
        """Begin."""
        self._arrived.start()
        self._engine.start()

    def stop(self) -> None:
        """End; what has arrived is kept."""
        self._engine.stop()
        self._writer.shutdown()
        self._arrived.stop()

    def take(self, files: list[InputFile], access: Access) -> None:
        """Work on these files from now on, and on no others; what the disk has already is staged."""
        self._engine.forget()
        self.progress.expect({name for file in files for name in file.entries})
        # What settles meanwhile would be written over by what was read before.
        with self._lock:
            rows, missing = self._compared(files)
            if rows:
                self._ledger.put(rows)
            dropped = self._files.keys() - {file.path for file in files}
            self._files = {file.path: file for file in files}
            self._access = access
            self._rounds.clear()
        self._engine.cancel(dropped)
        self._engine.call(missing)

    def partial(self) -> tuple[int, int]:
        """Count the files of which a part has arrived, and its bytes."""
        files = size = 0
        with os.scandir(self._places.partial) as entries:
            for entry in entries:
                with suppress(OSError):  # named meanwhile, or of a disk that is damaged there
                    size += entry.stat().st_size
                    files += 1
        return files, size

    def _compared(self, files: list[InputFile]) -> tuple[list[Row], list[str]]:
        """Give the rows that change, and the paths that the disk has not."""
        rows, missing = [], []
        before = {state.path: state for state in self._ledger.every(InputState).values()}
        entries = self._ledger.input_entries()
        for file in files:
            state: State = "staged" if self._present(file) else "wanted"
            if state == "wanted":
                missing.append(file.path)
            row = self._staged(file) if state == "staged" else _row(file, state)
            known = before.get(file.path)
            belongs = entries.get(row.key) == list(row.groups)
            if known is None or not belongs or known.model_copy(update={"version": 0}) != row.state:
                rows.append(row)
        return rows, missing

    def _present(self, file: InputFile) -> bool:
        path = self._target(file)
        try:
            status = os.stat(path, follow_symlinks=False)
            is_whole = stat.S_ISREG(status.st_mode) and status.st_size == file.bytes
        except OSError:
            return False
        if file.md5 is not None:
            return is_whole and checksum.remembered(path, checksum.MD5) == file.md5 and self._found(file) is not None
        return is_whole and self._found(file) == file.adler32

    def _staged(self, file: InputFile) -> Row:
        return _row(file, "staged", adler32=None if file.md5 is None else self._found(file))

    def _found(self, file: InputFile) -> str | None:
        """Tell which adler32 a file has that is there."""
        return checksum.remembered(self._target(file))

    def _work(self, path: str) -> Steps:
        """Try every source once."""
        with self._lock:
            file, access, settling = self._files.get(path), self._access, path in self._settling
        if file is None:
            return None
        if settling:
            return _SETTLES
        if self._present(file):
            # It arrived while a new manifest came.
            self._ledger.put([self._staged(file)])
            return None
        errors = []
        for source in file.sources:
            try:
                yield from self._fetch(file, source, access)
            except (TransferError, OSError) as error:
                errors.append(str(error))
                _log.warning("%s is not staged: %s", path, error)
            else:
                with self._lock:
                    self._settling.add(path)
                self._arrived.add(file, last=self._engine.is_last())
                return None
            if self._files.get(path) is not file:
                return None
        nowhere = f"Rucio has it {file.barred}" if file.barred else "Rucio lists no replica that may be read"
        return self._failed(file, ("; ".join(errors) or nowhere)[:_WORDS])

    def _failed(self, file: InputFile, error: str) -> float | None:
        with self._lock:
            if self._files.get(file.path) is not file:
                # The new manifest has asked for it anew, or for it no longer.
                return None
            rounds = self._rounds[file.path] = self._rounds.get(file.path, 0) + 1
            self._ledger.put([_row(file, "failed" if rounds >= _ROUNDS else "wanted", error)])
        return backoff(rounds, self._first, _LONGEST_PAUSE)

    def _fetch(self, file: InputFile, source: str, access: Access) -> Steps:
        partial = self._partial(file)
        try:
            arrived = os.stat(partial).st_size
        except FileNotFoundError:
            arrived = 0
        if arrived > file.bytes:
            os.unlink(partial)
            arrived = 0
        with closing(_Download(file, partial, arrived, self.progress, self._writer)) as download:
            yield from download.read_again()
            with self._room(file, download):
                if download.missing:
                    yield get(source, access, download.missing, download.receive, arrived)
            download.finish(source)
        return None

    def _target(self, file: InputFile) -> str:
        return f"{self._namespace}/{file.path.lstrip('/')}"

    def _partial(self, file: InputFile) -> str:
        return f"{self._partials}/{hashlib.sha256(file.path.encode()).hexdigest()}"

    def _settle(self, files: list[InputFile]) -> None:
        """Give files that have arrived their names; done again as a whole if it fails."""
        synced, refused = self._synced(files)
        named = []
        for file in synced:
            try:
                self._name(file)
            except OSError as error:
                refused.append((file, str(error)))
            else:
                named.append(file)
        with self._lock:
            wanted = [now for file in named if (now := self._files.get(file.path)) and _sums(now) == _sums(file)]
            self._ledger.put([self._staged(file) for file in wanted])
            self._settling.difference_update(file.path for file in files)
        if named:
            _log.info("%d files are staged, the last is %s", len(named), named[-1].path)
        for file, said in refused:
            if (again := self._failed(file, said)) is not None:
                self._engine.call([file.path], again)

    def _synced(self, files: list[InputFile]) -> tuple[list[InputFile], list[tuple[InputFile, str]]]:
        """Have the bytes of files on the disk, all at once; if that fails, one by one tells whose it was."""
        with suppress(OSError):
            sync_all([self._partial(file) for file in files])
            return files, []
        synced, refused = [], []
        for file in files:
            try:
                # In a repetition, some have their names.
                with suppress(FileNotFoundError):
                    sync(self._partial(file))
            except OSError as error:
                refused.append((file, str(error)))
            else:
                synced.append(file)
        return synced, refused

    def _name(self, file: InputFile) -> None:
        target, partial = self._target(file), self._partial(file)
        folder = os.path.dirname(target)
        try:
            # Names are spread by their hash: most files are the first of their folder.
            with suppress(FileExistsError):
                os.mkdir(folder)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
        try:
            os.rename(partial, target)
        except FileNotFoundError:
            # A repetition: it may have its name already.
            if not self._present(file):
                raise

    @contextmanager
    def _room(self, file: InputFile, download: _Download) -> Iterator[None]:
        """Keep room for a file while it arrives."""
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
            self._arriving.discard(download)


class _Download:
    """A file that arrives, and its checksum.

    Parameters
    ----------
    writer
        Sums and writes pieces while the next arrive: neither needs Python's lock.
    """

    def __init__(
        self, file: InputFile, partial: str, arrived: int, progress: Progress, writer: ThreadPoolExecutor
    ) -> None:
        self._progress = progress
        self._writer = writer
        self._writing: Future[None] | None = None
        """At most one: who brings more than the disk takes waits."""
        self._file = file
        self._partial = partial
        self._size = arrived
        self._begun = False
        self._pieces: list[bytes] = []
        """What has arrived and is not written yet: libcurl gives 16 KiB at a time, each as dear as a greater piece."""
        self._held = 0
        self._begin_sums()
        self._stream = open(partial, "r+b" if arrived else "wb", buffering=_PIECE)  # noqa: SIM115 (closed by close)

    def _begin_sums(self) -> None:
        """Of adler32 everybody else is told; md5 is taken where the catalogue has nothing else."""
        self._sum = checksum.EMPTY
        self._md5 = None if self._file.md5 is None else hashlib.md5(usedforsecurity=False)

    def _add(self, data: bytes) -> None:
        self._sum = checksum.extend(self._sum, data)
        if self._md5 is not None:
            self._md5.update(data)

    def read_again(self) -> Steps:
        """Add up what an earlier attempt left: nothing else vouches for it."""
        left = self._size
        while left and (data := self._stream.read(min(left, _PIECE))):
            self._add(data)
            left -= len(data)
            yield None
        return None

    @property
    def missing(self) -> int:
        """Bytes that are still to come."""
        return self._file.bytes - self._size

    def receive(self, data: bytes, begin: int) -> None:
        """Take a piece."""
        if not self._begun and begin != self._size:
            # Nothing is held yet.
            self._stream.seek(0)
            self._stream.truncate()
            self._size = 0
            self._begin_sums()
        self._begun = True
        if self._size + len(data) > self._file.bytes:
            message = f"the site has more than the {self._file.bytes} bytes of the catalogue"
            raise TransferError(message)
        self._pieces.append(data)
        self._size += len(data)
        self._held += len(data)
        if self._held >= _PIECE:
            pieces, self._pieces, self._held = self._pieces, [], 0
            self._await_writing()
            self._writing = self._writer.submit(self._write, pieces)

    def _await_writing(self) -> None:
        """Wait for what was handed over; raise what it met, once."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, pieces: list[bytes]) -> None:
        if not pieces:
            # A source that gives nothing is no progress.
            return
        data = b"".join(pieces)
        self._stream.write(data)
        self._add(data)
        self._progress.arrived(self._file.entries, len(data))

    def close(self) -> None:
        """Write what is left, and close the file."""
        with self._stream:
            self._flush()

    def _flush(self) -> None:
        self._await_writing()
        # A small file has nothing else: another thread would cost more than it does.
        pieces, self._pieces, self._held = self._pieces, [], 0
        self._write(pieces)

    def finish(self, source: str) -> None:
        """Have the file as a whole: written, right, with its checksum, and read-only."""
        self._flush()
        self._stream.flush()
        self.check(source)
        descriptor = self._stream.fileno()
        checksum.remember(descriptor, checksum.digits(self._sum))
        if self._file.md5 is not None:
            checksum.remember(descriptor, self._file.md5, checksum.MD5)
        os.fchmod(descriptor, 0o444)

    def check(self, source: str) -> None:
        """Compare with the catalogue; a file that is wrong as a whole is dropped, a short one is kept."""
        shown = without_query(source)
        if self._size < self._file.bytes:
            message = f"{shown} ended after {self._size} of {self._file.bytes} bytes"
            raise TransferError(message)
        found, wanted, kind = checksum.digits(self._sum), self._file.adler32, "adler32"
        if self._md5 is not None:
            found, wanted, kind = self._md5.hexdigest(), self._file.md5, "md5"
        if found != wanted:
            os.unlink(self._partial)
            message = f"{shown} has {kind} {found}, not {wanted}: the site's operators must check the file"
            raise TransferError(message)


def _sums(file: InputFile) -> tuple[str | None, str | None]:
    return file.adler32, file.md5


def _row(file: InputFile, state: State, error: str | None = None, *, adler32: str | None = None) -> Row:
    """Tell of a file.

    Parameters
    ----------
    adler32
        What it was found to have, where the catalogue has none.
    """
    made = InputState(
        version=0, scope=file.scope, name=file.name, path=file.path, bytes=file.bytes,
        adler32=file.adler32 or adler32, md5=file.md5, state=state, error=error,
    )  # fmt: skip
    return input_row(made, file.entries)
