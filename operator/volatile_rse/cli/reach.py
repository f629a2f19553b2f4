"""Whether a server is reached from here, and proves to be the one that it should be."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

__all__ = ["Reached", "reach"]

_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reached:
    """What a server has answered."""

    why_not: str = ""
    """Empty: it is reached, and its certificate is good."""
    until: float | None = None
    """End of its certificate, in seconds of the epoch."""


def reach(host: str, port: int, authority: str) -> Reached:
    """Connect by TLS, and send nothing more.

    Parameters
    ----------
    authority
        Certificates that verify the server (PEM).
    """
    try:
        context = ssl.create_default_context(cadata=authority)
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert() or {}
            end = certificate.get("notAfter")
            return Reached(until=ssl.cert_time_to_seconds(end) if isinstance(end, str) else None)
    except (OSError, ValueError) as error:
        return Reached(why_not=" ".join(str(error).split()) or type(error).__name__)
