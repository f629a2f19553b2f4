"""The command ``doctor``."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.text import Text

from volatile_rse.api.text import visible
from volatile_rse.cli import program
from volatile_rse.cli import reach as reaching
from volatile_rse.cli.diagnosing import Check, examined
from volatile_rse.cli.errors import Exit
from volatile_rse.cli.server import Server

__all__ = ["doctor"]

_WIDTH = 9
_COLOURS = {"ok": "green", "wrong": "bold red", "unknown": "yellow"}


@click.command()
@click.option("--operator-namespace", default="volatile-rse", show_default=True, help="Where the operator runs.")
@click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]), help="A list of what was looked at.")
@program.on_cluster
def doctor(server: Server, operator_namespace: str, form: str | None) -> int:
    """Say what is wrong with an installation, who must act, and how: cluster, operator, Rucio, classes, namespace."""
    checks = []
    for check in examined(server, operator_namespace, program.now(), reaching.reach):
        checks.append(check)
        if form is None:
            _tell(check)
    if form is not None:
        program.write({"checks": [check.dump() for check in checks]}, form)
    return Exit.REFUSED if any(check.state == "wrong" for check in checks) else Exit.DONE


def _tell(check: Check) -> None:
    if not sys.stdout.isatty():
        program.say(sys.stdout, f"{check.state:{_WIDTH}}{check.what}: {check.said}")
        return
    line = Text(f"{check.state:{_WIDTH}}", _COLOURS[check.state])
    line.append(visible(check.what), "bold default")
    line.append(f": {visible(check.said)}", "default")
    Console(emoji=False).print(line)
