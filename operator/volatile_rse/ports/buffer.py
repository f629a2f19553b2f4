"""A buffer: its agent over mutual TLS, and its endpoints as a session sees them."""

from __future__ import annotations

from collections.abc import Sequence
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
    SessionWords,
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

    def tell_session(self, words: SessionWords) -> None:
        """Have this said in the session's status file; only an agent whose report knows ``status`` takes it."""

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
    """A buffer as its session reaches it, by https and by root, and sites as the agent does: with a token."""

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
        RefusedError
            As ``can_read``.
        """

    def is_taken(self, url: str, token: str, trust: str | None) -> bool:
        """Tell whether a site takes a token for reading a file, whether there is one or not.

        Parameters
        ----------
        trust
            As in ``size``.

        Raises
        ------
        UnreachableError
            No answer that tells.
        RefusedError
            As ``can_read``.
        """

    def is_taken_to_write(self, folder: str, token: str, trust: str | None) -> bool:
        """Tell whether a site takes a token for writing below a folder: it is asked to make the one that is there.

        A folder that is not there is made, as it would be with the first output. A site that does not know how to make
        one refuses no token.

        Parameters
        ----------
        folder
            davs URL.
        trust
            As in ``size``.

        Raises
        ------
        UnreachableError
            No answer that tells.
        RefusedError
            As ``can_read``.
        """

    def can_read(self, host: str, port: int, path: str, token: str) -> str | None:
        """Read the first bytes of a file, or look at a directory (``/`` at its end); None if that works, else why not.

        Raises
        ------
        RefusedError
            CREDENTIAL_INVALID: what is given as a token can be none.
        UnreachableError
            The time of the visit is over, which tells nothing of the file.
        """

    def can_read_by_root(self, host: str, port: int, paths: Sequence[str], token: str) -> str | None:
        """Do the same for several by the root protocol, over one connection.

        Raises
        ------
        RefusedError, UnreachableError
            As ``can_read``.
        """

    def is_refused(self, host: str, port: int, path: str, token: str) -> bool:
        """Tell whether a look at a file or a directory is refused for want of rights, whether there is one or not.

        Raises
        ------
        UnreachableError
            No answer that tells.
        RefusedError
            As ``can_read``.
        """

    def can_write(self, host: str, port: int, path: str, token: str) -> bool:
        """Tell whether this token may write there now.

        Parameters
        ----------
        path
            A directory (``/`` at its end), in which an empty file is made and removed; or a file, which is emptied.

        Raises
        ------
        UnreachableError
            No answer that tells.
        RefusedError
            As ``can_read``.
        """
