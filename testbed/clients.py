"""The image of XRootD's own clients, which the Jobs of tests run."""

from __future__ import annotations

from testbed import containers, loading
from testbed.layout import CHECKOUT

__all__ = ["image"]


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    tag = containers.build("client", CHECKOUT / "testbed" / "images" / "client")
    loading.to_cluster(tag)
    return tag
