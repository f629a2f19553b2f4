"""The objects that one buffer and its session have in Kubernetes, as they are now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from volatile_rse.api.rserecord import PublicAddress
from volatile_rse.api.schema import fault_of_label
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import KINDS, RECORD, name_of, session_name
from volatile_rse.builders.session import entries_data, lacks_rights
from volatile_rse.builders.storage import xrootd_data
from volatile_rse.domain.facts import Changed, Leftover, Piece, SessionFact, Storage
from volatile_rse.domain.lifetime import is_end_due
from volatile_rse.domain.session import JobRef
from volatile_rse.domain.stage import Stage
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.drain import DrainState, drain_state
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.issued import changed_of, is_as_written
from volatile_rse.reconcile.reading import (
    data_of,
    expires_soon,
    is_of_claim,
    read_outlived,
    read_pod,
    read_service,
    read_session,
    read_volume,
    texts_of,
    uid_of,
)
from volatile_rse.reconcile.session_pods import is_awaited, is_given, jobs_of

__all__ = ["session", "storage"]

Object = Mapping[str, Any]

_LEAVING = {Stage.HIDING, Stage.DRAINING}


def storage(look: Look) -> Storage:
    """Look for what there is of the buffer; the bodies found are kept for what is asked later."""
    cluster, settings = look.world.cluster, look.world.settings
    labels = {RECORD: look.spec.record_id}
    bodies = {
        (kind, body["metadata"]["name"]): body
        for kind in sorted(set(KINDS.values()))
        for body in cluster.list(kind, settings.buffers, labels)
    }
    found = {
        piece: body
        for piece, kind in KINDS.items()
        if (body := bodies.get((kind, name_of(look.spec.record_id, piece)))) is not None
    }
    look.bodies = found
    look.maps = {name: body for (kind, name), body in bodies.items() if kind == KINDS[Piece.INPUTS]}
    service = read_service(found[Piece.SERVICE]) if Piece.SERVICE in found else None
    if service is not None and service.root_port is not None and service.davs_port is not None:
        host = look.spec.class_snapshot.exposure.public_host
        address = PublicAddress(host=host, root_port=service.root_port, davs_port=service.davs_port)
        look.set(public_address=address)
    claim = found.get(Piece.VOLUME)
    volumes = _volumes(look, claim)
    host = look.spec.class_snapshot.exposure.public_host
    drain = drain_state(look.world, host) if look.stage in _LEAVING else DrainState(ready=False)
    return Storage(
        pieces={piece: uid_of(body) for piece, body in found.items()},
        going=frozenset(piece for piece, body in found.items() if "deletionTimestamp" in body["metadata"]),
        outdated=_outdated(look, found),
        leftovers=tuple(sorted(_leftover(body) for body in bodies.values() if body not in found.values())),
        pod=read_pod(found[Piece.POD]) if Piece.POD in found else None,
        volume=None if claim is None else read_volume(claim, next(iter(volumes), None)),
        outlived=read_outlived(claim, volumes),
        lost=_has_volume(look) and not volumes and (claim is None or bool(claim["spec"].get("volumeName"))),
        service=service,
        drain_ready=drain.ready,
        drain_refused=drain.refused,
    )


def session(look: Look) -> SessionFact:
    """Look for what runs of the session, and for what it was given."""
    cluster, claim = look.world.cluster, look.claim
    if look.facts.request is None:
        return SessionFact()
    name = session_name(claim.name)
    pods = _pods(look, deleting=look.facts.request.deleting)
    secret = look.ask(cluster.get, Ref("Secret", claim.namespace, name))
    config = look.ask(cluster.get, Ref("ConfigMap", claim.namespace, name))
    ready_at = look.record.status.session.ready_at
    fact = read_session(pods, (secret, config), claim.uid, ready_at, look.facts.now)
    changed = tuple(
        changed_of(body)
        for body in (secret, config)
        if body is not None
        and is_of_claim(body, claim.uid)
        and not is_as_written(look.world, look.spec.record_id, body)
    )
    jobs = jobs_of(pods, ready_at)
    awaited = "" if fact.running else _awaited_job(look, jobs)
    unchanged = fact.objects and not changed
    outdated = _outdated_of(look, secret, config) if unchanged else ()
    return dataclasses.replace(
        fact, jobs=tuple(jobs), awaited=awaited, changed=changed, objects=unchanged, outdated=outdated
    )


def _outdated_of(look: Look, secret: Object | None, config: Object | None) -> tuple[Changed, ...]:
    """Give the objects that are as they were written, and lack what entries have brought that were added since."""
    spec, status = look.spec, look.record.status
    told = entries_data(spec, status)
    if secret is None or config is None or not told:
        return ()
    if lacks_rights(spec, status, texts_of(secret).get("token", "")):
        return (_ours(secret),)
    return () if told.items() <= data_of(config).items() else (_ours(config),)


def _ours(body: Object) -> Changed:
    """Describe an object that nobody else has written."""
    return dataclasses.replace(changed_of(body), by="")


def _outdated(look: Look, found: Mapping[Piece, Mapping[str, Any]]) -> frozenset[Piece]:
    """Tell whether the Secret lacks what a storage pod needs, soon will, or is another authority's."""
    body, authority = found.get(Piece.KEYS), look.world.authority
    if body is None:
        return frozenset()
    wanted = xrootd_data(look.spec, authority.jwks) | {"ca.crt": authority.bundle()}
    is_due = expires_soon(body, look.facts.now) or not wanted.items() <= texts_of(body).items()
    return frozenset({Piece.KEYS}) if is_due else frozenset()


