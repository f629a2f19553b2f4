"""The search for orphans, which goes on without whoever does not answer, and says who that was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Cluster, Object
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.faults import problem_of
from volatile_rse.reconcile.orphans import Orphan, orphans_of
from volatile_rse.reconcile.reading import read_class, read_connection
from volatile_rse.reconcile.world import World

__all__ = ["Search", "search"]

_READ: Mapping[str, Callable[[Object], object]] = {"RucioConnection": read_connection, "VolatileRSEClass": read_class}
_NOTHING: Mapping[str, object] = {"ledgers": {}, "buffer": None}
"""Question of a search -> the answer of a server that has nothing to tell."""


Note = Callable[[Exception, str], None]
"""Takes what went wrong, and who was asked."""


@dataclasses.dataclass(frozen=True, slots=True)
class Search:
    """What was found, and what was not asked."""

    orphans: tuple[Orphan, ...]
    silent: tuple[str, ...]
    """Why there may be more."""


def search(world: World, connections: Connections, instance: str) -> Search:
    """List what has no record, as far as it can be known now.

    Raises
    ------
    PortError
        The cluster itself did not answer.
    """
    silent: dict[str, None] = {}

    def note(error: Exception, about: str) -> None:
        silent[problem_of(world.telemetry, error, f"what {about} answered could not be used").what] = None

    readable = dataclasses.replace(world, cluster=cast("Cluster", _Readable(world.cluster, note)))
    found = orphans_of(readable, cast("Connections", _Patient(connections, note)), instance)
    return Search(found, tuple(silent))


class _Readable:
    """The cluster without the classes and connections that cannot be read."""

    def __init__(self, cluster: Cluster, note: Note) -> None:
        self._cluster = cluster
        self._note = note

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return cast("Callable[..., Any]", getattr(self._cluster, method))

    def list(self, kind: str, *args: Any, **kwargs: Any) -> tuple[Object, ...]:  # noqa: ANN401 (passed on)
        bodies = self._cluster.list(kind, *args, **kwargs)
        return tuple(body for body in bodies if kind not in _READ or self._can_read(kind, body))

    def _can_read(self, kind: str, body: Object) -> bool:
        try:
            _READ[kind](body)
        except Exception as error:  # noqa: BLE001 (noted)
            self._note(error, f"{kind} {body['metadata']['name']}")
            return False
        return True


class _Patient:
    """Gives clients that take no answer for none."""

    def __init__(self, connections: Connections, note: Note) -> None:
        self._connections = connections
        self._note = note

    def of(self, connection: RucioConnectionSpec, name: str) -> Catalogue:
        try:
            return cast("Catalogue", _Quiet(self._connections.of(connection, name), connection.server, self._note))
        except Exception as error:  # noqa: BLE001 (noted)
            self._note(error, connection.server)
            return cast("Catalogue", _Quiet(None, connection.server, self._note))


class _Quiet:
    """A catalogue of which nothing is known where it does not answer."""

    def __init__(self, catalogue: Catalogue | None, server: str, note: Note) -> None:
        self._catalogue = catalogue
        self._server = server
        self._note = note

    def __getattr__(self, method: str) -> Callable[..., Any]:
        nothing = _NOTHING[method]

        def asked(*args: object) -> object:
            if self._catalogue is None:
                return nothing
            try:
                return getattr(self._catalogue, method)(*args)
            except Exception as error:  # noqa: BLE001 (noted)
                self._note(error, self._server)
                return nothing

        return asked
