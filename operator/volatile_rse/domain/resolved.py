"""What is wrong with the files that inputs resolve to, whatever name was asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from volatile_rse.api.agent import STATUS_FOLDER
from volatile_rse.api.conditions import Reason
from volatile_rse.api.names import Layout, fault_of_path, rse_path
from volatile_rse.api.volatilerseclass import Grant
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.frozen import usable
from volatile_rse.domain.problems import Problem, refused_grant
from volatile_rse.domain.rights import fault_of_scope, may_read

__all__ = [
    "faults_above",
    "faults_of_places",
    "problem_of_lacks",
    "problems_of_files",
    "problems_of_places",
    "said_of_lacks",
]

_SCOPES, _FILES = 5, 2
"""Scopes that a message names, and files of each."""
_NAME = 500
"""Characters of a name that an agent takes: as CMS has them."""
_FAULTS = 3
"""Files without a place of their own that a message names."""
_RESERVED = f"{STATUS_FOLDER.removeprefix('/store/')}/"


def problems_of_files(
    asked: str,
    files: Iterable[File],
    grants: Collection[Grant],
    whose: str,
    missed: Callable[[Callable[[Grant], bool]], str] = lambda _covers: "",
) -> tuple[Problem, ...]:
    """Name the files that may not be read, whatever they were attached to.

    Parameters
    ----------
    asked
        The input, and the DID that it names.
    whose
        To whom the grants are given, by which class.
    missed
        Names the grants that would help, of those that it is asked for, if the namespace had what they want.
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
    what = f"{asked}: {some} of {whole} files are in scopes that {whose}: {', '.join(said)}"
    known = missed(lambda grant: any(may_read((grant,), scope) for scope in refused))
    return (refused_grant(Reason.SCOPE_NOT_GRANTED, what, known),)


def problem_of_lacks(asked: str, server: str, files: Collection[File], percent: int) -> Problem:
    """Name the files that can be no inputs, whoever asks for them: too many of them are.

    Parameters
    ----------
    asked
        The input, and the DID that it names.
    """
    odd = sum(bool(file.lack) for file in files)
    what = (
        f"{asked}: {odd} of {len(files)} files cannot be inputs, and minimumPercent is {percent}. As Rucio at {server} "
        f"has them, {said_of_lacks(files)}."
    )
    return Problem(Reason.INPUT_UNUSABLE, what)


def said_of_lacks(files: Iterable[File]) -> str:
    """Name some of the files that can be no inputs, each with what it lacks; empty: there are none."""
    said = [f"{_named(file.did)} {file.lack}" for file in sorted(files) if file.lack]
    more = f"; {len(said) - _FAULTS} more" if len(said) > _FAULTS else ""
    return f"{'; '.join(said[:_FAULTS])}{more}"


def problems_of_places(faults: Mapping[File, str]) -> tuple[Problem, ...]:
    """Name the files that have no place of their own on the buffer, as ``faults_of_places`` found them."""
    if not faults:
        return ()
    said = [f"{_named(file.did)} {fault}" for file, fault in faults.items()]
    more = f"; {len(said) - _FAULTS} more" if len(said) > _FAULTS else ""
    what = f"The buffer has no place of its own for {len(said)} of the input files: {'; '.join(said[:_FAULTS])}{more}."
    return (Problem(Reason.INPUT_UNPLACEABLE, what),)


def faults_of_places(files: Iterable[File], layout: Layout, listing: str | None = None) -> dict[File, str]:
    """Say of the files that have no place of their own on the buffer why; of two for one place the first has it.

    Rucio's paths are not unique: the folder of ``group.x`` holds that of ``group.x.y``, and a name may have ``/``.

    Parameters
    ----------
    files
        Of all inputs.
    listing
        Path of the list of inputs below the RSE's prefix, if the buffer has one.
    """
    faults: dict[File, str] = {}
    of_scopes: dict[str, str] = {}
    places: dict[str, File | None] = {} if listing is None else {listing: None}
    for file in dict.fromkeys(files):
        scope = file.did.scope
        if scope not in of_scopes:
            of_scopes[scope] = fault_of_scope(scope)
        path = rse_path(layout, scope, file.did.name)
        if fault := of_scopes[scope] or fault_of_path(path) or _fault_of_name(file.did.name):
            faults[file] = f"has a path that {fault}"
        elif f"{path}/".startswith(_RESERVED):
            faults[file] = "has a path that the session's status file is kept at"
        elif path not in places:
            places[path] = file
        elif (other := places[path]) is not None and other.did == file.did:
            faults[file] = "is listed with two sizes or checksums"
        else:
            faults[file] = f"has the path of {_held_by(other)}"
    return faults | _nested(places)


def _nested(places: Mapping[str, File | None]) -> dict[File, str]:
    """Find the files whose path lies below another one's: where that is a file, nothing can be below it."""
    faults: dict[File, str] = {}
    above: tuple[str, File | None] = "", None
    # The lowest of all characters for "/": what is below a path comes right after it.
    for path, file in sorted((path.replace("/", "\0"), file) for path, file in places.items()):
        if above[0] and path.startswith(f"{above[0]}\0"):
            if file is not None:
                faults[file] = f"is below the path of {_held_by(above[1])}"
        else:
            above = path, file
    return faults


def faults_above(files: Iterable[File], below: Iterable[File], layout: Layout) -> dict[File, str]:
    """Say of files that came later which of them would have to be a folder of files that are there already."""
    paths = {rse_path(layout, file.did.scope, file.did.name): file for file in below}
    faults = {}
    for file in usable(files):
        path = rse_path(layout, file.did.scope, file.did.name)
        if other := next((other for known, other in paths.items() if known.startswith(f"{path}/")), None):
            faults[file] = f"has a path that {other.did} lies below"
    return faults


def _held_by(file: File | None) -> str:
    return "the list of inputs" if file is None else str(file.did)


def _named(did: Did) -> str:
    """Show a name that may be no text."""
    return ascii(str(did))[1:-1]


def _fault_of_name(name: str) -> str:
    return f"ends with a name of more than {_NAME} characters" if len(name) > _NAME else ""


def _some(files: Collection[File]) -> str:
    named = [str(file.did) for file in sorted(files)[:_FILES]]
    count = f"{len(files)} file{'' if len(files) == 1 else 's'}"
    return f"{count}: {', '.join(named)}" if len(files) <= _FILES else f"{count}, for example {', '.join(named)}"
