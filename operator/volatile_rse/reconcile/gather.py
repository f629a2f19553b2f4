"""The world -> facts: what the stage of a record needs to know, asked anew each time."""

from __future__ import annotations

import dataclasses
import logging
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlsplit

from volatile_rse.api.agent import DAVS_PORT, InputState, OutputState, Report
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import PublicAddress, RSERecordSpec
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.volatilerse import Input, Output, VolatileRSESpec
from volatile_rse.builders.manifest import SiteAccess, is_in_force, manifest, manifest_digest, with_sources
from volatile_rse.builders.objects import (
    KINDS,
    RECORD,
    agent_host,
    discarded_name,
    drain_name,
    hosts_of,
    name_of,
    record_name,
    session_name,
)
from volatile_rse.builders.rse import buffer_rse
from volatile_rse.builders.session import listing_of, outbox, publishing, store_path, token_scope
from volatile_rse.builders.storage import (
    SESSION_PRIVATE,
    read_discarded,
    read_inputs,
    session_audience,
    session_issuer,
)
from volatile_rse.domain.catalogue import DatasetState, Did, File, Term
from volatile_rse.domain.discard import dids_of, is_unacknowledged
from volatile_rse.domain.facts import Facts, Leftover, Lost, Piece, Record, Request, SessionFact, Storage
from volatile_rse.domain.frozen import digest_of, least_of
from volatile_rse.domain.identity import identify
from volatile_rse.domain.naming import layout_of
from volatile_rse.domain.outputs import (
    Copying,
    chosen_of,
    continuous_outputs,
    copying_of,
    lifetime_of,
    output_rules,
    sealed_files,
)
from volatile_rse.domain.plausible import doubt_inputs, doubt_memory, doubt_outputs, doubt_report
from volatile_rse.domain.problems import Problem, problem_of_dataset
from volatile_rse.domain.quarantine import DISCARDING, is_unlisted
from volatile_rse.domain.stage import EMPTIED, REVERTED, Stage, stage_of, when
from volatile_rse.domain.versions import own_of, same_of
from volatile_rse.ports.buffer import Buffer
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError
from volatile_rse.reconcile.connections import Connections, authorities_of
from volatile_rse.reconcile.holding import is_held
from volatile_rse.reconcile.reading import (
    expires_soon,
    is_outdated,
    owner_of,
    read_class,
    read_connection,
    read_outlived,
    read_pod,
    read_quarantined,
    read_record,
    read_request,
    read_service,
    read_session,
    read_usage,
    read_volume,
    secret_of,
    texts_of,
    tokens_of,
    uid_of,
)
from volatile_rse.reconcile.world import World

__all__ = ["buffer_of", "gather", "glimpse", "session_token"]

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
_UNREADABLE = (LookupError, ValueError, TypeError, EOFError, OSError, zlib.error)
"""How a list fails that is not as it was written."""
_LIVE = {Stage.HIDING, Stage.DRAINING, Stage.CLOSED}
"""Stages that destroy: what Rucio said before does not count there."""
_LEAVING = {Stage.HIDING, Stage.DRAINING}
_AT_RISK = {Stage.FENCING, Stage.KEEPING}
_SAMPLES = 4
"""Inputs of which one file each is read to prove that the session can."""
_SPOTS = 8
"""Copies that the operator itself looks for at their destination."""
_SOUGHT = 100
"""Files that it looks for there at a time, of those that Rucio has forgotten."""
_GRACE = timedelta(hours=1)
"""A token outlives the session's longest life by this much: a connection keeps the one that it began with."""


def gather(world: World, connections: Connections, record_id: str, known: tuple[str, str] | None) -> Facts:
    """Ask what is the matter with one buffer.

    Parameters
    ----------
    known
        Namespace and name of its VolatileRSE, while there is no record that tells.
    """
    facts = glimpse(world, record_id, known)
    if facts.unseen is not None:
        return facts
    try:
        return _looked(world, connections, facts)
    except RefusedError as error:
        # It does not pass by itself, so it has to be told where people look.
        return dataclasses.replace(facts, unseen=Problem(error.reason, error.what))


def glimpse(world: World, record_id: str, known: tuple[str, str] | None) -> Facts:
    """Ask for nothing but the request and its record."""
    body = world.cluster.get(Ref("RSERecord", None, record_name(record_id)))
    if body is not None:
        known = owner_of(body) or known
    request = None if known is None else _request(world, record_id, *known)
    facts = Facts(now=world.clock.now(), request=request)
    try:
        return facts if body is None else dataclasses.replace(facts, record=read_record(body))
    except RefusedError as error:
        return dataclasses.replace(facts, unseen=Problem(error.reason, error.what))


def _looked(world: World, connections: Connections, facts: Facts) -> Facts:
    request = facts.request
    if facts.record is not None:
        return _Gathering(world, connections, facts, facts.record).all()
    if request is None or request.spec is None or request.deleting:
        return facts
    return _offered(world, facts, request.spec, request.namespace)


def _request(world: World, record_id: str, namespace: str, name: str) -> Request | None:
    body = world.cluster.get(Ref("VolatileRSE", namespace, name))
    if body is None or identify(world.settings.instance, uid_of(body)).record_id != record_id:
        return None
    return read_request(body, world.cluster.get(Ref("Namespace", None, namespace)))


