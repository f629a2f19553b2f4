"""RucioConnection: which Rucio, and as whom."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from volatile_rse.api.addresses import SERVER, server_url
from volatile_rse.api.conditions import Condition
from volatile_rse.api.schema import Account, ApiModel, DnsLabel, Scope
from volatile_rse.api.text import EVENT, shown_within

__all__ = ["Budget", "RucioConnectionSpec", "RucioConnectionStatus", "SecretKeys"]

Url = Annotated[str, Field(pattern=SERVER, max_length=512), AfterValidator(lambda url: server_url(url) or url)]
"""In the one form of ``server_url``: without a slash at its end, the name in small letters, no default port."""


class SecretKeys(ApiModel):
    """A user name and a password in a Secret of the operator's namespace."""

    secret_name: DnsLabel
    """Keys ``username``, ``password`` and ``server``: the URL of the server that they are for, and of its auth server
    if that is another, with a blank between. No other server is sent them."""


class Budget(ApiModel):
    """What the operator may ask of the server, all buffers together."""

    calls_per_second: Annotated[int, Field(ge=1, le=1000)] = 20
    """Calls that begin in one second, on average."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Calls that run at the same time."""
    timeout: Annotated[int, Field(ge=1, le=300)] = 30
    """Seconds for one call, with its login, its retry and the whole of its answer."""


class RucioConnectionSpec(ApiModel):
    """A Rucio server and the operator's service account there.

    The account needs the attribute ``admin=True``. In Rucio's generic policy that is equivalent to root: guard it.
    """

    server: Url
    """URL of the Rucio server."""
    auth_server: Url | None = None
    """Absent: the server itself."""
    ca_config_map: DnsLabel | None = None
    """ConfigMap in the operator's namespace whose key ``ca.crt`` verifies the server; absent: the system's bundle."""
    vo: Annotated[str, Field(pattern=r"^[a-z0-9]{3}$", max_length=3)] = "def"
    """Virtual organisation."""
    account: Account
    """The operator's service account."""
    userpass: SecretKeys
    ledger_scope: Scope
    """Scope of the operator's own ledger datasets, one per buffer."""
    budget: Budget | None = None
    """Limits of the calls; absent: the defaults of its fields. Buffers that exist follow a change, too."""


class RucioConnectionStatus(ApiModel):
    """What the operator observed."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of."""
    reachable: bool | None = None
    """Whether the server answered the last time and took the credential."""
    since: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When ``reachable`` changed the last time."""
    message: Annotated[str, Field(max_length=EVENT), shown_within(EVENT)] | None = None
    """What it said."""
    conditions: Annotated[list[Condition], Field(max_length=8)] | None = None
    """``Ready`` and ``Reachable`` say the same, for ``kubectl wait`` and GitOps; ``Stalled``: only a change of the
    connection, or of the Secret that it names, can help."""
