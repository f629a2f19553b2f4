"""What a class offers, tried by the operator: now and then, from where it stands, and with the class's own credentials.

No session waits for what is found here, and no file of anybody is read or written: a site is asked for one that need
not exist, and to make a folder that is there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from volatile_rse.api.addresses import place_of
from volatile_rse.api.agent import DAVS_PORT, SiteTokens
from volatile_rse.api.conditions import ClassCondition, Reason
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec
from volatile_rse.api.text import EVENT, WORDS, visible
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.builders.storage import drain_service
from volatile_rse.domain.class_status import Finding, status_of_class
from volatile_rse.domain.naming import drain_name, faults_of_naming
from volatile_rse.domain.problems import Problem
from volatile_rse.domain.stage import stamp
from volatile_rse.domain.tenants import faults_of_tenancy
from volatile_rse.domain.tokens import end_of_token
from volatile_rse.ports import deadline
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Object, Ref
from volatile_rse.ports.errors import PortError, RefusedError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.drain import drain_state, make_drain
from volatile_rse.reconcile.faults import failed, problem_of
from volatile_rse.reconcile.injection import NONE, WELL, problems_of_injection
from volatile_rse.reconcile.reading import read_class, read_connection, status_of
from volatile_rse.reconcile.sites import site_access
from volatile_rse.reconcile.world import World

__all__ = ["ClassProbes", "Seen"]

_log = logging.getLogger(__name__)

_EVERY = timedelta(minutes=10)
"""Between two trials of a class that works, and at most of one that does not."""
_SOON = timedelta(seconds=15)
"""After the first trial that failed; each other one doubles it."""
_TRIAL = 120.0
"""Seconds for all of a class."""
_OF_SITES = 60.0
"""Of these for the sites: where a firewall has all of them silent, there is time for the rest."""
_HOSTS = 64
"""Sites of one class that are asked."""
_PROBE = "volatile-rse-probe"
"""A file that need not exist."""
_ANYBODY = "anybody"
"""In place of a token, for a server that asks for none."""


Answers = dict[tuple[str, str, str, bool], Problem | None]
"""URL, token, authorities, and whether to write -> what was wrong with it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a class that is tried."""

    world: World
    connections: Connections
    name: str
    class_: VolatileRSEClassSpec
    answers: Answers = field(default_factory=dict)
    """Of this round, for all classes that share a site and a token."""

    def catalogue(self) -> Catalogue:
        """Give the client of the class's connection.

        Raises
        ------
        RefusedError
            UNKNOWN_CONNECTION, or as ``Connections.of``.
        """
        return self.connections.of(*self.connection())

    def connection(self) -> tuple[RucioConnectionSpec, str]:
        """Give the class's connection, and its name.

        Raises
        ------
        RefusedError
            UNKNOWN_CONNECTION: there is none. CONFIGURATION_INVALID: it cannot be read.
        """
        name = self.class_.connection_name
        body = self.world.cluster.get(Ref("RucioConnection", None, name))
        if body is None:
            raise RefusedError(Reason.UNKNOWN_CONNECTION, f"RucioConnection {name!r} does not exist.")
        spec = read_connection(body)
        return spec.model_copy(update={"budget": spec.budget or Budget()}), name


def _configuration(seen: Seen) -> Finding:
    faults = [Problem(Reason.CONFIGURATION_INVALID, f"{fault}.") for fault in faults_of_tenancy(seen.class_.tenancy)]
    faults += [Problem(Reason.NAMING_INVALID, fault) for fault in faults_of_naming(seen.class_.naming)]
    return Finding(ClassCondition.CONFIGURATION_VALID, tuple(faults), "Every field can be used.")


def _catalogue(seen: Seen) -> Finding:
    connection, _ = seen.connection()
    catalogue = seen.catalogue()
    catalogue.ping()
    lacking = catalogue.lacks(connection.ledger_scope)
    where = f"Rucio at {connection.server}"
    wrong = [Problem(Reason.RIGHTS_MISSING, f"{where}: {'; '.join(lacking)}.")] if lacking else []
    well = f"{where} takes the login of account {connection.account}, which has its rights."
    return Finding(ClassCondition.CATALOGUE_USABLE, tuple(wrong), well)


def _sites(seen: Seen) -> Finding:
    """Try each site that the class has a token for, where an RSE of Rucio has its folder."""
    access, faults = site_access(seen.world, seen.name, seen.class_)
    secret = f"Secret {seen.world.settings.namespace}/{seen.class_.site_credentials.secret_name}"
    wrong = [Problem(Reason.CREDENTIAL_INVALID, f"{secret}: {'; '.join(faults)}.")] if faults else []
    if not access.tokens:
        wrong.append(Problem(Reason.CREDENTIAL_MISSING, f"{secret} has no token for any site."))
    now = seen.world.clock.now()
    ended = {host: end for host, tokens in access.tokens.items() if (end := _ended(tokens, now)) is not None}
    wrong += [
        Problem(Reason.SITE_REFUSED, f"{secret} has for {host} a token that ended at {stamp(end)}.")
        for host, end in ended.items()
    ]
    hosts = [host for host in sorted(access.tokens) if host not in access.anonymous][:_HOSTS]
    folders = seen.catalogue().folders(hosts)
    asked, unasked, for_reading = list[str](), dict[str, PortError](), list[str]()
    with deadline.within(_OF_SITES):
        for host in hosts:
            folder = folders.get(host)
            # What has ended is told by its end.
            if folder is None or host in ended:
                continue
            try:
                tried = _tried(seen, access, host, folder)
            except PortError as error:
                # There is no time left, for this one and those that come after it.
                unasked[host] = error
                continue
            asked.append(host)
            wrong += tried.wrong
            for_reading += [host] if tried.is_for_reading else []
    if unasked and not asked and not wrong:
        raise next(iter(unasked.values()))
    if wrong and unasked:
        what = f"There was no time to try {', '.join(unasked)}: the others took it."
        wrong.append(Problem(wrong[-1].reason, what))
    well = f"Tokens are taken by {', '.join(asked)}." if asked else "There is no site to try a token at."
    if for_reading:
        well += f" To read alone by {', '.join(for_reading)}: no output can go there."
    nowhere = [host for host in hosts if folders.get(host, "") is None]
    if nowhere:
        well += f" No RSE of Rucio is at {', '.join(nowhere)}: the tokens for these were not tried."
    if unasked:
        well += f" There was no time to try {', '.join(unasked)}."
    return Finding(ClassCondition.SITES_USABLE, tuple(wrong), well)


def _ended(tokens: SiteTokens, now: datetime) -> datetime | None:
    """Tell when the first of a site's tokens has ended, by its own word; None: none has."""
    given = {secret.get_secret_value() for secret in (tokens.read, tokens.write) if secret is not None}
    return min((end for token in given if (end := end_of_token(token)) is not None and end <= now), default=None)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What a site answers to the tokens that a class has for it."""

    wrong: tuple[Problem, ...]
    is_for_reading: bool = False
    """Whether the one token for both is taken to read, and not to write: as is right for a source of inputs alone."""


def _tried(seen: Seen, access: SiteAccess, host: str, folder: str) -> _Tried:
    tokens = access.tokens[host]
    place = _place(folder, tokens)
    read, write = (token and token.get_secret_value() for token in (tokens.read, tokens.write))
    if read and (problem := _answer(seen, access, f"{place}{_PROBE}", read)) is not None:
        return _Tried((problem,))
    problem = _answer(seen, access, place, write, to_write=True) if write else None
    if problem is None:
        return _Tried(())
    is_both = read == write and problem.reason is Reason.SITE_REFUSED
    return _Tried((), is_for_reading=True) if is_both else _Tried((problem,))


def _place(folder: str, tokens: SiteTokens) -> str:
    """Name a folder that the token is for: the RSE's, or the first of those that the token is for."""
    place = place_of(folder)
    own = [
        path for path in tokens.paths or () if place is not None and path.partition("/")[0] in {"", f":{place.port}"}
    ]
    if place is None or not own:
        return folder
    # A folder of the token that is below the RSE's, or above it: the longer one of the two is both's.
    path = f"/{own[0].partition('/')[2].strip('/')}/"
    longer = path if path.startswith(place.path) or not place.path.startswith(path) else place.path
    return f"davs://{place.host}:{place.port}{longer}"


