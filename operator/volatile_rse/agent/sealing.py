"""Outputs of a fenced buffer: taken into the inventory, given their names for good, and closed.

A file is sealed by a chain of effects, each harmless to repeat: identity and checksum written to the file, read-only,
the link in ``/store``, the row, and last the end of the name in the outbox. At every moment the bytes have a name.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from volatile_rse.agent import checksum
from volatile_rse.agent.errors import AgentError
from volatile_rse.agent.gate import Gate
from volatile_rse.agent.ledger import Ledger, Row, is_short, output_key, output_row, short
from volatile_rse.agent.outbox import Found, below, first_rule, is_excluded, reached, rule_below, shown, walk
from volatile_rse.agent.places import AREAS, Places, sync, sync_all
from volatile_rse.api.agent import GateState, OutputRule, OutputState, SealRequest, SealState
from volatile_rse.api.names import Layout, rse_path

__all__ = ["Find", "Sealing", "set_apart"]

_log = logging.getLogger(__name__)
_IDENTITY = "user.volatile-rse.output"
"""Attribute of a sealed file: claim, path, output, scope and name, so that a lost ledger can be made anew."""
_CLAIM = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_BATCH = 200
"""Files between two writes of the ledger."""
_WHILE_IT_RUNS = "USER must give it another name while the session runs, or delete it"
_ONLY_BY_HAND = "ADMIN can copy it by hand where it is needed; then USER must give it up by spec.teardown.discard"


class SealError(RuntimeError):
    """A file cannot be sealed."""


@dataclass(frozen=True, slots=True)
class Find:
    """A file of a claim, and what is to become of it."""

    path: bytes
    source: Path
    rule: OutputRule | None
    state: OutputState
    area: str


class Sealing:
    """Seals in the background, once the gate is closed."""

    def __init__(self, places: Places, ledger: Ledger, gate: Gate) -> None:
        self._places = places
        self._ledger = ledger
        self._gate = gate
        self.working = threading.RLock()
        """Held while files are taken: by one at a time."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._got_on = time.monotonic()

    def start(self) -> None:
        """Go on with what was under way when the agent ended."""
        self.miss()
        with self._lock:
            known = self._ledger.seal()
            if known is not None and known[1].state == "running":
                self._launch(known[0])

    def join(self) -> None:
        """Wait until nothing is under way."""
        if self._thread is not None:
            self._thread.join()

    def state(self) -> SealState | None:
        """Tell how far it is; what ended without a word has failed, and is to be ordered again."""
        with self._lock:
            # Asked in this order: a thread that has ended has written its last state.
            alive = self._thread is not None and self._thread.is_alive()
            known = self._ledger.seal()
        if known is None:
            return None
        if known[1].state == "running" and not alive:
            error = "it ended before its end: look at the space of the volume"
            return SealState(generation=known[1].generation, state="failed", error=error)
        if known[1].state == "running":
            return known[1].model_copy(update={"idle": int(time.monotonic() - self._got_on)})
        return known[1]

    def order(self, request: SealRequest) -> None:
        """Seal; a repeated order changes nothing unless something had failed.

        Raises
        ------
        AgentError
            The outboxes are not closed by that fence, or another order is under way.
        """
        actual = self._gate.actual()
        if actual != GateState(mode="fenced", generation=request.generation):
            what = f"the outboxes are {actual.mode}, generation {actual.generation}, not fenced by {request.generation}"
            raise AgentError(409, what, "seal", "operator", "fence first, and wait until the report says so")
        with self._lock:
            known = self._ledger.seal()
            if self._thread is not None and self._thread.is_alive():
                if known is not None and known[0] == request:
                    return
                raise AgentError(409, "another order is under way", "seal", "operator", "wait until it is done")
            if known is not None and known[0] == request and known[1].state == "done" and not self._failed():
                return
            if known is None:
                # What is told from now on stays told. Of what was told while sessions wrote they may have removed some.
                every = self._ledger.every(OutputState)
                self._ledger.drop([key for key, state in every.items() if _is_apart(key, state)])
            self._ledger.put_seal(request, SealState(generation=request.generation, state="running"))
            self._launch(request)

    def _failed(self) -> bool:
        return any(total.failed for total in self._ledger.output_totals())

    def _gets_on(self) -> None:
        """Note that the disk has answered: one that hangs is told from one that is slow."""
        self._got_on = time.monotonic()

    def _launch(self, request: SealRequest) -> None:
        self._gets_on()
        self._thread = threading.Thread(target=self._run, args=(request,), name="sealing", daemon=True)
        self._thread.start()

    def _run(self, request: SealRequest) -> None:
        try:
            self.run(request)
        except Exception as error:  # noqa: BLE001 (whatever it was, the operator must read of it)
            _log.exception("sealing failed")
            state = SealState(generation=request.generation, state="failed", error=str(error))
        else:
            state = SealState(generation=request.generation, state="done")
        self._ledger.put_seal(request, state)

    def run(self, request: SealRequest) -> None:
        """Take inventory and seal."""
        with self.working:
            self.recover()
            known = self._ledger.every(OutputState)
            finds = self._finds(request)
            # Of two versions of one path, one that can be sealed comes first.
            finds.sort(key=lambda find: find.state.state != "found" or find.rule is None)
            taken = {key for key, state in known.items() if state.state == "sealed"}
            work, rows = [], []
            for find in finds:
                key = output_key(find.state.claim, find.path)
                if key in taken and self._ended(known.get(key), find.source):
                    continue
                if key in taken:
                    rows.append(set_apart(find, ended=True))
                else:
                    taken.add(key)
                    rows.append(output_row(find.state, find.path))
                    work += [find] if find.rule is not None and find.state.state == "found" else []
            seen = taken.union(row.key for row in rows)
            gone = [key for key in known if key not in seen]
            rows += [self._missed(key, known[key]) for key in gone]
            self._ledger.put(rows)
            self.seal(work, request.record_id)

    def _finds(self, request: SealRequest) -> list[Find]:
        finds: list[Find] = []
        for claim in self._claims(request):
            for area in AREAS:
                root = self._places.area(area, claim)

                def unread(
                    path: bytes, error: OSError, claim: str = claim, area: str = area, root: Path = root
                ) -> None:
                    rule = rule_below(claim, path, request.outputs)
                    finds.append(Find(path, below(root, path), rule, _unread(claim, path, rule, error), area))

                for found in walk(root, unread):
                    self._gets_on()
                    rule = first_rule(claim, found.path, request.outputs)
                    state = _inventoried(claim, found, rule)
                    finds.append(Find(found.path, below(root, found.path), rule, state, area))
        return finds

    def _missed(self, key: bytes, state: OutputState) -> Row:
        """Tell of what was listed before and is not found: it is listed otherwise by now, or was removed."""
        path = key[len(state.claim) + 1 :]
        if is_short(path) and state.state == "failed":
            # Where it was is not known any more: what was told of it stays told.
            return output_row(state, path)
        areas: Sequence[str] = AREAS
        on_disk = path
        if _is_apart(key, state):
            _, area, on_disk = path.split(b"/", 2)
            areas = (os.fsdecode(area),)
        if state.state == "skipped":
            return output_row(state, path)
        places = [below(self._places.area(area, state.claim), on_disk) for area in areas]
        if state.state == "failed" and any(os.path.lexists(place) for place in places):
            # A directory that can be read by now, or a file that has its path for itself.
            update = {"state": "skipped", "error": "it could not be taken before: what is there is listed by itself"}
            return output_row(state.model_copy(update=update), path)
        return _vanished(key, state)

    def _claims(self, request: SealRequest) -> list[str]:
        """Give every claim that has left something: also what nobody declared is told."""
        folders = [self._places.area(area, "") for area in AREAS]
        there = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
        named = {rule.claim for rule in request.outputs}
        return sorted(name for name in there | named if _CLAIM.fullmatch(name))

    def seal(self, work: Sequence[Find], record_id: str) -> None:
        """Seal files, some at a time: bytes, directories and ledger are synced once for all of them."""
        for at in range(0, len(work), _BATCH):
            self._seal_some(work[at : at + _BATCH], record_id)

    def _seal_some(self, work: Sequence[Find], record_id: str) -> None:
        with ExitStack() as held:
            self._seal_near(work, record_id, held)

    def _seal_near(self, work: Sequence[Find], record_id: str, held: ExitStack) -> None:
        rows: list[Row] = []
        near = self._each(work, rows, lambda find: replace(find, source=held.enter_context(reached(find.source))))
        begun = self._each(near, rows, lambda find: self._sum(find, record_id))
        # Read-only means that the bytes are on the disk, and the checksum is believed after any crash.
        synced = self._synced(begun, rows, lambda find: [] if _closed(find.source) else [find.source])
        linked = self._synced(self._each(synced, rows, self._link), rows, self._folders)
        self._ledger.put([*rows, *(output_row(find.state, find.path) for find in linked)])
        # Last: only now is everything known that the names in the outbox stood for.
        for find in linked:
            _end_name(find.source)

    def _synced(
        self, work: Sequence[Find], rows: list[Row], places_of: Callable[[Find], Sequence[Path]]
    ) -> Sequence[Find]:
        """Sync what files need on the disk, all at once; if that fails, one by one tells whose it was."""

        def alone(find: Find) -> Find:
            for path in places_of(find):
                sync(path)
            return find

        try:
            sync_all(sorted({path for find in work for path in places_of(find)}))
        except OSError as error:
            _log.warning("files are synced one by one: %s", error)
            return self._each(work, rows, alone)
        return work

    def _folders(self, find: Find) -> Sequence[Path]:
        store = self._places.namespace / "store"
        folders = self._places.on_disk(find.state.store_path or "").parents
        return [folder for folder in folders if folder.is_relative_to(store)]

    def _each(self, work: Sequence[Find], rows: list[Row], act: Callable[[Find], Find]) -> list[Find]:
        """Act on files; one that fails gets a row that says so, and keeps no other back."""
        done = []
        for find in work:
            self._gets_on()
            try:
                done.append(act(find))
            except (OSError, SealError) as error:
                _log.warning("%s of claim %s is not sealed: %s", find.state.path, find.state.claim, error)
                update = {"state": "failed", "error": str(error), "store_path": None, "adler32": None}
                rows.append(output_row(find.state.model_copy(update=update), find.path))
        return done

    def _sum(self, find: Find, record_id: str) -> Find:
        """Give a file its name and its checksum."""
        rule, source = find.rule, find.source
        if rule is None:
            message = "no output takes it"
            raise SealError(message)
        name, store_path = rule.named(record_id, find.path)
        done = find.state.model_copy(
            update={"state": "sealed", "scope": rule.scope, "name": name, "store_path": store_path, "error": None}
        )
        target = self._places.on_disk(store_path)
        if target.exists() and not target.samefile(source):
            message = f"{store_path} is another file already: an administrator must compare the two"
            raise SealError(message)
        self._doubt(source, is_sealed=target.exists())
        adler32 = None
        described = _describe(done, find.path)
        if _closed(source) and _identity(source) == json.loads(described):
            adler32 = checksum.remembered(source)
        if adler32 is None:
            # Sessions may change modes; attributes need a writable file, and must be there before it is closed.
            source.chmod(0o600)
            adler32 = checksum.digits(checksum.of_file(source, self._gets_on))
            os.setxattr(source, _IDENTITY, described)
            checksum.remember(source, adler32)
        size = source.stat().st_size
        return replace(find, state=done.model_copy(update={"adler32": adler32, "bytes": size}))

    def _doubt(self, source: Path, *, is_sealed: bool) -> None:
        """Refuse what cannot be a file that was written here.

        Raises
        ------
        SealError
            It is larger than the volume, or has another name still: who has that one could change it.
        """
        status = source.stat(follow_symlinks=False)
        volume = os.statvfs(self._places.namespace)
        size = volume.f_blocks * volume.f_frsize
        if size and status.st_size > size:
            message = f"it claims {status.st_size} bytes, and the volume has {size}: it is a hole. {_ONLY_BY_HAND}"
            raise SealError(message)
        if status.st_nlink > 1 + is_sealed:
            message = f"the volume has {status.st_nlink} names for it, and no session makes such: {_ONLY_BY_HAND}"
            raise SealError(message)

    def _link(self, find: Find) -> Find:
        """Close a file, and give it its place."""
        target = self._places.on_disk(find.state.store_path or "")
        find.source.chmod(0o444)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(find.source, target)
        return find

    def _ended(self, state: OutputState | None, source: Path) -> bool:
        """End a name that stands for the file that was sealed under it; tell whether it does."""
        if state is None or state.store_path is None:
            return False
        try:
            with reached(source) as near:
                is_it = self._places.on_disk(state.store_path).samefile(near)
                if is_it:
                    _end_name(near)
        except OSError:
            # One of them cannot be read: the name stays.
            return False
        return is_it

    def recover(self) -> None:
        """Make the rows of sealed files anew from the disk, where the ledger has lost them."""
        known = self._ledger.every(OutputState)
        found = (self._recovered(store_path, path, known) for store_path, path in self._stored())
        rows = [row for row in found if row is not None]
        self._ledger.put(rows)
        self.miss()

    def _recovered(self, store_path: str, path: Path, known: Mapping[bytes, OutputState]) -> Row | None:
        """Make the row of one sealed file; None: it has one, or is no such file."""
        identity = _identity(path)
        adler32 = checksum.remembered(path) if identity else None
        if identity is None or adler32 is None or not _tells(lambda: _closed(path)):
            return None
        raw, scope, name = bytes.fromhex(identity["path"]), identity["scope"], identity["name"]
        row = known.get(output_key(identity["claim"], raw))
        # Of whichever layout the RSE is: each is told by the identity alone.
        named = any(f"/store/{rse_path(layout, scope, name)}" == store_path for layout in get_args(Layout))
        if not named or (row is not None and row.state == "sealed"):
            return None
        try:
            state = OutputState(
                version=0, claim=identity["claim"], path=shown(raw), state="sealed", bytes=path.stat().st_size,
                output=identity["output"], scope=scope, name=name, store_path=store_path,
                adler32=adler32,
            )  # fmt: skip
        except (OSError, ValidationError) as error:
            _log.warning("%s is no file that was sealed here: %s", store_path, error)
            return None
        return output_row(state, raw)

    def miss(self) -> None:
        """No longer count as sealed what is not there any more."""
        sealed = [(key, state) for key, state in self._ledger.every(OutputState).items() if state.state == "sealed"]
        gone = [
            (key, state) for key, state in sealed if not _tells(self._places.on_disk(state.store_path or "").is_file)
        ]
        if gone:
            self._ledger.put([_vanished(key, state) for key, state in gone])

    def _stored(self) -> Iterator[tuple[str, Path]]:
        store = self._places.namespace / "store"
        for found in walk(store, _passed_over):
            self._gets_on()
            if found.regular:
                path = os.fsdecode(found.path)
                yield f"/store/{path}", store / path


