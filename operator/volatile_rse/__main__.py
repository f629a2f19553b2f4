"""The operator's process: puts adapters into ports, starts the reconciler, and lets kopf watch."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import kopf
from prometheus_client import start_http_server

from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.authority import LocalAuthority, hashed_name
from volatile_rse.adapters.clock import SystemClock
from volatile_rse.adapters.endpoints import HttpsEndpoints
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.adapters.rucio import RucioCatalogue
from volatile_rse.api.agent import AGENT_PORT
from volatile_rse.domain.settings import Settings
from volatile_rse.handlers.watching import registry_of, settings_of
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.reconcile.authority import stored_authority
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.world import Login, World
from volatile_rse.telemetry.metrics import Metrics

__all__ = ["main"]

_LIFETIME = timedelta(days=90)
"""Of the operator's client certificate; a process is restarted more often than that."""
_METRICS = 8081
"""Port of the metrics."""
_HEALTH = "http://0.0.0.0:8080/healthz"


def main() -> int:
    """Run until asked to end."""
    logging.basicConfig(
        level=os.environ.get("VOLATILE_RSE_LOG", "INFO"), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    private = Path(tempfile.mkdtemp(prefix="volatile-rse-"))
    metrics = Metrics()
    start_http_server(_METRICS, registry=metrics.registry)
    world = _world(KubernetesCluster.connect(), private, metrics)
    service = Service(world)
    service.start()
    try:
        kopf.run(
            registry=registry_of(service.saw, service.healthy),
            settings=settings_of(),
            clusterwide=True,
            liveness_endpoint=_HEALTH,
            standalone=True,
        )
    finally:
        service.stop()
    return 0


def _world(cluster: KubernetesCluster, private: Path, metrics: Metrics) -> World:
    name = os.environ.get("VOLATILE_RSE_NAME", "volatile-rse")
    settings = Settings(
        name=name,
        instance=f"{name}.{cluster.identity()}",
        namespace=os.environ["VOLATILE_RSE_NAMESPACE"],
        buffers=os.environ["VOLATILE_RSE_BUFFERS"],
        buffer_image=os.environ["VOLATILE_RSE_BUFFER_IMAGE"],
    )
    certificate, key = stored_authority(cluster, settings, LocalAuthority.create)
    authority = LocalAuthority(certificate, key)
    pair = authority.client("volatile-rse-operator", _LIFETIME)

    def connect(login: Login) -> Catalogue:
        catalogue = RucioCatalogue(login.connection, (login.username, login.password), login.authorities, private)
        return metrics.measured(catalogue)

    def buffer(host: str) -> Buffer:
        return AgentClient(host, AGENT_PORT, authority.bundle(), pair)

    return World(
        settings=settings,
        cluster=cluster,
        authority=authority,
        endpoints=HttpsEndpoints(authority.bundle()),
        clock=SystemClock(),
        connect=connect,
        buffer=buffer,
        hashed_name=hashed_name,
        telemetry=metrics,
    )


if __name__ == "__main__":
    sys.exit(main())
