"""Secrets whose values are for sites: which value is for which, and what is none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr

from volatile_rse.api.addresses import folders_of, host_of
from volatile_rse.api.agent import SiteTokens
from volatile_rse.api.conditions import Reason
from volatile_rse.api.text import is_token
from volatile_rse.api.volatilerseclass import SITE_TOKENS, VolatileRSEClassSpec
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.connections import authorities_of
from volatile_rse.reconcile.reading import texts_of
from volatile_rse.reconcile.world import World

__all__ = ["site_access", "tokens_of"]

_HOST = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_BOTH, _READ, _WRITE, _PATHS = "", "read", "write", "paths"
_TOKENS = {_BOTH, _READ, _WRITE}
_USES = {*_TOKENS, _PATHS}
"""What follows a host in a key, after a low line: no host has one."""


def tokens_of(body: Mapping[str, Any]) -> tuple[dict[str, SiteTokens], tuple[str, ...]]:
    """Give what a Secret has for each host, and what is wrong with it.

    What is wrong is used for nothing, and nothing else is used in its place.
    """
    faults: list[str] = []
    hosts: dict[str, dict[str, list[str]]] = {}
    for key in sorted(body.get("data") or {}):
        host, _, use = key.lower().partition("_")
        host = host_of(host)
        if _HOST.fullmatch(host) and use in _USES:
            hosts.setdefault(host, {}).setdefault(use, []).append(key)
        else:
            faults.append(f"{key} is none of the keys HOST, HOST_read, HOST_write and HOST_paths")
    texts, found = texts_of(body), {}
    for host, keys in hosts.items():
        tokens, wrong = _site(keys, texts)
        faults += wrong
        if tokens is not None:
            found[host] = tokens
    return found, tuple(faults)


def site_access(world: World, class_name: str, class_: VolatileRSEClassSpec) -> tuple[SiteAccess, tuple[str, ...]]:
    """Read tokens and authorities of a class; give what is wrong with single values, too.

    Raises
    ------
    RefusedError
        CREDENTIAL_MISSING: the Secret or the ConfigMap is not there. CREDENTIAL_MISMATCH: the Secret is for something
        else.
    """
    credentials, namespace = class_.site_credentials, world.settings.namespace
    secret = world.cluster.get(Ref("Secret", namespace, credentials.secret_name))
    if secret is None:
        what = f"Secret {namespace}/{credentials.secret_name} does not exist."
        raise RefusedError(Reason.CREDENTIAL_MISSING, what)
    if (type_ := secret.get("type", "Opaque")) != SITE_TOKENS:
        what = (
            f"Secret {namespace}/{credentials.secret_name} has type {type_}, and VolatileRSEClass "
            f"{class_name} names it for sites: only from type {SITE_TOKENS} anything is sent to them."
        )
        raise RefusedError(Reason.CREDENTIAL_MISMATCH, what)
    tokens, faults = tokens_of(secret)
    name = credentials.ca_config_map
    trust = None if name is None else authorities_of(world, name)
    anonymous = frozenset(host_of(site.host) for site in class_.sites if site.anonymous)
    plain = frozenset(host_of(site.host) for site in class_.sites if site.plain_redirects)
    return SiteAccess(tokens, trust, anonymous=anonymous, plain=plain), faults


def _site(keys: Mapping[str, Sequence[str]], texts: Mapping[str, str]) -> tuple[SiteTokens | None, list[str]]:
    """Read what there is for one host; None: nobody knows any more what its tokens are for."""
    faults = [f"{' and '.join(same)} are the same key" for same in keys.values() if len(same) > 1]
    if faults:
        return None, faults
    paths = None
    if _PATHS in keys:
        [key] = keys[_PATHS]
        try:
            paths = list(folders_of(texts.get(key, "")))
        except ValueError:
            why = "no list of folders: paths from the root with blanks between, a port in front as in :1094/cms"
            return None, [f"the value of {key} is {why}"]
    tokens: dict[str, SecretStr | None] = {}
    for use in _TOKENS & keys.keys():
        [key] = keys[use]
        token = texts.get(key, "").strip()
        tokens[use] = SecretStr(token) if is_token(token) else None
        if tokens[use] is None:
            faults.append(f"the value of {key} is no token, which is one word of ASCII")
    both = tokens.get(_BOTH)
    made = SiteTokens(read=tokens.get(_READ, both), write=tokens.get(_WRITE, both), paths=paths)
    return made, sorted(faults)
