"""What commands have in common: their flags, how they reach the API server, and what they print."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TextIO, TypeVar

import click
import yaml
from click.shell_completion import CompletionItem

from volatile_rse.api.schema import parse_duration, parse_quantity
from volatile_rse.api.text import visible
from volatile_rse.cli.errors import CommandError
from volatile_rse.cli.kubeconfig import place_of
from volatile_rse.cli.server import Object, Server
from volatile_rse.domain.times import moment

__all__ = [
    "DURATION",
    "NAME",
    "QUANTITY",
    "TIME",
    "VRSE_NAME",
    "Text",
    "at_operator",
    "now",
    "on_cluster",
    "print_object",
    "say",
    "shown",
    "the_form",
    "the_name",
    "write",
]

P = ParamSpec("P")
R = TypeVar("R")

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Text(click.ParamType[str]):
    """Text in one form."""

    def __init__(self, name: str, is_right: Callable[[str], object], what: str) -> None:
        self.name = name
        self._is_right = is_right
        self._what = what

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is not in this form."""
        text = str(value)
        try:
            right = bool(self._is_right(text))
        except ValueError:
            right = False
        if not right:
            self.fail(f"{text[:80]!r} {self._what}", param, ctx)
        return text


VRSE_NAME = Text("name", NAME.fullmatch, "is no name in Kubernetes: lower case letters, digits, '-' and '.'")
_NAMESPACE_NAME = Text(
    "name", _NAMESPACE.fullmatch, "is no name of a namespace: at most 63 lower case letters, digits and '-'"
)
DURATION = Text("duration", parse_duration, "is not a duration such as 90s, 10m, 8h or 30d")
TIME = Text("time", moment, "is no time such as 2026-12-01 or 2026-12-01T08:00:00Z")
QUANTITY = Text("quantity", parse_quantity, "is not a number of bytes such as 20Gi or 500M")


def on_cluster(command: Callable[Concatenate[Server, P], R]) -> Callable[P, R]:
    """Give a command the API server, by the flags that kubectl has for it."""

    @click.option("-n", "--namespace", type=_NAMESPACE_NAME, help="Namespace; default: that of the context.")
    @click.option("--context", help="Context of the kubeconfig; default: the current one.")
    @click.option("--kubeconfig", help="File that says where the cluster is; default: as for kubectl.")
    @functools.wraps(command)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        kubeconfig, context, namespace = (kwargs.pop(key) for key in ("kubeconfig", "context", "namespace"))
        return command(Server(place_of(_text(kubeconfig), _text(context), _text(namespace))), *args, **kwargs)

    return called


def at_operator(command: Callable[Concatenate[Server, str | None, P], R]) -> Callable[P, R]:
    """Give a command the API server, and the namespace in which the operator runs, if it is named."""

    @click.option(
        "--operator-namespace",
        "where",
        type=_NAMESPACE_NAME,
        help="Where the operator runs; default: it is looked for.",
    )
    @click.option("--context", help="Context of the kubeconfig; default: the current one.")
    @click.option("--kubeconfig", help="File that says where the cluster is; default: as for kubectl.")
    @functools.wraps(command)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        kubeconfig, context, where = (_text(kwargs.pop(key)) for key in ("kubeconfig", "context", "where"))
        return command(Server(place_of(kubeconfig, context, None)), where, *args, **kwargs)

    return called


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _complete_name(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of the namespace; offer nothing where nobody answers."""
    where = (ctx.params.get(key) for key in ("kubeconfig", "context", "namespace"))
    try:
        names = [str(body["metadata"]["name"]) for body in Server(place_of(*where)).list()]
    except CommandError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


the_name = click.argument("name", type=VRSE_NAME, shell_complete=_complete_name)
the_form = click.option("-o", "--output", "form", type=click.Choice(["json", "yaml"]), help="The object itself.")


def print_object(body: Object, form: str, *, many: bool = False) -> None:
    """Print an object of Kubernetes."""
    write(shown(body), form, many=many)


def shown(body: Object) -> dict[str, Any]:
    """Give what people read of an object."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def write(body: Mapping[str, Any], form: str, *, many: bool = False) -> None:
    """Print something as JSON or YAML.

    Parameters
    ----------
    many
        One of several, one after the other.
    """
    if form == "json":
        # One after the other each has a line, for programs that read lines.
        text = json.dumps(body, indent=None if many else 2) + "\n"
    else:
        text = yaml.safe_dump(dict(body), sort_keys=False, explicit_start=many)
    sys.stdout.write(text)
    sys.stdout.flush()


def say(stream: TextIO, *lines: object) -> None:
    """Write lines of which each is one, whatever is in it."""
    stream.writelines(f"{visible(str(line))}\n" for line in lines)
    stream.flush()


def now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)
