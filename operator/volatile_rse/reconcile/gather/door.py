"""What the token of a session opens: the door of the buffer."""

from __future__ import annotations

from datetime import timedelta

from volatile_rse.api.agent import DAVS_PORT
from volatile_rse.api.schema import parse_duration
from volatile_rse.builders.objects import hosts_of, name_of
from volatile_rse.builders.session import listing_of, outbox, publishing, store_path, token_scope
from volatile_rse.builders.storage import SESSION_PRIVATE, session_audience, session_issuer
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.facts import Piece, Record
from volatile_rse.domain.naming import layout_of
from volatile_rse.domain.times import later
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.reading import secret_of
from volatile_rse.reconcile.world import World

__all__ = ["session_token", "token_of", "unusable", "writable"]

_SAMPLES = 4
"""Inputs of which one file each is read to prove that the session can."""
_GRACE = timedelta(hours=1)
"""A token outlives the session's longest life by this much: a connection keeps the one that it began with."""


def session_token(world: World, record: Record, key: str) -> str:
    """Sign a token of the session: always the same rights."""
    claim = record.spec.claims[0]
    life = parse_duration(claim.request.session.ttl) + _GRACE
    claims = TokenClaims(
        issuer=session_issuer(record.spec),
        subject=claim.uid,
        audience=session_audience(record.spec),
        scope=token_scope(claim, record.status.scopes),
        expires=later(world.clock.now(), life),
    )
    return world.authority.session_token(key, claims)


def token_of(look: Look) -> str | None:
    """Give the session's own token, or one with the same rights before it has any."""
    if look.session_token is not None:
        return look.session_token
    keys = look.bodies.get(Piece.KEYS)
    return None if keys is None else session_token(look.world, look.record, secret_of(keys)[SESSION_PRIVATE])


def unusable(look: Look) -> str | None:
    """Read as the session would, inside and outside."""
    public, token = look.spec.public, token_of(look)
    if public is None or token is None:
        return "it has no address yet"
    inside = hosts_of(look.world.settings, name_of(look.spec.record_id, Piece.SERVICE))[0]
    samples = [store_path(did, layout_of(look.spec.class_snapshot.naming)) for did in _samples(look)]
    report, listing = look.facts.report, listing_of(look.world.settings, look.spec, look.record.status.scopes)
    if report is not None and listing is not None and "listing" in report.knows:
        samples.append(listing.path)
    for host, port in ((inside, DAVS_PORT), (public.host, public.davs_port)):
        for path in samples or [f"{outbox(look.claim)}/"]:
            if why := look.world.endpoints.can_read(host, port, path, token):
                return why
    return ""


def _samples(look: Look) -> list[Did]:
    """Choose one staged file of each of the first inputs."""
    staged = look.facts.inputs and {
        Did(state.scope, state.name) for state in look.facts.inputs if state.state == "staged"
    }
    found = []
    for files in list((look.facts.frozen or {}).values())[:_SAMPLES]:
        there = [file.did for file in files if staged is None or file.did in staged]
        found += there[:1]
    return found


def writable(look: Look, token: str) -> bool:
    """Tell whether the session can still write."""
    host = hosts_of(look.world.settings, name_of(look.spec.record_id, Piece.SERVICE))[0]
    paths = [f"{folder}/" for folder in (outbox(look.claim), publishing(look.claim)) if folder]
    return any(look.world.endpoints.can_write(host, DAVS_PORT, path, token) for path in paths)
