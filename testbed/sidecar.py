"""The image of the sidecar that pods of sessions get."""

from __future__ import annotations

from testbed import containers, loading
from testbed.layout import CHECKOUT

__all__ = ["RELEASED", "image"]

RELEASED = "volatile-rse/sidecar:latest"
"""What the manifests call it."""


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    tag = containers.build("sidecar", CHECKOUT / "images" / "sidecar")
    loading.to_cluster(tag)
    return tag
