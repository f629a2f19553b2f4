"""What holds at every moment, and at the end."""

from __future__ import annotations

from typing import Any

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.volatilerse import Teardown
from volatile_rse.builders.session import store_path
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.stage import when
from volatile_rse.domain.versions import versions_in
from volatile_rse.ports.cluster import Ref

_BYTES = {Piece.POD, Piece.VOLUME}
_MARKS = {"vrse_instance", "vrse_record", "vrse_claim", "vrse_account"}
_DESTRUCTIVE = do.DropPiece | do.SwapService | do.AllowDeletion | do.Hide | do.DeleteRse | do.ExpireLedger


def judge(small: Small, effect: do.Effect) -> None:
    """Look at an effect before it is carried out.

    Raises
    ------
    AssertionError
        It breaks an invariant.
    """
    down = small.catalogue.down
    with small.peeking():
        _of_bytes(small, effect, down=down)
        _of_rucio(small, effect)
        _of_dataset(small, effect)
    _of_session(small, effect)


def _of_session(small: Small, effect: do.Effect) -> None:
    if isinstance(effect, do.IssueSession):
        assert small.truth["session"].get("readyAt"), "a session that nobody remembers"
        assert not small.truth["session"].get("endedAt"), "a session that is over"
        least = {entry["name"]: entry.get("minimumPercent", 100) for entry in _asked(small).get("inputs", ())}
        staged = {group.name: group.staged for group in small.buffer.report().inputs}
        # Nobody waits for what was added since.
        for entry in (entry for entry in small.truth["inputs"] if not entry.get("added")):
            there = staged.get(entry["name"], 0)
            assert 100 * there >= least[entry["name"]] * entry["files"], "inputs are missing"
        bound = [body for body in small.cluster.list("PersistentVolumeClaim") if body["spec"].get("volumeName")]
        assert small.kept_volumes() == len(bound), "I1: the volume is not retained"
        with small.peeking():
            known = small.catalogue.buffer(small.rse)
        whole = known is not None and known.root_port and known.davs_port and known.attributes.keys() >= _MARKS
        assert whole, f"a session beside a half-made RSE: {known}"
    if isinstance(effect, do.CreateRecord):
        request = small.cluster.get(REQUEST) or {"metadata": {}}
        assert request["metadata"].get("finalizers"), "a buffer whose VolatileRSE may vanish"
    if isinstance(effect, do.ReleaseRecord):
        assert small.truth.get("closedAt"), "I2: the record goes before its buffer"
    if isinstance(effect, do.ReleaseRequest) and small.record and not (small.may_go or _may_go(small)):
        assert small.is_kept(*small.owed), "I1: the VolatileRSE goes while its outputs are not safe"
    if isinstance(effect, do.DeleteRequest):
        request = small.cluster.get(REQUEST) or {"spec": {}}
        assert "ttlAfterFinished" in request["spec"], "a VolatileRSE is deleted that nobody wants to have deleted"
        assert small.truth.get("freedAt"), "a VolatileRSE is deleted while something of it may be at risk"
        assert small.is_kept(*small.owed), "I1: a VolatileRSE is deleted while its outputs are not safe"
    if isinstance(effect, do.WriteOff):
        assert _consented(small), "I1: outputs are given up, and nobody asked for it"
        named = {file.path for file in effect.files}
        assert not named & (set(small.written) - set(small.given_up)), "I1: more is given up than has to be"
        unnamed = [Did.parse(file.did) for file in effect.files if not file.path]
        assert not small.owed_here(unnamed), f"I1b: {effect} gives up what is there"
    if isinstance(effect, do.Seal):
        assert small.buffer.gate.mode == "fenced", "an inventory while somebody may write"
        assert not small.has_session(), "an inventory while the session has its token"


def _may_go(small: Small) -> bool:
    """Tell whether a VolatileRSE may go before its outputs are safe: its deadline is over, or its namespace goes."""
    namespace = small.cluster.get(Ref("Namespace", None, "alice"))
    ended = when(small.truth["session"].get("endedAt"))
    deadline = parse_duration(_asked(small).get("teardown", {}).get("deadline", Teardown().deadline))
    late = ended is not None and small.clock.now() >= ended + deadline
    return namespace is None or "deletionTimestamp" in namespace["metadata"] or late


def _asked(small: Small) -> dict[str, Any]:
    return dict(small.record["spec"]["claims"][0]["request"])


def _consented(small: Small) -> bool:
    request = small.cluster.get(REQUEST)
    if small.rse in small.consents:
        # It cannot be taken back, not even with the VolatileRSE.
        return True
    owner = request is not None and request["metadata"]["uid"] == small.record["spec"]["claims"][0]["uid"]
    spec = request["spec"].get("teardown", {}) if request is not None and owner else small.record["spec"]
    consent = spec.get("discard")
    return consent is not None and bool(consent["rse"] == small.rse)


