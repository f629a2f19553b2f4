"""What a user asks for: from the form or by REST, judged before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volatile_rse.jupyterhub.refusals import RefusedError
from volatile_rse.jupyterhub.settings import Settings

__all__ = ["OPTION", "Choice", "Wanted", "account_of", "choice_of", "dataset_of", "is_did", "scope_of"]

OPTION = "volatile_rse"
"""Key of ``user_options``; without it a server has no session."""

_KEYS = frozenset({"inputs", "capacity", "destination", "dataset"})
_DID = re.compile(r"[a-zA-Z_\-.0-9]{1,25}:[A-Za-z0-9/][A-Za-z0-9.\-_/#]{0,499}", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_DATASET = re.compile(r"[A-Za-z0-9/][A-Za-z0-9.\-_/#]{0,199}", re.ASCII)
_ACCOUNT = re.compile(r"[a-z0-9-_]{1,25}", re.ASCII)
_SCOPE = re.compile(r"[a-zA-Z_\-.0-9]{1,25}", re.ASCII)
_MOST = 32
"""Inputs of a VolatileRSE."""
_LONGEST = 40
"""Characters of an input's name that is made of its DID."""
_SHOWN = 80


@dataclass(frozen=True)
class Wanted:
    """One input."""

    name: str
    """By which programs ask for its files."""
    did: str


@dataclass(frozen=True)
class Choice:
    """What one session is to have."""

    inputs: tuple[Wanted, ...]
    capacity: str
    destination: str
    """RSE expression; empty: nothing is kept."""
    dataset: str
    """Empty where nothing is kept."""


def choice_of(options: object, username: str, settings: Settings) -> Choice | None:
    """Read ``user_options``; None: the user wants no session.

    Raises
    ------
    RefusedError
        Something in it cannot be had; names it, and what can.
    """
    if not isinstance(options, Mapping) or options.get(OPTION) is None:
        return None
    asked = options[OPTION]
    if not isinstance(asked, Mapping):
        message = f"{OPTION} is no object with {', '.join(sorted(_KEYS))}."
        raise RefusedError(message)
    if unknown := sorted(str(key) for key in asked if key not in _KEYS):
        message = f"{OPTION} has no field {_shown(unknown[0])}: it has {', '.join(sorted(_KEYS))}."
        raise RefusedError(message)
    destination = _destination(asked, settings)
    return Choice(
        inputs=_inputs(asked.get("inputs", ())),
        capacity=_one_of("capacity", asked.get("capacity"), settings.capacities),
        destination=destination,
        dataset=_dataset(asked, username, settings) if destination else "",
    )


def is_did(text: str) -> bool:
    """Tell whether a text is the DID of something."""
    return _DID.fullmatch(text) is not None


def account_of(username: str, settings: Settings) -> str:
    """Give a user's Rucio account.

    Raises
    ------
    RefusedError
        There can be none of that name.
    """
    account = settings.account.replace("{username}", username)
    if not _ACCOUNT.fullmatch(account):
        message = (
            f"User {_shown(username)} has no Rucio account: {_shown(account)} can be none. Start without data, or have "
            "the hub's admin set vrse_account, which may be a function of the spawner."
        )
        raise RefusedError(message)
    return account


def dataset_of(username: str, settings: Settings) -> str:
    """Give the dataset that the form proposes; empty where none can be."""
    try:
        account = account_of(username, settings)
    except RefusedError:
        return ""
    return settings.dataset.replace("{account}", account).replace("{username}", username)


def scope_of(account: str, settings: Settings) -> str:
    """Give the scope of a user's outputs.

    Raises
    ------
    RefusedError
        There can be none of that name.
    """
    scope = settings.scope.replace("{account}", account)
    if not _SCOPE.fullmatch(scope):
        message = f"{_shown(scope)} can be no scope of Rucio: have the hub's admin correct vrse_scope."
        raise RefusedError(message)
    return scope


def _inputs(asked: object) -> tuple[Wanted, ...]:
    if isinstance(asked, str) or not isinstance(asked, Sequence):
        message = "inputs is no list of DIDs."
        raise RefusedError(message)
    if len(asked) > _MOST:
        message = f"A session has at most {_MOST} inputs, and these are {len(asked)}: put some into one container."
        raise RefusedError(message)
    found: list[Wanted] = []
    for entry in asked:
        given, equals, did = entry.rpartition("=") if isinstance(entry, str) else ("", "", entry)
        if not isinstance(did, str) or not is_did(did):
            message = f"{_shown(did)} is no DID: write SCOPE:NAME, as `rucio did list` shows it, one a line."
            raise RefusedError(message)
        if equals and not _NAME.fullmatch(given):
            message = f"{_shown(given)} names no input: lower case letters, digits and '-', at most 63."
            raise RefusedError(message)
        name = given or _name_for(did, {wanted.name for wanted in found})
        if name in {wanted.name for wanted in found}:
            message = f"Two inputs have the name {name}: give one another, as in other={did}."
            raise RefusedError(message)
        found.append(Wanted(name, did))
    return tuple(found)


def _name_for(did: str, taken: Iterable[str]) -> str:
    """Make a name of what is left of a DID's name, which nobody has yet."""
    words = re.sub(r"[^a-z0-9]+", "-", did.partition(":")[2].lower()).strip("-")
    base = words[:_LONGEST].strip("-") or "input"
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, _MOST + 2))
    return next(name for name in names if name not in taken)


def _destination(asked: Mapping[str, Any], settings: Settings) -> str:
    if not settings.destinations or asked.get("destination") == "":
        if asked.get("destination"):
            message = "This hub keeps no outputs: its admin has set no vrse_destinations."
            raise RefusedError(message)
        return ""
    return _one_of("destination", asked.get("destination"), settings.destinations)


def _dataset(asked: Mapping[str, Any], username: str, settings: Settings) -> str:
    name = asked.get("dataset") or dataset_of(username, settings)
    if not name:
        # None is proposed to who can have none.
        account_of(username, settings)
    if not isinstance(name, str) or not _DATASET.fullmatch(name):
        message = f"{_shown(name)} is no name of a dataset: letters, digits and . - _ / #, at most 200."
        raise RefusedError(message)
    return name


def _one_of(what: str, asked: object, offered: Sequence[str]) -> str:
    if asked is None:
        return offered[0]
    if asked not in offered:
        message = f"{what} {_shown(asked)} is not offered here: choose one of {', '.join(offered)}."
        raise RefusedError(message)
    return str(asked)


def _shown(value: object) -> str:
    """Give a value so that it can be shown whatever it is."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
