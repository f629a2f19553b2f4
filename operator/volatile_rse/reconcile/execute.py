"""Effects -> the world: the one place where a decision becomes a deed."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from volatile_rse.api.agent import FenceRequest
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.builders.objects import (
    AT_RISK,
    CLAIM,
    DISCARDED,
    FINALIZER,
    KINDS,
    MANAGED,
    NOT_AFTER,
    RECORD,
    agent_host,
    discarded_name,
    hosts_of,
    labels_of,
    name_of,
    new_object,
    record_name,
    session_name,
)
from volatile_rse.builders.rse import buffer_rse
from volatile_rse.builders.session import (
    entries_data,
    lease_data,
    listing_data,
    listing_of,
    session_config,
    session_secret,
    status_data,
)
from volatile_rse.builders.storage import (
    AGENT,
    SERVER,
    added_maps,
    discarded_maps,
    inputs_maps,
    keys,
    pod,
    public_service,
    read_inputs,
    tls_data,
    volume,
    xrootd_data,
)
from volatile_rse.domain import effects as do
from volatile_rse.domain.catalogue import Did, LedgerOwner
from volatile_rse.domain.eviction import has_risk
from volatile_rse.domain.facts import Facts, Piece, Record, Request
from volatile_rse.domain.limits import problem_of_files
from volatile_rse.domain.plan import changed_objects
from volatile_rse.domain.planning import takes_no_more
from volatile_rse.domain.rights import listed_in
from volatile_rse.domain.stage import stamp
from volatile_rse.ports import deadline
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.datasets import Dataset
from volatile_rse.reconcile.drain import LIFETIME, make_drain
from volatile_rse.reconcile.gather.door import session_token
from volatile_rse.reconcile.gather.reports import buffer_of
from volatile_rse.reconcile.holding import hold, without
from volatile_rse.reconcile.issued import mark
from volatile_rse.reconcile.reading import (
    claim_of,
    goes_along,
    is_good,
    is_of_claim,
    read_namespace,
    to_revoke,
    uid_of,
)
from volatile_rse.reconcile.session_authorities import session_authorities
from volatile_rse.reconcile.truths import cleared
from volatile_rse.reconcile.usage import quarantined_of, share_of, usage_of, usage_of_others
from volatile_rse.reconcile.world import World

__all__ = ["create_record", "execute"]

_log = logging.getLogger(__name__)

_ADMITTED = "Another buffer is being admitted, for which the API server takes long"
_RENEWED = "%s: the certificates of its storage are issued anew: they end soon, or another authority had issued them"


def execute(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
    """Carry out one effect; it may be repeated at any time.

    Raises
    ------
    PortError
        It failed; what had been done of it stays done.
    """
    if isinstance(effect, do.HoldRequest | do.ReleaseRequest):
        _hold(world, _known(facts.request), held=isinstance(effect, do.HoldRequest))
    elif isinstance(effect, do.DeleteRequest):
        request = _known(facts.request)
        world.cluster.delete(Ref("VolatileRSE", request.namespace, request.name), request.uid)
    elif isinstance(effect, do.HoldUsed):
        hold(world.cluster, Ref(effect.kind, None, effect.name))
    elif isinstance(effect, do.CreateRecord):
        _admit(world, facts, effect.spec)
    else:
        record = _known(facts.record)
        _OF_RECORD[type(effect)](_Hand(world, connections, facts, record), effect)


def _known(found: Any) -> Any:  # noqa: ANN401 (either of two kinds)
    if found is None:
        message = "an effect was planned on an object that does not exist"
        raise LookupError(message)
    return found


def _hold(world: World, request: Request, *, held: bool) -> None:
    ref = Ref("VolatileRSE", request.namespace, request.name)
    body = world.cluster.get(ref)
    if body is None or uid_of(body) != request.uid:
        return
    others = [name for name in body["metadata"].get("finalizers", []) if name != FINALIZER]
    metadata = {
        "finalizers": [*others, FINALIZER] if held else others,
        "resourceVersion": body["metadata"]["resourceVersion"],
    }
    world.cluster.merge(ref, {"metadata": metadata})


def _admit(world: World, facts: Facts, spec: RSERecordSpec) -> None:
    """Make a record, if the class still has room for it: others may have taken that since this was decided."""
    claim, tenant = spec.claims[0], _known(facts.tenant)
    # Its labels grant, and its UID stays in the record.
    place = Ref("Namespace", None, claim.namespace)
    body = world.live().cluster.get(place)
    if body is None or read_namespace(body) != tenant:
        raise RefusedError(Reason.CHANGED_MEANWHILE, f"{place} changed while the request was looked at")
    with deadline.held(world.admission, Reason.CLUSTER_UNREACHABLE, _ADMITTED):
        shares = world.cluster.select("RSERecord", share_of)
        now = dataclasses.replace(
            facts,
            usage=usage_of(shares, spec.class_name, tenant, facts.now),
            owner_usage=usage_of(shares, spec.class_name, tenant, facts.now, claim.account),
            quarantined=quarantined_of(shares, spec.class_name),
        )
        is_known = any(share.record_id == spec.record_id for share in shares)
        full = takes_no_more(claim.namespace, claim.request, spec.class_snapshot, now)
        if full is not None and not is_known:
            raise RefusedError(Reason.CHANGED_MEANWHILE, full.what)
        create_record(world, spec)


def create_record(world: World, spec: RSERecordSpec) -> None:
    """Make a record that is held; one that is there stays as it is."""
    labels = {**MANAGED, RECORD: spec.record_id, CLAIM: spec.claims[0].uid}
    body = new_object("RSERecord", None, record_name(spec.record_id), labels, {"spec": spec.dump()})
    body["metadata"]["finalizers"] = [FINALIZER]
    world.cluster.create(body)


class _Hand:
    """Carries out effects on one record."""

    def __init__(self, world: World, connections: Connections, facts: Facts, record: Record) -> None:
        self._world = world
        self._facts = facts
        self._cluster = world.cluster
        self._settings = world.settings
        self._connections = connections
        self._record = record
        self._spec = record.spec

    # The record.

    def set_public(self, effect: do.SetPublic) -> None:
        patch = {"metadata": {"resourceVersion": self._record.version}, "spec": {"public": effect.address.dump()}}
        self._cluster.merge(Ref("RSERecord", None, self._record.name), patch)

    def remember(self, effect: do.Remember) -> None:
        before = self._record.status.inputs or ()
        if effect.status.inputs and len(effect.status.inputs) > len(before):
            # Others of its owner may have frozen theirs since this was decided.
            with deadline.held(self._world.admission, Reason.CLUSTER_UNREACHABLE, _ADMITTED):
                others = self._cluster.select("RSERecord", share_of)
                used = usage_of_others(others, self._spec, self._facts.now, self._facts.tenant)
                files = sum(entry.files for entry in effect.status.inputs)
                if over := problem_of_files(self._spec.claims[0].namespace, self._record, files, used):
                    raise RefusedError(Reason.CHANGED_MEANWHILE, over.what)
                self._write(effect)
        else:
            self._write(effect)

    def _write(self, effect: do.Remember) -> None:
        # A merge patch keeps what it does not name: what is no longer so must be named.
        before, status = self._record.status.dump(), effect.status.dump()
        for part in ("session", "steps"):
            status[part] |= {key: None for key in before[part] if key not in status[part]}
        status |= {key: None for key in before if key not in status}
        if self._record.unreadable:
            status = cleared(status, self._record.unreadable)
        patch = {"metadata": {"resourceVersion": self._record.version}, "status": status}
        ref = Ref("RSERecord", None, self._record.name)
        self._cluster.merge(ref, patch, subresource="status")
        told = " ".join(effect.status.mended[-1:])
        if self._record.unreadable and told and (body := self._cluster.get(ref)) is not None:
            self._cluster.event(body, type_="Warning", reason=Reason.RECORD_UNREADABLE.value, message=told)

    def freeze_inputs(self, effect: do.FreezeInputs) -> None:
        # Nothing depends on an earlier list as long as the record, as it is now, does not hold its digest.
        ref = Ref("RSERecord", None, self._record.name)
        now = self._cluster.get(ref)
        if now is None or now["metadata"]["resourceVersion"] != self._record.version:
            raise RefusedError(Reason.CHANGED_MEANWHILE, f"{ref} changed while its inputs were looked at")
        self._drop(KINDS[Piece.INPUTS], Piece.INPUTS)
        for body in inputs_maps(self._settings, self._spec, effect.inputs):
            self._cluster.create(body)

    def freeze_added(self, effect: do.FreezeAdded) -> None:
        for name, files in effect.inputs.items():
            for body in added_maps(self._settings, self._spec, name, files):
                self._cluster.create(body)

    def extend_record(self, effect: do.ExtendRecord) -> None:
        ref = Ref("RSERecord", None, self._record.name)
        body = self._cluster.get(ref)
        if body is None or body["metadata"]["resourceVersion"] != self._record.version:
            raise RefusedError(Reason.CHANGED_MEANWHILE, f"{ref} changed while its entries were looked at")
        # As it is stored: inputs that were removed stay there, so that no name is used again.
        claim = dict(claim_of(body))
        request = dict(claim["request"])
        for key, entries in (("inputs", effect.inputs), ("outputs", effect.outputs)):
            request[key] = [*(request.get(key) or ()), *(entry.dump() for entry in entries)]
        patch = {
            "metadata": {"resourceVersion": self._record.version},
            "spec": {"claims": [{**claim, "request": request}]},
        }
        self._cluster.merge(ref, patch)

    def release_record(self, _effect: do.ReleaseRecord) -> None:
        # The list of what was given up first: as long as the record is held, this comes again.
        first = self._cluster.get(Ref("ConfigMap", self._settings.buffers, discarded_name(self._spec.record_id)))
        whole = self._cluster.list("ConfigMap", self._settings.buffers, {DISCARDED: self._spec.record_id})
        for listed in {body["metadata"]["name"]: body for body in (*whole, first) if body is not None}.values():
            if FINALIZER in listed["metadata"].get("finalizers", ()):
                without(self._cluster, listed, FINALIZER)
        ref = Ref("RSERecord", None, self._record.name)
        body = self._cluster.get(ref)
        if body is None or uid_of(body) != self._record.uid:
            return
        others = [name for name in body["metadata"].get("finalizers", []) if name != FINALIZER]
        version = body["metadata"]["resourceVersion"]
        self._cluster.merge(ref, {"metadata": {"finalizers": others, "resourceVersion": version}})

    # Objects of the buffer.

    def make_piece(self, effect: do.MakePiece) -> None:
        spec, settings = self._spec, self._settings
        makers: Mapping[Piece, Callable[[], dict[str, Any]]] = {
            # What was freed gets no way back to its address.
            Piece.SERVICE: lambda: public_service(settings, spec, drained=self._record.status.freed_at is not None),
            Piece.VOLUME: lambda: volume(settings, spec),
            Piece.POD: lambda: pod(settings, spec, held=has_risk(self._facts, self._record) is True),
        }
        if effect.piece is Piece.KEYS:
            self._make_keys()
        else:
            self._cluster.create(makers[effect.piece]())

    def drop_piece(self, effect: do.DropPiece) -> None:
        name = name_of(self._spec.record_id, effect.piece)
        self._cluster.delete(Ref(KINDS[effect.piece], self._settings.buffers, name), effect.uid)

    def drop_leftover(self, effect: do.DropLeftover) -> None:
        left = effect.leftover
        self._cluster.delete(Ref(left.kind, self._settings.buffers, left.name), left.uid)

    def hold_pod(self, effect: do.HoldPod) -> None:
        self._label_pod(effect.uid, "true")

    def free_pod(self, effect: do.FreePod) -> None:
        self._label_pod(effect.uid, None)

    def _label_pod(self, uid: str, value: str | None) -> None:
        self._cluster.merge(self._ref(Piece.POD), {"metadata": {"uid": uid, "labels": {AT_RISK: value}}})

    def retain_volume(self, effect: do.RetainVolume) -> None:
        policy = "Retain" if effect.retain else "Delete"
        ref = Ref("PersistentVolume", None, effect.volume)
        patch: dict[str, Any] = {"spec": {"persistentVolumeReclaimPolicy": policy}}
        if effect.retain:
            # Its mark finds it, should its claim be deleted by somebody.
            patch["metadata"] = {"labels": labels_of(self._spec)}
        self._cluster.merge(ref, patch)

    def claim_volume(self, effect: do.ClaimVolume) -> None:
        # The claim first: a volume that is free and that nobody claims would never be deleted.
        self._cluster.create(volume(self._settings, self._spec, effect.volume))
        freed = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
        self._cluster.merge(Ref("PersistentVolume", None, effect.volume), freed)

    def make_drain(self, _effect: do.MakeDrain) -> None:
        make_drain(self._world, self._spec.class_snapshot)

    def swap_service(self, _effect: do.SwapService) -> None:
        body = public_service(self._settings, self._spec, drained=True)
        # A merge patch of the selector as a whole: labels of the storage must not stay in it.
        name = name_of(self._spec.record_id, Piece.SERVICE)
        ref = Ref("Service", self._settings.buffers, name)
        old = self._cluster.get(ref)
        selector = dict.fromkeys(((old or {}).get("spec") or {}).get("selector") or {})
        self._cluster.merge(ref, {"spec": {"selector": {**selector, **body["spec"]["selector"]}}})

    # The session.

    def issue_session(self, _effect: do.IssueSession) -> None:
        claim = self._spec.claims[0]
        self._issue(session_secret(self._spec, session_token(self._world, self._record)))
        secret = self._cluster.get(Ref("Secret", claim.namespace, session_name(claim.name)))
        if secret is None or not is_of_claim(secret, claim.uid):
            # Gone again, or somebody else's: the next look tells.
            return
        authorities = session_authorities(self._world, self._spec.class_snapshot)
        inputs = self._facts.frozen
        if inputs is None:
            found = self._cluster.get(self._ref(Piece.INPUTS))
            inputs = {} if found is None else read_inputs(found, self._config_map)
        config = session_config(self._settings, self._spec, uid_of(secret), authorities, inputs)
        config["data"] |= entries_data(self._spec, self._record.status)
        report, listing = self._facts.report, listing_of(self._settings, self._spec, listed_in(self._record.status))
        if report is not None and "listing" in report.knows and listing is not None:
            config["data"] |= listing_data(listing)
        if report is not None and "leases" in report.knows:
            config["data"] |= lease_data(claim)
        if report is not None and "status" in report.knows:
            config["data"] |= status_data(claim)
        if self._issue(config):
            return
        ref = Ref("ConfigMap", claim.namespace, session_name(claim.name))
        before = self._cluster.get(ref)
        if before is not None and is_of_claim(before, claim.uid) and not goes_along(before, secret):
            # It goes with a Secret that is gone, whenever Kubernetes gets to it.
            self._cluster.delete(ref, uid_of(before))
            self._issue(config)

    def _issue(self, body: dict[str, Any]) -> bool:
        return self._cluster.create(mark(self._world, self._spec.record_id, body)) is not None

    def restore_session(self, effect: do.RestoreSession) -> None:
        """Delete what is not as it was written: it is made anew, and never patched."""
        claim, kinds = self._spec.claims[0], {changed.kind: changed.uid for changed in effect.changed}
        for kind, uid in kinds.items():
            self._cluster.delete(Ref(kind, claim.namespace, session_name(claim.name)), uid)
        if any(changed.by for changed in effect.changed):
            request = self._cluster.get(Ref("VolatileRSE", claim.namespace, claim.name))
            about = changed_objects(claim.namespace, effect.changed)
            if request is not None:
                reason = about.reason.value
                self._cluster.event(request, type_="Warning", reason=reason, message=about.message)

    def revoke_session(self, _effect: do.RevokeSession) -> None:
        claim = self._spec.claims[0]
        secret, config = (
            self._cluster.get(Ref(kind, claim.namespace, session_name(claim.name))) for kind in ("Secret", "ConfigMap")
        )
        for body in to_revoke(secret, config, claim.uid):
            self._cluster.delete(Ref(body["kind"], claim.namespace, session_name(claim.name)), uid_of(body))
        # Kubernetes removes it together with the Secret: what was known of it is no longer so.
        self._cluster.get(Ref("ConfigMap", claim.namespace, session_name(claim.name)))

    # The agent.

    def send_manifest(self, effect: do.SendManifest) -> None:
        self._buffer().send_manifest(effect.manifest)

    def tell_session(self, effect: do.TellSession) -> None:
        self._buffer().tell_session(effect.words)

    def fence(self, effect: do.Fence) -> None:
        self._buffer().fence(FenceRequest(generation=effect.generation))

    def seal(self, effect: do.Seal) -> None:
        self._buffer().seal(effect.request)

    def copy(self, effect: do.Copy) -> None:
        self._buffer().copy(effect.copies)

    # The catalogue.

    def ensure_ledger(self, _effect: do.EnsureLedger) -> None:
        owner = LedgerOwner(instance=self._spec.instance, record_id=self._spec.record_id)
        self._catalogue().ensure_ledger(self._ledger(), owner)

    def ensure_rse(self, _effect: do.EnsureRse) -> None:
        self._catalogue().ensure_rse(buffer_rse(self._spec))

    def register(self, effect: do.Register) -> None:
        self._catalogue().register(self._spec.rse_name, self._ledger(), effect.files)

    def ensure_dataset(self, effect: do.EnsureDataset) -> None:
        id_ = self._spec.record_id
        if self._catalogue().ensure_dataset(effect.dataset, effect.account, id_, fresh=effect.fresh):
            self._connections.datasets.made(self._dataset(effect.dataset))

    def attach(self, effect: do.Attach) -> None:
        dataset, turn = self._dataset(effect.dataset), self._facts.turns.get(effect.dataset, 0)
        self._connections.datasets.attach(self._catalogue(), dataset, effect, self._spec.record_id, turn)

    def ensure_rule(self, effect: do.EnsureRule) -> None:
        self._catalogue().ensure_rule(effect.dataset, effect.account, effect.rses, effect.lifetime)

    def expire_rule(self, effect: do.ExpireRule) -> None:
        self._catalogue().expire_rule(effect.rule)

    def hide(self, effect: do.Hide) -> None:
        self._catalogue().hide(self._spec.rse_name, effect.files)

    def suspend(self, effect: do.Suspend) -> None:
        self._catalogue().suspend(self._spec.rse_name, effect.files)

    def resume(self, effect: do.Resume) -> None:
        self._catalogue().resume(self._spec.rse_name, effect.files)

    def write_off(self, effect: do.WriteOff) -> None:
        for body in discarded_maps(self._settings, self._spec, self._record.uid, effect.files):
            self._cluster.apply(body)

    def allow_deletion(self, _effect: do.AllowDeletion) -> None:
        self._catalogue().allow_deletion(self._spec.rse_name)

    def delete_rse(self, _effect: do.DeleteRse) -> None:
        self._catalogue().delete_rse(self._spec.rse_name)

    def expire_ledger(self, _effect: do.ExpireLedger) -> None:
        self._catalogue().expire_ledger(self._ledger())

    # Parts.

    def _ref(self, piece: Piece) -> Ref:
        return Ref(KINDS[piece], self._settings.buffers, name_of(self._spec.record_id, piece))

    def _config_map(self, name: str) -> Mapping[str, Any] | None:
        return self._cluster.get(Ref("ConfigMap", self._settings.buffers, name))

    def _drop(self, kind: str, piece: Piece) -> None:
        ref = Ref(kind, self._settings.buffers, name_of(self._spec.record_id, piece))
        body = self._cluster.get(ref)
        if body is not None:
            self._cluster.delete(ref, uid_of(body))

    def _ledger(self) -> Did:
        return Did.parse(self._spec.ledger)

    def _dataset(self, did: Did) -> Dataset:
        return self._spec.connection_snapshot.server, did

    def _catalogue(self) -> Catalogue:
        return self._connections.remembering(self._spec)

    def _buffer(self) -> Buffer:
        return buffer_of(self._world, self._record, self._facts)

    def _make_keys(self) -> None:
        """Make the Secret, or write it anew: keys of tokens are derived, and the same again."""
        inside = hosts_of(self._settings, name_of(self._spec.record_id, Piece.SERVICE))
        public = self._spec.class_snapshot.exposure.public_host
        data = {**self._tls(SERVER, *inside, public), **self._tls(AGENT, agent_host(self._spec.record_id))}
        data |= xrootd_data(self._spec, self._world.authority.jwks)
        before = self._cluster.get(self._ref(Piece.KEYS))
        if before is not None:
            if not is_good(before, self._world.authority.bundle(), self._world.clock.now()):
                _log.warning(_RENEWED, self._spec.record_id, extra={"record": self._spec.record_id})
            metadata = {"uid": uid_of(before), "annotations": {NOT_AFTER: self._not_after()}}
            self._cluster.merge(self._ref(Piece.KEYS), {"metadata": metadata, "stringData": data})
            return
        self._cluster.create(keys(self._settings, self._spec, data, not_after=self._not_after()))

    def _tls(self, role: str, *names: str) -> dict[str, str]:
        pair = self._world.authority.server(names, LIFETIME)
        return tls_data(pair.certificate, pair.key, self._world.authority.bundle(), role)

    def _not_after(self) -> str:
        return stamp(self._world.clock.now() + LIFETIME)


_OF_RECORD: Mapping[type, Callable[[_Hand, Any], None]] = {
    do.FreezeAdded: _Hand.freeze_added,
    do.ExtendRecord: _Hand.extend_record,
    do.ReleaseRecord: _Hand.release_record,
    do.SetPublic: _Hand.set_public,
    do.Remember: _Hand.remember,
    do.FreezeInputs: _Hand.freeze_inputs,
    do.MakePiece: _Hand.make_piece,
    do.DropPiece: _Hand.drop_piece,
    do.DropLeftover: _Hand.drop_leftover,
    do.HoldPod: _Hand.hold_pod,
    do.FreePod: _Hand.free_pod,
    do.RetainVolume: _Hand.retain_volume,
    do.ClaimVolume: _Hand.claim_volume,
    do.MakeDrain: _Hand.make_drain,
    do.SwapService: _Hand.swap_service,
    do.IssueSession: _Hand.issue_session,
    do.RestoreSession: _Hand.restore_session,
    do.RevokeSession: _Hand.revoke_session,
    do.SendManifest: _Hand.send_manifest,
    do.TellSession: _Hand.tell_session,
    do.Fence: _Hand.fence,
    do.Seal: _Hand.seal,
    do.Copy: _Hand.copy,
    do.EnsureLedger: _Hand.ensure_ledger,
    do.EnsureRse: _Hand.ensure_rse,
    do.Register: _Hand.register,
    do.EnsureDataset: _Hand.ensure_dataset,
    do.Attach: _Hand.attach,
    do.EnsureRule: _Hand.ensure_rule,
    do.ExpireRule: _Hand.expire_rule,
    do.Hide: _Hand.hide,
    do.Suspend: _Hand.suspend,
    do.Resume: _Hand.resume,
    do.WriteOff: _Hand.write_off,
    do.AllowDeletion: _Hand.allow_deletion,
    do.DeleteRse: _Hand.delete_rse,
    do.ExpireLedger: _Hand.expire_ledger,
}
