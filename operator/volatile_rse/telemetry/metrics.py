"""Prometheus metrics of the operator; docs/operations.md tells what to watch."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Cluster, Ref, Source
from volatile_rse.ports.errors import PortError, UnreachableError
from volatile_rse.ports.telemetry import Holding, Telemetry, Whose

__all__ = ["Metrics"]

_WRITES = {"create", "apply", "merge", "delete", "event"}
_LONG = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds: what people wait for."""
_OWNERS = 100
"""Owners that have series of their own: who makes namespaces and accounts must not fill a Prometheus."""
_OTHERS = Whose("", "", "(others)")
_WHOSE = ("class", "namespace", "account")


class Metrics(Telemetry):
    """All metrics, in a registry of their own.

    Parameters
    ----------
    clock
        Seconds of the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock

        def named(kind: type[Any], name: str, text: str, *labels: str, **options: Any) -> Any:  # noqa: ANN401
            return kind(f"volatile_rse_{name}", text, labels, registry=self.registry, **options)

        self._visits = named(Histogram, "visit_seconds", "Duration of one visit to a buffer.", "result")
        self._effects = named(Counter, "effects", "Effects that were carried out.", "effect", "result")
        self._waiting = named(Gauge, "queue_due", "Buffers whose visit is due and has not begun.")
        self._oldest = named(Gauge, "queue_age_seconds", "For how long the first buffer that is due has waited.")
        self._at_risk = named(
            Gauge, "at_risk_bytes", "Outputs that are not safe, at the last sweep.", *_WHOSE, "session"
        )
        self._capacity = named(Gauge, "capacity_bytes", "Capacity of buffers that have storage.", *_WHOSE)
        self._buffers = named(Gauge, "buffers", "Buffers that are not closed, at the last sweep.", "class", "phase")
        self._writes = named(Counter, "cluster_writes", "Calls that change objects of the cluster.", "verb", "kind")
        self._requests = named(
            Counter, "cluster_requests", "Requests to the API server; a watch is one.", "verb", "kind"
        )
        ProcessCollector(registry=self.registry)
        self._records = named(Gauge, "records", "Records by stage, at the last sweep.", "stage")
        self._reachable = named(Gauge, "connection_reachable", "1 if the server answered the sweep.", "connection")
        self._class_ready = named(Gauge, "class_ready", "1 if the class was Ready at the sweep.", "class")
        self._swept = named(Gauge, "sweep_timestamp_seconds", "When the last sweep ended.")
        self._unseen = named(Gauge, "watch_age_seconds", "For how long no watch brought own renewals.")
        self._ports = named(Gauge, "node_ports", "NodePorts of buffers that are not closed, at the last sweep.")
        self._most_ports = named(Gauge, "node_ports_limit", "NodePorts that Services of the cluster can have.")
        self._unheard = named(Gauge, "view_age_seconds", "For how long the most silent watch has said nothing.")
        self._orphans = named(Gauge, "orphans", "Ledgers and objects of a buffer without its record.")
        self._unread = named(Gauge, "unreadable", "Objects that this operator cannot read, at the last sweep.", "kind")
        self._faults = named(Counter, "faults", "Visits that ended early, and parts of the sweep.", "where")
        self._ready = named(Histogram, "ready_seconds", "From the request to Ready.", "class", buckets=_LONG)
        self._safe = named(Histogram, "safe_seconds", "From the session's end to safe outputs.", "class", buckets=_LONG)
        self._calls = named(Histogram, "catalogue_call_seconds", "Calls to Rucio.", "method", "result")

    def visited(self, seconds: float, *, failed: bool) -> None:
        """Count a visit."""
        self._visits.labels("failed" if failed else "done").observe(seconds)

    def applied(self, effect: str, *, failed: bool) -> None:
        """Count an effect."""
        self._effects.labels(effect, "failed" if failed else "done").inc()

    def waiting(self, keys: int, oldest: float) -> None:
        """Set the length of the queue."""
        self._waiting.set(keys)
        self._oldest.set(oldest)

    def held(self, holdings: Mapping[Whose, Holding]) -> None:
        """Set what buffers hold; of too many owners those with the least are told together."""
        self._at_risk.clear()
        self._capacity.clear()
        for whose, holding in _bounded(holdings).items():
            self._capacity.labels(*whose).set(holding.capacity)
            self._at_risk.labels(*whose, "running").set(holding.running)
            self._at_risk.labels(*whose, "ended").set(holding.ended)

    def phased(self, phases: Mapping[tuple[str, str], int]) -> None:
        """Set how many buffers there are; a phase without any does not keep its last number."""
        self._buffers.clear()
        for (class_name, phase), count in phases.items():
            self._buffers.labels(class_name, phase).set(count)

    def swept(self, stages: Mapping[str, int], connections: Mapping[str, bool]) -> None:
        """Set what the sweep has seen; a stage without records does not keep its last number."""
        self._records.clear()
        for stage, count in stages.items():
            self._records.labels(stage).set(count)
        self._reachable.clear()
        for connection, reachable in connections.items():
            self._reachable.labels(connection).set(reachable)
        self._swept.set(self._clock())

    def offered(self, classes: Mapping[str, bool]) -> None:
        """Set whether each class is Ready; one that is deleted has no series any more."""
        self._class_ready.clear()
        for class_name, ready in classes.items():
            self._class_ready.labels(class_name).set(ready)

    def watched(self, unseen: Callable[[], float]) -> None:
        """Ask for the age of the watches whenever metrics are read."""
        self._unseen.set_function(unseen)

    def exposed(self, used: int, most: int) -> None:
        """Set how many NodePorts buffers have, and can have."""
        self._ports.set(used)
        self._most_ports.set(most)

    def viewed(self, unheard: Callable[[], float]) -> None:
        """Ask for the age of the views whenever metrics are read."""
        self._unheard.set_function(unheard)

    def orphaned(self, count: int) -> None:
        """Set the number of orphans."""
        self._orphans.set(count)

    def unread(self, kinds: Mapping[str, int]) -> None:
        """Set the number of objects that cannot be read."""
        for kind, count in kinds.items():
            self._unread.labels(kind).set(count)

    def faulted(self, where: str) -> None:
        """Count a failure."""
        self._faults.labels(where).inc()

    def became_ready(self, class_name: str, seconds: float) -> None:
        """Count a session that could begin."""
        self._ready.labels(class_name).observe(seconds)

    def became_safe(self, class_name: str, seconds: float) -> None:
        """Count outputs that are safe."""
        self._safe.labels(class_name).observe(seconds)

    def measured(self, catalogue: Catalogue) -> Catalogue:
        """Wrap a catalogue so that each of its calls is counted and timed."""
        return cast("Catalogue", _Measured(catalogue, self._calls))

    def asked(self, verb: str, kind: str) -> None:
        """Count a request to the API server."""
        self._requests.labels(verb, kind).inc()

    def counted(self, cluster: Source) -> Source:
        """Wrap a cluster so that each write is counted."""
        return cast("Source", _Counted(cluster, self._writes))


def _bounded(holdings: Mapping[Whose, Holding]) -> dict[Whose, Holding]:
    """Keep the owners with the most at risk, and then with the most storage; add up all others."""

    def weight(entry: tuple[Whose, Holding]) -> tuple[int, int, int, Whose]:
        whose, holding = entry
        return -holding.ended, -holding.running, -holding.capacity, whose

    ordered = sorted(holdings.items(), key=weight)
    kept = dict(ordered[:_OWNERS])
    for _, holding in ordered[_OWNERS:]:
        rest = kept.setdefault(_OTHERS, Holding())
        rest.capacity += holding.capacity
        rest.running += holding.running
        rest.ended += holding.ended
    return kept


class _Counted:
    """Passes every call on."""

    def __init__(self, cluster: Cluster, writes: Counter) -> None:
        self._cluster = cluster
        self._writes = writes

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._cluster, method)
        if method not in _WRITES:
            return cast("Callable[..., Any]", call)

        @functools.wraps(call)
        def counted(what: Any, *args: object, **kwargs: object) -> object:  # noqa: ANN401
            kind = what.kind if isinstance(what, Ref) else what["kind"]
            self._writes.labels(method, "Event" if method == "event" else kind).inc()
            return call(what, *args, **kwargs)

        return counted


class _Measured:
    """Passes every call on."""

    def __init__(self, catalogue: Catalogue, calls: Histogram) -> None:
        self._catalogue = catalogue
        self._calls = calls

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._catalogue, method)

        @functools.wraps(call)
        def measured(*args: object, **kwargs: object) -> object:
            began, result = time.monotonic(), "done"
            try:
                return call(*args, **kwargs)
            except UnreachableError:
                result = "unreachable"
                raise
            except PortError:
                result = "refused"
                raise
            finally:
                self._calls.labels(method, result).observe(time.monotonic() - began)

        return measured
