"""Images of this repository in the cluster: each content is built once and given to the node once."""

from __future__ import annotations

import subprocess

from testbed import cluster
from testbed.layout import NODE
from testbed.progress import StepError

__all__ = ["alias", "to_cluster"]


def to_cluster(*images: str) -> None:
    """Give to the cluster's node what it does not have."""
    # Asked of containerd itself: the list in the node's status is short and late.
    argv = ["docker", "exec", NODE, "ctr", "-n", "k8s.io", "images", "ls", "-q"]
    present = set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())
    missing = [image for image in images if f"docker.io/{image}" not in present]
    if missing:
        cluster.load(*missing)


def alias(image: str, name: str) -> None:
    """Have the node know an image that it has by another name, too; the name may have been another image's.

    Parameters
    ----------
    image
        With its tag.
    name
        With its tag, as manifests say it.
    """
    argv = ["docker", "exec", NODE, "ctr", "-n", "k8s.io", "images", "tag", "--force"]
    done = subprocess.run(
        [*argv, f"docker.io/{image}", f"docker.io/{name}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        message = f"the node's {image} could not be named {name}: {done.stderr.strip()}"
        raise StepError(message)
