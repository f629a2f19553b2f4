"""The end of an installation: refused while something is at stake, and holding nothing back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec

from volatile_rse.api.injection import INJECTION
from volatile_rse.builders.objects import DISCARDED, FINALIZER, IN_USE, KINDS, MANAGED, RECORD, discarded_name
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.cluster import Cluster, Object, Ref
from volatile_rse.ports.errors import PortError
from volatile_rse.reconcile.gates import release_gates
from volatile_rse.reconcile.holding import without
from volatile_rse.reconcile.reading import is_closed, owner_of, record_id_of, spec_of, status_of

__all__ = ["Stake", "end_injection", "release_all", "stakes_of"]

P = ParamSpec("P")
_BINDINGS = ("MutatingAdmissionPolicyBinding.v1", "MutatingAdmissionPolicyBinding.v1beta1")
_KINDS = ("VolatileRSE", "RSERecord", "VolatileRSEClass", "RucioConnection")


@dataclass(frozen=True, slots=True, order=True)
class Stake:
    """A buffer that would be left behind."""

    record: str
    rse: str
    owner: str
    unsafe: bool
    """It may hold outputs that are nowhere else."""
    volume: str = ""
    """PersistentVolume that stays, with what is on it."""

    def __str__(self) -> str:
        what = "outputs that are not safe" if self.unsafe else "an RSE that is still in Rucio"
        kept = f"; volume {self.volume} stays" if self.volume else ""
        return f"{self.record} of {self.owner}: {self.rse}, {what}{kept}"


def stakes_of(cluster: Cluster, settings: Settings) -> tuple[Stake, ...]:
    """List the buffers that are not closed, also those whose record cannot be read; only those of this operator."""
    ours = [body for body in cluster.list("RSERecord") if spec_of(body).get("instance") == settings.instance]
    return tuple(sorted(_stake(cluster, settings, body) for body in ours if not is_closed(body)))


def _stake(cluster: Cluster, settings: Settings, body: Object) -> Stake:
    status = status_of(body)
    session = status.get("session")
    # Of one that cannot be read it may be so.
    began = bool(session.get("readyAt")) if isinstance(session, Mapping) else session is not None
    unsafe = began and not status.get("safeAt")
    found = cluster.list(KINDS[Piece.VOLUME], settings.buffers, {RECORD: record_id_of(body)}) if unsafe else ()
    volume = next((body["spec"].get("volumeName") or "" for body in found), "")
    owner = "/".join(owner_of(body) or ("unknown",))
    return Stake(body["metadata"]["name"], str(spec_of(body).get("rseName", "unknown")), owner, unsafe, volume)


def release_all(cluster: Cluster, settings: Settings, stakes: tuple[Stake, ...]) -> None:
    """Keep the volumes of unsafe outputs, and let every object go that no other operator's buffer needs.

    First of all pods get no gate any more, and those that have one lose it: nobody would take it away.

    Raises
    ------
    PortError
        The first object, or pod, that could not be let go; the others are.
    """
    failed: list[PortError] = []
    _try(failed, end_injection, cluster)
    for stake in stakes:
        if stake.volume:
            policy = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
            cluster.merge(Ref("PersistentVolume", None, stake.volume), policy)
    needed = _needed_by_others(cluster, settings)
    held = [body for kind in _KINDS for body in cluster.list(kind)]
    # Among them the lists of what was given up.
    held += cluster.list("ConfigMap", settings.buffers, MANAGED)
    for body in held:
        metadata = body["metadata"]
        listed = (metadata.get("labels") or {}).get(DISCARDED)
        name = metadata["name"] if listed is None else discarded_name(listed)
        ours = (body["kind"], metadata.get("namespace"), name) not in needed
        if ours and {FINALIZER, IN_USE} & set(metadata.get("finalizers", ())):
            _try(failed, without, cluster, body, FINALIZER, IN_USE)
    # The API server hears of the end of injection a moment later: what came until then has a gate.
    _try(failed, release_gates, cluster)
    if failed:
        raise failed[0]


def _try(failed: list[PortError], call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Note what fails: a pod, for one, may wait where the operator may patch none, and must hold nothing else."""
    try:
        call(*args, **kwargs)
    except PortError as error:
        failed.append(error)


def end_injection(cluster: Cluster) -> None:
    """Have the API server put no gate on any pod, and let the pods start that have one."""
    bindings = [Ref(kind, None, name) for kind in _BINDINGS for name in INJECTION]
    for ref in (Ref("MutatingWebhookConfiguration", None, INJECTION[0]), *bindings):
        if (body := cluster.get(ref)) is not None:
            cluster.delete(ref, body["metadata"]["uid"])
    release_gates(cluster)


def _needed_by_others(cluster: Cluster, settings: Settings) -> set[tuple[str, str | None, str]]:
    """Name what holds buffers that this operator did not count: nobody was asked about their outputs."""
    needed: set[tuple[str, str | None, str]] = set()
    for body in cluster.list("RSERecord"):
        spec, owner = spec_of(body), owner_of(body)
        if spec.get("instance") != settings.instance and not is_closed(body):
            needed |= {("VolatileRSE", *owner)} if owner is not None else set()
            needed |= {
                ("RSERecord", None, body["metadata"]["name"]),
                ("ConfigMap", settings.buffers, discarded_name(str(spec.get("recordId")))),
                ("VolatileRSEClass", None, str(spec.get("className"))),
                ("RucioConnection", None, str(spec.get("connectionName"))),
            }
    return needed
