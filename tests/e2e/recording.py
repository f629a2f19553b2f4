"""Keeps the statuses that tests of the whole system see: health checks of GitOps are held against them."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from testbed.layout import KUBE_CONTEXT, KUBECONFIG

__all__ = ["recorded", "shape_of"]

WATCHED = {
    "VolatileRSE": "volatilerses",
    "RucioConnection": "rucioconnections",
    "VolatileRSEClass": "volatilerseclasses",
}
_DECIDING = ("Ready", "Stalled", "OutputsSafe")
"""Conditions by which statuses are told apart."""
_KEPT = {"name", "namespace", "generation", "deletionTimestamp"}
"""Of the metadata: the rest says nothing of health."""


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep each status of another shape that the API server tells meanwhile, as ``KIND/testdata/NAME.yaml``."""
    over = threading.Event()
    threads = [
        threading.Thread(target=_keep, args=(plural, folder / kind / "testdata", over), daemon=True)
        for kind, plural in WATCHED.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(10)


def _keep(plural: str, folder: Path, over: threading.Event) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    where = ("--kubeconfig", str(KUBECONFIG), "--context", KUBE_CONTEXT)
    argv = ["kubectl", *where, "get", plural, "-A", "--watch", "-o", "json", "--request-timeout=5m"]
    # The API server ends a watch when its kind changes.
    while not over.is_set():
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watch:
            ending = threading.Thread(target=lambda watch=watch: (over.wait(), watch.terminate()), daemon=True)
            ending.start()
            for body in _bodies(watch.stdout or ()):
                path = folder / f"{shape_of(body)}.yaml"
                if not path.exists():
                    path.write_text(yaml.safe_dump(_reduced(body), sort_keys=True, width=120))
        over.wait(1)


def _bodies(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    text = ""
    for line in lines:
        text += line
        # One object after the other, each ends with a brace of its own line.
        if line == "}\n":
            yield json.loads(text)
            text = ""


def shape_of(body: Mapping[str, Any]) -> str:
    """Name a status by what health can depend on."""
    status = body.get("status") or {}
    found = {entry["type"]: entry for entry in status.get("conditions") or ()}
    said = [status["phase"]] if "phase" in status else []
    for type_ in _DECIDING:
        entry = found.get(type_)
        if entry is not None and (type_ == "Ready" or entry["reason"] not in {"Pending", "NotStalled", "InProgress"}):
            said.append(f"{type_}_{entry['status']}_{entry['reason']}")
    if status.get("observedGeneration", body["metadata"]["generation"]) != body["metadata"]["generation"]:
        said.append("older_generation" if status["observedGeneration"] > 0 else "not_seen")
    if "deletionTimestamp" in body["metadata"]:
        said.append("deleting")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", "-".join(said or ["empty"])).lower()


def _reduced(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in body["metadata"].items() if key in _KEPT}
    return {**{key: body[key] for key in ("apiVersion", "kind", "spec", "status") if key in body}, "metadata": metadata}