def _of_bytes(small: Small, effect: do.Effect, *, down: bool) -> None:
    freeing = isinstance(effect, do.DropPiece) and effect.piece in _BYTES and small.truth.get("freedAt")
    gone = small.cluster.get(Ref("PersistentVolume", None, small.volume)) is None and small.truth.get("losses")
    restarting = isinstance(effect, do.DropPiece) and (effect.piece is Piece.POD or bool(gone)) and not freeing
    if isinstance(effect, do.DropPiece) and effect.piece in _BYTES and small.written and not restarting:
        assert small.is_kept(*small.owed), f"I1: {effect} while outputs are not safe"
        assert small.truth.get("safeAt"), f"I1: {effect} while nobody remembers that they are safe"
    if isinstance(effect, do.Remember) and effect.status.freed_at and not small.truth.get("freedAt"):
        # What an adopted RSE had went with its cluster.
        gone = "adoptedFrom" in small.record["spec"]
        assert gone or small.is_kept(*small.owed), "I1: the storage is given up while outputs are not safe"
        told = small.truth.get("discarded") or not small.truth.get("lostFiles")
        assert told, "outputs were lost, and nobody has acknowledged it"
    if isinstance(effect, _DESTRUCTIVE) and not restarting:
        assert not down, f"I5: {effect} while Rucio does not answer"
    if isinstance(effect, do.DropPiece) and small.truth.get("freedAt"):
        sent = bool(small.catalogue.replicas(small.rse, small.ledger))
        assert small.is_drained() or not sent, f"{effect} while the storage stands behind the address"
    if isinstance(effect, do.FreePod):
        assert small.truth.get("safeAt"), "I1: anybody may evict what is nowhere else"
    if isinstance(effect, do.SwapService):
        assert small.cluster.list("Deployment", "bufs"), "an address with nothing behind it"
    if isinstance(effect, do.AllowDeletion):
        assert small.truth.get("freedAt"), "I1: the reaper may delete from the storage"
    if isinstance(effect, do.DropPiece) and effect.piece is Piece.SERVICE:
        assert not small.catalogue.has_rse(small.rse), "the reaper needs the address"
    if isinstance(effect, do.RetainVolume) and not effect.retain:
        assert small.truth.get("freedAt"), "I1: the volume is given up before it is free"


def _of_rucio(small: Small, effect: do.Effect) -> None:
    replicas = small.catalogue.replicas(small.rse, small.ledger)
    restarting = isinstance(effect, do.DropPiece) and effect.piece is Piece.POD and not small.truth.get("freedAt")
    leaving = isinstance(effect, do.DropPiece | do.SwapService | do.AllowDeletion) and not restarting
    if leaving and small.truth.get("safeAt"):
        shown = [did for did, state in replicas.items() if state == "A"]
        assert not shown, f"{effect} while Rucio still sends people to {shown}"
    if isinstance(effect, do.Hide):
        last = set(small.catalogue.standing(small.rse, small.ledger).last) & set(effect.files)
        assert not last - small.discarded, f"I1b: {effect} would hide last copies"
        assert not small.owed_here(last), f"I1b: {effect} would hide last copies whose bytes are there"
    if isinstance(effect, do.Suspend):
        here = [did for did in effect.files if small.buffer.holds(store_path(did))]
        assert not here, f"{here} are hidden, and their bytes are there"
    if isinstance(effect, do.Resume):
        gone = [did for did in effect.files if not small.buffer.holds(store_path(did))]
        assert not gone, f"I4: {gone} are shown, and their bytes are not there"
    if isinstance(effect, do.ExpireRule):
        spans = {
            rule.id for rule in small.catalogue.locking(small.rse, replicas) if not rule.only_here
        } | small.kept_rules()
        assert effect.rule not in spans, "I3: somebody else's rule that also locks files elsewhere"
    if isinstance(effect, do.EnsureRse):
        assert small.record, "I2: an RSE without a record"
        assert small.catalogue.ledger_exists(small.ledger), "I2: an RSE before its ledger"
    if isinstance(effect, do.DeleteRse):
        assert not replicas, "I2: an RSE that still holds replicas"
    if isinstance(effect, do.ExpireLedger):
        assert not small.catalogue.has_rse(small.rse), "I2: the ledger goes before its RSE"
    if isinstance(effect, do.EnsureRule):
        assert small.catalogue.registered(effect.dataset), "a rule before the replicas that it holds"
        missing = small.catalogue.unsafe(small.catalogue.resolve(effect.dataset), effect.rses)
        assert not missing, f"a rule that would start transfers: {missing}"


def _of_dataset(small: Small, effect: do.Effect) -> None:
    if isinstance(effect, do.Attach):
        content = small.catalogue.content(effect.dataset)
        taken = versions_in(effect.dataset, effect.files, content, small.record_id)
        assert not taken, f"two versions of one path: {taken}"
    if isinstance(effect, do.Copy):
        known = small.catalogue.dataset(OUT)
        assert known is None or known.open, "copied, and nobody takes it"


def ends_well(small: Small) -> None:
    """Look at what is left."""
    small.catalogue.down = False
    assert small.leftovers() == []
    assert not small.catalogue.has_rse(small.rse)
    assert not small.catalogue.ledger_exists(small.ledger)
    assert not small.has_session()
    assert "SITE-A" in small.catalogue.destinations("*"), "I3: a permanent RSE is gone"
    assert not small.kept_volumes(), "a volume that nobody needs is kept"


def rests(small: Small) -> None:
    """I9: nothing is written any more, once the last news are told, which may take ten seconds."""
    small.sweep_every = 1
    for _ in range(12):
        small.step()
    before = len(small.cluster.journal), len(small.catalogue.journal), len(small.applied)
    for _ in range(3):
        small.step()
    assert (len(small.cluster.journal), len(small.catalogue.journal), len(small.applied)) == before, "I9"
