"""What ``testbed/bench.py`` times inside the buffer's image: the agent itself.

It reads a job from ``/bench/job.json`` and prints what it measured as one line of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import (
    Copies,
    CopyOrder,
    CopyTarget,
    GateState,
    Manifest,
    OutputRule,
    OutputState,
    SealRequest,
)

_FENCE = 1


def stage(job: Mapping[str, Any]) -> dict[str, float]:
    """Stage a manifest."""
    buffer, manifest = _buffer(), _manifest(job)
    wanted = len(manifest.inputs)
    return {"seconds": _timed(lambda: buffer.take(manifest), lambda: buffer.report().inputs[0].staged == wanted)}


def copy(job: Mapping[str, Any]) -> dict[str, float]:
    """Seal files of a session and copy them to a site."""
    buffer, claim = _buffer(), "bench"
    buffer.take(_manifest(job))
    folder = buffer.places.namespace / "outbox" / claim
    for number in range(job["files"]):
        (folder / f"{number:05}").write_bytes(os.urandom(job["size"]))
    buffer.gate.fence(_FENCE)
    buffer.gate.reached(GateState(mode="fenced", generation=_FENCE))
    rule = OutputRule(claim=claim, name="out", patterns=["**"], scope=job["scope"], dataset=job["dataset"])
    order = SealRequest(generation=_FENCE, record_id=job["record"], outputs=[rule])

    def seal() -> None:
        buffer.sealing.order(order)
        buffer.sealing.join()

    sealed = _timed(seal, lambda: True)
    copies = [
        CopyOrder(scope=one.scope, name=one.name, destinations=[CopyTarget(rse="SITE", pfn=f"{job['url']}/{one.name}")])
        for one in buffer.ledger.every(OutputState).values()
        if one.scope and one.name
    ]
    count = len(copies)
    seconds = _timed(
        lambda: buffer.copying.order(Copies(copies=copies)), lambda: buffer.report().copies.verified == count
    )
    return {"seconds": seconds, "sealed": sealed, "files": count}


def _buffer() -> Buffer:
    buffer = Buffer(Places.of())
    buffer.start()
    return buffer


def _manifest(job: Mapping[str, Any]) -> Manifest:
    return Manifest.model_validate(job["manifest"])


def _timed(begin: Callable[[], None], done: Callable[[], bool], seconds: float = 300) -> float:
    began = time.monotonic()
    begin()
    while not done():
        if time.monotonic() - began > seconds:
            sys.exit(f"not within {seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began


def main() -> None:
    """Do the job."""
    logging.basicConfig(level="ERROR")
    job = json.loads(Path("/bench/job.json").read_text())
    result = {"stage": stage, "copy": copy}[job["kind"]](job)
    print(json.dumps({**result, "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)
    # Its threads need not end well: the container goes with them.
    os._exit(0)


if __name__ == "__main__":
    main()
