"""The part of ``docs/cli.md`` that is made from the commands: ``python -m volatile_rse.cli.reference docs/cli.md``."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click

from volatile_rse.cli.commands import vrse
from volatile_rse.cli.errors import Exit

__all__ = ["with_reference"]

_BEGIN = "<!-- Made by `make generate` from operator/volatile_rse/cli: do not edit from here on. -->\n"
_WIDTH = 100


def with_reference(page: str) -> str:
    """Give the page with its reference made anew."""
    head, _, _ = page.partition(_BEGIN)
    return f"{head}{_BEGIN}\n## Exit codes\n{_codes()}\n## Commands\n{_commands()}"


def _codes() -> str:
    (found,) = ast.parse(inspect.getsource(Exit)).body
    said = {}
    for member, text in pairwise(found.body if isinstance(found, ast.ClassDef) else []):
        match member, text:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(words))):
                said[name] = " ".join(words.split())
    rows = "".join(f"| {code.value} | {said[code.name]} |\n" for code in Exit)
    return f"| code | means |\n|---|---|\n{rows}"


def _commands() -> str:
    above = click.Context(vrse, info_name="vrse", **vrse.context_settings)
    return "\n".join(_of(vrse, above, ""))


def _of(group: click.Group, above: click.Context, before: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        context = click.Context(command, info_name=name, parent=above, terminal_width=_WIDTH)
        if isinstance(command, click.Group):
            yield from _of(command, context, f"{before}{name} ")
            continue
        text = command.get_help(context).rstrip()
        yield f"### {before}{name}\n```text\n{text}\n```\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_reference(path.read_text()))
    print(path)  # noqa: T201 - a command
