"""Where the reconciler tells what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Holding", "Silence", "Telemetry", "Whose"]


class Whose(NamedTuple):
    """Who has buffers, and of which class."""

    class_name: str
    namespace: str
    account: str


@dataclass(slots=True)
class Holding:
    """What somebody's buffers of a class hold together, in bytes."""

    capacity: int = 0
    """Of those whose storage is not given up yet."""
    running: int = 0
    """Outputs that are not safe, of sessions that run."""
    ended: int = 0
    """Outputs that are not safe, of sessions that have ended."""


class Telemetry(Protocol):
    """Takes what happened; never fails."""

    def visited(self, seconds: float, *, failed: bool) -> None:
        """Take the end of one visit to a buffer."""

    def applied(self, effect: str, *, failed: bool) -> None:
        """Take one effect that was carried out, or failed."""

    def waiting(self, keys: int, oldest: float) -> None:
        """Take the number of buffers that wait for a visit that is due, and the seconds that the first has waited."""

    def swept(self, stages: Mapping[str, int], connections: Mapping[str, bool]) -> None:
        """Take the number of records in each stage, and whether each connection's server answers."""

    def held(self, holdings: Mapping[Whose, Holding]) -> None:
        """Take what buffers hold, and for whom."""

    def phased(self, phases: Mapping[tuple[str, str], int]) -> None:
        """Take the number of buffers of each class in each phase that people see; the class of some is not known."""

    def offered(self, classes: Mapping[str, bool]) -> None:
        """Take whether each class is Ready, by its status; those that are being deleted are not told."""

    def exposed(self, used: int, most: int) -> None:
        """Take how many NodePorts buffers have, and how many they can have."""

    def orphaned(self, count: int) -> None:
        """Take how many ledgers and objects have no record."""

    def unread(self, kinds: Mapping[str, int]) -> None:
        """Take how many objects of each kind could not be read."""

    def faulted(self, where: str) -> None:
        """Take that a part of the operator's own round failed."""

    def became_ready(self, class_name: str, seconds: float) -> None:
        """Take how long after its request a session could begin."""

    def became_safe(self, class_name: str, seconds: float) -> None:
        """Take how long after the session's end its outputs were found safe."""


class Silence(Telemetry):
    """Tells nobody."""

    def visited(self, seconds: float, *, failed: bool) -> None:
        """Nothing."""

    def applied(self, effect: str, *, failed: bool) -> None:
        """Nothing."""

    def waiting(self, keys: int, oldest: float) -> None:
        """Nothing."""

    def swept(self, stages: Mapping[str, int], connections: Mapping[str, bool]) -> None:
        """Nothing."""

    def held(self, holdings: Mapping[Whose, Holding]) -> None:
        """Nothing."""

    def phased(self, phases: Mapping[tuple[str, str], int]) -> None:
        """Nothing."""

    def offered(self, classes: Mapping[str, bool]) -> None:
        """Nothing."""

    def exposed(self, used: int, most: int) -> None:
        """Nothing."""

    def orphaned(self, count: int) -> None:
        """Nothing."""

    def unread(self, kinds: Mapping[str, int]) -> None:
        """Nothing."""

    def faulted(self, where: str) -> None:
        """Nothing."""

    def became_ready(self, class_name: str, seconds: float) -> None:
        """Nothing."""

    def became_safe(self, class_name: str, seconds: float) -> None:
        """Nothing."""
