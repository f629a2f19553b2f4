"""Sealed outputs to permanent sites: sent, and safe only once the site itself says so."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from volatile_rse.agent import checksum
from volatile_rse.agent.batch import Batch
from volatile_rse.agent.errors import AgentError
from volatile_rse.agent.ledger import Ledger, copy_key, copy_row
from volatile_rse.agent.multi import Engine, Steps, backoff
from volatile_rse.agent.places import Places
from volatile_rse.agent.transfer import (
    Access,
    Answer,
    InForce,
    PlainError,
    Request,
    TransferError,
    delete,
    digest,
    get,
    head,
    make_folder,
    put,
    read_again,
    without_query,
)
from volatile_rse.agent.troubles import Troubles
from volatile_rse.api.addresses import place_of
from volatile_rse.api.agent import Copies, CopyOrder, CopyState, CopyTarget, OutputState

__all__ = ["Copying"]

_log = logging.getLogger(__name__)
_SLOTS = 8
"""Copies under way at a time, besides those that wait for a site."""
_WAITING = 32
"""Copies that wait for one site before no more are sent there: other sites need not wait for it."""
_LONGEST_PAUSE = 60.0
"""Seconds before any repetition."""
_ATTEMPTS = 3
_WORDS = 512
_READ_BACK = 16 << 20
"""Bytes of the longest file that is read back. Sites are asked for one checksum at a time, and XRootD before 5.8.4 may
hang for a minute even so, if it is asked for many; reading knows no such limit, and costs little here."""
_OK = range(200, 300)
_NOTHING = "there is no file"
_ABSENT = 404
_UNSUPPORTED = {400, 405, 501}
"""What a site says that knows the question for a checksum not at all."""
_HOMELESS = {403, 404, 409}
"""What sites say to a PUT into a directory that is not there."""
_HIGHER = {404, 409}
"""What they say to a MKCOL there."""
_EXISTS = 405
_DEEPEST = 32
"""Directories that are made for a file."""


class Copying:
    """Makes the copies that are wanted.

    Files are sent, and small ones read back, side by side. For the checksums of large ones sites are asked one by one.

    Parameters
    ----------
    first
        Seconds before the first repetition.
    """

    def __init__(self, places: Places, ledger: Ledger, troubles: Troubles, *, first: float) -> None:
        self._places = places
        self._ledger = ledger
        self._first = first
        self._lock = threading.Lock()
        self._access: InForce | None = None
        self._engine: Engine[bytes] = Engine("copying", _SLOTS, self._work, troubles)
        self._verified: Batch[tuple[CopyState, int]] = Batch("verified", self._done, troubles)

    def start(self) -> None:
        """Begin, as soon as there are credentials."""
        self._verified.start()
        self._engine.start()

    def stop(self) -> None:
        """End; what is being sent is broken off."""
        self._engine.stop()
        self._verified.stop()

    def take(self, access: Access) -> None:
        """Use these credentials from now on, also for what was wanted before this agent began."""
        own = access.with_own()
        if self._access is None:
            self._access = InForce(own)
        else:
            self._access.now = own
        self._engine.call(key for key, copy in self._ledger.every(CopyState).items() if copy.state == "wanted")

    def order(self, copies: Copies) -> None:
        """Want copies; failed ones get new attempts.

        Raises
        ------
        AgentError
            There is no such sealed output.
        """
        # One order at a time: what is read here decides what is written.
        with self._lock:
            outputs = [self._output(order) for order in copies.copies]
            rows = [
                copy_row(_wanted(order, target), output.bytes)
                for order, output in zip(copies.copies, outputs, strict=True)
                for target in order.destinations
                if self._is_new(order, target)
            ]
            self._ledger.put(rows)
        self._engine.call(row.key for row in rows)

    def _output(self, order: CopyOrder) -> OutputState:
        output = self._ledger.sealed(order.scope, order.name)
        if output is None:
            remedy = "order copies of what the outputs' listing shows as sealed"
            raise AgentError(409, "it is no sealed output", f"{order.scope}:{order.name}", "operator", remedy)
        return output

    def _is_new(self, order: CopyOrder, target: CopyTarget) -> bool:
        known = self._ledger.get(CopyState, copy_key(order.scope, order.name, target.rse))
        return known is None or known.state == "failed" or known.pfn != target.pfn

    def _work(self, key: bytes) -> Steps:
        copy, access = self._ledger.get(CopyState, key), self._access
        if access is None or copy is None or copy.state != "wanted":
            return None
        place = place_of(copy.pfn)
        if place is not None and self._engine.waiting(place.host) >= _WAITING:
            self._engine.put_off(key, place.host)
            return None
        output = self._ledger.sealed(copy.scope, copy.name)
        if output is None or output.store_path is None or output.adler32 is None:
            return self._failed(copy, 0, "its sealed output is gone from the ledger", last=True)
        try:
            yield from self._copy(copy, output, access)
        except (TransferError, OSError) as error:
            return self._failed(copy, output.bytes, str(error))
        self._verified.add((_attempted(copy, "verified"), output.bytes))
        return None

    def _copy(self, copy: CopyState, output: OutputState, access: InForce) -> Steps:
        path = self._places.on_disk(output.store_path or "")
        there = yield head(copy.pfn, access)
        if there.status != _ABSENT:
            wrong = yield from _compared(copy.pfn, access, output)
            if wrong is None:
                return None
            if wrong != _NOTHING:
                # XRootD believes a checksum that it computed of an earlier content of the same second.
                yield delete(copy.pfn, access)
        with path.open("rb") as stream:
            yield from _sent(copy.pfn, access, stream, _size(path, output))
        wrong = yield from _compared(copy.pfn, access, output)
        if wrong is not None:
            message = f"{without_query(copy.pfn)} after it was sent: {wrong}"
            raise TransferError(message)
        return None

    def _failed(self, copy: CopyState, size: int, error: str, *, last: bool = False) -> float | None:
        _log.warning("%s:%s is not copied to %s: %s", copy.scope, copy.name, copy.rse, error)
        ended = last or copy.attempts + 1 >= _ATTEMPTS
        self._done([(_attempted(copy, "failed" if ended else "wanted", error[:_WORDS]), size)])
        return None if ended else backoff(copy.attempts + 1, self._first, _LONGEST_PAUSE)

    def _done(self, copies: list[tuple[CopyState, int]]) -> None:
        with self._lock:
            # A new order may have named another place meanwhile: its row must not be overwritten.
            rows = [
                copy_row(copy, size)
                for copy, size in copies
                if (now := self._ledger.get(CopyState, copy_key(copy.scope, copy.name, copy.rse))) is not None
                and now.pfn == copy.pfn
            ]
            self._ledger.put(rows)


def _attempted(copy: CopyState, state: Literal["wanted", "verified", "failed"], error: str | None = None) -> CopyState:
    return copy.model_copy(update={"state": state, "error": error, "attempts": copy.attempts + 1})


def _wanted(order: CopyOrder, target: CopyTarget) -> CopyState:
    return CopyState(
        version=0, scope=order.scope, name=order.name, rse=target.rse, pfn=target.pfn, state="wanted", attempts=0
    )


def _size(path: Path, output: OutputState) -> int:
    size = path.stat().st_size
    if size != output.bytes:
        message = f"{output.store_path} has {size} bytes, not the {output.bytes} that were sealed"
        raise TransferError(message)
    return size


def _sent(pfn: str, access: InForce, stream: BinaryIO, size: int) -> Generator[Request | None, Answer, None]:
    """Send a file; where a site makes no directories by itself, make them first."""
    try:
        yield put(pfn, access, stream, size)
    except TransferError as error:
        if error.status not in _HOMELESS:
            raise
        refused = error
    else:
        return
    obstacle = yield from _obstacle_of_folders(pfn, access)
    if obstacle is not None:
        message = f"{refused}, and {obstacle}"
        raise TransferError(message, refused.status)
    yield put(pfn, access, stream, size)


def _obstacle_of_folders(pfn: str, access: InForce) -> Generator[Request | None, Answer, str | None]:
    """Make the directories that are missing above a file, and tell what is in the way.

    Others may make them at the same time: one that exists by now is as good as one that was made.
    """
    missing: list[str] = []
    for folder in _folders_above(pfn)[:_DEEPEST]:
        try:
            status = (yield make_folder(folder, access)).status
        except TransferError as error:
            # Above it may be no place that the token is for.
            return str(error)
        if _is_made(status):
            break
        if status not in _HIGHER:
            return f"MKCOL {folder} gave {status}"
        missing.append(folder)
    else:
        return f"none of its directories is there: MKCOL {missing[-1]} gave {status}" if missing else "it is in none"
    for folder in reversed(missing):
        status = (yield make_folder(folder, access)).status
        if not _is_made(status):
            return f"MKCOL {folder} gave {status}"
    return None


def _is_made(status: int) -> bool:
    return status in _OK or status == _EXISTS


def _folders_above(pfn: str) -> list[str]:
    """Give the URLs of the directories above a file, the nearest one first."""
    server, _, path = without_query(pfn).partition("://")
    host, *parts = path.split("/")
    ends = [number for number in range(len(parts) - 1, 0, -1) if parts[number - 1]]
    return [f"{server}://{'/'.join([host, *parts[:end]])}/" for end in ends]


def _compared(pfn: str, access: InForce, output: OutputState) -> Generator[Request | None, Answer, str | None]:
    """Tell what is not as it must be at the destination.

    Its bytes tell: a small file is read back. Of a large one the site is asked for size and checksum; where it does not
    tell both, or says that they are wrong, that is read back, too: what a header says or leaves out condemns no file.
    Where that must not be read, size and checksum together do.

    Raises
    ------
    PlainError
        It must not be read, and the site's word is not enough.
    """
    plain: PlainError | None = None
    if output.bytes <= _READ_BACK:
        try:
            return (yield from _read_back(pfn, access, output))
        except PlainError as error:
            # Its bytes come without TLS alone, which nobody has allowed: then its word counts, as for a large file.
            plain = error
    said = _said((yield digest(pfn, access, output.bytes)), pfn, output)
    if said.is_right or said.wrong == _NOTHING:
        return said.wrong
    if plain is None:
        try:
            return (yield from _read_back(pfn, access, output))
        except PlainError as error:
            plain = error
    if said.is_wrong_twice:
        return said.wrong
    told = "it does not tell both" if said.wrong is None else f"it says that {said.wrong}"
    message = f"{plain}; and asked for its size and adler32 {told}"
    raise PlainError(message)


def _read_back(pfn: str, access: InForce, output: OutputState) -> Generator[Request | None, Answer, str | None]:
    read, ask = _Read(output), read_again if output.bytes > _READ_BACK else get
    try:
        yield ask(pfn, access, output.bytes, read.take)
    except TransferError as error:
        if read.is_longer:
            # It was broken off: it may have no end.
            return read.difference()
        if error.status == _ABSENT:
            return _NOTHING
        raise
    return read.difference()


class _Read:
    """What is read back of a file."""

    def __init__(self, output: OutputState) -> None:
        self._output = output
        self._size, self._sum = 0, checksum.EMPTY

    def take(self, data: bytes, _begin: int) -> None:
        """Take a piece.

        Raises
        ------
        TransferError
            There is more than there may be: nobody needs the rest.
        """
        self._size += len(data)
        if self.is_longer:
            message = f"the site has more than the {self._output.bytes} bytes that were sent"
            raise TransferError(message)
        self._sum = checksum.extend(self._sum, data)

    @property
    def is_longer(self) -> bool:
        """Tell whether it has more bytes than were sent."""
        return self._size > self._output.bytes

    def difference(self) -> str | None:
        """Tell what is not as it must be."""
        if self.is_longer:
            return f"it has more than {self._output.bytes} bytes"
        if self._size != self._output.bytes:
            return f"it has {self._size} bytes, not {self._output.bytes}"
        found = checksum.digits(self._sum)
        return None if found == self._output.adler32 else f"it has adler32 {found}, not {self._output.adler32}"


@dataclass(frozen=True, slots=True)
class _Said:
    """What a site says of a file."""

    is_right: bool = False
    wrong: str | None = None
    """What contradicts; None as well: it does not tell."""
    is_wrong_twice: bool = False
    """Its size contradicts, and its checksum: no slip of one header does so."""


def _said(answer: Answer, pfn: str, output: OutputState) -> _Said:
    """Judge an answer to the question for size and checksum."""
    if answer.status == _ABSENT:
        return _Said(wrong=_NOTHING)
    if answer.status not in _OK and answer.status not in _UNSUPPORTED:
        message = f"HEAD {without_query(pfn)} gave {answer.status}"
        raise TransferError(message, answer.status)
    if answer.status in _UNSUPPORTED:
        return _Said()
    size, adler32 = _length(answer.headers), _adler32(answer.headers.get("digest", ""))
    faults = []
    if size is not None and size != output.bytes:
        faults.append(f"it has {size} bytes, not {output.bytes}")
    if adler32 is not None and adler32 != output.adler32:
        faults.append(f"it has adler32 {adler32}, not {output.adler32}")
    if faults:
        return _Said(wrong=" and ".join(faults), is_wrong_twice=len(faults) > 1)
    return _Said(is_right=size is not None and adler32 is not None)


def _length(headers: Mapping[str, str]) -> int | None:
    """Read a file's size; None: of an answer without a body some give the length of that body, or of what is packed."""
    found = re.fullmatch(r"[0-9]{1,18}", headers.get("content-length", ""))
    return None if found is None or "content-encoding" in headers else int(found[0]) or None


def _adler32(digest: str) -> str | None:
    """Read a ``Digest`` header; sites leave out leading zeros."""
    match = re.search(r"adler32=([0-9a-fA-F]{1,8})\b", digest, re.IGNORECASE)
    return match[1].lower().rjust(8, "0") if match else None
