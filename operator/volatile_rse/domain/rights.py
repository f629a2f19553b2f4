"""Who may read and write which scopes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from volatile_rse.api.names import fault_of_path, scope_folder
from volatile_rse.api.rserecord import RSERecordStatus
from volatile_rse.api.schema import SCOPE
from volatile_rse.api.volatilerseclass import Grant, Tenancy
from volatile_rse.domain.catalogue import File
from volatile_rse.domain.tenants import Namespace, fits, lack_of

__all__ = ["fault_of_scope", "grants_of", "listed_in", "may_read", "may_write", "missed", "read_by", "scopes_of"]

_ANY = "*"
_SHOWN = 3
"""Grants that a message names."""


def grants_of(tenancy: Tenancy, namespace: Namespace, account: str, user: str | None = None) -> tuple[Grant, ...]:
    """Give the grants by which a namespace may act for an account: two grants do not add up to a third one.

    Parameters
    ----------
    user
        On whose behalf it acts; None: on nobody's.
    """
    return tuple(
        grant
        for grant in tenancy.grants
        if account in grant.accounts and _means(grant, user) and lack_of(grant, namespace) == ""
    )


def _means(grant: Grant, user: str | None) -> bool:
    if grant.on_behalf_of is None:
        return True
    return user is not None and any(fits(pattern, user) for pattern in grant.on_behalf_of)


def missed(
    tenancy: Tenancy,
    namespace: Namespace,
    account: str,
    covers: Callable[[Grant], bool] = lambda _grant: True,
    user: str | None = None,
) -> str:
    """Say by which grants a namespace could act for an account, if it had what they ask for beside its name.

    Parameters
    ----------
    covers
        Which grants would help.
    user
        On whose behalf it acts.
    """
    said = [
        f"grants[{number}] {lack}"
        for number, grant in enumerate(tenancy.grants)
        if account in grant.accounts and _means(grant, user) and covers(grant) and (lack := lack_of(grant, namespace))
    ]
    more = [f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN else []
    return "; ".join([*said[:_SHOWN], *more])


def may_write(grants: Iterable[Grant], scope: str) -> bool:
    """Tell whether outputs may go to a scope."""
    return any(scope in grant.scopes for grant in grants)


def may_read(grants: Collection[Grant], scope: str) -> bool:
    """Tell whether inputs may come from a scope."""
    return may_write(grants, scope) or any(
        scope.startswith(pattern.removesuffix(_ANY)) if pattern.endswith(_ANY) else scope == pattern
        for grant in grants
        for pattern in grant.read_scopes
    )


def scopes_of(inputs: Mapping[str, Iterable[File]]) -> tuple[str, ...]:
    """Give the scopes of all files of all inputs that can be staged, sorted."""
    return tuple(sorted({file.did.scope for files in inputs.values() for file in files if not file.lack}))


def read_by(status: RSERecordStatus) -> list[str]:
    """Give the scopes that the session's token reads."""
    return [*status.scopes, *status.added_scopes]


def listed_in(status: RSERecordStatus) -> list[str]:
    """Give the scopes by which the place of the session's list of inputs is found: it never moves."""
    return status.scopes or status.added_scopes[:1]


def fault_of_scope(scope: str) -> str:
    """Say why the files of a scope have no folder of their own below an RSE's prefix; empty: they have one."""
    if not re.fullmatch(SCOPE.removesuffix("$"), scope):
        return "begins with a scope that Rucio's generic schema does not have"
    return fault_of_path(scope_folder(scope))
