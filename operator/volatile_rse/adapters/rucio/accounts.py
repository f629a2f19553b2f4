"""What an account may do in Rucio."""

from __future__ import annotations

from volatile_rse.adapters.rucio.server import RucioServer

__all__ = ["RucioAccounts", "is_admin"]

_ROOT = "root"
"""The account that Rucio's policies let do everything, whatever its attributes are."""


def is_admin(server: RucioServer, about: str, account: str) -> bool:
    """Tell whether an account has the attribute ``admin``: it counts, whatever its value is.

    Parameters
    ----------
    about
        What is asked for.
    """
    rows = server.call(about, "list_account_attributes", account)
    flat = [row for part in rows for row in (part if isinstance(part, list) else [part])]
    return any(row["key"] == "admin" and row["value"] is not None for row in flat)


class RucioAccounts:
    """The operator's own account on one server."""

    def __init__(self, server: RucioServer) -> None:
        self._server = server

    def lacks(self, scope: str) -> tuple[str, ...]:
        """Say what the account lacks, each with the command that gives it."""
        account, found = self._server.account, []
        if account != _ROOT and not is_admin(self._server, f"account {account}", account):
            command = f"rucio account attribute set {account} --key admin --value True"
            found.append(f"account {account} has no attribute admin (`{command}`)")
        if scope not in self._server.call("the scopes", "list_scopes"):
            found.append(f"there is no scope {scope} (`rucio scope add {scope} --account {account}`)")
        return tuple(found)