def _offered(world: World, facts: Facts, spec: VolatileRSESpec, namespace: str) -> Facts:
    """Ask for the class and its connection, and for what is used of them already."""
    class_body = world.cluster.get(Ref("VolatileRSEClass", None, spec.class_name))
    if class_body is None:
        return facts
    class_ = read_class(class_body)
    body = world.cluster.get(Ref("RucioConnection", None, class_.connection_name))
    connection = None if body is None else read_connection(body)
    records = world.cluster.list("RSERecord")
    used = [found for found in (class_body, body) if found is not None]
    return dataclasses.replace(
        facts,
        class_=class_,
        connection=connection,
        unheld=tuple(_named(found) for found in used if not is_held(found)),
        going=tuple(" ".join(_named(found)) for found in used if "deletionTimestamp" in found["metadata"]),
        usage=read_usage(records, spec.class_name, namespace),
        quarantined=read_quarantined(records, spec.class_name),
    )


def _named(body: Mapping[str, Any]) -> tuple[str, str]:
    return body["kind"], body["metadata"]["name"]


def _leftover(body: Mapping[str, Any]) -> Leftover:
    return Leftover(body["kind"], body["metadata"]["name"], uid_of(body))


def session_token(world: World, record: Record, key: str) -> str:
    """Sign a token of the session: always the same rights."""
    claim = record.spec.claims[0]
    life = parse_duration(claim.request.session.ttl) + _GRACE
    claims = TokenClaims(
        issuer=session_issuer(record.spec),
        subject=claim.uid,
        audience=session_audience(record.spec),
        scope=token_scope(claim),
        expires=world.clock.now() + life,
    )
    return world.authority.session_token(key, claims)


def buffer_of(world: World, record: Record, facts: Facts) -> Buffer:
    """Give the client of a buffer's agent.

    Raises
    ------
    UnreachableError
        BUFFER_UNREACHABLE: its pod has no address.
    """
    pod = facts.storage.pod
    if pod is None or not pod.address:
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, f"The storage pod of {record.name} has no address.")
    return world.buffer(pod.address, agent_host(record.spec.record_id))


