"""The empty server of a public host: made with the first class that names the host, and never taken away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.storage import drain_objects, tls_data
from volatile_rse.domain.naming import drain_name
from volatile_rse.domain.stage import stamp
from volatile_rse.domain.times import later
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reading import is_good
from volatile_rse.reconcile.world import World

__all__ = ["LIFETIME", "DrainState", "drain_state", "make_drain"]

LIFETIME = timedelta(days=90)
"""Of certificates; they are renewed a month before."""


@dataclass(frozen=True, slots=True)
class DrainState:
    """How far the empty server of a public host is."""

    ready: bool
    refused: str = ""
    """Why the cluster lets no pod of it be; empty: nothing is known of that."""


def drain_state(world: World, public_host: str) -> DrainState:
    """Tell whether the empty server runs, with a certificate that is good."""
    name, buffers = drain_name(public_host), world.settings.buffers
    certificate = world.cluster.get(Ref("Secret", buffers, name))
    if certificate is None or not is_good(certificate, world.authority.bundle(), world.clock.now()):
        return DrainState(ready=False)
    status = (world.cluster.get(Ref("Deployment", buffers, name)) or {}).get("status") or {}
    failed = [entry for entry in status.get("conditions") or () if entry.get("type") == "ReplicaFailure"]
    refused = next((str(entry.get("message")) for entry in failed if entry.get("status") == "True"), "")
    return DrainState((status.get("readyReplicas") or 0) > 0, refused)


def make_drain(world: World, class_: VolatileRSEClassSpec) -> None:
    """Make the empty server of a class's public host, or what is missing of it."""
    host, authorities, now = class_.exposure.public_host, world.authority.bundle(), world.clock.now()
    pair = world.authority.server([host], LIFETIME)
    data = tls_data(pair.certificate, pair.key, authorities)
    certificate = world.cluster.get(Ref("Secret", world.settings.buffers, drain_name(host)))
    known = certificate is not None and is_good(certificate, authorities, now)
    for body in drain_objects(world.settings, class_, data, not_after=stamp(later(now, LIFETIME))):
        # A server that is starting keeps its certificate.
        if not (known and body["kind"] == "Secret"):
            world.cluster.apply(body)
