"""A buffer: its agent over mutual TLS, and its endpoints as a session sees them."""

from __future__ import annotations

from typing import Protocol

from volatile_rse.api.agent import (
    Copies,
    CopyPage,
    FenceRequest,
    GateState,
    InputPage,
    Manifest,
    OutputPage,
    Report,
    SealRequest,
)

__all__ = ["Buffer", "Endpoints"]


class Buffer(Protocol):
    """One buffer's agent.

    Every call raises UnreachableError (BUFFER_UNREACHABLE) without an answer, else RefusedError (BUFFER_REFUSED) with
    the agent's own words.
    """

    def report(self) -> Report:
        """Read its state now."""

    def send_manifest(self, manifest: Manifest) -> None:
        """Give it its work."""

    def fence(self, request: FenceRequest) -> GateState:
        """Close the outboxes for good; the report tells when it is done."""

    def seal(self, request: SealRequest) -> None:
        """Take inventory of the fenced outboxes and seal."""

    def copy(self, copies: Copies) -> None:
        """Order copies of sealed outputs."""

    def inputs(self, after: int = 0) -> InputPage:
        """Read a page of inputs."""

    def outputs(self, after: int = 0) -> OutputPage:
        """Read a page of outputs."""

    def copies(self, after: int = 0) -> CopyPage:
        """Read a page of copies."""


class Endpoints(Protocol):
    """A buffer as its session reaches it, and sites as the agent does: https with a token."""

    def size(self, url: str, token: str, trust: str | None) -> int | None:
        """Ask a site for a file's size; None: it says that there is none.

        Parameters
        ----------
        trust
            Certificates of the sites' authorities (PEM); None: the system's.

        Raises
        ------
        UnreachableError
            No answer that tells.
        """

    def can_read(self, host: str, port: int, path: str, token: str) -> str | None:
        """Read the first bytes of a file, or look at a directory; None if that works, else why not."""

    def can_write(self, host: str, port: int, path: str, token: str) -> bool:
        """Tell whether a file can be written there now; what was written is removed.

        Raises
        ------
        UnreachableError
            No answer that tells.
        """