def _volumes(look: Look, claim: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    """Read the claim's volume; without a claim, what an earlier one has left."""
    cluster = look.world.cluster
    if claim is not None:
        bound = claim["spec"].get("volumeName")
        volume = cluster.get(Ref("PersistentVolume", None, bound)) if bound else None
        return () if volume is None else (volume,)
    if not _has_volume(look):
        # What an RSE that was adopted had in another life is not its to give up.
        return ()
    return cluster.list("PersistentVolume", None, {RECORD: look.spec.record_id})


def _has_volume(look: Look) -> bool:
    return look.spec.class_snapshot.storage.volume is not None and look.spec.adopted_from is None


def _pods(look: Look, *, deleting: bool) -> Sequence[Mapping[str, Any]]:
    name = look.claim.name
    if fault_of_label(SESSION_LABEL, name):
        # An earlier version took longer names: no pod can have such a label, and the API server lists none.
        return ()
    wanted = "Pod", look.claim.namespace, {SESSION_LABEL: name}
    if deleting or look.record.status.session.ended_at is not None:
        # The session is over, whatever runs: nothing waits for a list that cannot be read.
        found = look.ask(look.world.cluster.list, *wanted) or ()
    else:
        # Outside any tolerance: a list that cannot be read is not an empty one.
        found = look.world.cluster.list(*wanted)
    # One that has not got what the session has, nor waits for it, does nothing in it.
    return tuple(pod for pod in found if is_given(pod))


def _awaited_job(look: Look, seen: Mapping[JobRef, int]) -> str:
    """Name a Job that may start another pod; one that cannot be read may, too. Asked only where the end is due.

    Of a pod that was drained nothing is left: its Job was written down when it was seen.
    """
    request = look.facts.request
    if request is None or request.deleting or request.end_requested or not is_end_due(look.facts, look.record):
        return ""
    cluster, namespace = look.world.cluster, look.claim.namespace
    known = [JobRef(job.name, job.uid) for job in reversed(look.record.status.session.jobs)]
    for job in dict.fromkeys((*seen, *known)):
        problems = len(look.problems)
        body = look.ask(cluster.get, Ref("Job", namespace, job.name))
        if len(look.problems) > problems or is_awaited(body, job.uid, seen.get(job, 0)):
            return job.name
    return ""


def _leftover(body: Mapping[str, Any]) -> Leftover:
    return Leftover(body["kind"], body["metadata"]["name"], uid_of(body))
