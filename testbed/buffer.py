"""The image of the buffer, built from this clone's agent."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from testbed import containers, loading, xrootd
from testbed.layout import CHECKOUT

__all__ = ["image"]

_PACKAGE = CHECKOUT / "operator" / "volatile_rse"
_ROOMS = ("__init__.py", "agent", "api")
"""What the programs of the image import: a change of the operator alone needs no new one."""


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    with tempfile.TemporaryDirectory(prefix="buffer-") as folder:
        context = Path(folder)
        shutil.copy(CHECKOUT / "images" / "buffer" / "Dockerfile", context)
        for room in _ROOMS:
            _copy(_PACKAGE / room, context / "volatile_rse" / room)
        tag = containers.build("buffer", context, XROOTD=xrootd.source())
    loading.to_cluster(tag)
    return tag


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
