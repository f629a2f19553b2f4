"""Where everything of the testbed lives: names, labels and directories, each said once."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "ALL_SITES",
    "CACHE",
    "CHECKOUT",
    "CLIENT",
    "CLUSTER",
    "DAEMONS",
    "DATABASE",
    "DAV_SITES",
    "KUBECONFIG",
    "KUBE_CONTEXT",
    "LABEL",
    "LOGS",
    "MEMCACHED",
    "NETWORK",
    "NODE",
    "PKI",
    "RUCIO",
    "SAMPLES",
    "SITES",
    "SLURM",
    "STATE",
]

CHECKOUT = Path(__file__).resolve().parent.parent
"""The root of this clone."""

STATE = CHECKOUT / ".testbed"
"""What belongs to the running testbed of this clone: kubeconfig, keys, tokens, logs. Removed by ``make down``."""

LOGS = STATE / "logs"
PKI = STATE / "pki"
KUBECONFIG = STATE / "kubeconfig"

CACHE = Path(os.environ.get("VOLATILE_RSE_CACHE", Path.home() / ".cache" / "volatile-rse"))
"""Big artefacts (compiled Kubernetes, base and node images), keyed by the content that they are made of."""

SAMPLES = CACHE / "samples"
"""Input files of the demo and the tests; the stock client's container sees them at ``/samples``."""

LABEL = "io.volatilerse.testbed"
"""Docker label on every container, network and volume of the testbed: what ``make down`` may remove."""

NETWORK = "volatile-rse"
"""The IPv4 Docker network that the cluster node and the containers beside it share."""

CLUSTER = "volatile-rse"
KUBE_CONTEXT = f"kind-{CLUSTER}"
NODE = f"{CLUSTER}-control-plane"

# Containers beside the cluster. Their names are their host names on the network.
RUCIO = "vrse-rucio"
DATABASE = "vrse-rucio-db"
MEMCACHED = "vrse-memcached"
DAEMONS = "vrse-rucio-daemons"
CLIENT = "vrse-client"
SITES = {"SITE-A": "vrse-site-a", "SITE-B": "vrse-site-b"}
"""RSE name of each permanent site -> its container: XRootD."""
DAV_SITES = {"SITE-C": "vrse-site-c"}
"""The same of Apache: davs alone, no checksums, no directories by itself. No ordinary test means it."""
ALL_SITES = SITES | DAV_SITES
SLURM = "vrse-slurm"
"""A batch system, which only its own tests start."""
