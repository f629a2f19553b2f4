"""What a session has left and that is not safe yet can be fetched by who owns it: a Secret says where, and opens it.

No buffer waits for it, and nothing is decided by it: it stands beside what brings buffers to their end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from volatile_rse.api.agent import OutputState
from volatile_rse.builders.objects import NOT_AFTER, RECORD, name_of
from volatile_rse.builders.session import kept_scope, kept_secret
from volatile_rse.builders.storage import session_audience, session_issuer
from volatile_rse.domain.facts import Facts, Piece, Record, Storage
from volatile_rse.domain.naming import kept_name
from volatile_rse.domain.stage import Stage, stage_of, stamp
from volatile_rse.domain.times import is_time, later, when
from volatile_rse.ports import deadline
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.cluster import Object, Ref
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.gather.reports import buffer_of
from volatile_rse.reconcile.reading import read_pod, read_record, spec_of, uid_of
from volatile_rse.reconcile.world import World

__all__ = ["give_kept"]

_LIFE, _RENEW = timedelta(hours=24), timedelta(hours=12)
"""Of a token, and before its end."""
_SECONDS = 60.0
"""For the list of one buffer's files."""
_PAGES = 1000


def give_kept(world: World, body: Object) -> bool:
    """Make the Secret of one record if it is asked for and not there; tell whether it was made.

    Raises
    ------
    PortError
        The cluster or the agent does not answer, or refuses.
    """
    try:
        record = read_record(body, world.clock.now())
    except RefusedError:
        # Its visit tells why.
        return False
    # Before the inventory nothing has its name on the buffer yet, and afterwards it is somewhere else.
    if stage_of(record.status) is not Stage.KEEPING or not _is_asked(world, record):
        return False
    claim = record.spec.claims[0]
    ref = Ref("Secret", claim.namespace, kept_name(claim.name))
    # What a session's namespace holds is remembered for long: whoever has deleted this waits for it.
    cluster = world.live().cluster
    found = cluster.get(ref)
    if found is not None and (not _is_ours(record, found) or _lasts(world, found)):
        # One of somebody else is left alone, and so is one that is good for a while.
        return False
    with deadline.within(_SECONDS):
        files = _outputs(world, record)
    end = later(world.clock.now(), _LIFE)
    outputs = {file.output for file in files}
    claims = TokenClaims(
        issuer=session_issuer(record.spec),
        subject=claim.uid,
        audience=session_audience(record.spec),
        scope=kept_scope(output.scope for output in claim.request.outputs if output.name in outputs),
        expires=end,
    )
    listed = (
        {"path": file.path, "at": file.store_path, "bytes": file.bytes, "adler32": file.adler32} for file in files
    )
    secret = kept_secret(
        record.spec, world.authority.token(claims), world.authority.bundle(), listed, not_after=stamp(end)
    )
    if found is not None:
        # Last: the one that there is opens them as long as the agent gives no list for another.
        cluster.delete(ref, uid_of(found))
    return cluster.create(secret) is not None


def _is_asked(world: World, record: Record) -> bool:
    claim = record.spec.claims[0]
    request = world.cluster.get(Ref("VolatileRSE", claim.namespace, claim.name))
    if request is None or uid_of(request) != claim.uid or "deletionTimestamp" in request["metadata"]:
        return False
    teardown = spec_of(request).get("teardown")
    return isinstance(teardown, dict) and teardown.get("fetch") is True


def _is_ours(record: Record, secret: Object) -> bool:
    return (secret["metadata"].get("labels") or {}).get(RECORD) == record.spec.record_id


def _lasts(world: World, secret: Object) -> bool:
    end = (secret["metadata"].get("annotations") or {}).get(NOT_AFTER)
    return is_time(end) and (when(end) or world.clock.now()) > later(world.clock.now(), _RENEW)


def _outputs(world: World, record: Record) -> list[OutputState]:
    """List what can be read, first what no copy is known of: a list has no room for any number of files."""
    pod = world.cluster.get(Ref("Pod", world.settings.buffers, name_of(record.spec.record_id, Piece.POD)))
    storage = Storage(pod=None if pod is None else read_pod(pod))
    agent: Buffer = buffer_of(world, record, Facts(now=world.clock.now(), storage=storage))
    files = [file for file in _pages(agent.outputs) if file.state == "sealed" and file.store_path is not None]
    copied = {(copy.scope, copy.name) for copy in _pages(agent.copies) if copy.state == "verified"}
    return sorted(files, key=lambda file: (file.scope, file.name) in copied)


def _pages(read: Callable[[int], Any]) -> Iterator[Any]:
    after = 0
    for _ in range(_PAGES):
        page = read(after)
        yield from page.items
        if page.next is None or page.next <= after:
            return
        after = page.next
