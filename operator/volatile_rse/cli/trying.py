"""A request that the operator judges, and makes nothing of."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volatile_rse.api.conditions import ConditionType
from volatile_rse.api.volatilerse import LONGEST_NAME
from volatile_rse.cli.pages import condition_of, sized
from volatile_rse.cli.server import Object, Server

__all__ = ["Trial", "tried"]

_SECONDS = 60.0
"""Until the operator must have answered."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What the operator says of a request."""

    refused: tuple[str, ...] = ()
    """Why it would not begin, each with who must act."""
    lines: tuple[str, ...] = ()
    """What would come of it."""
    unjudged: tuple[str, ...] = field(default=())
    """Why the operator has said nothing."""


def tried(server: Server, body: Object) -> Trial:
    """Have the operator judge a request: by a VolatileRSE with ``dryRun``, which is deleted again."""
    name = str(body["metadata"]["name"])
    trial = {
        **body,
        "metadata": {
            **{key: value for key, value in body["metadata"].items() if key in {"namespace", "labels"}},
            "name": f"{name[: LONGEST_NAME - 10].rstrip('-.')}-try-{secrets.token_hex(2)}",
        },
        "spec": {**body["spec"], "dryRun": True},
    }
    made = server.create(trial, dry_run=False)
    try:
        return _told(server, made)
    finally:
        server.delete(made)


def _told(server: Server, made: Object) -> Trial:
    last: Object = made
    for body in server.watch(str(made["metadata"]["name"]), time.monotonic() + _SECONDS):
        if body is None:
            return Trial(unjudged=("the dry run was deleted by somebody else",))
        last = body
        preview = (body.get("status") or {}).get("preview")
        if isinstance(preview, Mapping):
            return Trial(tuple(str(why) for why in preview.get("refused") or ()), tuple(_lines(preview)))
    said = str(condition_of(last, ConditionType.READY).get("message") or "no operator has looked at it")
    return Trial(unjudged=(f"the operator has not answered within {_SECONDS:.0f} s: {said.rstrip('.')}",))


def _lines(preview: Mapping[str, Any]) -> Iterator[str]:
    inputs: Sequence[Mapping[str, Any]] = preview.get("inputs") or ()
    if inputs:
        yield "Inputs"
    for entry in inputs:
        places = [f"{source.get('host')} ({source.get('files')})" for source in entry.get("sources") or ()]
        unusable = f"; {entry['unusable']} can be no inputs" if entry.get("unusable") else ""
        whence = f", from {', '.join(places)}" if places else ""
        yield f"  {entry.get('name')}: {_files(entry.get('files'))}, {sized(entry.get('bytes') or 0)}{unusable}{whence}"
    outputs: Sequence[Mapping[str, Any]] = preview.get("outputs") or ()
    if outputs:
        yield "Outputs"
    for entry in outputs:
        low = f"; little quota: {entry['quotaLow']}" if entry.get("quotaLow") else "; quota for all that it may write"
        yield f"  {entry.get('name')}: at {', '.join(map(str, entry.get('rses') or ()))}{low}"
    seconds, like = preview.get("readySeconds"), preview.get("like") or 0
    if isinstance(seconds, int):
        yield f"Usable after about {_span(seconds)}, by {like} buffer{'' if like == 1 else 's'} of its class before it"
    else:
        yield "Usable: nobody can tell when, no buffer of its class was usable before"


def _files(number: object) -> str:
    return f"{number} file{'' if number == 1 else 's'}"


def _span(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, left = divmod(minutes, 60)
    if hours:
        return f"{hours}h{left:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
