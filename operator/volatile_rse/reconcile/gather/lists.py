"""The lists that a buffer stands by, in ConfigMaps: its inputs, and what was given up."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Mapping
from typing import Any

from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import added_name, discarded_name, name_of
from volatile_rse.builders.storage import read_discarded, read_inputs
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.facts import Lost, Piece
from volatile_rse.domain.frozen import digest_of
from volatile_rse.domain.outputs import is_output
from volatile_rse.domain.problems import Problem
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.gather import resolving
from volatile_rse.reconcile.gather.look import Look, guarded
from volatile_rse.reconcile.reading import uid_of

__all__ = ["counted", "frozen", "frozen_again", "shared", "written_off"]

_log = logging.getLogger(__name__)
_UNREADABLE = (LookupError, ValueError, TypeError, EOFError, OSError, zlib.error)
"""How a list fails that is not as it was written."""


@guarded
def frozen(look: Look) -> None:
    """Read the list of inputs, as it was frozen."""
    bodies = {name: body for name, body in _lists(look).items() if body is not None}
    look.set(frozen=_unaltered(look, bodies) if bodies else {})


@guarded
def frozen_again(look: Look) -> None:
    """Make up for a list that is gone: Rucio says the same now, or nothing new is staged."""
    look.set(frozen=None)
    catalogue = look.ask(look.catalogue)
    found = None if catalogue is None else resolving.resolved(look, catalogue)
    if found is None:
        return
    files = {name: listed for name, listed in found.items() if listed is not None}
    if len(files) < len(found):
        return
    digests = {entry.name: entry.digest for entry in look.record.status.inputs or ()}
    changed = [name for name, listed in files.items() if digest_of(listed) != digests.get(name)]
    if changed:
        name = name_of(look.spec.record_id, Piece.INPUTS)
        where = f"ConfigMap {look.world.settings.buffers}/{name}"
        what = f"{where} is gone or was changed, and other files are listed now for "
        look.problems.append(Problem(Reason.INPUTS_CHANGED, f"{what}{', '.join(changed)}: nothing new is staged."))
        return
    look.set(frozen=files, resolved=files)


def shared(look: Look) -> int:
    """Tell how many files the inputs have more than there are."""
    lists = list((look.facts.frozen or {}).values())
    return sum(map(len, lists)) - len(set().union(*lists)) if len(lists) > 1 else 0


def counted(look: Look, registered: Collection[Did]) -> int:
    """Count what is registered as the agent counts what is there: without the inputs that were removed."""
    if not look.record.status.removed:
        return len(registered)
    listed = {file.did for files in (look.facts.frozen or {}).values() for file in files}
    return sum(did in listed or is_output(look.record, did) for did in registered)


def written_off(look: Look) -> tuple[Lost, ...]:
    """Read what was given up; a list that somebody has taken away or changed gives up nothing."""

    def read(name: str) -> Mapping[str, Any] | None:
        return look.world.cluster.get(Ref("ConfigMap", look.world.settings.buffers, name))

    body = read(discarded_name(look.spec.record_id))
    try:
        return () if body is None else read_discarded(body, read)
    except _UNREADABLE:
        _log.warning("%s: its list of what was given up cannot be read, and does not count", look.record.name)
        return ()


def _lists(look: Look) -> dict[str, Mapping[str, Any] | None]:
    """Find the first object of each list: that of the begin, and those of inputs that were added since."""
    added = [entry for entry in look.record.status.inputs or () if entry.added]
    names = [added_name(look.spec.record_id, entry.name, entry.digest) for entry in added]
    return {"": look.bodies.get(Piece.INPUTS), **{name: look.maps.get(name) for name in names}}


def _read(look: Look, bodies: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[File, ...]]:
    """Read the lists; what stands in that of the begin counts, which is written anew as a whole."""
    listed: dict[str, tuple[File, ...]] = {}
    for body in reversed(list(bodies.values())):
        try:
            listed |= read_inputs(body, look.maps.get)
        except _UNREADABLE:
            continue
    return {name: files for name, files in listed.items() if name not in look.record.status.removed}


def _unaltered(look: Look, bodies: Mapping[str, Mapping[str, Any]]) -> Mapping[str, tuple[File, ...]]:
    """Read the lists; one that somebody has changed is none, since it is not the one that the record stands by."""
    listed = _read(look, bodies)
    digests = {entry.name: entry.digest for entry in look.record.status.inputs or ()}

    def compare() -> bool:
        found = {name: digest_of(listed.get(name, ())) for name in {*digests, *listed}}
        return found == digests

    version = " ".join(f"{uid_of(body)}/{body['metadata']['resourceVersion']}" for body in bodies.values())
    version += f" {sorted(look.record.status.removed)}"
    if look.connections.compared(look.spec.record_id, version, compare):
        return listed
    _log.warning("%s: its list of inputs was changed by somebody, and does not count", look.record.name)
    return {}
