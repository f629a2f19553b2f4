"""NodePorts bound how many buffers a cluster can have: a buffer keeps its two until it is drained."""

from __future__ import annotations

from dataclasses import dataclass

from volatile_rse.api.conditions import Reason
from volatile_rse.domain.problems import Problem

__all__ = ["DEFAULT_RANGE", "PORTS_OF_A_BUFFER", "NodePorts", "are_enough", "problem_of_node_ports"]

PORTS_OF_A_BUFFER = 2
"""One for root, one for davs."""
DEFAULT_RANGE = 2768
"""30000 to 32767, if the API server is not told otherwise (``--service-node-port-range``)."""
_LOW, _ENOUGH = 10, 15
"""Percent of the range that are left: fewer are told, and that is over with so many.

Else each buffer that comes or goes at the threshold would be told.
"""


@dataclass(frozen=True, slots=True)
class NodePorts:
    """What buffers have of the NodePorts that they may have; those of other Services are not known."""

    range: int
    buffers: int = 0
    """That are not closed."""
    over: int = 0
    """Those among them whose session has ended: they keep their ports until they are drained."""

    @property
    def used(self) -> int:
        """Ports that these buffers have, or are about to get."""
        return PORTS_OF_A_BUFFER * self.buffers

    @property
    def left(self) -> int:
        """Ports for further buffers."""
        return max(self.range - self.used, 0)


def are_enough(ports: NodePorts) -> bool:
    """Tell whether a warning is over."""
    return 100 * ports.left >= _ENOUGH * ports.range


def problem_of_node_ports(ports: NodePorts) -> Problem | None:
    """Warn before the last port is given away."""
    if 100 * ports.left >= _LOW * ports.range:
        return None
    what = (
        f"{ports.buffers} buffers have {ports.used} of {ports.range} NodePorts. The sessions of {ports.over} of them "
        f"are over: a buffer keeps its {PORTS_OF_A_BUFFER} until it is drained. {ports.left} ports are left, for "
        f"{ports.left // PORTS_OF_A_BUFFER} more buffers."
    )
    return Problem(Reason.NODE_PORTS_LOW, what)