class _Gathering:
    """One look at one record's world; what cannot be asked becomes a problem, and the rest goes on."""

    def __init__(self, world: World, connections: Connections, facts: Facts, record: Record) -> None:
        self._world = world
        self._connections = connections
        self._facts = facts
        self._record = record
        self._spec = record.spec
        self._claim = record.spec.claims[0]
        self._ledger = Did.parse(record.spec.ledger)
        self._problems: list[Problem] = []
        self._session_token: str | None = None
        self._no_tokens: tuple[str, ...] = ()
        """Hosts whose token cannot be one."""
        self._objects: dict[Piece, Mapping[str, Any]] = {}
        self._maps: dict[str, Mapping[str, Any]] = {}
        """The buffer's ConfigMaps, by name."""

    def all(self) -> Facts:
        """Ask what the stage needs."""
        stage = stage_of(self._record.status)
        if stage is not Stage.CLOSED:
            self._set(storage=self._storage())
        self._set(session=self._session())
        asked: dict[Stage, Callable[[], None]] = {
            Stage.PREPARING: self._preparing,
            Stage.SERVING: self._serving,
            Stage.FENCING: self._fencing,
            Stage.KEEPING: self._keeping,
            Stage.HIDING: self._hiding,
            Stage.DRAINING: self._draining,
        }
        if stage in asked:
            asked[stage]()
        self._set(problems=tuple(self._problems))
        if stage in _AT_RISK and DISCARDING in self._record.status.steps and is_unlisted(self._facts):
            self._unseen()
        self._doubt_tokens(stage)
        self._set(problems=tuple(dict.fromkeys(self._problems)))
        return self._facts

    def _doubt_tokens(self, stage: Stage) -> None:
        """Tell of values that are no tokens; a buffer that is not made yet needs only those of its own hosts."""
        is_missed = any(problem.reason is Reason.CREDENTIAL_MISSING for problem in self._problems)
        if self._no_tokens and (stage is not Stage.PREPARING or is_missed):
            where = f"{self._world.settings.namespace}/{self._spec.class_snapshot.site_credentials.secret_name}"
            what = f"Secret {where}: the value of {', '.join(self._no_tokens)} is no token, which is one word of ASCII."
            self._problems.append(Problem(Reason.CREDENTIAL_INVALID, what))

    def _set(self, **found: object) -> None:
        self._facts = dataclasses.replace(self._facts, **found)  # type: ignore[arg-type]

    def _ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return call(*args, **kwargs)
        except PortError as error:
            self._problems.append(Problem(error.reason, error.what))
            return None

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except PortError as error:
            self._problems.append(Problem(error.reason, error.what))

    def _catalogue(self) -> Catalogue:
        connection = self._spec.connection_snapshot
        if stage_of(self._record.status) in _LIVE:
            return self._connections.of(connection)
        return self._connections.remembering(connection, self._spec.record_id)

    def _safety(self) -> Catalogue:
        """Give the catalogue for whether outputs are safe: what a session has published may be told from memory."""
        if stage_of(self._record.status) is Stage.SERVING:
            return self._catalogue()
        return self._connections.of(self._spec.connection_snapshot)

    def _steady(self) -> Catalogue:
        """Give the catalogue for what does not change before it is destroyed."""
        stage = stage_of(self._record.status)
        if stage is Stage.HIDING:
            return self._connections.remembering(self._spec.connection_snapshot, self._spec.record_id)
        if stage in _LIVE:
            self._connections.forget(self._spec.record_id)
        return self._catalogue()

    def _buffer(self) -> Buffer:
        return buffer_of(self._world, self._record, self._facts)

    # Kubernetes.

    def _storage(self) -> Storage:
        cluster, settings = self._world.cluster, self._world.settings
        labels = {RECORD: self._spec.record_id}
        bodies = {
            (kind, body["metadata"]["name"]): body
            for kind in sorted(set(KINDS.values()))
            for body in cluster.list(kind, settings.buffers, labels)
        }
        found = {
            piece: body
            for piece, kind in KINDS.items()
            if (body := bodies.get((kind, name_of(self._spec.record_id, piece)))) is not None
        }
        self._objects = found
        self._maps = {name: body for (kind, name), body in bodies.items() if kind == KINDS[Piece.INPUTS]}
        service = read_service(found[Piece.SERVICE]) if Piece.SERVICE in found else None
        if service is not None and service.root_port is not None and service.davs_port is not None:
            host = self._spec.class_snapshot.exposure.public_host
            address = PublicAddress(host=host, root_port=service.root_port, davs_port=service.davs_port)
            self._set(public_address=address)
        claim = found.get(Piece.VOLUME)
        volumes = self._volumes(claim)
        now = self._facts.now
        return Storage(
            pieces={piece: uid_of(body) for piece, body in found.items()},
            going=frozenset(piece for piece, body in found.items() if "deletionTimestamp" in body["metadata"]),
            outdated=frozenset(piece for piece, body in found.items() if is_outdated(body, now)),
            leftovers=tuple(sorted(_leftover(body) for body in bodies.values() if body not in found.values())),
            pod=read_pod(found[Piece.POD]) if Piece.POD in found else None,
            volume=None if claim is None else read_volume(claim, next(iter(volumes), None)),
            outlived=read_outlived(claim, volumes),
            lost=self._has_volume() and not volumes and (claim is None or bool(claim["spec"].get("volumeName"))),
            service=service,
            drain_ready=self._drain_ready() if stage_of(self._record.status) in _LEAVING else False,
        )

    def _volumes(self, claim: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
        """Read the claim's volume; without a claim, what an earlier one has left."""
        cluster = self._world.cluster
        if claim is not None:
            bound = claim["spec"].get("volumeName")
            volume = cluster.get(Ref("PersistentVolume", None, bound)) if bound else None
            return () if volume is None else (volume,)
        if not self._has_volume():
            # What an RSE that was adopted had in another life is not its to give up.
            return ()
        return cluster.list("PersistentVolume", None, {RECORD: self._spec.record_id})

    def _has_volume(self) -> bool:
        return self._spec.class_snapshot.storage.volume is not None and self._spec.adopted_from is None

    def _drain_ready(self) -> bool:
        name = drain_name(self._spec.class_snapshot.exposure.public_host)
        certificate = self._world.cluster.get(Ref("Secret", self._world.settings.buffers, name))
        if certificate is None or expires_soon(certificate, self._facts.now):
            return False
        body = self._world.cluster.get(Ref("Deployment", self._world.settings.buffers, name))
        return body is not None and ((body.get("status") or {}).get("readyReplicas") or 0) > 0

    def _session(self) -> SessionFact:
        cluster, claim = self._world.cluster, self._claim
        if self._facts.request is None:
            return SessionFact()
        name = session_name(claim.name)
        pods = self._pods(deleting=self._facts.request.deleting)
        secret = self._ask(cluster.get, Ref("Secret", claim.namespace, name))
        config = self._ask(cluster.get, Ref("ConfigMap", claim.namespace, name))
        ready_at = self._record.status.session.ready_at
        fact = read_session(pods, (secret, config), claim.uid, ready_at, self._facts.now)
        if fact.objects and secret is not None:
            # Its owner may have written anything into it.
            self._session_token = texts_of(secret).get("token")
        return fact

    def _pods(self, *, deleting: bool) -> Sequence[Mapping[str, Any]]:
        wanted = "Pod", self._claim.namespace, self._claim.request.session.pod_selector.match_labels
        if deleting or self._record.status.session.ended_at is not None:
            # The session is over, whatever runs: nothing waits for a list that cannot be read.
            return self._ask(self._world.cluster.list, *wanted) or ()
        # Outside any tolerance: a list that cannot be read is not an empty one.
        return self._world.cluster.list(*wanted)

    def _token(self) -> str | None:
        """Give the session's own token, or one with the same rights before it has any."""
        if self._session_token is not None:
            return self._session_token
        keys = self._objects.get(Piece.KEYS)
        return None if keys is None else session_token(self._world, self._record, secret_of(keys)[SESSION_PRIVATE])

    def _access(self) -> SiteAccess:
        credentials, namespace = self._spec.class_snapshot.site_credentials, self._world.settings.namespace
        secret = self._world.cluster.get(Ref("Secret", namespace, credentials.secret_name))
        if secret is None:
            what = f"Secret {namespace}/{credentials.secret_name} does not exist."
            raise RefusedError(Reason.CREDENTIAL_MISSING, what)
        tokens, self._no_tokens = tokens_of(secret)
        name = credentials.ca_config_map
        return SiteAccess(tokens, None if name is None else authorities_of(self._world, name))

    # Stages.

    def _preparing(self) -> None:
        catalogue, access = self._ask(self._catalogue), self._ask(self._access)
        if catalogue is None or access is None:
            return
        resolved = {
            entry.name: self._ask(catalogue.resolve, Did.parse(entry.did)) for entry in self._claim.request.inputs
        }
        hosts: set[str] = set()
        for entry in self._claim.request.inputs:
            files = resolved[entry.name]
            if files:
                hosts |= self._source_hosts(catalogue, entry, files)
        chosen = {output.name: self._ask(self._choose, catalogue, output) for output in self._claim.request.outputs}
        for rse in {rse for rses in chosen.values() for rse in rses or ()}:
            if host := self._ask(catalogue.host, rse):
                hosts.add(host)
        if missing := sorted(hosts - set(access.tokens)):
            where = f"{self._world.settings.namespace}/{self._spec.class_snapshot.site_credentials.secret_name}"
            what = f"Secret {where} has no token for {', '.join(missing)}."
            self._problems.append(Problem(Reason.CREDENTIAL_MISSING, what))
        if not self._problems:
            self._set(resolved=resolved, chosen=chosen)

    def _source_hosts(self, catalogue: Catalogue, entry: Input, files: tuple[File, ...]) -> set[str]:
        expression, near = entry.source_rse_expression, self._spec.class_snapshot.near_rse
        # Asked as it will be for the manifest: the answer is remembered until then.
        sources = self._ask(catalogue.sources, files, expression, near)
        if sources is None:
            return set()
        missing = [file.did for file in files if not sources.get(file.did)]
        if len(files) - len(missing) < least_of(entry, len(files)):
            what = (
                f"spec.inputs[{entry.name}]: {len(missing)} of {len(files)} files have no replica on a permanent RSE "
                f"of {expression!r}, for example {missing[0]}, and minimumPercent is {entry.minimum_percent}."
            )
            self._problems.append(Problem(Reason.NO_REPLICA, what))
        return {urlsplit(pfn).hostname or "" for pfns in sources.values() for pfn in pfns}

    def _choose(self, catalogue: Catalogue, output: Output) -> tuple[str, ...]:
        destination, account = output.destination, self._claim.account
        known = _dataset(catalogue, output)
        if refused := problem_of_dataset(output, account, self._spec.record_id, known):
            raise RefusedError(refused.reason, refused.what)
        matching = catalogue.destinations(destination.rse_expression)
        if len(matching) < destination.copies:
            what = (
                f"spec.outputs[{output.name}].destination: {destination.rse_expression!r} matches "
                f"{len(matching)} permanent RSEs, and {destination.copies} copies are asked for."
            )
            raise RefusedError(Reason.NO_DESTINATION, what)
        if known is not None and len(matching) > destination.copies:
            # Elsewhere a rule would have Rucio copy what other sessions have put into the dataset.
            held = catalogue.held_at(Did(output.scope, output.dataset), account)
            matching = tuple(sorted(matching, key=lambda rse: (rse not in held, rse)))
        left = {rse: catalogue.quota_left(account, rse) for rse in matching}
        open_ = [rse for rse in matching if left[rse] is None or (left[rse] or 0) > 0]
        if len(open_) < destination.copies:
            what = f"Account {account!r} has no quota left on {', '.join(matching)} for spec.outputs[{output.name}]."
            raise RefusedError(Reason.QUOTA_EXCEEDED, what)
        return tuple(open_[: destination.copies])

    def _serving(self) -> None:
        self._frozen()
        if not self._facts.frozen and any(entry.files for entry in self._record.status.inputs or ()):
            self._frozen_again()
        self._rse()
        self._registered()
        self._report()
        self._manifest(staging=True)
        report, registered = self._facts.report, self._facts.registered
        lost = bool(self._record.status.losses)
        if lost:
            self._replicas()
        if report is None:
            return
        staged = sum(total.staged for total in report.inputs)
        published = sum(total.sealed for total in report.outputs)
        if published or lost:
            self._outgoing()
        room = registered is not None and len(registered) < self._spec.class_snapshot.max_registered_replicas
        partial = staged < sum(entry.files for entry in self._record.status.inputs or ())
        # A file of two inputs is counted for both, and registered once.
        behind = staged - self._shared() + published > len(registered or ())
        if (room and behind) or partial or lost:
            self._set(inputs=self._ask(self._inputs))
        pod = self._facts.storage.pod
        if pod is not None and pod.ready:
            self._set(unusable=self._ask(self._unusable))

    def _fencing(self) -> None:
        if self._record.status.session.ready_at is None:
            return
        self._report()
        if self._record.status.losses:
            # People are not sent to what is gone, whenever its agent comes again or the fence is proven.
            self._rse()
            self._replicas()
            if self._facts.report is not None:
                self._set(inputs=self._ask(self._inputs), outputs=self._ask(self._outputs))
        report, token = self._facts.report, self._token()
        if report is None or token is None or report.actual.mode != "fenced":
            return
        host = hosts_of(self._world.settings, name_of(self._spec.record_id, Piece.SERVICE))[0]
        paths = [f"{folder}/" for folder in (outbox(self._claim), publishing(self._claim)) if folder]

        def writable() -> bool:
            return any(self._world.endpoints.can_write(host, DAVS_PORT, path, token) for path in paths)

        self._set(writable=self._ask(writable))

    def _keeping(self) -> None:
        self._report()
        self._manifest(staging=False)
        self._rse()
        self._registered()
        if self._facts.report is None:
            return
        self._outgoing()
        if self._facts.unsafe is not None and self._ask(self._spot_check) is None:
            self._set(unsafe=None)
        if self._record.status.losses:
            self._replicas()
            self._set(inputs=self._ask(self._inputs))

    def _outgoing(self) -> None:
        """Ask how far the sealed files are on their way."""
        outputs = self._ask(self._outputs)
        copies = self._ask(lambda: tuple(_pages(self._buffer().copies)))
        self._set(outputs=outputs, copies=copies)
        if outputs is None or copies is None:
            return
        groups = sealed_files(outputs)
        copying = copying_of(groups, copies, chosen_of(self._record.status))
        if not copying.moving:
            # While copies run nothing is asked about the others: it would be asked again for each of them.
            self._unsafe(copying.arrived)
        self._datasets(groups, {did for _, did in copying.wanted})
        if copying.wanted:
            self._set(pfns=self._ask(self._pfns, copying.wanted) or {})
        if not copying.moving:
            self._set(unlocked=self._ask(self._unlocked, self._held(groups, copying)))

    def _datasets(self, groups: Mapping[str, Sequence[File]], wanted: Iterable[Did] = ()) -> None:
        """Look into the datasets for which something is to be copied or attached."""
        missing = {did for dids in (self._facts.unsafe or {}).values() for did in dids}.union(wanted)
        for output in self._claim.request.outputs:
            files = [file for file in groups.get(output.name, ()) if file.did in missing]
            if files:
                with self._tolerant():
                    self._look_into(output, files)
        same = same_of(groups, self._facts.versions)
        if any(same.values()) and self._facts.unsafe is not None:
            # What the dataset has already counts in its place, where it is.
            before, instead = self._facts.unsafe, {file.did for pairs in same.values() for file, _ in pairs}
            self._unsafe({output: [theirs for _, theirs in pairs] for output, pairs in same.items()})
            if (theirs := self._facts.unsafe) is not None:
                kept = {name: [did for did in dids if did not in instead] for name, dids in before.items()}
                self._set(unsafe={name: (*dids, *theirs.get(name, ())) for name, dids in kept.items()})

    def _look_into(self, output: Output, files: Sequence[File]) -> None:
        did, datasets, facts = Did(output.scope, output.dataset), self._connections.datasets, self._facts
        known, catalogue = _dataset(self._catalogue(), output), self._connections.of(self._spec.connection_snapshot)
        versions, turns = dict(facts.versions), dict(facts.turns)
        refused = problem_of_dataset(output, self._claim.account, self._spec.record_id, known)
        if known is not None and refused is None:
            dataset = self._spec.connection_snapshot.server, did
            turns[did] = datasets.turn(dataset, self._spec.record_id)
            versions |= datasets.versions(catalogue, dataset, files, self._spec.record_id)
        self._set(datasets={**facts.datasets, output.name: known}, versions=versions, turns=turns)

    def _held(self, groups: Mapping[str, Sequence[File]], copying: Copying) -> dict[str, list[File]]:
        """Give what the rule of each output has to hold."""
        versions = self._facts.versions
        arrived, same = own_of(copying.arrived, versions), same_of(groups, versions)
        return {name: [*files, *(theirs for _, theirs in same.get(name, ()))] for name, files in arrived.items()}

    def _spot_check(self) -> bool:
        """Ask the destinations themselves for some of what is said to be safe: all else is the agent's word.

        A site that cannot be asked from here, or says nothing, keeps nothing back; one that contradicts does.
        """
        facts, chosen = self._facts, chosen_of(self._record.status)
        if any((facts.unsafe or {}).values()) or facts.unlocked:
            return True
        arrived = copying_of(sealed_files(facts.outputs or ()), facts.copies or (), chosen).arrived
        all_ = [(rse, file) for output, files in arrived.items() for file in files for rse in chosen.get(output, ())]
        some = random.sample(all_, min(len(all_), _SPOTS))  # a lie cannot tell which ones
        for rse, file, url, size in self._sizes(some, self._pfns((rse, file.did) for rse, file in some)):
            if size != file.bytes:
                has = "no such file" if size is None else f"{size} bytes"
                self._believe(f"it says that {file.did} with {file.bytes} bytes is at {rse}, and {url} has {has}")
        return True

    def _sizes(
        self, copies: Iterable[tuple[str, File]], pfns: Mapping[tuple[str, Did], str]
    ) -> Iterator[tuple[str, File, str, int | None]]:
        try:
            access = self._access()
            for rse, file in copies:
                url = pfns.get((rse, file.did), "")
                token = access.tokens.get(urlsplit(url).hostname or "", "")
                yield rse, file, url, self._world.endpoints.size(url, token, access.trust)
        except PortError as error:
            _log.info("%s: the destination is not asked: %s", self._spec.record_id, error.what)

    def _hiding(self) -> None:
        if self._record.status.discarded is not None:
            name = discarded_name(self._spec.record_id)
            written_off = self._written_off(self._config_map(name))
            self._set(given_up=dids_of(written_off), written_off=written_off)
        self._rse()
        if self._facts.rse is None and self._facts.rse_asked:
            # We have not removed it: what Rucio says of outputs that were safe once is not what it said then.
            self._set(replicas={}, last_copies=(), foreign_rules=())
            self._still_safe()
        if self._facts.rse is None or self._awaits_drain():
            # The empty server comes first: nothing is asked that would have to be asked again once it stands.
            return
        standing = self._ask(lambda: self._catalogue().standing(self._spec.rse_name, self._ledger))
        if standing is None:
            return
        self._set(replicas=standing.states, last_copies=standing.last)
        self._foreign_rules()
        gone = EMPTIED in self._record.status.steps
        spans = any(not rule.only_here for rule in self._facts.foreign_rules or ())
        if (standing.last or spans or is_unacknowledged(self._record)) and not gone:
            # What stays a while may be lost meanwhile.
            self._report()
        shown = any(state != "B" for state in standing.states.values())
        begun = REVERTED in self._record.status.steps
        if not shown or begun or (standing.last and self._record.status.outcome is not None):
            self._still_safe()
        if shown and self._facts.unsafe is None:
            # Last copies are looked for before anything is hidden; whether outputs are safe, before anything is freed.
            self._set(unsafe={})

    def _written_off(self, body: Mapping[str, Any] | None) -> tuple[Lost, ...]:
        """Read what was given up; a list that somebody has taken away or changed gives up nothing."""
        try:
            return () if body is None else read_discarded(body, self._config_map)
        except _UNREADABLE:
            _log.warning("%s: its list of what was given up cannot be read, and does not count", self._record.name)
            return ()

    def _config_map(self, name: str) -> Mapping[str, Any] | None:
        return self._world.cluster.get(Ref("ConfigMap", self._world.settings.buffers, name))

    def _still_safe(self) -> None:
        """Ask once more whether outputs are safe, as the agent knows them."""
        status, outcome = self._record.status, self._record.status.outcome
        if EMPTIED in status.steps or (outcome is not None and outcome.files == 0):
            self._set(unsafe={})
            return
        if self._facts.report is None:
            self._report()
        if self._facts.report is None or self._facts.report.volume != status.volume:
            return
        outputs = self._ask(self._outputs)
        if outputs is None:
            return
        self._unsafe(sealed_files(outputs))
        missing = {did for dids in (self._facts.unsafe or {}).values() for did in dids} - self._facts.given_up
        if missing or REVERTED in status.steps:
            self._seek(outputs)

    def _seek(self, outputs: tuple[OutputState, ...]) -> None:
        """Ask the destinations for some of what Rucio does not know as safe any more, and for the rules."""
        copies = self._ask(lambda: tuple(_pages(self._buffer().copies)))
        self._set(outputs=outputs, copies=copies)
        if copies is None or self._facts.unsafe is None:
            return
        chosen, groups = chosen_of(self._record.status), sealed_files(outputs)
        copying = copying_of(groups, copies, chosen)
        self._datasets(groups)
        if self._facts.unsafe is None:
            return
        unlocked = self._ask(self._unlocked, self._held(groups, copying))
        self._set(unlocked=unlocked, registered=frozenset(self._facts.replicas or ()))
        lost = {did for dids in self._facts.unsafe.values() for did in dids} - self._facts.given_up
        files = [(file, output) for output, found in copying.arrived.items() for file in found if file.did in lost][
            :_SOUGHT
        ]
        wanted = [(rse, file) for file, output in files for rse in chosen[output]]
        pfns = self._ask(self._pfns, [(rse, file.did) for rse, file in wanted]) or {}
        seen = {(rse, file.did) for rse, file, _, size in self._sizes(wanted, pfns) if size == file.bytes}
        missing = {file.did for rse, file in wanted if (rse, file.did) not in seen}
        self._set(found_again=frozenset({file.did for file, _ in files} - missing))

    def _awaits_drain(self) -> bool:
        """Tell whether the empty server has to stand before anything else, for what Rucio sends people to."""
        status, service = self._record.status, self._facts.storage.service
        if service is None or service.drained or self._facts.storage.drain_ready:
            return False
        staged = any(entry.files for entry in status.inputs or ())
        kept = status.outcome is not None and status.outcome.files > 0
        return staged or kept or bool(status.discarded or status.losses or self._spec.adopted_from)

    def _unseen(self) -> None:
        """Ask Rucio what would be lost with a buffer whose agent gives no list."""
        self._rse()
        if self._facts.rse is not None:
            standing = self._ask(lambda: self._catalogue().standing(self._spec.rse_name, self._ledger))
            self._set(last_copies=None if standing is None else standing.last)
        elif self._facts.rse_asked:
            self._set(last_copies=())

    def _draining(self) -> None:
        self._rse()
        if self._facts.rse is None:
            return
        self._replicas()
        if all(state == "B" for state in (self._facts.replicas or {}).values()):
            # Rucio makes no rule on a hidden replica, and one that was ended shows it again.
            self._set(foreign_rules=())
            return
        self._foreign_rules()

    # Parts of stages.

    def _frozen(self) -> None:
        body = self._objects.get(Piece.INPUTS)
        self._set(frozen={} if body is None else self._unaltered(body))

    def _unaltered(self, body: Mapping[str, Any]) -> Mapping[str, tuple[File, ...]]:
        """Read the list; one that somebody has changed is none, since it is not the one that the record stands by."""
        try:
            listed = read_inputs(body, self._maps.get)
        except _UNREADABLE:
            listed = {}
        digests = {entry.name: entry.digest for entry in self._record.status.inputs or ()}

        def compare() -> bool:
            found = {name: digest_of(listed.get(name, ())) for name in {*digests, *listed}}
            return found == digests

        version = f"{uid_of(body)}/{body['metadata']['resourceVersion']}"
        if self._connections.compared(self._spec.record_id, version, compare):
            return listed
        _log.warning("%s: its list of inputs was changed by somebody, and does not count", self._record.name)
        return {}

    def _shared(self) -> int:
        """Tell how many files the inputs have more than there are."""
        lists = list((self._facts.frozen or {}).values())
        return sum(map(len, lists)) - len(set().union(*lists)) if len(lists) > 1 else 0

    def _frozen_again(self) -> None:
        """Make up for a list that is gone: Rucio says the same now, or nothing new is staged."""
        inputs = {entry.name: Did.parse(entry.did) for entry in self._claim.request.inputs}
        found = {name: self._ask(self._resolve, did) for name, did in inputs.items()}
        self._set(frozen=None)
        files = {name: listed for name, listed in found.items() if listed is not None}
        if len(files) < len(found):
            return
        digests = {entry.name: entry.digest for entry in self._record.status.inputs or ()}
        changed = [name for name, listed in files.items() if digest_of(listed) != digests.get(name)]
        if changed:
            name = name_of(self._spec.record_id, Piece.INPUTS)
            where = f"ConfigMap {self._world.settings.buffers}/{name}"
            what = f"{where} is gone or was changed, and other files are listed now for "
            self._problems.append(Problem(Reason.INPUTS_CHANGED, f"{what}{', '.join(changed)}: nothing new is staged."))
            return
        self._set(frozen=files, resolved=files)

    def _resolve(self, did: Did) -> tuple[File, ...]:
        return self._catalogue().resolve(did)

    def _rse(self) -> None:
        try:
            catalogue = self._steady()
            rse = catalogue.rse(buffer_rse(self._spec)) if _may_have_rse(self._spec) else None
            # Where there is an RSE there is its ledger: it comes first, and goes last.
            ledger = True if rse is not None and rse.complete else catalogue.ledger_exists(self._ledger)
        except PortError as error:
            self._problems.append(Problem(error.reason, error.what))
            return
        self._set(ledger=ledger, rse=rse, rse_asked=True)

    def _registered(self) -> None:
        if self._facts.rse is not None:
            self._set(registered=self._ask(lambda: self._catalogue().registered(self._ledger)))
        elif self._facts.rse_asked:
            self._set(registered=frozenset())

    def _replicas(self) -> None:
        if self._facts.rse is not None:
            self._set(replicas=self._ask(lambda: self._catalogue().replicas(self._spec.rse_name, self._ledger)))
        elif self._facts.rse_asked:
            self._set(replicas={})

    def _foreign_rules(self) -> None:
        rules = self._ask(lambda: self._catalogue().foreign_rules(self._spec.rse_name, self._ledger))
        self._set(foreign_rules=rules)

    def _report(self) -> None:
        pod = self._facts.storage.pod
        if pod is None or pod.over or not pod.address:
            return
        try:
            report = self._buffer().report()
            self._believe(doubt_report(self._record, report))
            self._set(report=report)
        except PortError as error:
            # A pod that is starting has no agent yet: that is no problem but a state.
            if pod.ready:
                self._problems.append(Problem(error.reason, error.what))

    def _inputs(self) -> tuple[InputState, ...]:
        states = tuple(_pages(self._buffer().inputs))
        self._believe(doubt_inputs(self._facts.frozen or {}, states))
        return states

    def _outputs(self) -> tuple[OutputState, ...]:
        states = tuple(_pages(self._buffer().outputs))
        self._believe(doubt_outputs(self._record, states))
        if self._facts.report is not None:
            self._believe(doubt_memory(self._record, self._facts.report.volume, states))
        return states

    def _believe(self, doubt: str) -> None:
        """Go no further by the word of an agent that tells what cannot be."""
        if doubt:
            message = f"The agent of {self._record.name} cannot be believed: {doubt}."
            raise RefusedError(Reason.BUFFER_IMPLAUSIBLE, message)

    def _manifest(self, *, staging: bool) -> None:
        report, access = self._facts.report, self._ask(self._access)
        if report is None or access is None or (staging and self._facts.frozen is None):
            return
        rules = output_rules(self._spec) if staging and "outputs" in report.knows else ()
        digest = manifest_digest(self._record.status.inputs or (), access, rules, staging=staging)
        if is_in_force(digest, report.manifest):
            found = self._found_since(report) if staging else {}
            digest = with_sources(digest, found)
            if not found or report.manifest == digest:
                return
        inputs = (self._facts.frozen or {}) if staging else {}
        sources = self._ask(self._sources, inputs)
        if sources is not None:
            if "sourceless" in report.knows:
                # It says of these, too, that they are missing, and why.
                sources = {file.did: sources.get(file.did, ()) for files in inputs.values() for file in files}
            made = manifest(self._spec, digest, inputs, sources, access)
            later: dict[str, object] = {"outputs": list(rules)}
            if staging and "listing" in report.knows:
                later["listing"] = listing_of(self._world.settings, self._spec)
            if rules and "continuous" in report.knows and (continuous := continuous_outputs(self._spec)):
                later |= {"continuous": continuous, "record_id": self._spec.record_id}
            self._set(manifest=made.model_copy(update=later))

    def _found_since(self, report: Report) -> Mapping[Did, tuple[str, ...]]:
        """Ask anew where the files are that the agent could not get, ever less often."""
        if not any(total.failed for total in report.inputs):
            return {}
        if not self._connections.is_time_again(self._spec.record_id):
            return {}
        failed = {Did(state.scope, state.name) for state in self._ask(self._inputs) or () if state.state == "failed"}
        frozen = self._facts.frozen or {}
        sought = {name: tuple(file for file in files if file.did in failed) for name, files in frozen.items()}
        return self._ask(self._sources, sought) or {}

    def _sources(self, inputs: Mapping[str, tuple[File, ...]]) -> dict[Did, tuple[str, ...]]:
        found: dict[Did, tuple[str, ...]] = {}
        for entry in self._claim.request.inputs:
            if files := inputs.get(entry.name):
                near = self._spec.class_snapshot.near_rse
                found.update(self._catalogue().sources(files, entry.source_rse_expression, near))
        return found

    def _unusable(self) -> str | None:
        """Read as the session would, inside and outside."""
        public, token = self._spec.public, self._token()
        if public is None or token is None:
            return "it has no address yet"
        inside = hosts_of(self._world.settings, name_of(self._spec.record_id, Piece.SERVICE))[0]
        samples = [store_path(did, layout_of(self._spec.class_snapshot.naming)) for did in self._samples()]
        report, listing = self._facts.report, listing_of(self._world.settings, self._spec)
        if report is not None and listing is not None and "listing" in report.knows:
            samples.append(listing.path)
        for host, port in ((inside, DAVS_PORT), (public.host, public.davs_port)):
            for path in samples or [f"{outbox(self._claim)}/"]:
                if why := self._world.endpoints.can_read(host, port, path, token):
                    return why
        return ""

    def _samples(self) -> list[Did]:
        """Choose one staged file of each of the first inputs."""
        staged = self._facts.inputs and {
            Did(state.scope, state.name) for state in self._facts.inputs if state.state == "staged"
        }
        found = []
        for files in list((self._facts.frozen or {}).values())[:_SAMPLES]:
            there = [file.did for file in files if staged is None or file.did in staged]
            found += there[:1]
        return found

    def _pfns(self, wanted: Iterable[tuple[str, Did]]) -> dict[tuple[str, Did], str]:
        by_rse: dict[str, list[Did]] = {}
        for rse, did in sorted(wanted):
            by_rse.setdefault(rse, []).append(did)
        return {
            (rse, did): pfn for rse, dids in by_rse.items() for did, pfn in self._catalogue().pfns(rse, dids).items()
        }

    def _unsafe(self, by_output: Mapping[str, Sequence[File]]) -> None:
        def ask() -> dict[str, tuple[Did, ...]]:
            chosen = chosen_of(self._record.status)
            return {name: self._safety().unsafe(by_output.get(name, ()), rses) for name, rses in chosen.items()}

        self._set(unsafe=self._ask(ask))

    def _unlocked(self, by_output: Mapping[str, Sequence[File]]) -> frozenset[str]:
        chosen, missing = chosen_of(self._record.status), set()
        for output in self._claim.request.outputs:
            dataset, account = Did(output.scope, output.dataset), self._claim.account
            if not by_output.get(output.name):
                continue
            # A rule of one destination has nothing to hold while none of its files is there.
            absent = set((self._facts.unsafe or {}).get(output.name, ()))
            there = [file.did for file in by_output[output.name] if file.did not in absent]
            term, rses = Term(lifetime_of(output), self._held_since()), chosen[output.name]
            if there and self._safety().locked_by(dataset, account, rses, term, there):
                continue
            missing.add(output.name)
            if not absent and (rule := self._safety().rule_state(dataset, account, rses)) is not None:
                self._set(rules={**self._facts.rules, output.name: rule})
        return frozenset(missing)

    def _held_since(self) -> datetime:
        """Give the moment from which outputs are to be held: of a session that runs its beginning, till then."""
        session = self._record.status.session
        return when(session.ended_at) or when(session.ready_at) or self._facts.now


def _may_have_rse(spec: RSERecordSpec) -> bool:
    """Tell whether an RSE may exist: none is made without an address, but one that is adopted may be in the middle."""
    return spec.public is not None or spec.adopted_from is not None


def _dataset(catalogue: Catalogue, output: Output) -> DatasetState | None:
    """Look at an output's dataset; whose it is is asked only where that matters."""
    did = Did(output.scope, output.dataset)
    known = catalogue.dataset(did)
    if known is None or output.if_exists != "Fail":
        return known
    return dataclasses.replace(known, maker=catalogue.maker(did))


def _pages(read: Callable[[int], Any]) -> Iterable[Any]:
    after = 0
    while True:
        page = read(after)
        yield from page.items
        if page.next is None:
            return
        after = page.next
