"""What the catalogue holds from the start: accounts, scopes, the permanent RSEs and the quota on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testbed.grid import ALICE, BOB, LEDGER_SCOPE, OPERATOR, Grid, client
from testbed.layout import DAV_SITES, SITES

__all__ = ["up"]

_QUOTA = 10**12
_GFAL, _XROOTD = (f"rucio.rse.protocols.{name}.Default" for name in ("gfal", "xrootd"))
_SCOPES = {f"user.{ALICE}": ALICE, f"user.{BOB}": BOB, "cms": "root", LEDGER_SCOPE: OPERATOR}


def up(facts: Grid) -> None:
    """Add what is missing, asked of the server itself."""
    root = client("root", facts)
    for account, kind in ((ALICE, "USER"), (BOB, "USER"), (OPERATOR, "SERVICE")):
        _account(root, account, kind, facts.passwords[account])
    # Equal to root for Rucio's generic policy: nothing narrower may manage RSEs.
    _once(root.add_account_attribute, OPERATOR, "admin", "True")
    for scope, account in _SCOPES.items():
        _once(root.add_scope, account, scope)
    for rse, host in SITES.items():
        _site(root, rse, host)
        _once(root.add_protocol, rse, _protocol(host, ("root", 1094, "//store/", _XROOTD), 2))
    for rse, host in DAV_SITES.items():
        _site(root, rse, host, tier="3")


def _account(root: Any, account: str, kind: str, password: str) -> None:  # noqa: ANN401
    email = f"{account}@testbed.invalid"
    _once(root.add_account, account, kind, email)
    _once(root.add_identity, account, account, "USERPASS", email, default=True, password=password)


def _site(root: Any, rse: str, host: str, tier: str = "2") -> None:  # noqa: ANN401
    _once(root.add_rse, rse, deterministic=True, volatile=False, rse_type="DISK")
    for key, value in {"tier": tier, "site": rse}.items():
        root.add_rse_attribute(rse, key, value)
    davs = _protocol(host, ("davs", 8443, "/store/", _GFAL), 1)
    davs["domains"]["wan"] |= {"third_party_copy_read": 1, "third_party_copy_write": 1}
    _once(root.add_protocol, rse, davs)
    for account in (ALICE, BOB):
        root.set_local_account_limit(account, rse, _QUOTA)


def _protocol(host: str, door: tuple[str, int, str, str], preference: int) -> dict[str, Any]:
    scheme, port, prefix, implementation = door
    domain = dict.fromkeys(("read", "write", "delete"), preference)
    return {
        "scheme": scheme, "hostname": host, "port": port, "prefix": prefix, "impl": implementation,
        "domains": {"lan": domain, "wan": dict(domain)}, "extended_attributes": None,
    }  # fmt: skip


def _once(call: Callable[..., object], *arguments: object, **named: object) -> None:
    """Add something that may be there."""
    # Imported late: the library looks for its configuration, which the client's maker provides, as it is imported.
    from rucio.common.exception import Duplicate  # noqa: PLC0415

    try:
        call(*arguments, **named)
    except Duplicate:
        return
