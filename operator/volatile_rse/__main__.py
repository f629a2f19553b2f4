"""The operator's process: puts adapters into ports, starts the reconciler, and lets kopf watch."""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

import kopf
from prometheus_client import start_http_server

from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.authority import ClientPair, LocalAuthority, hashed_name
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.clock import SystemClock
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.adapters.gate import Gate
from volatile_rse.adapters.https import netloc
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer
from volatile_rse.adapters.webhook import WebhookServer
from volatile_rse.api.agent import AGENT_PORT
from volatile_rse.api.conditions import REMEDIES
from volatile_rse.api.rucioconnection import Budget
from volatile_rse.api.text import visible
from volatile_rse.domain.node_ports import DEFAULT_RANGE
from volatile_rse.domain.settings import Settings
from volatile_rse.domain.times import earlier, moment
from volatile_rse.handlers.waiting import every_address, waiting
from volatile_rse.handlers.watching import Logon, as_service_account, registry_of, settings_of
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Cluster, Source
from volatile_rse.ports.errors import PortError
from volatile_rse.reconcile.accounting import FORMS, Form, table, used
from volatile_rse.reconcile.admission import answered
from volatile_rse.reconcile.adoption import Adoption, adopt
from volatile_rse.reconcile.authority import stored_authority
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.lease import SILENCE, Lease
from volatile_rse.reconcile.scopes import lasts, scopes
from volatile_rse.reconcile.searching import search
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.uninstall import release_all, stakes_of
from volatile_rse.reconcile.world import Login, World
from volatile_rse.telemetry.logs import configure
from volatile_rse.telemetry.metrics import Metrics

__all__ = ["Outside", "command_line", "main", "operate"]

_LIFETIME = timedelta(days=90)
"""Of the operator's client certificate; a process that lives longer gets the next one."""
_MONTH = timedelta(days=30)
"""As long as a class keeps records, if it says nothing else."""
_SILENCE = 5
"""Seconds that somebody who reads metrics may say nothing."""
_METRICS = 8081
"""Port of the metrics."""
_LOST = 3
"""Exit code of a process that lost its Lease."""
_HEALTH_PORT = 8080
_WEBHOOK_PORT, _WEBHOOK_PAIR = 8443, Path("/etc/webhook")
_PATIENCE = 120.0
"""Seconds until everything that is watched must have been listed once."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the operator reaches beside the API server."""

    endpoints: Endpoints
    connect: Callable[[Login], Catalogue]
    buffer: Callable[[str, str], Buffer]
    """As in a ``World``."""


def main() -> int:
    """Run until asked to end, or carry out a command of an admin."""
    arguments = command_line().parse_args()
    if arguments.command == "accounting":
        return _account(arguments.since, arguments.until, arguments.form)
    if arguments.command == "adopt":
        return _adopt(arguments.rse, arguments.instance, arguments.class_name)
    if arguments.command == "uninstall":
        return _uninstall(leave=arguments.leave)
    if arguments.command == "webhook":
        return _serve_webhook()
    return _list_orphans(arguments.instance, arguments.form) if arguments.command == "orphans" else _run()


def command_line() -> argparse.ArgumentParser:
    """Give what reads the command line; `vrse admin` runs these commands in the operator's pod."""
    parser = argparse.ArgumentParser("python3 -m volatile_rse", description="The operator; without a command, run it.")
    commands = parser.add_subparsers(dest="command")
    listing = commands.add_parser("orphans", help="list what has no record; changes nothing")
    listing.add_argument("--instance", help="the operator whose ledgers to list; default: this one")
    listing.add_argument("--form", choices=("text", "json"), default="text")
    taking = commands.add_parser("adopt", help="take over RSEs whose cluster is lost, and bring them to their end")
    taking.add_argument("--instance", required=True, help="the operator that made them")
    taking.add_argument("--class", required=True, dest="class_name", help="VolatileRSEClass that names as theirs did")
    taking.add_argument("rse", nargs="+")
    ending = commands.add_parser("uninstall", help="let go of every object; refused while a buffer is not closed")
    ending.add_argument("--leave", action="store_true", help="leave the listed buffers behind; their volumes stay")
    accounting = commands.add_parser("accounting", help="what accounts have used, by the records; changes nothing")
    accounting.add_argument("--since", type=_time, help="a time; default: 30 days before the end of the span")
    accounting.add_argument("--until", type=_time, help="a time, which is no part of the span; default: now")
    accounting.add_argument("--form", choices=FORMS, default="csv")
    commands.add_parser("webhook", help="give pods of sessions what they need, where the API server does not do it")
    return parser


