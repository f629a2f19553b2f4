"""All that the reconciler reaches, in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock

from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.clock import Clock
from volatile_rse.ports.cluster import Cluster
from volatile_rse.ports.credentials import Authority
from volatile_rse.ports.telemetry import Silence, Telemetry

__all__ = ["Login", "World"]


@dataclass(frozen=True, slots=True)
class Login:
    """What is needed to reach a Rucio server."""

    connection: RucioConnectionSpec
    username: str
    password: str = field(repr=False)
    authorities: str | None
    """PEM; None: the system's."""


@dataclass(frozen=True, slots=True)
class World:
    """The ports, and how this operator is set up."""

    settings: Settings
    cluster: Cluster
    authority: Authority
    endpoints: Endpoints
    clock: Clock
    connect: Callable[[Login], Catalogue]
    buffer: Callable[[str, str], Buffer]
    """Address of a storage pod, and what its agent is called in its certificate -> the agent's client."""
    hashed_name: Callable[[str], str]
    """Certificate (PEM) -> its file name in a hashed directory of authorities."""
    telemetry: Telemetry = field(default_factory=Silence)
    fresh: Cluster | None = None
    """The cluster, asked anew by each call; None: ``cluster`` is."""
    admission: Lock = field(default_factory=Lock)
    """Held from the look at what is used until a record is there that others see: one buffer is admitted at a time."""

    def live(self) -> World:
        """Give the same world, of whose cluster nothing is believed but what the API server says now."""
        return self if self.fresh is None else replace(self, cluster=self.fresh)
