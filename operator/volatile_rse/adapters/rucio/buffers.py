"""The RSE of a buffer: described, compared with what it must be, made and deleted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from volatile_rse.adapters.rucio.marks import MARK, OWNER
from volatile_rse.adapters.rucio.rses import RucioRses
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.adapters.rucio.shapes import is_text
from volatile_rse.api.conditions import Reason
from volatile_rse.domain.catalogue import BufferRse, RseState, attribute_text
from volatile_rse.ports.errors import RefusedError, UnreachableError

__all__ = ["RucioBuffers"]

_MARKS_KNOWN_FOR = 300.0
"""Seconds for which the attributes of a buffer's RSE count as seen once they were right."""
_DOMAINS: Mapping[str, Mapping[str, int | None]] = {
    "lan": {"read": 1, "write": 1, "delete": 1},
    "wan": {"read": 1, "write": 1, "delete": 1, "third_party_copy_read": 1, "third_party_copy_write": 1},
}
_SECOND: Mapping[str, Mapping[str, int | None]] = {
    "lan": {"read": 2, "write": 2, "delete": 2},
    "wan": {"read": 2, "write": 2, "delete": 2, "third_party_copy_read": None, "third_party_copy_write": None},
}
"""Null is never: 0 would be the first of all."""


class RucioBuffers:
    """The RSEs of buffers on one server."""

    def __init__(self, server: RucioServer, rses: RucioRses) -> None:
        self._server = server
        self._rses = rses
        self._marked: dict[str, tuple[Mapping[str, str], float]] = {}
        """RSE -> its attributes, and until when they count as seen."""

    def describe(self, rse: str) -> BufferRse | None:
        """Describe a buffer's RSE."""
        found, attributes = self._rses.get(rse), self._rses.attributes(rse)
        if found is None or not self._rses.is_volatile(rse):
            return None
        doors = {door["scheme"]: (door["hostname"], int(door["port"])) for door in found["protocols"]}
        host, davs = doors.get("davs", ("", 0))
        marks = {
            key: attribute_text(value)
            for key, value in attributes.items()
            if key.startswith("vrse_") and (isinstance(value, bool) or is_text(value))
        }
        # The mark that no crash leaves out counts.
        owner = attributes.get(OWNER)
        marks[MARK] = str(owner) if owner and is_text(owner) else str(marks.get(MARK))
        return BufferRse(rse, host, doors.get("root", ("", 0))[1], davs, marks, bool(found["availability_read"]))

    def compare(self, rse: BufferRse) -> RseState | None:
        """Compare an RSE with what it must be."""
        found = self._rses.get(rse.name)
        if found is None:
            return None
        unlike = self._unlike(rse)
        flags = {"availability_read": rse.availability_read, "availability_write": False}
        lacks = (
            *(f"{flag} is {found[flag]}, not {wanted}" for flag, wanted in flags.items() if found[flag] != wanted),
            *filter(None, (_fault_of(found, door) for door in _doors(rse))),
            *unlike,
        )
        return RseState(rse.name, lacks, deletable=bool(found["availability_delete"]))

    def ensure(self, rse: BufferRse) -> None:
        """Create the RSE and complete it."""
        flags = {"availability_read": rse.availability_read, "availability_write": False, "availability_delete": False}
        made = self._server.call(
            rse.name,
            "add_rse",
            rse.name,
            deterministic=True,
            volatile=False,
            rse_type="DISK",
            **{OWNER: rse.attributes[MARK]},
            **flags,
            tolerate={"Duplicate": None},
        )
        attributes: Mapping[str, Any] = {}
        if made is None:
            self._complete_flags(rse, flags)
            attributes = self._rses.attributes(rse.name)
        for key, value in rse.attributes.items():
            if _differs(attributes, key, value):
                self._server.call(f"attribute {key} of {rse.name}", "add_rse_attribute", rse.name, key, value)
        for door in _doors(rse):
            if self._server.call(rse.name, "add_protocol", rse.name, door, tolerate={"Duplicate": None}) is None:
                self._complete_door(rse, door)

    def allow_deletion(self, rse: str) -> None:
        """Let the reaper work."""
        self._server.call(rse, "update_rse", rse, {"availability_delete": True}, tolerate={"RSENotFound": None})

    def delete(self, rse: str) -> None:
        """Deregister the RSE."""
        found = self._rses.get(rse)
        if found is None:
            self._forget(rse)
            return
        usage = self._server.call(rse, "get_rse_usage", rse, filters={"source": "rucio"})
        if used := sum(row.get("used") or 0 for row in usage):
            what = (
                f"Rucio still counts {used} bytes on {rse}: its daemons reaper and abacus-rse have not finished, or "
                "somebody registered replicas there that are not this buffer's: an admin must give these a tombstone."
            )
            raise UnreachableError(Reason.CATALOGUE_REFUSED, what)
        for limit in self._server.call(rse, "get_rse_limits", rse):
            self._server.call(rse, "delete_rse_limits", rse, limit)
        for key in self._rses.attributes(rse):
            # Rucio itself gives every RSE one of its own name, and shows a column as one.
            if key not in {rse, OWNER}:
                self._server.call(rse, "delete_rse_attribute", rse, key, tolerate={"RSEAttributeNotFound": None})
        for door in found["protocols"]:
            self._server.call(
                rse,
                "delete_protocols",
                rse,
                door["scheme"],
                door["hostname"],
                door["port"],
                tolerate={"RSEProtocolNotSupported": None},
            )
        self._server.call(rse, "delete_rse", rse, tolerate={"RSENotFound": None})
        self._forget(rse)

    def _complete_flags(self, rse: BufferRse, flags: Mapping[str, bool]) -> None:
        found = self._rses.get(rse.name)
        if found is None:
            what = f"An RSE named {rse.name} was deleted before; Rucio does not give a name twice."
            raise RefusedError(Reason.FOREIGN_OBJECT, what)
        _must_be_ours(rse, self._rses.attributes(rse.name))
        wrong = {key: value for key, value in flags.items() if found[key] != value}
        if wrong:
            self._server.call(rse.name, "update_rse", rse.name, wrong)

    def _complete_door(self, rse: BufferRse, door: Mapping[str, Any]) -> None:
        """Set the priorities of a protocol right: an operator of before gave others."""
        if _fault_of(self._rses.get(rse.name) or {"protocols": ()}, door):
            place = door["hostname"], door["port"]
            self._server.call(
                rse.name, "update_protocols", rse.name, door["scheme"], {"domains": door["domains"]}, *place
            )

    def _unlike(self, rse: BufferRse) -> tuple[str, ...]:
        """Name the attributes that are wrong; right ones count for a while, as Rucio itself remembers them.

        Raises
        ------
        RefusedError
            FOREIGN_OBJECT: it is somebody else's. Whose it is does not change: Rucio gives no name twice.
        """
        known = self._marked.get(rse.name)
        if known is not None and known[0] == rse.attributes and time.monotonic() < known[1]:
            return ()
        attributes = self._rses.attributes(rse.name)
        _must_be_ours(rse, attributes)
        if wrong := [key for key, value in rse.attributes.items() if _differs(attributes, key, value)]:
            return tuple(
                f"its attribute {key} is {attributes.get(key)!r}, not {rse.attributes[key]!r}" for key in wrong
            )
        self._marked[rse.name] = rse.attributes, time.monotonic() + _MARKS_KNOWN_FOR
        return ()

    def _forget(self, rse: str) -> None:
        """Drop what was remembered of an RSE that is gone."""
        self._marked.pop(rse, None)
        self._rses.forget(rse)


