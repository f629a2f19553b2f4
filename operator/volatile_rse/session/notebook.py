"""``%load_ext volatile_rse.session``, then ``%vrse``: the session's table in IPython, which is not imported here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from volatile_rse.session.errors import SessionError
from volatile_rse.session.sessions import Session, current

__all__ = ["load_ipython_extension"]


class Shell(Protocol):
    """What is asked of IPython."""

    def register_magic_function(self, func: Callable[[str], object], magic_kind: str, magic_name: str) -> None:
        """Have a function called by ``%name``."""


def load_ipython_extension(shell: Shell) -> None:
    """Register ``%vrse``, as IPython asks of an extension."""
    shell.register_magic_function(_vrse, "line", "vrse")


def _vrse(_line: str = "") -> Session | None:
    """Show this session: what is staged, what is written, and until when it may be used."""
    try:
        return current()
    except SessionError as error:
        print(error)  # noqa: T201 - a command of a notebook
        return None
