"""What the inputs resolve to, and whether this session may have it: asked before a list is frozen, and made up for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Input
from volatile_rse.api.volatilerseclass import Tenancy
from volatile_rse.builders.session import LONGEST_RIGHTS, listing_of, token_scope
from volatile_rse.domain.catalogue import Barred, Did, File
from volatile_rse.domain.frozen import is_enough, usable
from volatile_rse.domain.naming import layout_of
from volatile_rse.domain.plausible import doubt_file, doubt_names
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.resolved import (
    faults_above,
    faults_of_places,
    problem_of_lacks,
    problems_of_files,
    problems_of_places,
)
from volatile_rse.domain.rights import grants_of, listed_in, missed, scopes_of
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.reading import read_class

__all__ = ["added", "barred", "resolved", "sources", "tenancy"]


def resolved(look: Look, catalogue: Catalogue) -> Mapping[str, tuple[File, ...] | None]:
    """Resolve the inputs, and judge every file; what is refused is None, and a problem names it.

    The buffer fetches with the class's own credentials, which open more than its session may read.
    """
    granted = look.ask(tenancy, look)
    asked = look.claim.request.inputs
    found = {entry.name: look.ask(_allowed, look, catalogue, entry, granted) for entry in asked}
    known = {name: files for name, files in found.items() if files is not None}
    placed, wrong = _placed(look, known)
    wrong = wrong or _too_many_scopes(look, placed)
    if wrong:
        look.problems += wrong
        return dict.fromkeys(found)
    return {name: placed.get(name) for name in found}


def sources(look: Look, catalogue: Catalogue, entry: Input, files: tuple[File, ...]) -> Mapping[Did, tuple[str, ...]]:
    """Ask where the files of an input are, always in the same words: an answer is remembered by them."""
    class_ = look.spec.class_snapshot
    trusted = tuple(class_.non_deterministic_sources)
    return catalogue.sources(files, entry.source_rse_expression, class_.near_rse, trusted)


def barred(catalogue: Catalogue, entry: Input, missing: Sequence[Did]) -> Mapping[Did, Barred]:
    """Ask where files are that have no source."""
    return catalogue.barred(missing, entry.source_rse_expression) if missing else {}


def added(
    look: Look, catalogue: Catalogue, entry: Input, before: Mapping[str, tuple[File, ...]]
) -> tuple[File, ...] | None:
    """Resolve an input that was added while the session lives, and judge every file beside those that it has already.

    Parameters
    ----------
    before
        The session's inputs.
    """
    files = look.ask(_allowed, look, catalogue, entry, tenancy(look))
    if files is None:
        return None
    faults, layout = dict[File, str](), layout_of(look.spec.class_snapshot.naming)
    while found := _unplaceable(look, {**before, entry.name: files}):
        own = {file: why for file, why in found.items() if file in files} or faults_above(files, found, layout)
        if not own:
            break
        faults |= own
        files = tuple(sorted(_without(file, own) for file in files))
    if not is_enough(entry, files):
        look.problems += problems_of_places(faults)
        return None
    wrong = _too_many_scopes(look, {**before, entry.name: files})
    look.problems += wrong
    return None if wrong else files


def tenancy(look: Look) -> Tenancy:
    """Give the grants as they are now: one that was missing may have been given since, or taken back."""
    body = look.world.cluster.get(Ref("VolatileRSEClass", None, look.spec.class_name))
    try:
        return look.spec.class_snapshot.tenancy if body is None else read_class(body).tenancy
    except RefusedError:
        return look.spec.class_snapshot.tenancy


def _allowed(look: Look, catalogue: Catalogue, entry: Input, granted: Tenancy | None) -> tuple[File, ...] | None:
    server = look.spec.connection_snapshot.server
    asked = f"spec.inputs[{entry.name}]: {entry.did}"
    listed = catalogue.resolve(Did.parse(entry.did))
    if odd := doubt_names(listed):
        raise RefusedError(Reason.INPUT_UNUSABLE, f"{asked}: Rucio at {server} says that {odd}.")
    files = tuple(sorted({_judged(file) for file in listed}))
    if granted is None:
        return None
    wrong = _refused(look, asked, usable(files), granted)
    if not wrong and not is_enough(entry, files):
        wrong = (problem_of_lacks(asked, server, files, entry.minimum_percent),)
    look.problems += wrong
    return None if wrong else files


def _refused(look: Look, asked: str, files: Iterable[File], granted: Tenancy) -> tuple[Problem, ...]:
    claim, tenant = look.claim, look.facts.tenant
    user = claim.request.on_behalf_of
    return problems_of_files(
        asked,
        files,
        () if tenant is None else grants_of(granted, tenant, claim.account, user),
        f"class {look.spec.class_name!r} does not grant to namespace {claim.namespace!r} with account "
        f"{claim.account!r}{'' if user is None else f' on behalf of {user!r}'}",
        lambda covers: "" if tenant is None else missed(granted, tenant, claim.account, covers, user),
    )


def _judged(file: File) -> File:
    fault = doubt_file(file)
    return _without(file, {file: fault} if fault else {})


def _placed(
    look: Look, inputs: Mapping[str, tuple[File, ...]]
) -> tuple[Mapping[str, tuple[File, ...]], tuple[Problem, ...]]:
    """Take those files for missing that no buffer has a place for; where too many are, say so."""
    placed, faults = dict(inputs), dict[File, str]()
    # The place of the session's own list follows from the files that are left.
    while found := _unplaceable(look, placed):
        faults |= found
        placed = {name: tuple(sorted(_without(file, found) for file in listed)) for name, listed in placed.items()}
    asked = {entry.name: entry for entry in look.claim.request.inputs}
    if all(is_enough(asked[name], listed) for name, listed in placed.items()):
        return placed, ()
    return inputs, problems_of_places(faults)


def _unplaceable(look: Look, inputs: Mapping[str, tuple[File, ...]]) -> Mapping[File, str]:
    places = listed_in(look.record.status) or scopes_of(inputs)
    listing = listing_of(look.world.settings, look.spec, places)
    own = None if listing is None else listing.path.removeprefix("/store/")
    files = [file for listed in inputs.values() for file in usable(listed)]
    return faults_of_places(files, layout_of(look.spec.class_snapshot.naming), own)


def _without(file: File, faults: Mapping[File, str]) -> File:
    return File(file.did, 0, "", lack=faults[file]) if file in faults else file


def _too_many_scopes(look: Look, inputs: Mapping[str, tuple[File, ...]]) -> tuple[Problem, ...]:
    """Tell of rights that are longer than any token."""
    scopes = scopes_of(inputs)
    length = len(token_scope(look.claim, scopes))
    if length <= LONGEST_RIGHTS:
        return ()
    what = (
        f"The files of the inputs are in {len(scopes)} scopes: the rights to read them have {length} characters, and a "
        f"token that XRootD takes by root and by https has room for {LONGEST_RIGHTS}, which is some "
        f"{len(scopes) * LONGEST_RIGHTS // length} of these scopes."
    )
    return (Problem(Reason.TOO_MANY_SCOPES, what),)
