"""What has to stand for a session: storage, address, RSE, work for the agent; and what a loss of it means."""

from __future__ import annotations

from collections.abc import Iterable

from volatile_rse.api.schema import LARGEST
from volatile_rse.api.text import WORDS, visible
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Facts, Piece, Record
from volatile_rse.domain.outputs import is_output
from volatile_rse.domain.plan import Risk, remember, some_of
from volatile_rse.domain.stage import EMPTIED, SEALED, Stage, stage_of, stamp

__all__ = ["find_address", "have_rse", "have_storage", "hide_lost", "noticed_volume", "send_work"]


def noticed_volume(facts: Facts, record: Record) -> do.Remember | None:
    """Remember the volume; another one than before, or none at all, means that the medium has lost what was on it."""
    known = record.status.volume
    if facts.report is None:
        return _loss(facts, record, None) if known and facts.storage.lost and not _runs_on(facts) else None
    if facts.report.volume == known:
        return None
    begun = record.status.inputs or record.status.losses or record.status.session.ready_at
    if known is None and not begun:
        # Nothing can be on it before the session may begin: that is written together.
        return None
    if known is None:
        return remember(record, volume=facts.report.volume)
    return _loss(facts, record, facts.report.volume)


def _runs_on(facts: Facts) -> bool:
    """Tell whether a pod has what it had, also without its volume's object; one whose agent restarts is waited for."""
    pod = facts.storage.pod
    return pod is not None and (pod.ready or (pod.running and not pod.over))


def _loss(facts: Facts, record: Record, volume: str | None) -> do.Remember:
    now = stamp(facts.now)
    counts: dict[str, object] = {}
    if stage_of(record.status) is Stage.HIDING:
        # Nothing comes again to what is about to go.
        steps, what = {**record.status.steps, EMPTIED: now}, "its outputs were safe before"
    else:
        # What the session wrote is gone; inputs come again, and an inventory that was made is void.
        steps = {step: time for step, time in record.status.steps.items() if step != SEALED}
        risk = _known_loss(facts, record)
        counts = {
            "lost_files": (record.status.lost_files or 0) + risk.files,
            "lost_bytes": (record.status.lost_bytes or 0) + risk.bytes,
        }
        what = f"everything that the session had written until then is gone{_counted(facts, record, risk)}"
    losses = [*record.status.losses, visible(f"{now}: the storage was lost; {what}", WORDS)][-32:]
    return remember(record, volume=volume, losses=losses, steps=steps, **counts)


def _known_loss(facts: Facts, record: Record) -> Risk:
    """Give what was not safe at the last look: as its owner was told, or else as the inventory has counted it."""
    told = () if facts.request is None else facts.request.outputs
    if not told:
        return Risk(record.status.files_at_risk or 0, record.status.bytes_at_risk or 0)
    files = sum(max(entry.files, entry.sealed) - entry.safe for entry in told)
    return Risk(max(files, 0), min(sum(entry.bytes_at_risk for entry in told), LARGEST))


def _counted(facts: Facts, record: Record, risk: Risk) -> str:
    if not risk.files:
        return ""
    said = f", {risk.files} output files ({risk.bytes} bytes) that were known and not safe"
    named = sorted(did for did in facts.registered or () if is_output(record, did))
    any_safe = facts.request is None or any(entry.safe for entry in facts.request.outputs)
    # Where some are safe, nobody can tell here which ones: Rucio tells of last copies later.
    return said if any_safe or not named else f"{said}, among them {some_of(named)}"


def have_storage(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Have the storage there; its pod is needed until everything is safe."""
    storage = facts.storage
    wanted = [Piece.KEYS, Piece.SERVICE]
    if record.spec.class_snapshot.storage.volume is not None:
        wanted.append(Piece.VOLUME)
    missing = [piece for piece in wanted if piece not in storage.pieces or piece in storage.outdated]
    if storage.outlived is not None:
        # A claim without it would get an empty volume, and what the session wrote would be lost for nothing.
        yield do.ClaimVolume(storage.outlived)
        missing = [piece for piece in missing if piece is not Piece.VOLUME]
    yield from (do.MakePiece(piece) for piece in missing)
    if storage.lost and Piece.VOLUME in storage.pieces:
        yield from _without_volume(facts, record)
        return
    if storage.pod is None and all(piece in storage.pieces for piece in wanted) and not storage.outdated:
        yield do.MakePiece(Piece.POD)
    if storage.pod is not None and storage.pod.over and Piece.POD not in storage.going:
        yield do.DropPiece(Piece.POD, storage.pod.uid)
    volume = storage.volume
    if volume is not None and volume.volume is not None and not (volume.retained and volume.marked):
        yield do.RetainVolume(volume.volume, retain=True)


def _without_volume(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Let the claim go whose volume is gone, once that is written down: it would be bound to it for ever."""
    storage = facts.storage
    if record.status.volume is None and not _runs_on(facts):
        for piece in (Piece.POD, Piece.VOLUME):
            if piece in storage.pieces and piece not in storage.going:
                yield do.DropPiece(piece, storage.pieces[piece])


def find_address(facts: Facts, record: Record) -> do.SetPublic | None:
    """Write down the public address that the Service was given."""
    if record.spec.public is not None or facts.public_address is None:
        return None
    return do.SetPublic(facts.public_address)


def have_rse(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """Have the RSE there, the ledger first."""
    if facts.ledger is None or not facts.rse_asked:
        return
    if not facts.ledger:
        yield do.EnsureLedger()
    if record.spec.public is not None and (facts.rse is None or not facts.rse.complete):
        yield do.EnsureRse()


def send_work(facts: Facts) -> Iterable[do.Effect]:
    """Give the agent its manifest if it has another one."""
    if facts.manifest is not None:
        yield do.SendManifest(facts.manifest)


def hide_lost(facts: Facts, record: Record) -> Iterable[do.Effect]:
    """After a loss: have nobody sent to what is not there, until it is there again."""
    if not record.status.losses or facts.replicas is None:
        return
    nothing = record.status.volume is None
    listed = {True: nothing or facts.outputs is not None, False: nothing or facts.inputs is not None}
    staged = {Did(state.scope, state.name) for state in facts.inputs or () if state.state == "staged"}
    sealed = {Did(state.scope or "", state.name or "") for state in facts.outputs or () if state.state == "sealed"}
    here = staged | sealed
    # Of a list that nobody could read it is not known what it lacks.
    shown = sorted(did for did, state in facts.replicas.items() if state == "A" and listed[is_output(record, did)])
    if gone := [did for did in shown if did not in here]:
        yield do.Suspend(gone)
    if back := sorted(did for did, state in facts.replicas.items() if state == "T" and did in here):
        yield do.Resume(back)