def _inventoried(claim: str, found: Found, rule: OutputRule | None) -> OutputState:
    state = OutputState(
        version=0, claim=claim, path=shown(found.path), state="found", bytes=found.status.st_size,
        output=rule.name if rule else None,
    )  # fmt: skip
    if not found.regular:
        error = f"it is no regular file ({stat.filemode(found.status.st_mode)}): its owner must copy what it stands for"
        # Nothing that the operator could repeat would make it one: it is told, and keeps nothing back.
        return state.model_copy(update={"state": "skipped", "error": error})
    if is_excluded(found.path):
        return state.model_copy(update={"state": "excluded", "output": None})
    if found.torn:
        return state.model_copy(update={"state": "torn"})
    return state if rule else state.model_copy(update={"state": "unmatched"})


def _unread(claim: str, path: bytes, rule: OutputRule | None, error: OSError) -> OutputState:
    """Tell of a directory or a file that cannot be read: what it has is not known, and not given up."""
    state = OutputState(
        version=0, claim=claim, path=shown(path), state="failed", bytes=0, output=rule.name if rule else None,
        error=f"{error.strerror or error}: an administrator must look at the volume",
    )  # fmt: skip
    if is_excluded(path + b"/"):
        return state.model_copy(update={"state": "excluded", "output": None})
    return state


