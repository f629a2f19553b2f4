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
from collections.abc import Iterator
from pathlib import Path

from volatile_rse.agent import checksum
from volatile_rse.agent.errors import AgentError
from volatile_rse.agent.gate import Gate
from volatile_rse.agent.ledger import Ledger, Row, output_row
from volatile_rse.agent.outbox import Found, first_rule, is_excluded, shown, walk
from volatile_rse.agent.places import Places, sync
from volatile_rse.api.agent import GateState, OutputRule, OutputState, SealRequest, SealState
from volatile_rse.api.names import hash_path, lfn_name

__all__ = ["Sealing"]

_log = logging.getLogger(__name__)
_IDENTITY = "user.volatile-rse.output"
"""Attribute of a sealed file: claim, path, output, scope and name, so that a lost ledger can be made anew."""
_CLAIM = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_WORDS = 512


class SealError(RuntimeError):
    """A file cannot be sealed."""


class Sealing:
    """Seals in the background, once the gate is closed."""

    def __init__(self, places: Places, ledger: Ledger, gate: Gate) -> None:
        self._places = places
        self._ledger = ledger
        self._gate = gate
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Go on with what was under way when the agent ended."""
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
            self._ledger.put_seal(request, SealState(generation=request.generation, state="running"))
            self._launch(request)

    def _failed(self) -> bool:
        return any(total.failed for total in self._ledger.output_totals())

    def _launch(self, request: SealRequest) -> None:
        self._thread = threading.Thread(target=self._run, args=(request,), name="sealing", daemon=True)
        self._thread.start()

    def _run(self, request: SealRequest) -> None:
        try:
            self.run(request)
        except Exception as error:  # noqa: BLE001 (whatever it was, the operator must read of it)
            _log.exception("sealing failed")
            state = SealState(generation=request.generation, state="failed", error=str(error)[:_WORDS])
        else:
            state = SealState(generation=request.generation, state="done")
        self._ledger.put_seal(request, state)

    def run(self, request: SealRequest) -> None:
        """Take inventory and seal."""
        self._recover()
        known = self._ledger.every(OutputState)
        sealed = {key for key, state in known.items() if state.state == "sealed"}
        work: list[tuple[OutputState, Found, OutputRule]] = []
        rows = []
        for claim in self._claims(request):
            for found in walk(self._places.namespace / "outbox" / claim):
                if f"{claim}/".encode() + found.path in sealed:
                    self._forget_name(claim, found)
                    continue
                rule = first_rule(claim, found.path, request.outputs)
                state = _inventoried(claim, found, rule)
                rows.append(output_row(state, found.path))
                if rule is not None and state.state == "found":
                    work.append((state, found, rule))
        seen = sealed.union(row.key for row in rows)
        rows += [_vanished(key, state) for key, state in known.items() if key not in seen]
        self._ledger.put(rows)
        for state, found, rule in work:
            self._take(state, found, rule, request.record_id)

    def _claims(self, request: SealRequest) -> list[str]:
        """Give every claim that has an outbox: also what nobody declared is told."""
        outbox = self._places.namespace / "outbox"
        there = {path.name for path in outbox.iterdir()} if outbox.is_dir() else set()
        named = {rule.claim for rule in request.outputs}
        return sorted(name for name in there | named if _CLAIM.fullmatch(name))

    def _take(self, state: OutputState, found: Found, rule: OutputRule, record_id: str) -> None:
        try:
            done = self._seal(state, found, rule, record_id)
        except (OSError, SealError) as error:
            _log.warning("%s of claim %s is not sealed: %s", state.path, state.claim, error)
            failed = state.model_copy(update={"state": "failed", "error": str(error)[:_WORDS]})
            self._ledger.put([output_row(failed, found.path)])
            return
        self._ledger.put([output_row(done, found.path)])
        self._forget_name(state.claim, found)

    def _seal(self, state: OutputState, found: Found, rule: OutputRule, record_id: str) -> OutputState:
        name = lfn_name(rule.dataset, record_id, found.path)
        store_path = f"/store/{hash_path(rule.scope, name)}"
        done = state.model_copy(
            update={"state": "sealed", "scope": rule.scope, "name": name, "store_path": store_path, "error": None}
        )
        source, target = self._source(state.claim, found), self._places.on_disk(store_path)
        if target.exists() and not target.samefile(source):
            message = f"{store_path} is another file already: an administrator must compare the two"
            raise SealError(message)
        adler32 = None
        described = _describe(done, found.path)
        if _closed(source) and _identity(source) == json.loads(described):
            adler32 = checksum.remembered(source)
        if adler32 is None:
            # Sessions may change modes; attributes need a writable file, and must be there before it is closed.
            source.chmod(0o600)
            adler32 = checksum.digits(checksum.of_file(source))
            os.setxattr(source, _IDENTITY, described)
            checksum.remember(source, adler32)
            source.chmod(0o444)
            sync(source)
        done = done.model_copy(update={"adler32": adler32, "bytes": source.stat().st_size})
        if not target.exists():
            self._link(source, target)
        return done

    def _link(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
        folder = target.parent
        while folder != self._places.namespace:
            sync(folder)
            folder = folder.parent

    def _forget_name(self, claim: str, found: Found) -> None:
        """Remove the name in the outbox of a sealed file."""
        state = self._ledger.get(OutputState, f"{claim}/".encode() + found.path)
        source = self._source(claim, found)
        if state is None or state.store_path is None or not self._places.on_disk(state.store_path).samefile(source):
            message = (
                f"{shown(found.path)} of claim {claim} is not the file that was sealed: an administrator must look"
            )
            raise SealError(message)
        source.unlink()

    def _source(self, claim: str, found: Found) -> Path:
        return Path(os.fsdecode(os.fsencode(self._places.namespace / "outbox" / claim) + b"/" + found.path))

    def _recover(self) -> None:
        """Make the rows of sealed files anew from the disk, where the ledger has lost them."""
        known = self._ledger.every(OutputState)
        rows = []
        for store_path, path in self._stored():
            identity = _identity(path)
            adler32 = checksum.remembered(path) if identity else None
            if not identity or adler32 is None or not _closed(path):
                continue
            raw = bytes.fromhex(identity["path"])
            row = known.get(f"{identity['claim']}/".encode() + raw)
            named = f"/store/{hash_path(identity['scope'], identity['name'])}" == store_path
            if named and (row is None or row.state != "sealed"):
                state = OutputState(
                    version=0, claim=identity["claim"], path=shown(raw), state="sealed", bytes=path.stat().st_size,
                    output=identity["output"], scope=identity["scope"], name=identity["name"], store_path=store_path,
                    adler32=adler32,
                )  # fmt: skip
                rows.append(output_row(state, raw))
        self._ledger.put(rows)

    def _stored(self) -> Iterator[tuple[str, Path]]:
        store = self._places.namespace / "store"
        for found in walk(store):
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


def _vanished(key: bytes, state: OutputState) -> Row:
    error = "it was there at an earlier inventory: an administrator must find out what removed it"
    path = key[len(state.claim) + 1 :]
    return output_row(state.model_copy(update={"state": "failed", "error": error}), path)


def _describe(state: OutputState, path: bytes) -> bytes:
    fields = {"claim": state.claim, "path": path.hex(), "output": state.output, "scope": state.scope}
    return json.dumps(fields | {"name": state.name}).encode()


def _identity(path: Path) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads(os.getxattr(path, _IDENTITY))
    except (OSError, ValueError):
        return None
    return found


def _closed(path: Path) -> bool:
    return stat.S_IMODE(path.stat().st_mode) == 0o444  # noqa: PLR2004 (read-only for all)
