"""The list of inputs for the session, as a file of the buffer: it may be too long for a ConfigMap."""

from __future__ import annotations

import logging

from volatile_rse.agent.places import Places
from volatile_rse.api.agent import Manifest, listed

__all__ = ["write"]

_log = logging.getLogger(__name__)


def write(places: Places, manifest: Manifest) -> None:
    """Write the list that the manifest asks for, if it is not there already; a full volume keeps no work back."""
    if manifest.listing is None:
        return
    path = places.on_disk(manifest.listing.path)
    text = "".join(
        listed(manifest.listing.root, f"{file.scope}:{file.name}", file.entries, file) for file in manifest.inputs
    )
    try:
        if path.exists() and path.read_text() == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = places.control / "listing"
        fresh.write_text(text)
        fresh.chmod(0o444)
        fresh.replace(path)
    except OSError as error:
        _log.warning("the list of inputs is not written: %s", error)