def set_apart(find: Find, *, ended: bool = False) -> Row:
    """Tell of a file whose path another one was sealed under.

    Parameters
    ----------
    ended
        The session is over: nobody can rename or delete it any more.
    """
    error = (
        f"{find.area}/{find.state.claim}/{find.state.path} has the path of a file that was taken before, and a dataset "
        f"holds one version of a path: {_ONLY_BY_HAND if ended else _WHILE_IT_RUNS}"
    )
    update = {"state": "failed", "error": error} if find.rule and find.state.state == "found" else {}
    return output_row(find.state.model_copy(update=update), find.path, find.area)


def _is_apart(key: bytes, state: OutputState) -> bool:
    return key.startswith(f"{state.claim}//".encode())


def _vanished(key: bytes, state: OutputState) -> Row:
    error = f"{state.store_path or state.path} was there before: an administrator must find out what removed it"
    path = key[len(state.claim) + 1 :]
    return output_row(state.model_copy(update={"state": "failed", "error": error}), path)


def _end_name(path: Path) -> None:
    """Take a name out of the outbox whose file is sealed; one that stays harms nobody."""
    try:
        path.unlink()
    except OSError as error:
        _log.warning("the name of a sealed file stays: %s", error)


def _passed_over(path: bytes, error: OSError) -> None:
    _log.warning("store/%s is passed over: %s", shown(path), error)


def _tells(question: Callable[[], bool]) -> bool:
    """Ask the disk; what cannot be read is not there."""
    try:
        return question()
    except OSError as error:
        _log.warning("the disk does not tell: %s", error)
        return False


def _describe(state: OutputState, path: bytes) -> bytes:
    fields = {"claim": state.claim, "path": short(path).hex(), "output": state.output, "scope": state.scope}
    return json.dumps(fields | {"name": state.name}).encode()


def _identity(path: Path) -> dict[str, str] | None:
    """Read what a sealed file was; None: it was not sealed, or what it has is none of ours."""
    try:
        found = json.loads(os.getxattr(path, _IDENTITY))
        bytes.fromhex(found["path"])
        return {field: str(found[field]) for field in ("claim", "path", "output", "scope", "name")}
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _closed(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o444  # noqa: PLR2004 (read-only for all)
