"""The image of an analysis on many pods: coffea and Dask on top of the session's image."""

from __future__ import annotations

from testbed import containers, loading, session
from testbed.layout import CHECKOUT

__all__ = ["PYTHON", "image"]

PYTHON = "/opt/analysis/bin/python"


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    tag = containers.build("analysis", CHECKOUT / "testbed" / "images" / "analysis", SESSION=session.image())
    loading.to_cluster(tag)
    return tag
