"""What a program must know to use the running catalogue and the sites, and the stock client set up with it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from testbed import containers, pki, trust
from testbed.layout import ALL_SITES, RUCIO, STATE
from testbed.progress import StepError

__all__ = ["ALICE", "BOB", "LEDGER_SCOPE", "OPERATOR", "Grid", "client", "grid", "record"]

ALICE, BOB, OPERATOR = "alice", "bob", "vrse-operator"
LEDGER_SCOPE = "vrse"
_FACTS = STATE / "grid.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """How to reach the catalogue and the sites, and with which credentials."""

    inside: str
    """URL of the catalogue for pods and containers."""

    outside: str
    """URL of the catalogue for programs of this machine."""

    bundle: str
    """File with every certificate authority that the grid believes."""

    certificates: str
    """The same authorities as OpenSSL's hashed directory."""

    passwords: Mapping[str, str]
    """Account -> password; the user name of each account is its name."""

    tokens: Mapping[str, str]
    """Account -> bearer token that reads and writes ``/store`` on every site."""

    davs: Mapping[str, str]
    """RSE -> its davs URL for pods and containers."""

    davs_outside: Mapping[str, str]
    """RSE -> its davs URL for programs of this machine."""


def record(passwords: Mapping[str, str], tokens: Mapping[str, str]) -> Grid:
    """Write down the facts of the running grid."""
    facts = Grid(
        inside=f"https://{RUCIO}:8443",
        outside=_outside(RUCIO),
        bundle=str(trust.BUNDLE),
        certificates=str(trust.CERTIFICATES),
        passwords=passwords,
        tokens=tokens,
        davs={rse: pki.audience(host) for rse, host in ALL_SITES.items()},
        davs_outside={rse: _outside(host) for rse, host in ALL_SITES.items()},
    )
    fresh = _FACTS.with_suffix(".new")
    fresh.write_text(json.dumps(dataclasses.asdict(facts), indent=1))
    fresh.chmod(0o600)
    fresh.replace(_FACTS)
    return facts


def grid() -> Grid:
    """Give the facts of the running grid.

    Raises
    ------
    StepError
        No grid was started from this clone.
    """
    if not _FACTS.exists():
        message = "this clone has no testbed: run `make up`"
        raise StepError(message)
    facts = Grid(**json.loads(_FACTS.read_text()))
    try:
        # A container that was started again has other ports.
        doors = {rse: _outside(host) for rse, host in ALL_SITES.items()}
        return dataclasses.replace(facts, outside=_outside(RUCIO), davs_outside=doors)
    except (subprocess.CalledProcessError, IndexError):
        # One of them is down: what it had is all that can be said.
        return facts


def _outside(container: str) -> str:
    return f"https://localhost:{containers.port(container, 8443)}"


def client(account: str, facts: Grid | None = None) -> Any:  # noqa: ANN401
    """Give the stock Rucio client of an account, for programs of this machine."""
    facts = facts or grid()
    configuration = STATE / "client.cfg"
    configuration.write_text("[client]\n")
    os.environ.setdefault("RUCIO_CONFIG", str(configuration))
    # Imported late: the library looks for its configuration as it is imported.
    from rucio.client import Client  # noqa: PLC0415

    return Client(
        rucio_host=facts.outside, auth_host=facts.outside, account=account, ca_cert=facts.bundle, auth_type="userpass",
        creds={"username": account, "password": facts.passwords[account]}, timeout=30,
    )  # fmt: skip