def _differs(attributes: Mapping[str, Any], key: str, value: str) -> bool:
    return key not in attributes or attribute_text(attributes[key]) != attribute_text(value)


def _must_be_ours(rse: BufferRse, attributes: Mapping[str, Any]) -> None:
    owner = attributes.get(OWNER)
    if owner != rse.attributes[MARK]:
        what = f"RSE {rse.name} in Rucio belongs to {owner!r}, not to {rse.attributes[MARK]!r}."
        raise RefusedError(Reason.FOREIGN_OBJECT, what)


def _doors(rse: BufferRse) -> tuple[Mapping[str, Any], ...]:
    """Give the protocols, the preferred one first: Rucio's daemons use davs."""
    return (
        {**_door(rse.host, _DOMAINS), "scheme": "davs", "port": rse.davs_port, "prefix": "/store/"},
        {**_door(rse.host, _SECOND), "scheme": "root", "port": rse.root_port, "prefix": "//store/"},
    )


def _door(host: str, domains: Mapping[str, Mapping[str, int | None]]) -> Mapping[str, Any]:
    implementation = "rucio.rse.protocols.gfal.Default"
    return {"hostname": host, "impl": implementation, "domains": domains, "extended_attributes": None}


def _fault_of(found: Mapping[str, Any], door: Mapping[str, Any]) -> str:
    """Say what a protocol of an RSE lacks; empty: nothing."""
    scheme, host, port = place = door["scheme"], door["hostname"], door["port"]
    told = [each for each in found["protocols"] if (each["scheme"], each["hostname"], each["port"]) == place]
    if not told:
        return f"it has no protocol {scheme} at {host}:{port}"
    domains = told[0].get("domains") or {}
    wrong = [
        f"{domain} {operation} {(domains.get(domain) or {}).get(operation)!r}, not {wanted!r}"
        for domain, operations in door["domains"].items()
        for operation, wanted in operations.items()
        if (domains.get(domain) or {}).get(operation) != wanted
    ]
    return f"its protocol {scheme} has the priorities {', '.join(wrong)}" if wrong else ""
