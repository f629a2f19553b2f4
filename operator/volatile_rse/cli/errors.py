"""How a command ends that does not do what it was asked, and with which exit code."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import IO, Any

import click

from volatile_rse.api.conditions import Actor
from volatile_rse.api.text import visible

__all__ = ["CommandError", "Exit"]


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    """It is done, or what was awaited has come."""
    REFUSED = 1
    """It was refused or has failed, or `doctor` has found something wrong: the same command fails again until somebody
    acts."""
    USAGE = 2
    """The command line is wrong; nothing was asked of the cluster."""
    LATE = 3
    """What is waited for has not come within `--timeout`."""
    NEVER = 4
    """What is waited or asked for cannot come any more, as of a session that is over."""
    UNANSWERED = 5
    """The API server, the operator or a buffer did not answer, or not now: the same command may work later."""
    INTERRUPTED = 130
    """It was interrupted from the keyboard, or a question was not answered."""


class CommandError(click.ClickException):
    """What happened, to which object, who must act, and what to do.

    Parameters
    ----------
    what
        What happened, and to which object: whole sentences.
    action
        What to do.

    Attributes
    ----------
    code
        Exit code.
    """

    def __init__(self, what: str, actor: Actor, action: str, exit_code: Exit = Exit.REFUSED) -> None:
        super().__init__(f"{what} {actor.value} must act: {action}")
        self.code = exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it, on one line."""
        stream = sys.stderr if file is None else file
        stream.write(f"Error: {visible(self.message)}\n")
