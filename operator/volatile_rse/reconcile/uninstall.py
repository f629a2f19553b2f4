"""The end of an installation: refused while something is at stake, and holding nothing back afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from volatile_rse.builders.objects import FINALIZER, IN_USE, KINDS, MANAGED, RECORD, discarded_name
from volatile_rse.domain.facts import Piece, Record
from volatile_rse.domain.settings import Settings
from volatile_rse.domain.stage import Stage, stage_of
from volatile_rse.ports.cluster import Cluster, Ref
from volatile_rse.reconcile.holding import without
from volatile_rse.reconcile.reading import read_record

__all__ = ["Stake", "release_all", "stakes_of"]

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
    """List the buffers that are not closed; only those of this operator."""
    records = [read_record(body) for body in cluster.list("RSERecord")]
    ours = [record for record in records if record.spec.instance == settings.instance]
    return tuple(
        sorted(_stake(cluster, settings, record) for record in ours if stage_of(record.status) is not Stage.CLOSED)
    )


def _stake(cluster: Cluster, settings: Settings, record: Record) -> Stake:
    claim = record.spec.claims[0]
    unsafe = record.status.session.ready_at is not None and record.status.safe_at is None
    found = cluster.list(KINDS[Piece.VOLUME], settings.buffers, {RECORD: record.spec.record_id}) if unsafe else ()
    volume = next((body["spec"].get("volumeName") or "" for body in found), "")
    return Stake(record.name, record.spec.rse_name, f"{claim.namespace}/{claim.name}", unsafe, volume)


def release_all(cluster: Cluster, settings: Settings, stakes: tuple[Stake, ...]) -> None:
    """Keep the volumes of unsafe outputs, and let every object go that no other operator's buffer needs."""
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
        ours = (body["kind"], metadata.get("namespace"), metadata["name"]) not in needed
        if ours and {FINALIZER, IN_USE} & set(metadata.get("finalizers", ())):
            without(cluster, body, FINALIZER, IN_USE)


def _needed_by_others(cluster: Cluster, settings: Settings) -> set[tuple[str, str | None, str]]:
    """Name what holds buffers that this operator did not count: nobody was asked about their outputs."""
    needed: set[tuple[str, str | None, str]] = set()
    for record in (read_record(body) for body in cluster.list("RSERecord")):
        spec = record.spec
        if spec.instance != settings.instance and stage_of(record.status) is not Stage.CLOSED:
            needed |= {("VolatileRSE", claim.namespace, claim.name) for claim in spec.claims}
            needed |= {
                ("RSERecord", None, record.name),
                ("ConfigMap", settings.buffers, discarded_name(spec.record_id)),
                ("VolatileRSEClass", None, spec.class_name),
                ("RucioConnection", None, spec.connection_name),
            }
    return needed
