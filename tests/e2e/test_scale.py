"""Forty real buffers at once: what they ask of the API server, while they begin and while nothing happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed import cluster, installation
from testbed.scale import requests_of, writes_of
from testbed.sessions import Session, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.long]

COUNT = 40
UNTIL_READY = 100
"""Requests of the operator for each buffer, until it is Ready. Without a cache they were 240 where nothing else ran,
and 437 where pods took longer to start: it looks more often then."""
IDLE, OF_SWEEP = 0.5, 20
"""Requests for each idle buffer in a minute, and for all of them together; without a cache each had twelve."""
LASTING = {"ttl": "1h", "startTimeout": "1h"}
"""None of them ends while others begin."""
SWEPT = "volatile_rse_sweep_timestamp_seconds"


@pytest.fixture(name="sessions")
def _sessions(namespace: str) -> Iterator[list[Session]]:
    """Give sessions that nobody has asked for yet, of a class whose pods all find room on the node."""
    installation.up()
    installation.enable(namespace)
    grants = [{"namespaces": [namespace], "accounts": ["alice"]}]
    limits = {"perOwner": {"buffers": COUNT, "newPerHour": COUNT}}
    need = {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "1Gi"}}
    pods = {"resources": {"xrootd": need, "agent": need}}
    installation.apply([installation.class_of(namespace, grants, storage={"memory": {}}, limits=limits, pods=pods)])
    sessions = [Session(namespace, f"run-{number}", namespace) for number in range(COUNT)]
    try:
        yield sessions
    finally:
        cluster.kubectl("-n", namespace, "delete", "volatilerses", "--all", "--wait=false")
        wait_for("all are closed", lambda: not left(namespace), 600, 3)
        cluster.kubectl("delete", "volatilerseclass", namespace, "--wait=false")


def ready(namespace: str) -> int:
    """Count the VolatileRSEs that are Ready, by one question."""
    words = '{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    found = cluster.kubectl("-n", namespace, "get", "volatilerses", "-o", f"jsonpath={words}")
    return found.split().count("True")


def left(namespace: str) -> list[str]:
    """Name what is not closed yet."""
    records = json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]
    mine = [body for body in records if body["spec"]["claims"][0]["namespace"] == namespace]
    waiting = [body["metadata"]["name"] for body in mine if not (body.get("status") or {}).get("closedAt")]
    return waiting + cluster.kubectl("-n", namespace, "get", "volatilerses", "-o", "name").split()


def next_sweep() -> dict[str, float]:
    """Give the metrics as they are after the next sweep."""
    before = installation.metrics()[SWEPT]
    found: dict[str, float] = {}

    def swept() -> bool:
        found.update(installation.metrics())
        return found[SWEPT] > before

    wait_for("a sweep", swept, 180, 1)
    return found


def test_forty_buffers_at_once_ask_the_api_server_for_little(sessions: list[Session]) -> None:
    namespace, before = sessions[0].namespace, requests_of(installation.metrics())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.request(capacity="16Mi", minimumDurability="Pod", session=LASTING), sessions))
    wait_for("all are Ready", lambda: ready(namespace) == COUNT, 300, 1)
    began = (requests_of(installation.metrics()) - before) / COUNT
    assert began <= UNTIL_READY
    # What was begun with them is over with the second sweep; an idle minute lies between the two that follow.
    next_sweep()
    first, last = next_sweep(), next_sweep()
    minutes = (last[SWEPT] - first[SWEPT]) / 60
    assert (requests_of(last) - requests_of(first)) / minutes <= OF_SWEEP + IDLE * COUNT
    assert writes_of(last) == writes_of(first), "nothing is written where nothing happens"
