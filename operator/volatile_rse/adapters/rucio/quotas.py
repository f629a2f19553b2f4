"""What an account may still lock in Rucio, judged as Rucio judges a new rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from volatile_rse.adapters.rucio.accounts import is_admin
from volatile_rse.adapters.rucio.answers import merged
from volatile_rse.adapters.rucio.rses import RucioRses
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import Room

__all__ = ["RucioQuotas"]

_UNLIMITED = {-1, float("inf")}


class RucioQuotas:
    """The limits of accounts and RSEs on one server."""

    def __init__(self, server: RucioServer, rses: RucioRses) -> None:
        self._server = server
        self._rses = rses

    def rooms(self, account: str, rses: Sequence[str]) -> Mapping[str, Room]:
        """Give what the limits of an account leave on each RSE: a handful of calls, however many there are."""
        about = f"the limits of account {account}"
        if is_admin(self._server, about, account):
            return {rse: Room(None) for rse in rses}
        # With the limits in it; one that is not set is 0, which is the same.
        usage = {row["rse"]: row for row in self._server.call(about, "get_local_account_usage", account)}
        everywhere = merged(
            self._server.call(
                about,
                "get_global_account_limits",
                account,
                # Rucio refuses every rule of the account then.
                tolerate={"InvalidRSEExpression": Reason.QUOTA_EXCEEDED},
            )
        )
        return {rse: self._room(account, rse, usage, everywhere) for rse in rses}

    def narrowed(self, account: str, rse: str, room: Room) -> Room:
        """Give what is left of a room by the RSE itself."""
        attributes = self._rses.attributes_of_permanent(rse)
        space = None if _bytes(room) <= 0 else self._rses.space_left(rse)
        if attributes.get("restricted_write"):
            # Rucio itself would transfer nothing there for this account.
            left = Room(0, "its attribute restricted_write, which lets only accounts with the attribute admin write")
        elif attributes.get("mock") or space is None or space >= _bytes(room):
            return room
        else:
            left = Room(space, "its limit MaxSpaceAvailable")
        return room if is_admin(self._server, f"the limits of account {account}", account) else left

    def _room(
        self, account: str, rse: str, usage: Mapping[str, Mapping[str, Any]], everywhere: Mapping[str, Any]
    ) -> Room:
        here = usage.get(rse, {})
        if rse in self._rses.are_exempt():
            return Room(None)
        if not here.get("bytes_limit"):
            return Room(0, f"the limit of account {account!r} there, which is not set or 0")
        found = []
        if here["bytes_limit"] not in _UNLIMITED:
            left = int(here["bytes_limit"]) - int(here["bytes"] or 0)
            found.append(Room(left, f"the limit of account {account!r} there"))
        for expression, entry in everywhere.items():
            if rse in entry["resolved_rses"] and entry["limit"] not in _UNLIMITED:
                used = sum(int(usage.get(name, {}).get("bytes") or 0) for name in entry["resolved_rses"])
                left = int(entry["limit"] or 0) - used
                found.append(Room(left, f"the global limit of account {account!r} on {expression!r}"))
        least = min(found, key=_bytes, default=Room(None))
        return least if least.bytes is None else Room(max(least.bytes, 0), least.by)


def _bytes(room: Room) -> float:
    return float("inf") if room.bytes is None else room.bytes
