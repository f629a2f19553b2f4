"""What opens the sites that files come from and go to."""

from __future__ import annotations

from volatile_rse.api.conditions import Reason
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import Stage
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.connections import authorities_of
from volatile_rse.reconcile.gather.look import Look, guarded
from volatile_rse.reconcile.reading import tokens_of

__all__ = ["access", "doubt"]


def access(look: Look) -> SiteAccess:
    """Read tokens and authorities of the class.

    Raises
    ------
    RefusedError
        CREDENTIAL_MISSING: the Secret or the ConfigMap is not there.
    """
    credentials, namespace = look.spec.class_snapshot.site_credentials, look.world.settings.namespace
    secret = look.world.cluster.get(Ref("Secret", namespace, credentials.secret_name))
    if secret is None:
        what = f"Secret {namespace}/{credentials.secret_name} does not exist."
        raise RefusedError(Reason.CREDENTIAL_MISSING, what)
    tokens, look.no_tokens = tokens_of(secret)
    name = credentials.ca_config_map
    return SiteAccess(tokens, None if name is None else authorities_of(look.world, name))


@guarded
def doubt(look: Look) -> None:
    """Tell of values that are no tokens; a buffer that is not made yet needs only those of its own hosts."""
    is_missed = any(problem.reason is Reason.CREDENTIAL_MISSING for problem in look.problems)
    if look.no_tokens and (look.stage is not Stage.PREPARING or is_missed):
        where = f"{look.world.settings.namespace}/{look.spec.class_snapshot.site_credentials.secret_name}"
        what = f"Secret {where}: the value of {', '.join(look.no_tokens)} is no token, which is one word of ASCII."
        look.problems.append(Problem(Reason.CREDENTIAL_INVALID, what))
