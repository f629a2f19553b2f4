"""A spawn that is refused, with words for the user's page."""

from __future__ import annotations

from html import escape

from tornado.web import HTTPError

__all__ = ["RefusedError"]

_BAD_REQUEST = 400


class RefusedError(HTTPError):
    """The user has to ask for something else; no failure of the hub's.

    Parameters
    ----------
    message
        What is wrong, and what to do.
    """

    def __init__(self, message: str) -> None:
        # Of another exception each would count to consecutive_failure_limit, at which the hub exits.
        super().__init__(_BAD_REQUEST, "%s", message)
        self.jupyterhub_message = message
        self.jupyterhub_html_message = f"<p>{escape(message)}</p>"

    def __str__(self) -> str:
        return self.jupyterhub_message
