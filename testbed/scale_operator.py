"""The operator's process of ``make bench BENCH=scale``: all of it, with fakes in the place of Rucio, agents and doors.

It asks the API server that KUBECONFIG names, and watches it as the operator's pod does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import kopf
from prometheus_client import Gauge

from testbed.scale_fakes import Far
from volatile_rse.__main__ import Outside, operate
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Object, Ref
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.world import Login
from volatile_rse.telemetry.metrics import Metrics

__all__ = ["ASSEMBLIES", "VISITED", "main"]

T = TypeVar("T")
VISITED = "scale_bench_keys_visited"
"""Metric: buffers that this process has visited at least once."""


class Uncached(CachedCluster):
    """Tells of what watches bring, as the cache does, and asks the API server for everything."""

    def get(self, ref: Ref) -> Object | None:
        """Read one object, fresh."""
        return self._source.get(ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects, fresh."""
        return self._source.list(kind, namespace, labels)

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object of a kind, all of them fresh."""
        return self._source.select(kind, read)


ASSEMBLIES: Mapping[str, Mapping[str, Any]] = {
    "before": {"cache": Uncached, "serve": partial(Service, threads=4)},
    "after": {},
}
"""How the operator was put together, and how it is: what ``operate`` is told."""


def _count_keys(metrics: Metrics) -> None:
    """Have each key counted once its first visit is over."""
    keys: set[str] = set()
    Gauge(VISITED, "Buffers that were visited at least once.", registry=metrics.registry).set_function(
        lambda: len(keys)
    )
    visit = Reconciler.visit

    def counted(reconciler: Reconciler, record_id: str, *args: Any, **kwargs: Any) -> float | None:  # noqa: ANN401
        try:
            return visit(reconciler, record_id, *args, **kwargs)
        finally:
            keys.add(record_id)

    Reconciler.visit = counted  # type: ignore[method-assign, assignment]


def main() -> int:
    """Run until asked to end."""
    parser = argparse.ArgumentParser(prog="python -m testbed.scale_operator", description=__doc__)
    parser.add_argument("--assembly", choices=[*ASSEMBLIES], required=True)
    parser.add_argument("--fakes", type=Path, required=True, help="their socket")
    parser.add_argument("--ports", type=int, nargs=2, required=True, help="of the metrics, and of the liveness probe")
    arguments = parser.parse_args()
    metrics, far = Metrics(), Far(arguments.fakes)
    _count_keys(metrics)

    def outside(_: LocalAuthority) -> Outside:
        def connect(login: Login) -> Catalogue:
            return metrics.measured(far.catalogue(login.connection.server))

        return Outside(far.doors(), connect, far.buffer)

    cluster = KubernetesCluster.connect(Path(os.environ["KUBECONFIG"]), asked=metrics.asked)
    return operate(
        metrics.counted(cluster),
        metrics,
        outside,
        **ASSEMBLIES[arguments.assembly],
        logon=kopf.login_with_kubeconfig,
        ports=tuple(arguments.ports),
    )


if __name__ == "__main__":
    sys.exit(main())
