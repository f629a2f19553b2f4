"""What a session was given in its own namespace: whether it is still as it was written there, and who changed it.

Whoever may write in that namespace may write into these objects, or make others of their name. So each bears a digest
that the operator alone can make, and none of their texts is ever used.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

from volatile_rse.api.text import visible
from volatile_rse.builders.objects import CLAIM, DIGEST, MANAGED, RECORD
from volatile_rse.domain.facts import Changed
from volatile_rse.domain.stage import when
from volatile_rse.reconcile.reading import uid_of
from volatile_rse.reconcile.world import World

__all__ = ["changed_of", "is_as_written", "mark"]

Object = Mapping[str, Any]
_OURS = {RECORD, CLAIM, *MANAGED}
_NAMES = 3
"""Programs that a message names."""
_LONGEST = 60
"""Characters of a name of one: it gives it itself."""


def mark(world: World, record_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Write the digest onto an object that is about to be made."""
    return {**body, "metadata": {**body["metadata"], "annotations": {DIGEST: _digest(world, record_id, body)}}}


def is_as_written(world: World, record_id: str, body: Object) -> bool:
    """Tell whether an object is as this operator wrote it; what others have added beside that does not matter."""
    found = str((body["metadata"].get("annotations") or {}).get(DIGEST))
    return hmac.compare_digest(found.encode(errors="replace"), _digest(world, record_id, body).encode())


def changed_of(body: Object) -> Changed:
    """Describe an object that is not as it was written."""
    metadata = body["metadata"]
    entries = [entry for entry in metadata.get("managedFields") or () if isinstance(entry, Mapping)]
    managers = dict.fromkeys(_plain(str(entry.get("manager") or "unknown")) for entry in entries)
    others = [name for name in managers if name not in MANAGED.values()]
    by = "somebody" if not managers else ", ".join(others[:_NAMES])
    since = None if "deletionTimestamp" in metadata else when(metadata.get("creationTimestamp"))
    return Changed(body["kind"], metadata["name"], uid_of(body), by, since)


def _plain(name: str) -> str:
    return visible(name, _LONGEST)


def _digest(world: World, record_id: str, body: Object) -> str:
    """Cover all that the operator has written, and what would be mounted beside it."""
    metadata = body["metadata"]
    owners = [
        [owner.get(key) for key in ("apiVersion", "kind", "name", "uid")]
        for owner in metadata.get("ownerReferences") or ()
    ]
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key in _OURS}
    data = [body.get(field) or {} for field in ("data", "binaryData")]
    content = [body["kind"], metadata.get("namespace"), metadata["name"], labels, owners, body.get("type"), *data]
    return world.authority.digest(record_id, json.dumps(content, sort_keys=True).encode())
