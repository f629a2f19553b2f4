"""What is released, images by digest.

``python -m volatile_rse.api.release CHECKOUT DIRECTORY OPERATOR BUFFER SIDECAR``
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

__all__ = ["IMAGES", "fault_of_image", "write"]

IMAGES = ("volatile-rse/operator:latest", "volatile-rse/buffer:latest", "volatile-rse/sidecar:latest")
"""What the manifests call the images of operator, buffer and sidecar."""
_VALUES = ("image", "bufferImage", "sidecarImage")
_DIGEST = re.compile(r"[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}")


def fault_of_image(name: str) -> str:
    """Say why a release cannot name an image so; empty: it can.

    Parameters
    ----------
    name
        As a node pulls it. A tag may be another image tomorrow; a digest never is.
    """
    if _DIGEST.fullmatch(name):
        return ""
    return f"{name!r} names no image by its digest, as in registry.example.org/volatile-rse/operator@sha256:…"


def write(checkout: Path, directory: Path, *given: str) -> list[Path]:
    """Write kinds, manifests and chart with these images, and give their folders.

    Parameters
    ----------
    given
        In the order of ``IMAGES``.

    Raises
    ------
    ValueError
        An image is not named by its digest, or a manifest names none.
    """
    images = dict(zip(IMAGES, given, strict=True))
    if faults := [fault for name in images.values() if (fault := fault_of_image(name))]:
        raise ValueError("; ".join(faults))
    folders = [directory / name for name in ("crds", "manifests", "charts")]
    for folder in folders:
        shutil.copytree(checkout / folder.name, folder)
    texts = {path: path.read_text() for path in sorted((directory / "manifests").glob("*.yaml"))}
    for said, image in images.items():
        if not any(said in text for text in texts.values()):
            message = f"no manifest names the image {said}"
            raise ValueError(message)
        texts = {path: text.replace(said, image) for path, text in texts.items()}
    values = directory / "charts" / "volatile-rse" / "values.yaml"
    text = values.read_text()
    for name, image in zip(_VALUES, images.values(), strict=True):
        repository, _, digest = image.partition("@")
        empty = f'\n{name}:\n  repository: ""\n  tag: ""\n  digest: ""\n'
        if empty not in text:
            message = f"values.yaml has no {name} to be filled in"
            raise ValueError(message)
        text = text.replace(empty, f'\n{name}:\n  repository: "{repository}"\n  tag: ""\n  digest: "{digest}"\n')
    texts[values] = text
    for path, content in texts.items():
        path.write_text(content)
    return folders


if __name__ == "__main__":
    try:
        for written in write(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]):
            print(written)  # noqa: T201 - a command
    except (ValueError, FileExistsError) as error:
        sys.exit(str(error))
