"""Many VolatileRSEs on fakes, for ``testbed/bench.py``: ``python -m tests.bench_fakes COUNT`` tells time and memory."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from tests.unit.reconcile.small_world import CLUSTER_AUTHORITY, Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.adapters.fake_cluster import play_controllers
from volatile_rse.builders.objects import agent_host, hosts_of, name_of
from volatile_rse.domain.facts import Piece
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.world import World

_STEPS = 60


def main(count: int) -> dict[str, float]:
    """Have all of them Ready, visited one after the other."""
    small = Small(inputs=0)
    limits = {"perOwner": {"buffers": count, "newPerHour": count, "bytes": "1Pi"}}
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"limits": limits}})
    names = [f"run-{number}" for number in range(count)]
    small.request(outputs=[])
    spec = small.cluster.get(Ref("VolatileRSE", "alice", "run"))["spec"]  # type: ignore[index]
    records = {"run": small.record_id}
    for name in names[1:]:
        metadata = {"namespace": "alice", "name": name}
        small.cluster.create(
            {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE", "metadata": metadata, "spec": spec}
        )
        uid = small.cluster.get(Ref("VolatileRSE", "alice", name))["metadata"]["uid"]  # type: ignore[index]
        records[name] = identify(small.settings.instance, uid).record_id
    buffers = {record: FakeBuffer() for record in records.values()}

    doors = {hosts_of(small.settings, name_of(record, Piece.SERVICE))[0]: made for record, made in buffers.items()}
    agents = {agent_host(record): made for record, made in buffers.items()}
    one = small.world()
    world = World(
        settings=one.settings, cluster=one.cluster, authority=LocalAuthority(*CLUSTER_AUTHORITY),
        endpoints=_AnyDoor(doors), clock=one.clock, connect=one.connect,
        buffer=lambda _address, name: agents[name], hashed_name=one.hashed_name,
    )  # fmt: skip
    reconciler = Reconciler(world)
    began, waiting = time.monotonic(), dict(records)
    for _ in range(_STEPS):
        for name, record in waiting.items():
            reconciler.visit(record, ("alice", name))
        play_controllers(small.cluster)
        for buffer in buffers.values():
            buffer.advance()
        small.clock.turn(timedelta(seconds=1))
        waiting = {name: record for name, record in waiting.items() if not _is_ready(small, name)}
        if not waiting:
            break
    else:
        sys.exit(f"{len(waiting)} of {count} are not Ready after {_STEPS} rounds")
    seconds = time.monotonic() - began
    return {"seconds": seconds, "rss_mib": _most_mib()}


def _most_mib() -> float:
    """Give the most memory that this program had; ``getrusage`` would count what began it, too."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


class _AnyDoor(FakeEndpoints):
    """The public host leads to all of them: the fakes have one port each, and here any will do."""

    def __init__(self, buffers: dict[str, FakeBuffer]) -> None:
        super().__init__({**buffers, "buffers.example.org": next(iter(buffers.values()))})


def _is_ready(small: Small, name: str) -> bool:
    return small.cluster.get(Ref("Secret", "alice", f"{name}-vrse")) is not None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))) + "\n")
