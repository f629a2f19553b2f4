"""The image of a physicist's session: ROOT and uproot, for the demo and the tests."""

from __future__ import annotations

from testbed import containers, loading
from testbed.layout import CHECKOUT

__all__ = ["NAME", "ROOT_PYTHON", "UPROOT_PYTHON", "image"]

NAME = "vrse-testbed/session:example"
"""What the examples call the image of this content."""

ROOT_PYTHON, UPROOT_PYTHON = "/opt/root/bin/python", "/opt/uproot/bin/python"
"""Never both in one process: each brings its own XRootD client, and two of them crash."""


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    tag = containers.build("session", CHECKOUT / "images" / "session")
    loading.to_cluster(tag)
    loading.alias(tag, NAME)
    return tag