def _adopt(rses: Sequence[str], instance: str, class_name: str) -> int:
    cluster = KubernetesCluster.connect()
    world = _world(cluster, _settings(cluster), Metrics())
    connections, status = Connections(world), 0
    for rse in rses:
        try:
            record = adopt(world, connections, Adoption(rse, instance, class_name))
        except PortError as error:
            remedy = REMEDIES[error.reason]
            _say(sys.stderr, f"{rse} is not adopted. {error.what} {remedy.actor.value} must act: {remedy.action}")
            status = 1
        else:
            sys.stdout.write(f"{rse} is adopted: RSERecord {record} says how far its end is.\n")
    return status


def _time(text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _account(since: datetime | None, until: datetime | None, form: Form) -> int:
    now = SystemClock().now()
    end = until or now
    begin = since or earlier(end, _MONTH)
    if begin >= end:
        _say(sys.stderr, f"--since {begin.isoformat()} is not before --until {end.isoformat()}.")
        return 2
    try:
        found, silent = used(KubernetesCluster.connect(), now, begin, end)
    except PortError as error:
        _say(sys.stderr, f"There is no table: {error.what}")
        return 1
    sys.stdout.write(table(found, form))
    _say(sys.stderr, *(f"The table is not complete: {why}" for why in silent))
    return 1 if silent else 0


def _serve_webhook() -> int:
    """Answer the API server until asked to end; knows nothing of any buffer but whether it is usable."""
    configure(os.environ.get("VOLATILE_RSE_LOG", "INFO"), os.environ.get("VOLATILE_RSE_LOG_FORMAT", "text"))
    cluster, image = KubernetesCluster.connect(), os.environ["VOLATILE_RSE_SIDECAR_IMAGE"]
    address = every_address(os.environ.get("VOLATILE_RSE_POD_IP", "")), _WEBHOOK_PORT
    server = WebhookServer(address, _WEBHOOK_PAIR, functools.partial(answered, cluster, image))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    return 0


def _list_orphans(instance: str | None, form: str) -> int:
    cluster = KubernetesCluster.connect()
    settings = _settings(cluster)
    world = _world(cluster, settings, Metrics())
    try:
        found = search(world, Connections(world), instance or settings.instance)
    except PortError as error:
        _say(sys.stderr, f"There is no list: {error.what}")
        return 1
    if form == "json":
        orphans = [{"record": orphan.record_id, "what": orphan.what} for orphan in found.orphans]
        sys.stdout.write(json.dumps(orphans, indent=2) + "\n")
    else:
        _say(sys.stdout, *found.orphans)
    _say(sys.stderr, *(f"The list is not complete: {why}" for why in found.silent))
    return 1 if found.silent else 0


def _uninstall(*, leave: bool) -> int:
    cluster = KubernetesCluster.connect()
    settings = _settings(cluster)
    stakes = stakes_of(cluster, settings)
    _say(sys.stdout, *stakes)
    if stakes and not leave:
        sys.stderr.write(
            f"{len(stakes)} buffers are not closed. ADMIN must act: end their sessions and wait until they are closed, "
            "or discard what cannot become safe, or leave them behind: --leave, with Helm uninstall.leave=true.\n"
        )
        return 1
    # The operator that runs ends by it, and its next process waits: nothing is held again meanwhile.
    Lease(cluster, settings, f"uninstall-{socket.gethostname()}", lambda: os._exit(_LOST)).seize()
    if not leave and (late := stakes_of(cluster, settings)):
        sys.stderr.write(
            f"{late[0]} began meanwhile: nothing is let go. ADMIN must act: repeat this once it is closed.\n"
        )
        return 1
    try:
        release_all(cluster, settings, stakes)
    except PortError as error:
        what = f"Not all is let go. {error.what}"
        _say(sys.stderr, f"{what} ADMIN must act: mend that, or delete the object; then repeat this.")
        return 1
    return 0


def _say(stream: TextIO, *lines: object) -> None:
    """Write lines of which each is one, whatever Rucio calls its things."""
    stream.writelines(f"{visible(str(line))}\n" for line in lines)


def _run() -> int:
    metrics = Metrics()
    return operate(metrics.counted(KubernetesCluster.connect(asked=metrics.asked)), metrics)


def operate(  # noqa: PLR0913 (each is a part in whose place another one can be put)
    source: Source,
    metrics: Metrics,
    outside: Callable[[LocalAuthority], Outside] | None = None,
    *,
    cache: Callable[..., CachedCluster] = CachedCluster,
    serve: Callable[..., Service] = Service,
    logon: Logon = as_service_account,
    ports: tuple[int, int] = (_METRICS, _HEALTH_PORT),
) -> int:
    """Run until asked to end.

    Parameters
    ----------
    outside
        Makes what is reached beside the API server; None: the real things.
    cache
        Makes what stands between the operator and the API server.
    serve
        Makes what works.
    logon
        How kopf finds the API server.
    ports
        Of the metrics and of the liveness probe.
    """
    configure(os.environ.get("VOLATILE_RSE_LOG", "INFO"), os.environ.get("VOLATILE_RSE_LOG_FORMAT", "text"))
    logging.getLogger("kopf").setLevel(logging.WARNING)
    everywhere = every_address(os.environ.get("VOLATILE_RSE_POD_IP", ""))
    metrics_port, health_port = ports
    told, _ = start_http_server(metrics_port, everywhere, registry=metrics.registry)
    # Each connection has a thread: one that says nothing must not keep it.
    told.RequestHandlerClass.timeout = _SILENCE  # type: ignore[attr-defined]
    settings = _settings(source)
    # No clean-up when the Lease is lost: another process works already.
    lease = Lease(source, settings, socket.gethostname(), lambda: os._exit(_LOST))
    metrics.watched(lease.unseen)
    cluster = cache(source, scopes(settings), functools.partial(lasts, settings))
    metrics.viewed(cluster.unheard)
    with waiting(health_port, everywhere):
        lease.wait()
        cluster.start()
        if unsynced := cluster.unsynced(_PATIENCE):
            # It must not look as if it worked. What was an outage is over when the kubelet starts it again.
            _say(sys.stderr, *(f"This cannot be listed: {what}" for what in unsynced))
            sys.stderr.write("ADMIN must act: see that the API server answers, and apply this version's roles.\n")
            lease.release()
            return 1
    world = replace(_world(cluster, settings, metrics, outside), fresh=cluster.live)
    service = serve(world, check=lease.check, awake=lease.awake)
    cluster.on_change(service.saw)
    service.start()
    try:
        kopf.run(
            registry=registry_of(
                cluster.saw,
                lease.saw,
                {
                    "A watch has been silent for too long": lambda: cluster.unheard() < SILENCE,
                    "The sweep has not run for too long": service.healthy,
                    "The watches bring nothing any more": lease.is_watched,
                },
                logon,
            ),
            settings=settings_of(lease.ref),
            clusterwide=True,
            liveness_endpoint=f"http://{netloc(everywhere, health_port)}/healthz",
            standalone=True,
        )
    finally:
        cluster.stop()
        if service.stop():
            lease.release()
    return 0


def _settings(cluster: Cluster) -> Settings:
    name = os.environ.get("VOLATILE_RSE_NAME", "volatile-rse")
    return Settings(
        name=name,
        instance=f"{name}.{cluster.identity()}",
        namespace=os.environ["VOLATILE_RSE_NAMESPACE"],
        buffers=os.environ["VOLATILE_RSE_BUFFERS"],
        buffer_image=os.environ["VOLATILE_RSE_BUFFER_IMAGE"],
        node_ports=_node_ports(os.environ.get("VOLATILE_RSE_NODE_PORTS", str(DEFAULT_RANGE))),
        injected=os.environ.get("VOLATILE_RSE_INJECTION") != "none",
    )


def _node_ports(said: str) -> int:
    """Read how many NodePorts there are."""
    if not said.isascii() or not said.isdecimal():
        what = (
            f"VOLATILE_RSE_NODE_PORTS of the operator's container is {visible(repr(said))}, and no number of ports. "
            "ADMIN must act: correct nodePorts of the chart, or the Deployment (docs/operations.md)."
        )
        raise SystemExit(what)
    return int(said)


def _world(
    cluster: Cluster,
    settings: Settings,
    metrics: Metrics,
    outside: Callable[[LocalAuthority], Outside] | None = None,
) -> World:
    certificate, key = stored_authority(cluster, settings, LocalAuthority.create)
    authority = LocalAuthority(certificate, key)
    reached = _outside(authority, metrics) if outside is None else outside(authority)
    return World(
        settings=settings,
        cluster=cluster,
        authority=authority,
        endpoints=reached.endpoints,
        clock=SystemClock(),
        connect=reached.connect,
        buffer=reached.buffer,
        hashed_name=hashed_name,
        telemetry=metrics,
    )


def _outside(authority: LocalAuthority, metrics: Metrics) -> Outside:
    private = Path(tempfile.mkdtemp(prefix="volatile-rse-"))
    pair = ClientPair(authority, "volatile-rse-operator", _LIFETIME)
    gates: dict[str, Gate] = {}

    def connect(login: Login) -> Catalogue:
        connection = login.connection
        gate = gates.setdefault(connection.server, Gate(connection.server, Budget()))
        if connection.budget is not None:
            gate.budget = connection.budget
        server = RucioServer(connection, (login.username, login.password), login.authorities, private, gate)
        return metrics.measured(RucioCatalogue(server))

    def buffer(address: str, name: str) -> Buffer:
        return AgentClient((address, AGENT_PORT), name, authority.bundle(), pair())

    return Outside(XrootdEndpoints(authority.bundle()), connect, buffer)


if __name__ == "__main__":
    sys.exit(main())
