"""XRootD as buffers and sites have it: compiled once for each recipe, and kept where images of an engine get lost."""

from __future__ import annotations

import hashlib
import os
import tempfile
import uuid

from testbed import baseimages
from testbed.layout import CACHE, CHECKOUT, LABEL
from testbed.progress import step

__all__ = ["source"]

_RECIPE = CHECKOUT / "images" / "buffer" / "Dockerfile"
_STAGE = "source"
_REST = "\nFROM ${XROOTD} "
"""Where those stages end that make XRootD: what comes after is of the buffer alone."""


def source() -> str:
    """Give the build argument XROOTD of images: an image of what was compiled, or what VOLATILE_RSE_XROOTD says."""
    chosen = os.environ.get("VOLATILE_RSE_XROOTD", "source")
    if chosen != "source":
        return chosen
    stages, _, _ = _RECIPE.read_text().partition(_REST)
    key = hashlib.sha256(stages.encode()).hexdigest()[:16]
    image, archive = f"vrse-testbed/xrootd:{key}", CACHE / f"xrootd-{key}.tar"
    if not archive.exists():
        with step("Compile XRootD") as log, tempfile.TemporaryDirectory(prefix="xrootd-") as nothing:
            options = ["--network", "host", "--label", f"{LABEL}=image", "--target", _STAGE]
            log.run("docker", "build", *options, "-t", image, "-f", _RECIPE, nothing)
            CACHE.mkdir(parents=True, exist_ok=True)
            # Another clone may be about the same.
            unfinished = archive.with_suffix(f".{uuid.uuid4().hex}")
            try:
                log.run("docker", "save", "-o", unfinished, image)
                unfinished.replace(archive)
            finally:
                unfinished.unlink(missing_ok=True)
    elif not baseimages.image_exists(image):
        with step("XRootD") as log:
            log.run("docker", "load", "-i", archive)
    return image
