"""How calls through ports fail."""

from __future__ import annotations

from volatile_rse.api.conditions import Reason

__all__ = ["PortError", "RefusedError", "UnreachableError"]


class PortError(Exception):
    """A call failed; the reason's remedy says who must act and how."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what
        """What happened, and to which object."""


class UnreachableError(PortError):
    """No answer, or none that counts: wait, and destroy nothing."""


class RefusedError(PortError):
    """The other side answered that this cannot be."""
