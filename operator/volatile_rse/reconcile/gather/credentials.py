"""What opens the sites that files come from and go to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from volatile_rse.api.conditions import Reason
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import Stage
from volatile_rse.reconcile.gather.look import Look, guarded
from volatile_rse.reconcile.sites import site_access

__all__ = ["Shut", "access", "doubt", "problems"]

_SHOWN = 5
"""URLs that a message names."""


@dataclass(frozen=True, slots=True, order=True)
class Shut:
    """A site that a buffer needs, and that the class's tokens do not open."""

    right: Literal["read", "write"]
    reason: Reason
    what: str
    """Its host; of a token that is there, and not for this place, the URL."""


def access(look: Look) -> SiteAccess:
    """Read tokens and authorities of the class.

    Raises
    ------
    RefusedError
        As ``site_access``.
    """
    found, look.no_tokens = site_access(look.world, look.spec.class_name, look.spec.class_snapshot)
    return found


def problems(look: Look, shut: Collection[Shut]) -> list[Problem]:
    """Tell which sites are not opened."""
    if not shut:
        return []
    secret = f"Secret {look.world.settings.namespace}/{look.spec.class_snapshot.site_credentials.secret_name}"
    hosts = {right: sorted(_named(shut, Reason.CREDENTIAL_MISSING, right)) for right in ("read", "write")}
    found = [f"to {right} at {', '.join(names)}" for right, names in hosts.items() if names]
    told = [Problem(Reason.CREDENTIAL_MISSING, f"{secret} has no token {' and none '.join(found)}.")] if found else []
    if foreign := sorted(_named(shut, Reason.CREDENTIAL_MISMATCH)):
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        what = f"{secret} has tokens for these hosts, and not for these places: {', '.join(foreign[:_SHOWN])}{more}."
        told.append(Problem(Reason.CREDENTIAL_MISMATCH, what))
    return told


def _named(shut: Collection[Shut], reason: Reason, *rights: str) -> set[str]:
    return {entry.what for entry in shut if entry.reason is reason and (not rights or entry.right in rights)}


@guarded
def doubt(look: Look) -> None:
    """Tell of what is wrong in the Secret; a buffer that is not made yet needs only those of its own hosts."""
    is_missed = any(problem.reason is Reason.CREDENTIAL_MISSING for problem in look.problems)
    if look.no_tokens and (look.stage is not Stage.PREPARING or is_missed):
        where = f"{look.world.settings.namespace}/{look.spec.class_snapshot.site_credentials.secret_name}"
        what = f"Secret {where}: {'; '.join(look.no_tokens)}."
        look.problems.append(Problem(Reason.CREDENTIAL_INVALID, what))
