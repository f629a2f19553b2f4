"""The command ``admin``: what only the operator can do, by its own code in the cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from volatile_rse.api.conditions import Actor
from volatile_rse.api.text import visible
from volatile_rse.cli import program
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.operators import run_beside, run_within, the_operator
from volatile_rse.cli.server import Server

__all__ = ["admin"]

_the_form = click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]), help="A list of objects.")


@click.group()
def admin() -> None:
    """Have the operator do what only it can do: for who may run commands in its pod."""


@admin.command()
@click.option("--instance", metavar="NAME.UID", help="The operator whose ledgers to list; default: this one.")
@_the_form
@program.at_operator
def orphans(server: Server, where: str | None, instance: str | None, form: str | None) -> int:
    """List RSEs, ledgers and objects that have no record. Nothing is changed."""
    return _run(server, where, ["orphans", *_said("instance", instance)], form)


@admin.command()
@click.option("--instance", required=True, metavar="NAME.UID", help="The operator that made them.")
@click.option("--class", "class_name", required=True, type=program.VRSE_NAME, help="A class that names as theirs did.")
@click.argument("rses", metavar="RSE...", nargs=-1, required=True)
@program.at_operator
def adopt(server: Server, where: str | None, instance: str, class_name: str, rses: tuple[str, ...]) -> int:
    """Take over RSEs whose cluster or record is lost, and bring them to their end."""
    command = ["adopt", *_said("instance", instance), *_said("class", class_name), "--", *rses]
    return _run(server, where, command, None)


@admin.command()
@click.option("--since", type=program.TIME, help="Begin of the span; default: 30 days before its end.")
@click.option("--until", type=program.TIME, help="Its end; default: now.")
@_the_form
@program.at_operator
def accounting(server: Server, where: str | None, since: str | None, until: str | None, form: str | None) -> int:
    """Tell what accounts have used, by the records, as a table (CSV). Nothing is changed."""
    return _run(server, where, ["accounting", *_said("since", since), *_said("until", until)], form)


@admin.command()
@click.option("--leave", is_flag=True, help="Leave buffers behind that are not closed; their volumes stay.")
@program.at_operator
def uninstall(server: Server, where: str | None, *, leave: bool) -> int:
    """Let go of every object, before the operator is removed; refused while a buffer is not closed.

    `helm uninstall` does it by itself. It runs in a pod of its own, since the operator's process ends by it.
    """
    operator = the_operator(server, where)
    out, err = _Lines(sys.stdout), _Lines(sys.stderr)
    code = run_beside(server, operator, ["uninstall", *(["--leave"] if leave else [])], (out.take, err.take))
    out.end()
    err.end()
    if code is Exit.DONE:
        action = f"`kubectl -n {operator.namespace} delete deployment {operator.deployment}`"
        what = f"Nothing is held any more. Remove the operator at once, or it begins again in 15 s: {action}."
        program.say(sys.stderr, what)
    return code


class _Lines:
    """Writes what another program says, line by line: none of it speaks to the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = b""

    def take(self, data: bytes) -> None:
        """Write the lines that are whole."""
        *lines, self._left = (self._left + data).split(b"\n")
        self._say(lines)

    def end(self) -> None:
        """Write what no end of a line follows."""
        if self._left:
            self._say([self._left])

    def _say(self, lines: Sequence[bytes]) -> None:
        try:
            program.say(self._stream, *(line.decode(errors="replace") for line in lines))
        except BrokenPipeError:
            # Who reads it has seen enough.
            raise
        except OSError as error:
            told = f"What the operator says cannot be written: {error.strerror}."
            raise CommandError(
                told, Actor.USER, "see to the place that it is written to; repeat the command."
            ) from error


def _said(flag: str, value: str | None) -> list[str]:
    """Give a flag in one word: no value is taken for another flag."""
    return [] if value is None else [f"--{flag}={value}"]


def _run(server: Server, where: str | None, command: Sequence[str], form: str | None) -> Exit:
    """Run a command of the operator in its pod, and write what it says."""
    operator = the_operator(server, where)
    out, err, kept = _Lines(sys.stdout), _Lines(sys.stderr), bytearray()
    if form is None:
        code = run_within(server, operator, command, (out.take, err.take))
    else:
        code = run_within(server, operator, [*command, "--form=json"], (kept.extend, err.take))
    out.end()
    err.end()
    if kept:
        program.write({command[0]: _objects(bytes(kept), str(operator))}, str(form))
    return code


def _objects(data: bytes, operator: str) -> object:
    try:
        return json.loads(data)
    except ValueError as error:
        told = f"What Deployment {operator} has written is no JSON: {visible(data[:80].decode(errors='replace'))!r}."
        action = "install the same version of this command and of the operator."
        raise CommandError(told, Actor.ADMIN, action) from error
