"""Images of this repository in the cluster: each content is built once and given to the node once."""

from __future__ import annotations

import subprocess

from testbed import cluster
from testbed.layout import NODE

__all__ = ["to_cluster"]


def to_cluster(*images: str) -> None:
    """Give to the cluster's node what it does not have."""
    # Asked of containerd itself: the list in the node's status is short and late.
    argv = ["docker", "exec", NODE, "ctr", "-n", "k8s.io", "images", "ls", "-q"]
    present = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    missing = [image for image in images if f"docker.io/{image}" not in present]
    if missing:
        cluster.load(*missing)
