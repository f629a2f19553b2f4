"""What is wrong with the files that inputs resolve to, whatever name was asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise

from volatile_rse.api.conditions import Reason
from volatile_rse.api.names import Layout, fault_of_path, rse_path
from volatile_rse.api.volatilerseclass import Grant
from volatile_rse.domain.catalogue import File
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.rights import fault_of_scope, may_read

__all__ = ["problems_of_files", "problems_of_places"]

_SCOPES, _FILES = 5, 2
"""Scopes that a message names, and files of each."""
_NAME = 500
"""Characters of a name that an agent takes: as CMS has them."""
_FAULTS = 3
"""Files without a place of their own that a message names."""


def problems_of_files(asked: str, files: Iterable[File], grants: Collection[Grant], whose: str) -> tuple[Problem, ...]:
    """Name the files that may not be read, whatever they were attached to.

    Parameters
    ----------
    asked
        The input, and the DID that it names.
    whose
        To whom the grants are given, by which class.
    """
    found: dict[str, list[File]] = {}
    for file in files:
        found.setdefault(file.did.scope, []).append(file)
    refused = {scope: listed for scope, listed in sorted(found.items()) if not may_read(grants, scope)}
    if not refused:
        return ()
    said = [f"{scope} ({_some(listed)})" for scope, listed in list(refused.items())[:_SCOPES]]
    if len(refused) > _SCOPES:
        said.append(f"{len(refused) - _SCOPES} more scopes")
    some, whole = (sum(map(len, listed.values())) for listed in (refused, found))
    what = f"{asked}: {some} of {whole} files are in scopes that {whose}: {', '.join(said)}."
    return (Problem(Reason.SCOPE_NOT_GRANTED, what),)


def problems_of_places(files: Iterable[File], layout: Layout, listing: str | None = None) -> tuple[Problem, ...]:
    """Name the files that have no place of their own on the buffer.

    Rucio's paths are not unique: the folder of ``group.x`` holds that of ``group.x.y``, and a name may have ``/``.

    Parameters
    ----------
    files
        Of all inputs.
    listing
        Path of the list of inputs below the RSE's prefix, if the buffer has one.
    """
    said = list(_faults(dict.fromkeys(files), layout, {} if listing is None else {listing: "the list of inputs"}))
    if not said:
        return ()
    more = f"; {len(said) - _FAULTS} more" if len(said) > _FAULTS else ""
    what = f"The buffer has no place of its own for {len(said)} of the input files: {'; '.join(said[:_FAULTS])}{more}."
    return (Problem(Reason.INPUT_UNPLACEABLE, what),)


def _faults(files: Iterable[File], layout: Layout, places: dict[str, str]) -> Iterator[str]:
    of_scopes: dict[str, str] = {}
    for file in files:
        scope, named = file.did.scope, str(file.did)
        if scope not in of_scopes:
            of_scopes[scope] = fault_of_scope(scope)
        path = rse_path(layout, scope, file.did.name)
        other = places.get(path)
        places[path] = named
        if fault := of_scopes[scope] or fault_of_path(path) or _fault_of_name(file.did.name):
            yield f"the path of {named} {fault}"
        elif other == named:
            yield f"{named} is listed with two sizes or checksums"
        elif other is not None:
            yield f"{named} has the path of {other}"
    # The lowest of all characters for "/": what is below a path comes right after it.
    for one, other in pairwise(sorted(path.replace("/", "\0") for path in places)):
        if other.startswith(f"{one}\0"):
            above, below = (places[path.replace("\0", "/")] for path in (one, other))
            yield f"{below} is below the path of {above}"


def _fault_of_name(name: str) -> str:
    return f"ends with a name of more than {_NAME} characters" if len(name) > _NAME else ""


def _some(files: Collection[File]) -> str:
    named = [str(file.did) for file in sorted(files)[:_FILES]]
    count = f"{len(files)} file{'' if len(files) == 1 else 's'}"
    return f"{count}: {', '.join(named)}" if len(files) <= _FILES else f"{count}, for example {', '.join(named)}"
