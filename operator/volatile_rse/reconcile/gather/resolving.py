"""What the inputs resolve to, and whether this session may have it: asked before a list is frozen, and made up for."""

from __future__ import annotations

from collections.abc import Mapping

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Input
from volatile_rse.api.volatilerseclass import Tenancy
from volatile_rse.builders.session import LONGEST_RIGHTS, listing_of, token_scope
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.naming import layout_of
from volatile_rse.domain.plausible import doubt_files
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.resolved import problems_of_files, problems_of_places
from volatile_rse.domain.rights import grants_of, scopes_of
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.reading import read_class

__all__ = ["resolved", "sources"]


def resolved(look: Look, catalogue: Catalogue) -> Mapping[str, tuple[File, ...] | None]:
    """Resolve the inputs, and judge every file; what is refused is None, and a problem names it.

    The buffer fetches with the class's own credentials, which open more than its session may read.
    """
    tenancy = look.ask(_tenancy, look)
    asked = look.claim.request.inputs
    found = {entry.name: look.ask(_allowed, look, catalogue, entry, tenancy) for entry in asked}
    known = {name: files for name, files in found.items() if files is not None}
    if wrong := _unservable(look, known):
        look.problems += wrong
        return dict.fromkeys(found)
    return found


def sources(look: Look, catalogue: Catalogue, entry: Input, files: tuple[File, ...]) -> Mapping[Did, tuple[str, ...]]:
    """Ask where the files of an input are, always in the same words: an answer is remembered by them."""
    class_ = look.spec.class_snapshot
    trusted = tuple(class_.non_deterministic_sources)
    return catalogue.sources(files, entry.source_rse_expression, class_.near_rse, trusted)


def _tenancy(look: Look) -> Tenancy:
    """Give the grants as they are now: one that was missing may have been given since, or taken back."""
    body = look.world.cluster.get(Ref("VolatileRSEClass", None, look.spec.class_name))
    try:
        return look.spec.class_snapshot.tenancy if body is None else read_class(body).tenancy
    except RefusedError:
        return look.spec.class_snapshot.tenancy


def _allowed(look: Look, catalogue: Catalogue, entry: Input, tenancy: Tenancy | None) -> tuple[File, ...] | None:
    files = catalogue.resolve(Did.parse(entry.did))
    if odd := doubt_files(files):
        what = f"spec.inputs[{entry.name}]: Rucio at {look.spec.connection_snapshot.server} says that {odd}."
        raise RefusedError(Reason.INPUT_UNUSABLE, what)
    if tenancy is None:
        return None
    claim = look.claim
    whose = f"class {look.spec.class_name!r} does not grant to namespace {claim.namespace!r}"
    wrong = problems_of_files(
        f"spec.inputs[{entry.name}]: {entry.did}",
        files,
        grants_of(tenancy, claim.namespace, claim.account),
        f"{whose} with account {claim.account!r}",
    )
    look.problems += wrong
    return None if wrong else files


def _unservable(look: Look, inputs: Mapping[str, tuple[File, ...]]) -> tuple[Problem, ...]:
    """Find what no buffer can hold or no token can open, whoever asks for it."""
    scopes = scopes_of(inputs)
    listing = listing_of(look.world.settings, look.spec, scopes)
    files = [file for listed in inputs.values() for file in listed]
    own = None if listing is None else listing.path.removeprefix("/store/")
    if wrong := problems_of_places(files, layout_of(look.spec.class_snapshot.naming), own):
        return wrong
    length = len(token_scope(look.claim, scopes))
    if length <= LONGEST_RIGHTS:
        return ()
    what = (
        f"The files of the inputs are in {len(scopes)} scopes: the rights to read them have {length} characters, and a "
        f"token that XRootD takes by root and by https has room for {LONGEST_RIGHTS}, which is some "
        f"{len(scopes) * LONGEST_RIGHTS // length} of these scopes."
    )
    return (Problem(Reason.TOO_MANY_SCOPES, what),)
