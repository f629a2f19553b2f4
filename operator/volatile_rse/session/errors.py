"""What a session's programs are told when something cannot be done."""

from __future__ import annotations

__all__ = ["SessionError"]


class SessionError(RuntimeError):
    """Something cannot be had or done; the words say what, and who must do what."""
