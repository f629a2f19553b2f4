"""RucioConnection: which Rucio, and as whom."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volatile_rse.api.schema import Account, ApiModel, DnsLabel, Scope

__all__ = ["RucioConnectionSpec", "RucioConnectionStatus", "SecretKeys"]

Url = Annotated[str, Field(pattern=r"^https://[^\s/]+(/[^\s]*)?$", max_length=512)]


class SecretKeys(ApiModel):
    """A user name and a password in a Secret of the operator's namespace."""

    secret_name: DnsLabel
    """Keys ``username`` and ``password``."""


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


class RucioConnectionStatus(ApiModel):
    """What the operator observed."""

    observed_generation: int = -1
    """Generation of the spec that this status speaks of."""
    reachable: bool | None = None
    """Whether the server answered the last time and took the credential."""
    message: Annotated[str, Field(max_length=1024)] | None = None
    """What it said."""
