"""The request of ``create``: from flags, or from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click
import yaml

from volatile_rse.api.crds import GROUP, VERSION
from volatile_rse.api.text import visible

__all__ = ["body_of_file", "input_of", "output_of", "request"]

API_VERSION = f"{GROUP}/{VERSION}"
_KIND = "VolatileRSE"
_PARTS = ("to", "at", "copies", "lifetime", "register", "if-exists")
_NEXT = re.compile(rf",(?=(?:{'|'.join(_PARTS)})=)")
_HOW = "NAME=PATH,to=SCOPE:DATASET,at=RSE_EXPRESSION[,copies=N][,lifetime=90d][,register=Continuous][,if-exists=Fail]"


def input_of(text: str) -> dict[str, Any]:
    """Read ``NAME=SCOPE:NAME``.

    Raises
    ------
    click.BadParameter
        It is not in that form.
    """
    name, equals, did = text.partition("=")
    if not (name and equals and ":" in did):
        message = f"{text!r} is not NAME=SCOPE:NAME, such as dimuon=user.alice:nano_dimuon"
        raise click.BadParameter(message, param_hint="--input")
    return {"name": name, "did": did}


def output_of(text: str) -> dict[str, Any]:
    """Read ``NAME=PATH,to=SCOPE:DATASET,at=RSE_EXPRESSION`` and what may follow.

    A comma separates where one of these words and ``=`` follow it: paths and RSE expressions may have others.

    Raises
    ------
    click.BadParameter
        It is not in that form.
    """
    first, *rest = _NEXT.split(text)
    name, equals, path = first.partition("=")
    parts = dict(part.partition("=")[::2] for part in rest)
    scope, colon, dataset = parts.get("to", "").partition(":")
    copies = parts.get("copies", "1")
    whole = all((name, equals, path, scope, colon, dataset, parts.get("at")))
    if not whole or len(parts) < len(rest) or not re.fullmatch("[0-9]{1,3}", copies):
        message = f"{text!r} is not {_HOW}"
        raise click.BadParameter(message, param_hint="--output")
    destination: dict[str, Any] = {"rseExpression": parts["at"]}
    destination |= {"copies": int(copies)} if "copies" in parts else {}
    destination |= {"lifetime": parts["lifetime"]} if "lifetime" in parts else {}
    said = {"register": parts.get("register"), "ifExists": parts.get("if-exists")}
    entry = {"name": name, "path": path, "scope": scope, "dataset": dataset, "destination": destination}
    return entry | {key: value for key, value in said.items() if value is not None}


def request(
    name: str, spec: Mapping[str, Any], session: Mapping[str, str | None], inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, Any]:
    """Make a VolatileRSE of flags; those that were not given are left to the defaults of the kind."""
    whole = {key: value for key, value in spec.items() if value is not None}
    times = {key: value for key, value in session.items() if value is not None}
    if times:
        whole["session"] = times
    if inputs:
        whole["inputs"] = [input_of(text) for text in inputs]
    if outputs:
        whole["outputs"] = [output_of(text) for text in outputs]
    return {"apiVersion": API_VERSION, "kind": _KIND, "metadata": {"name": name}, "spec": whole}


def body_of_file(text: str, name: str | None, namespace: str | None) -> dict[str, Any]:
    """Read the one VolatileRSE of a file in YAML or JSON.

    Parameters
    ----------
    name, namespace
        As the command line names them; the file must not say otherwise.

    Raises
    ------
    click.UsageError
        The file has none, several, or another one.
    """
    try:
        bodies = [body for body in yaml.safe_load_all(text) if body is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = f"-f: the file is no YAML: {' '.join(str(error).split())}"
        raise click.UsageError(message) from error
    if len(bodies) != 1 or not isinstance(bodies[0], dict) or bodies[0].get("kind") != _KIND:
        kinds = ", ".join(visible(str(body.get("kind"))) if isinstance(body, dict) else "no object" for body in bodies)
        message = f"-f: the file must have one VolatileRSE and nothing else; it has {kinds or 'nothing'}"
        raise click.UsageError(message)
    body: dict[str, Any] = bodies[0]
    if body.get("apiVersion") != API_VERSION:
        message = f"-f: apiVersion is {body.get('apiVersion')!r}, and this command knows {API_VERSION}"
        raise click.UsageError(message)
    metadata = body.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        message = "-f: metadata is no object"
        raise click.UsageError(message)
    _name(metadata, name=name, namespace=namespace)
    if not isinstance(metadata.get("name"), str):
        message = "-f: the file has no metadata.name: name the VolatileRSE on the command line"
        raise click.UsageError(message)
    return body


def _name(metadata: dict[str, Any], **said: str | None) -> None:
    """Write name and namespace of the command line into a file's metadata, which must not say otherwise."""
    for key, wanted in said.items():
        there = metadata.get(key)
        if there is None:
            # As kubectl does: a field that is left empty says nothing.
            metadata.pop(key, None)
        elif not isinstance(there, str):
            message = f"-f: metadata.{key} is {ascii(there)[:80]}, and must be a text"
            raise click.UsageError(message)
        if wanted is not None and there not in (None, wanted):
            message = f"-f: metadata.{key} is {there!r}, and the command line says {wanted!r}"
            raise click.UsageError(message)
        if wanted is not None:
            metadata[key] = wanted
