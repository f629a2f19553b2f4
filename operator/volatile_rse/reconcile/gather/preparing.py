"""What a buffer begins with: its input files, the destinations of its outputs, and whether sites let it in."""

from __future__ import annotations

from urllib.parse import urlsplit

from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerse import Input, Output
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.frozen import least_of
from volatile_rse.domain.problems import Problem, problem_of_dataset
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.datasets import dataset_of
from volatile_rse.reconcile.gather import credentials, resolving
from volatile_rse.reconcile.gather.look import Look, guarded

__all__ = ["ask"]


@guarded
def ask(look: Look) -> None:
    """Resolve the inputs, choose the destinations, and see whether there is a token for each site."""
    catalogue, access = look.ask(look.catalogue), look.ask(credentials.access, look)
    if catalogue is None or access is None:
        return
    resolved = resolving.resolved(look, catalogue)
    hosts: set[str] = set()
    for entry in look.claim.request.inputs:
        files = resolved[entry.name]
        if files:
            hosts |= _source_hosts(look, catalogue, entry, files)
    chosen = {output.name: look.ask(_choose, look, catalogue, output) for output in look.claim.request.outputs}
    for rse in {rse for rses in chosen.values() for rse in rses or ()}:
        if host := look.ask(catalogue.host, rse):
            hosts.add(host)
    if missing := sorted(hosts - set(access.tokens)):
        where = f"{look.world.settings.namespace}/{look.spec.class_snapshot.site_credentials.secret_name}"
        what = f"Secret {where} has no token for {', '.join(missing)}."
        look.problems.append(Problem(Reason.CREDENTIAL_MISSING, what))
    if not look.problems:
        look.set(resolved=resolved, chosen=chosen)


def _source_hosts(look: Look, catalogue: Catalogue, entry: Input, files: tuple[File, ...]) -> set[str]:
    expression = entry.source_rse_expression
    sources = look.ask(resolving.sources, look, catalogue, entry, files)
    if sources is None:
        return set()
    missing = [file.did for file in files if not sources.get(file.did)]
    if len(files) - len(missing) < least_of(entry, len(files)):
        what = (
            f"spec.inputs[{entry.name}]: {len(missing)} of {len(files)} files have no replica on a permanent RSE "
            f"of {expression!r}, for example {missing[0]}, and minimumPercent is {entry.minimum_percent}."
        )
        look.problems.append(Problem(Reason.NO_REPLICA, what))
    return {urlsplit(pfn).hostname or "" for pfns in sources.values() for pfn in pfns}


def _choose(look: Look, catalogue: Catalogue, output: Output) -> tuple[str, ...]:
    destination, account = output.destination, look.claim.account
    known = dataset_of(catalogue, output)
    if refused := problem_of_dataset(output, account, look.spec.record_id, known):
        raise RefusedError(refused.reason, refused.what)
    matching = catalogue.destinations(destination.rse_expression)
    if len(matching) < destination.copies:
        what = (
            f"spec.outputs[{output.name}].destination: {destination.rse_expression!r} matches "
            f"{len(matching)} permanent RSEs, and {destination.copies} copies are asked for."
        )
        raise RefusedError(Reason.NO_DESTINATION, what)
    if known is not None and len(matching) > destination.copies:
        # Elsewhere a rule would have Rucio copy what other sessions have put into the dataset.
        held = catalogue.held_at(Did(output.scope, output.dataset), account)
        matching = tuple(sorted(matching, key=lambda rse: (rse not in held, rse)))
    left = {rse: catalogue.quota_left(account, rse) for rse in matching}
    open_ = [rse for rse in matching if left[rse] is None or (left[rse] or 0) > 0]
    if len(open_) < destination.copies:
        what = f"Account {account!r} has no quota left on {', '.join(matching)} for spec.outputs[{output.name}]."
        raise RefusedError(Reason.QUOTA_EXCEEDED, what)
    return tuple(open_[: destination.copies])
