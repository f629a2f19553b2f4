"""Commands that change a session that lives: ``extend`` and ``add``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from volatile_rse.api.conditions import Actor, ConditionType
from volatile_rse.api.schema import parse_duration
from volatile_rse.cli import asked, program
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.pages import condition_of
from volatile_rse.cli.server import Object, Server
from volatile_rse.cli.waiting import is_over
from volatile_rse.domain.times import is_time, later, stamp, when

__all__ = ["add", "extend", "is_ended"]

_SECONDS = "such as 2030-01-01T18:00:00Z"


def is_ended(body: Object) -> bool:
    """Tell whether a session is over, whatever still becomes of its outputs."""
    return condition_of(body, ConditionType.USABLE).get("reason") == "SessionEnded" or is_over(body)


@click.command()
@program.the_name
@click.option("--by", type=program.DURATION, help="So much later than its end is now, such as 4h.")
@click.option("--until", metavar="TIME", help=f"At this time, {_SECONDS}.")
@program.on_cluster
def extend(server: Server, name: str, by: str | None, until: str | None) -> int:
    """Give a session that lives a later end. This cannot be taken back."""
    if (by is None) == (until is None):
        message = "say either --by, how much later, or --until, when"
        raise click.UsageError(message)
    body = server.get(name)
    _must_live(server, body, "given a later end")
    expires = _moment((body.get("status") or {}).get("expires"))
    if until is not None:
        end = _asked_moment(until)
    elif expires is None:
        what = f"The end of VolatileRSE {server.namespace}/{name} is not known before it is usable."
        raise CommandError(what, Actor.USER, "wait for it (`vrse wait --for usable`), or say --until.")
    else:
        end = later(expires, parse_duration(str(by)))
    asked_before = _moment((body["spec"].get("session") or {}).get("extendUntil"))
    latest = max((moment for moment in (expires, asked_before) if moment is not None), default=None)
    if latest is not None and end <= latest:
        program.say(sys.stdout, f"{name} may live until {stamp(latest)} already.")
        return Exit.DONE
    server.change(body, {"session": {"extendUntil": stamp(end)}})
    program.say(
        sys.stdout,
        f"{name} shall live until {stamp(end)}, as far as the maxTtl of its class lets it: `vrse status {name}` tells.",
    )
    return Exit.DONE


def _asked_moment(text: str) -> datetime:
    found = _moment(text)
    if found is None:
        message = f"{text[:80]!r} is no time with its zone, {_SECONDS}"
        raise click.BadParameter(message, param_hint="--until")
    return found.replace(microsecond=0)


def _moment(value: object) -> datetime | None:
    return when(str(value)) if is_time(value) else None


@click.command()
@program.the_name
@click.option("--input", "inputs", multiple=True, metavar="NAME=DID", help="Data to stage; may be repeated.")
@click.option(
    "--output", "outputs", multiple=True, metavar="NAME=PATH,to=DID,at=RSES", help="Files to keep, as in `create`."
)
@program.on_cluster
def add(server: Server, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> int:
    """Add inputs and outputs to a session that lives; what it has already stays as it is."""
    if not inputs and not outputs:
        message = "say what to add: --input or --output"
        raise click.UsageError(message)
    new = {"inputs": [asked.input_of(text) for text in inputs], "outputs": [asked.output_of(text) for text in outputs]}
    body = server.get(name)
    _must_live(server, body, "given anything more")
    lists = {key: entries for key, entries in new.items() if entries}
    for key, entries in lists.items():
        _must_be_new(server, body, key, entries)
    # Upon this very version: what somebody else adds at the same moment must not be left out.
    whole = {key: [*(body["spec"].get(key) or ()), *entries] for key, entries in lists.items()}
    server.change(body, whole, version=str(body["metadata"]["resourceVersion"]))
    names = ", ".join(entry["name"] for entries in lists.values() for entry in entries)
    program.say(sys.stdout, f"{names} is asked of {name}. `vrse status {name}` tells whether it is taken.")
    return Exit.DONE


def _must_be_new(server: Server, body: Object, key: str, entries: Sequence[Mapping[str, Any]]) -> None:
    known = [str(entry.get("name")) for entry in body["spec"].get(key) or ()]
    for entry in entries:
        if entry["name"] in known:
            what = f"VolatileRSE {server.namespace}/{body['metadata']['name']} has {entry['name']} among its {key}."
            raise CommandError(what, Actor.USER, "choose another name: what is there is never changed.")
        known.append(entry["name"])


def _must_live(server: Server, body: Object, what: str) -> None:
    if is_ended(body) or body["spec"].get("endRequested") or "deletionTimestamp" in body["metadata"]:
        said = (
            f"The session of VolatileRSE {server.namespace}/{body['metadata']['name']} is over, and cannot be {what}."
        )
        raise CommandError(said, Actor.USER, "create another VolatileRSE.", Exit.NEVER)