def _answer(seen: Seen, access: SiteAccess, url: str, token: str, *, to_write: bool = False) -> Problem | None:
    key = url, token, access.trust or "", to_write
    if key not in seen.answers:
        seen.answers[key] = _asked(seen, url, token, access.trust, to_write=to_write)
    return seen.answers[key]


def _asked(seen: Seen, url: str, token: str, trust: str | None, *, to_write: bool) -> Problem | None:
    endpoints = seen.world.endpoints
    try:
        is_taken = (endpoints.is_taken_to_write if to_write else endpoints.is_taken)(url, token, trust)
    except PortError as error:
        if deadline.is_over(error):
            raise
        return Problem(error.reason, f"{visible(error.what, WORDS)}.")
    if is_taken:
        return None
    what = " to write" if to_write else ""
    return Problem(Reason.SITE_REFUSED, f"{url} refuses the token{what} that the class has for it.")


def _exposure(seen: Seen) -> Finding:
    """Go to the empty server by the public host, as Rucio's daemons will."""
    host, cluster, buffers = seen.class_.exposure.public_host, seen.world.cluster, seen.world.settings.buffers
    state = drain_state(seen.world, host)
    service = cluster.get(Ref("Service", buffers, drain_name(host)))
    if service is None:
        service = cluster.create(drain_service(seen.world.settings, host))
    if not state.ready:
        make_drain(seen.world, seen.class_)
        if state.refused:
            what = f"The empty server of {host} has no pod: {visible(state.refused, WORDS)}."
            return Finding(ClassCondition.EXPOSURE_USABLE, (Problem(Reason.CLUSTER_REFUSED, what),))
    port = _node_port(service)
    if not state.ready or port is None:
        return Finding(ClassCondition.EXPOSURE_USABLE, awaited=f"The empty server of {host} is being started.")
    url = f"https://{host}:{port}"
    try:
        seen.world.endpoints.is_refused(host, port, "/store/", _ANYBODY)
    except PortError as error:
        if deadline.is_over(error):
            raise
        what = f"{url}, a NodePort of the operator's, cannot be used from inside the cluster: {error.what}."
        return Finding(ClassCondition.EXPOSURE_USABLE, (Problem(Reason.PUBLIC_HOST_UNREACHABLE, visible(what, EVENT)),))
    well = f"{url} leads to the buffers' ports, seen from inside the cluster."
    return Finding(ClassCondition.EXPOSURE_USABLE, well=well)


