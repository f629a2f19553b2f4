"""What tokens open of the buffer, seen at its door; each is minted here, and none is read from anybody's Secret."""

from __future__ import annotations

from datetime import timedelta

from volatile_rse.api.agent import DAVS_PORT, PROBE, ROOT_PORT
from volatile_rse.api.conditions import Reason
from volatile_rse.api.schema import parse_duration
from volatile_rse.builders.objects import hosts_of, name_of
from volatile_rse.builders.session import listing_of, outbox, publishing, store_path, token_scope
from volatile_rse.builders.storage import operator_issuer, session_audience, session_issuer
from volatile_rse.domain.catalogue import Did
from volatile_rse.domain.clocks import PROBING
from volatile_rse.domain.facts import Piece, Record
from volatile_rse.domain.frozen import usable
from volatile_rse.domain.naming import layout_of
from volatile_rse.domain.rights import read_by
from volatile_rse.domain.stage import session_state
from volatile_rse.domain.times import later
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.gather.look import Look
from volatile_rse.reconcile.world import World

__all__ = ["session_token", "unusable", "writable"]

_SAMPLES = 4
"""Inputs of which one file each is read to prove that the session can."""
_GRACE = timedelta(hours=1)
"""A token outlives the session's longest life by this much: a connection keeps the one that it began with."""
_STORE = "/store/"
_READ_STORE = "storage.read:/store"
_WRITE_PROBE = f"storage.modify:{PROBE.rpartition('/')[0]}"


def session_token(world: World, record: Record) -> str:
    """Sign the token that a session is given: it lives as long as the session can be made to live."""
    claim, state, now = record.spec.claims[0], session_state(record.status.session), world.clock.now()
    end = later(state.ready_at or now, parse_duration(claim.request.session.ttl))
    until = later(max(end, state.extendable_until or end), _GRACE)
    return _token(world, record, session_issuer(record.spec), token_scope(claim, read_by(record.status)), until - now)


def unusable(look: Look) -> str:
    """Read as the session would, inside and outside, by https and by root: with its rights, of its issuer."""
    public = look.spec.public
    if public is None or Piece.KEYS not in look.bodies:
        return "it has no address yet"
    samples = [store_path(did, layout_of(look.spec.class_snapshot.naming)) for did in _samples(look)]
    # A list that came with an input that was added is awaited by nobody, as its files are not.
    report, listing = look.facts.report, listing_of(look.world.settings, look.spec, look.record.status.scopes)
    if report is not None and listing is not None and "listing" in report.knows:
        samples.append(listing.path)
    token = _session_probe(look)
    samples = samples or [f"{outbox(look.claim)}/"]
    doors = (_inside(look), DAVS_PORT, ROOT_PORT), (public.host, public.davs_port, public.root_port)
    for host, davs, root in doors:
        for path in samples:
            if why := look.world.endpoints.can_read(host, davs, path, token):
                return why
        if why := look.world.endpoints.can_read_by_root(host, root, samples, token):
            return why
    return ""


def _samples(look: Look) -> list[Did]:
    """Choose one staged file of each of the first inputs."""
    staged = look.facts.inputs and {
        Did(state.scope, state.name) for state in look.facts.inputs if state.state == "staged"
    }
    found = []
    for files in list((look.facts.frozen or {}).values())[:_SAMPLES]:
        there = [file.did for file in usable(files) if staged is None or file.did in staged]
        found += there[:1]
    return found


def writable(look: Look) -> bool:
    """Tell whether the session can still write; a refusal counts only where all that is not fenced is taken.

    Raises
    ------
    UnreachableError
        No answer that tells.
    RefusedError
        FENCE_UNPROVEN: it is refused for another reason, or for one that nobody knows.
    """
    _control(look)
    host, token = _inside(look), _session_probe(look)
    paths = [f"{folder}/" for folder in (outbox(look.claim), publishing(look.claim)) if folder]
    if any(look.world.endpoints.can_write(host, DAVS_PORT, path, token) for path in paths):
        return True
    # A directory that its session has closed to all refuses writes, too, and tells what it is called all the same.
    shown = [path for path in paths if not look.world.endpoints.is_refused(host, DAVS_PORT, path, token)]
    if shown:
        what = f"{look.spec.rse_name} refuses to write to {shown[0]}, and shows it still: that is no fence."
        raise RefusedError(Reason.FENCE_UNPROVEN, what)
    return False


def _control(look: Look) -> None:
    """See that the server knows both issuers and the time, and takes what it must: a read and a write."""
    host, spec, endpoints = _inside(look), look.spec, look.world.endpoints
    reading = _token(look.world, look.record, session_issuer(spec), _READ_STORE, PROBING)
    writing = _token(look.world, look.record, operator_issuer(spec), _WRITE_PROBE, PROBING)
    wrong = []
    if endpoints.is_refused(host, DAVS_PORT, _STORE, reading):
        wrong.append(f"to read {_STORE} with a token of the session's issuer")
    if not endpoints.can_write(host, DAVS_PORT, PROBE, writing):
        wrong.append(f"to write {PROBE} with the operator's own token")
    if wrong:
        what = f"{spec.rse_name} refuses {' and '.join(wrong)}, so that no other refusal of its proves a fence."
        raise RefusedError(Reason.FENCE_UNPROVEN, what)


def _session_probe(look: Look) -> str:
    """Sign a token of the session's issuer with the session's rights, good now."""
    return _token(
        look.world,
        look.record,
        session_issuer(look.spec),
        token_scope(look.claim, read_by(look.record.status)),
        PROBING,
    )


def _token(world: World, record: Record, issuer: str, scope: str, life: timedelta) -> str:
    claims = TokenClaims(
        issuer=issuer,
        subject=record.spec.claims[0].uid,
        audience=session_audience(record.spec),
        scope=scope,
        expires=later(world.clock.now(), life),
    )
    return world.authority.token(claims)


def _inside(look: Look) -> str:
    return hosts_of(look.world.settings, name_of(look.spec.record_id, Piece.SERVICE))[0]