def _node_port(service: Object | None) -> int | None:
    ports = ((service or {}).get("spec") or {}).get("ports") or ()
    return next((entry.get("nodePort") for entry in ports if entry.get("port") == DAVS_PORT), None)


def _injection(seen: Seen) -> Finding:
    if not seen.world.settings.injected:
        return Finding(ClassCondition.INJECTION_WORKS, well=NONE)
    problems = problems_of_injection(seen.world.cluster, seen.world.settings)
    return Finding(ClassCondition.INJECTION_WORKS, problems, WELL)


Probe = Callable[[Seen], Finding]


_PROBES: Mapping[ClassCondition, Probe] = {
    ClassCondition.CONFIGURATION_VALID: _configuration,
    ClassCondition.CATALOGUE_USABLE: _catalogue,
    ClassCondition.SITES_USABLE: _sites,
    ClassCondition.EXPOSURE_USABLE: _exposure,
    ClassCondition.INJECTION_WORKS: _injection,
}


@dataclass(frozen=True, slots=True)
class _Turn:
    """When a class is tried again."""

    about: tuple[object, ...]
    """What it was tried with: another one is tried at once."""
    due: datetime
    wait: timedelta


class ClassProbes:
    """Tries every class in its turn, and writes what was found where it differs."""

    def __init__(self, world: World, connections: Connections) -> None:
        self._world = world
        self._connections = connections
        self._turns: dict[str, _Turn] = {}
        self._lock = threading.Lock()

    def probe(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        """Try the classes whose time has come; whatever is wrong with one stops no other.

        Parameters
        ----------
        goes_on
            Asked before each of them.
        """
        # One at a time: two would write over each other.
        with self._lock:
            connections = {
                body["metadata"]["name"]: (body["metadata"].get("generation"), status_of(body).get("reachable"))
                for body in self._world.cluster.list("RucioConnection")
            }
            bodies = self._world.cluster.list("VolatileRSEClass")
            self._forget({body["metadata"]["uid"] for body in bodies})
            answers: Answers = {}
            for body in bodies:
                spec = body.get("spec")
                named = spec.get("connectionName") if isinstance(spec, Mapping) else None
                about = (
                    body["metadata"].get("generation", 0),
                    connections.get(named) if isinstance(named, str) else None,
                )
                if "deletionTimestamp" not in body["metadata"] and self._is_due(body, about) and goes_on():
                    self._try(body, about, answers)

    def _forget(self, alive: Collection[str]) -> None:
        for uid in set(self._turns) - set(alive):
            del self._turns[uid]

    def _is_due(self, body: Object, about: tuple[object, ...]) -> bool:
        turn = self._turns.get(body["metadata"]["uid"])
        return turn is None or turn.about != about or self._world.clock.now() >= turn.due

    def _try(self, body: Object, about: tuple[object, ...], answers: Answers) -> None:
        name, uid = body["metadata"]["name"], body["metadata"]["uid"]
        works = False
        try:
            with deadline.within(_TRIAL):
                works = self._write(body, self._findings(body, answers))
        except PortError as error:
            _log.warning("VolatileRSEClass %s: its status is not written: %s", name, error.what)
        except Exception as error:  # noqa: BLE001 (logged with its traceback)
            problem_of(self._world.telemetry, error, f"VolatileRSEClass {name} could not be tried")
        before = self._turns.get(uid)
        is_again = before is not None and before.about == about
        wait = _EVERY if works else min(2 * before.wait, _EVERY) if before is not None and is_again else _SOON
        self._turns[uid] = _Turn(about, self._world.clock.now() + wait, _SOON / 2 if works else wait)

    def _findings(self, body: Object, answers: Answers) -> list[Finding]:
        name = body["metadata"]["name"]
        try:
            class_ = read_class(body)
        except RefusedError as error:
            return [Finding(ClassCondition.CONFIGURATION_VALID, (Problem(error.reason, error.what),))]
        seen, found = Seen(self._world, self._connections, name, class_, answers), []
        for type_, probe in _PROBES.items():
            try:
                found.append(probe(seen))
            except PortError as error:
                # What is not asked for want of time stays as it was.
                if not deadline.is_over(error) and not _is_of_catalogue(type_, error):
                    found.append(Finding(type_, (failed(error),)))
            except Exception as error:  # noqa: BLE001 (logged with its traceback)
                where = f"what was found of {type_.value} of VolatileRSEClass {name} cannot be used"
                found.append(Finding(type_, (problem_of(self._world.telemetry, error, where),)))
        return found

    def _write(self, body: Object, findings: list[Finding]) -> bool:
        """Write the status where it differs; tell whether all works."""
        old: Mapping[str, Any] = status_of(body)
        generation = body["metadata"].get("generation", 0)
        new = status_of_class(findings, old, generation, self._world.clock.now()).dump()
        if any(old.get(key) != value for key, value in new.items()):
            ref = Ref("VolatileRSEClass", None, body["metadata"]["name"])
            self._world.cluster.merge(ref, {"status": new}, subresource="status")
        return all(entry["status"] == "True" for entry in new["conditions"])


def _is_of_catalogue(type_: ClassCondition, error: PortError) -> bool:
    """Tell whether a part could not be tried for what another condition says already."""
    told = {Reason.CATALOGUE_UNREACHABLE, Reason.CATALOGUE_IMPLAUSIBLE, Reason.UNKNOWN_CONNECTION}
    return type_ is not ClassCondition.CATALOGUE_USABLE and error.reason in told
