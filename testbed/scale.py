"""Many buffers at once: ``make bench BENCH=scale``, the operator's part of it alone.

The operator runs as a process of this machine, as the account of the installed one, which stands still meanwhile. The
API server, its controllers and its scheduler are those of the testbed's cluster. Storage pods are put on a node that
runs nothing (``testbed/scale_node.py``); Rucio, agents and doors are fakes in here (``testbed/scale_fakes.py``).
All that is made is called ``scale-bench``, and is removed at the end, also of a run that was interrupted.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from testbed import cluster, installation, scale_node
from testbed.api_server import ApiServer, service_account
from testbed.layout import CHECKOUT, KUBECONFIG, LOGS, NODE
from testbed.progress import StepError, step
from testbed.scale_fakes import Server, World
from testbed.scale_operator import VISITED
from volatile_rse.api.agent import DAVS_PORT, ROOT_PORT
from volatile_rse.builders.objects import RECORD, hosts_of
from volatile_rse.domain.settings import Settings

__all__ = ["BEFORE", "SIZES", "Arranged", "measure", "run", "sizes_of"]

NAME = "scale-bench"
"""Of the operator's instance and its Lease, and of everything that is made."""
_SITES = f"{NAME}-sites"
"""Secret of the class: its buffers ask no site."""
SIZES = (100, 300, 1000)
BEFORE = 100
"""Buffers at most of the assembly without a cache: what it needs grows with their square."""
_LIMIT = 900.0
"""Seconds for each step; what has not happened by then is told."""
_QUIET = 120.0
"""Seconds in which nothing happens, and what that costs is counted."""
_SETTLED, _SETTLING = 20.0, 300.0
"""Seconds without a write after which nothing happens any more, and seconds to wait for that."""
_ACCOUNTS = 64
"""Of the sessions, in one namespace, as a hub has them."""
_HANDS = 8
"""Requests that are made at the same time."""
_PORTS = 2768
"""NodePorts of a cluster that says nothing else; a buffer has two."""
_OPERATORS = "app.kubernetes.io/name=volatile-rse"
_GROUP = "/apis/volatilerse.io/v1alpha1"
_BUFFERS = f"/api/v1/namespaces/{installation.BUFFERS}"
_REQUESTS = f"{_GROUP}/namespaces/{NAME}/volatilerses"
_KEEPING = ("kube-apiserver", "etcd")
_CONTROLLING = ("kube-controller", "kube-scheduler", "kube-proxy", "kubelet")
"""Programs of Kubernetes, as the kernel shows their names."""
_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024
Object = Mapping[str, Any]
Result = dict[str, float | int | str]
Samples = Mapping[str, float]


# Reading numbers.


def samples_of(text: str) -> dict[str, float]:
    """Read metrics: each sample's name with its labels, and its value."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def total(samples: Samples, name: str) -> float:
    """Add up the samples of a metric, whatever their labels, but those of the operator's Lease and of watches."""
    own = {value for key, value in samples.items() if key == name}
    aside = ('kind="Lease"', 'verb="watch"', 'verb="WATCH"')
    labelled = [
        value
        for key, value in samples.items()
        if key.startswith(f"{name}{{") and not any(label in key for label in aside)
    ]
    return sum(own) + sum(labelled)


def requests_of(samples: Samples) -> float:
    """Count what the operator has asked of the API server, its Lease and its watches aside."""
    return total(samples, "volatile_rse_cluster_requests_total")


def writes_of(samples: Samples) -> float:
    """Count what it has written."""
    return total(samples, "volatile_rse_cluster_writes_total")


def calls_of(samples: Samples) -> float:
    """Count its calls to Rucio."""
    return total(samples, "volatile_rse_catalogue_call_seconds_count")


def by_kind(before: Samples, after: Samples, share: float) -> dict[str, float]:
    """Say of which verbs and kinds the operator's requests were, the most first.

    Parameters
    ----------
    share
        What each number is divided by.
    """
    begin = "volatile_rse_cluster_requests_total{"
    found: dict[str, float] = {}
    for key, value in after.items():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', key)) if key.startswith(begin) else {}
        if labels and labels["kind"] != "Lease" and labels["verb"] != "watch" and value > before.get(key, 0):
            found[f"{labels['verb']} {labels['kind']}"] = (value - before.get(key, 0)) / share
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def cpu_of(stat: str) -> float:
    """Read from ``/proc/PID/stat`` how many seconds a process has computed."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def sizes_of(text: str) -> tuple[int, ...]:
    """Read which sizes are wanted; nothing: all.

    Raises
    ------
    StepError
        It says something else, or more than the NodePorts of a cluster allow.
    """
    try:
        sizes = tuple(sorted({int(word) for word in text.split()})) or SIZES
    except ValueError as error:
        message = f"SCALE={text!r} has to be numbers of buffers, as in SCALE='100 300'"
        raise StepError(message) from error
    if sizes[0] < 1 or 2 * sizes[-1] > _PORTS:
        message = f"SCALE={text!r}: from 1 to {_PORTS // 2} buffers, since each has two of {_PORTS} NodePorts"
        raise StepError(message)
    return sizes


# What is watched.


@dataclass(slots=True)
class Seen:
    """When what happened was seen, in seconds of a clock that never goes back."""

    asked: dict[str, float] = field(default_factory=dict)
    """Name of a VolatileRSE -> when its creation was sent."""
    ready: dict[str, float] = field(default_factory=dict)
    """The same -> when it was Ready."""
    pods: dict[str, float] = field(default_factory=dict)
    """Record -> when its storage pod was there."""
    gone: dict[str, float] = field(default_factory=dict)
    """Name of a VolatileRSE -> when it was gone."""
    closed: dict[str, float] = field(default_factory=dict)
    """Record -> when it was closed."""

    def request(self, type_: str, body: Object, now: float) -> None:
        """Take an event of a VolatileRSE."""
        name = body["metadata"]["name"]
        if type_ == "DELETED":
            self.gone.setdefault(name, now)
            return
        conditions = (body.get("status") or {}).get("conditions") or ()
        if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions):
            self.ready.setdefault(name, now)

    def pod(self, type_: str, body: Object, now: float) -> None:
        """Take an event of a pod of the buffers' namespace."""
        record = (body["metadata"].get("labels") or {}).get(RECORD)
        if record is not None and type_ != "DELETED":
            self.pods.setdefault(record, now)

    def record(self, _: str, body: Object, now: float) -> None:
        """Take an event of a record."""
        if is_ours(body) and (body.get("status") or {}).get("phase") == "Closed":
            self.closed.setdefault(body["metadata"]["name"], now)

    def latencies(self) -> list[float]:
        """Give the seconds from each creation to Ready."""
        return [self.ready[name] - sent for name, sent in self.asked.items() if name in self.ready]


def is_ours(record: Object) -> bool:
    """Tell whether a record is one of this benchmark's operator."""
    return str(record["spec"].get("instance", "")).startswith(f"{NAME}.")


def addresses_of(service: Object) -> tuple[tuple[str, int], ...]:
    """Give where a buffer's Service is answered: inside by its name, outside by its NodePorts."""
    settings = Settings(NAME, "", installation.NAMESPACE, installation.BUFFERS, "")
    inside = hosts_of(settings, service["metadata"]["name"])[0]
    outside = [(NODE, port["nodePort"]) for port in service["spec"]["ports"] if "nodePort" in port]
    return ((inside, DAVS_PORT), (inside, ROOT_PORT), *outside)


class Watcher:
    """Sees what becomes of the VolatileRSEs, and opens the doors of their Services."""

    def __init__(self, api: ApiServer, world: World) -> None:
        self.seen = Seen()
        self._world = world
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        kinds: tuple[tuple[str, Callable[[str, Object], None]], ...] = (
            (_REQUESTS, lambda type_, body: self.seen.request(type_, body, time.monotonic())),
            (f"{_BUFFERS}/pods", lambda type_, body: self.seen.pod(type_, body, time.monotonic())),
            (f"{_GROUP}/rserecords", lambda type_, body: self.seen.record(type_, body, time.monotonic())),
            (f"{_BUFFERS}/services", self._door),
        )
        for path, take in kinds:
            threading.Thread(target=self._watch, args=(api, path, take), daemon=True, name=f"watch {path}").start()

    def begin(self) -> None:
        """Forget what was seen."""
        with self._changed:
            self.seen = Seen()

    def until(self, true: Callable[[Seen], bool], seconds: float) -> bool:
        """Wait for something to be seen; False: it was not."""
        with self._changed:
            return self._changed.wait_for(lambda: true(self.seen), seconds)

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _watch(self, api: ApiServer, path: str, take: Callable[[str, Object], None]) -> None:
        for type_, body in api.watch(path, stopping=self._stopping):
            with self._changed:
                take(type_, body)
                self._changed.notify_all()

    def _door(self, type_: str, service: Object) -> None:
        record = (service["metadata"].get("labels") or {}).get(RECORD)
        if record is not None:
            self._world.opened(record, () if type_ == "DELETED" else addresses_of(service))


# The operator.


class Operator:
    """A process of the operator.

    Parameters
    ----------
    kubeconfig
        Of its account.
    fakes
        Socket of what it reaches beside the API server.
    """

    def __init__(self, assembly: str, kubeconfig: Path, fakes: Path) -> None:
        ports = _free_ports(2)
        self._metrics = f"http://127.0.0.1:{ports[0]}/metrics"
        words = ["-m", "testbed.scale_operator", "--assembly", assembly, "--fakes", str(fakes), "--ports"]
        self._argv = [sys.executable, *words, *map(str, ports)]
        self._environment = {
            **os.environ,
            "PYTHONPATH": f"{CHECKOUT / 'operator'}{os.pathsep}{CHECKOUT}",
            "KUBECONFIG": str(kubeconfig),
            "VOLATILE_RSE_NAME": NAME,
            "VOLATILE_RSE_NAMESPACE": installation.NAMESPACE,
            "VOLATILE_RSE_BUFFERS": installation.BUFFERS,
            "VOLATILE_RSE_BUFFER_IMAGE": "volatile-rse/buffer:none",
        }
        self._log = LOGS / f"scale-operator-{assembly}.log"
        self._log.unlink(missing_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.began = 0.0
        """When this process began."""

    def start(self) -> None:
        """Start a process, and wait until its first sweep is over."""
        LOGS.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as stream:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                self._argv, stdout=stream, stderr=stream, env=self._environment, cwd=CHECKOUT
            )
        while not self.samples().get("volatile_rse_sweep_timestamp_seconds"):
            if self._process.poll() is not None or time.monotonic() > self.began + _LIMIT:
                message = f"the operator has not begun its work: exit code {self._process.returncode} (see {self._log})"
                raise StepError(message)
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end, and wait; one that does not is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def samples(self) -> dict[str, float]:
        """Read its metrics; none as long as it gives none."""
        try:
            return samples_of(requests.get(self._metrics, timeout=30).text)
        except requests.RequestException:
            return {}

    def cpu(self) -> float:
        """Tell how many seconds it has computed."""
        return cpu_of(Path(f"/proc/{self._pid}/stat").read_text())

    def mib(self, what: str = "VmRSS") -> float:
        """Tell how much memory it has; ``VmHWM``: had at most."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(what)).split()[1]) / _KIB

    @property
    def _pid(self) -> int:
        if self._process is None:
            message = "the operator does not run"
            raise StepError(message)
        return self._process.pid


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


# What is arranged on the cluster.


@dataclass(frozen=True, slots=True)
class Arranged:
    """A cluster that is ready for it."""

    admin: ApiServer
    account: ApiServer
    """Asked as the operator's account."""
    kubeconfig: Path
    """Of that account."""
    fakes: Path
    watcher: Watcher
    world: World


@contextmanager
def arranged(delay: float = 0.0) -> Iterator[Arranged]:
    """Prepare the cluster, and have it as it was afterwards.

    Parameters
    ----------
    delay
        Seconds that each answer of Rucio, agents and doors takes.
    """
    cluster.guard()
    # Each watch and each thread of the operator has a connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="scale-") as name, ExitStack() as stack:
        folder = Path(name)
        for part in ("admin", "account"):
            (folder / part).mkdir()
        kubeconfig = folder / "kubeconfig"
        account = ("-n", installation.NAMESPACE, "create", "token", "volatile-rse", "--duration=12h")
        kubeconfig.touch(0o600)
        kubeconfig.write_text(service_account(KUBECONFIG, cluster.kubectl(*account).strip()))
        admin = ApiServer(KUBECONFIG, folder / "admin")
        operator = ApiServer(kubeconfig, folder / "account")
        with step("What an earlier run has left"):
            remove(admin, operator)
        refuse_in_use(admin)
        stack.enter_context(_interrupted())
        stack.callback(_restore, admin, operator)
        with step("The installed operator stands still"):
            _scale(0)
        world, fakes = World(delay), folder / "fakes"
        stack.callback(Server(world, fakes).close)
        node = scale_node.Node(admin, installation.BUFFERS, world.ran)
        stack.callback(node.stop)
        with step("Node and class"):
            node.start()
            cluster.kubectl("create", "namespace", NAME)
            installation.enable(NAME)
            installation.apply(_objects())
            watcher = Watcher(admin, world)
            stack.callback(watcher.stop)
        yield Arranged(admin, operator, kubeconfig, fakes, watcher, world)


@contextmanager
def _interrupted() -> Iterator[None]:
    """Have a request to end the process be one to tidy up first."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _restore(admin: ApiServer, operator: ApiServer) -> None:
    with step("What was made is removed"):
        remove(admin, operator)
    with step("The installed operator works again"):
        _scale(1)


def _scale(replicas: int) -> None:
    namespace = ("-n", installation.NAMESPACE)
    cluster.kubectl(*namespace, "scale", "deployment/volatile-rse", f"--replicas={replicas}")
    if replicas:
        cluster.kubectl(*namespace, "rollout", "status", "deployment/volatile-rse", "--timeout=120s")
    else:
        cluster.kubectl(*namespace, "wait", "--for=delete", "pods", "-l", _OPERATORS, "--timeout=60s")


def refuse_in_use(admin: ApiServer) -> None:
    """See that nobody's buffer is there: this operator would take every request for its own.

    Raises
    ------
    StepError
        Names them.
    """
    used = [f"VolatileRSE {name}" for name in _names(_list(admin, f"{_GROUP}/volatilerses"))]
    records = _list(admin, f"{_GROUP}/rserecords")
    used += [f"RSERecord {name}" for name in _names(one for one in records if not _is_closed(one))]
    if used:
        shown = ", ".join(used[:10]) + (f" and {len(used) - 10} more" if len(used) > 10 else "")  # noqa: PLR2004
        message = (
            f"the cluster has buffers: {shown}. USER must act: delete the VolatileRSEs and wait until their records "
            "are closed, or make the testbed anew"
        )
        raise StepError(message)


def _is_closed(record: Object) -> bool:
    return bool((record.get("status") or {}).get("closedAt"))


def _names(bodies: Iterable[Object]) -> list[str]:
    named = [body["metadata"] for body in bodies]
    return ["/".join(filter(None, (one.get("namespace"), one["name"]))) for one in named]


def _list(api: ApiServer, path: str, query: Mapping[str, str] | None = None) -> list[Object]:
    found: list[Object] = (api.ask("GET", path, query=query) or {}).get("items") or []
    return found


def _objects() -> list[dict[str, Any]]:
    """Make what an admin would: connection, class, the login, and the right to watch another Lease."""
    server = f"https://{NAME}.invalid"
    grants = [{"namespaces": [NAME], "accounts": [f"student-{number}" for number in range(_ACCOUNTS)]}]
    limits = {"perOwner": {"buffers": 10_000, "newPerHour": 1_000_000, "closedRecords": 10_000}}
    connection = {"server": server, "account": NAME, "userpass": {"secretName": NAME}, "ledgerScope": NAME}
    class_ = installation.class_of(
        NAME, grants, connectionName=NAME, storage={"memory": {}}, limits=limits, pods=scale_node.placement(),
        siteCredentials={"secretName": _SITES},
    )  # fmt: skip
    rule = {
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [NAME],
        "verbs": ["list", "watch"],
    }  # fmt: skip
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    account = {"kind": "ServiceAccount", "name": "volatile-rse", "namespace": installation.NAMESPACE}

    def made(version: str, kind: str, content: Object, namespace: str = "") -> dict[str, Any]:
        where = {"namespace": namespace} if namespace else {}
        return {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, **where}, **content}

    login = {"username": NAME, "password": NAME, "server": server}
    return [
        made("v1", "Secret", {"stringData": login}, installation.NAMESPACE),
        installation.site_tokens(_SITES, {f"{NAME}.invalid": "none"}),
        made("volatilerse.io/v1alpha1", "RucioConnection", {"spec": connection}),
        made("rbac.authorization.k8s.io/v1", "ClusterRole", {"rules": [rule]}),
        made("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", {"roleRef": role, "subjects": [account]}),
        class_,
    ]


def remove(admin: ApiServer, operator: ApiServer) -> None:
    """Remove all that was made, whatever became of it; only while its operator does not run.

    Raises
    ------
    StepError
        Kubernetes does not let go of the namespace.
    """
    remove_sessions(admin, operator)
    _drop(admin, [f"{_GROUP}/volatilerseclasses/{NAME}", f"{_GROUP}/rucioconnections/{NAME}"], held=True)
    rights, space = "/apis/rbac.authorization.k8s.io/v1", f"namespaces/{installation.NAMESPACE}"
    secrets = [f"/api/v1/{space}/secrets/{name}" for name in (NAME, _SITES)]
    others = [f"{rights}/clusterrolebindings/{NAME}", f"{rights}/clusterroles/{NAME}", f"/api/v1/namespaces/{NAME}"]
    _drop(admin, [*others, *secrets, f"/apis/coordination.k8s.io/v1/{space}/leases/{NAME}"])
    scale_node.remove(admin)
    until = time.monotonic() + _LIMIT
    while admin.ask("GET", f"/api/v1/namespaces/{NAME}") is not None:
        if time.monotonic() > until:
            message = f"namespace {NAME} does not go: see what holds it with `kubectl get namespace {NAME} -o yaml`"
            raise StepError(message)
        time.sleep(0.5)


def remove_sessions(admin: ApiServer, operator: ApiServer) -> None:
    """Remove requests, records and what storage they have; class and connection stay.

    Parameters
    ----------
    operator
        Asked as the operator's account: nobody else may let go of a record.
    """
    records = [body for body in _list(admin, f"{_GROUP}/rserecords") if is_ours(body)]
    mine = {body["spec"]["recordId"] for body in records}
    _drop(admin, (f"{_REQUESTS}/{name}" for name in _bare_names(_list(admin, _REQUESTS))), held=True)
    for plural in ("pods", "services", "secrets", "configmaps"):
        found = _list(admin, f"{_BUFFERS}/{plural}", {"labelSelector": RECORD})
        ours = [body for body in found if body["metadata"]["labels"][RECORD] in mine]
        _drop(admin, (f"{_BUFFERS}/{plural}/{name}" for name in _bare_names(ours)), at_once=plural == "pods")
    _drop(operator, (f"{_GROUP}/rserecords/{name}" for name in _bare_names(records)), held=True)


def _bare_names(bodies: Iterable[Object]) -> list[str]:
    return [body["metadata"]["name"] for body in bodies]


def _drop(api: ApiServer, paths: Iterable[str], *, held: bool = False, at_once: bool = False) -> None:
    """Delete objects; ``held``: whatever finalizers they have."""
    options: dict[str, Any] = {"propagationPolicy": "Background"} | ({"gracePeriodSeconds": 0} if at_once else {})

    def one(path: str) -> None:
        api.ask("DELETE", path, options)
        if held:
            api.ask("PATCH", path, {"metadata": {"finalizers": None}})

    with ThreadPoolExecutor(_HANDS) as pool:
        list(pool.map(one, paths))


# What is measured.


def body_of(name: str, number: int) -> dict[str, Any]:
    """Make the VolatileRSE of one session."""
    spec = {
        "className": NAME,
        "account": f"student-{number % _ACCOUNTS}",
        "capacity": "64Mi",
        "minimumDurability": "Pod",
        "session": {"startTimeout": "12h", "ttl": "12h"},
    }
    kind = {"apiVersion": "volatilerse.io/v1alpha1", "kind": "VolatileRSE"}
    return {**kind, "metadata": {"name": name, "namespace": NAME}, "spec": spec}


def measure(place: Arranged, assembly: str, size: int, limit: float = _LIMIT, quiet: float = _QUIET) -> Result:
    """Have so many sessions, from nothing to nothing.

    Parameters
    ----------
    assembly
        How the operator is put together.
    limit
        Seconds for each step.
    quiet
        Seconds in which nothing happens.
    """
    operator = Operator(assembly, place.kubeconfig, place.fakes)
    names = [f"{assembly}-{size}-{number}" for number in range(size)]
    found: Result = {"size": size, "limit": limit}
    try:
        with step(f"{assembly}, {size}: the operator"):
            operator.start()
        with step(f"{assembly}, {size}: burst"):
            found |= _burst(place, operator, names, limit)
        if found["ready"] == size:
            with step(f"{assembly}, {size}: nothing happens"):
                found |= _idle(place, operator, size, quiet)
            with step(f"{assembly}, {size}: restart"):
                found |= _restart(operator, size, limit)
            with step(f"{assembly}, {size}: deletion"):
                found |= _deletion(place, operator, names, limit)
    finally:
        operator.stop()
        with step(f"{assembly}, {size}: what is left"):
            remove_sessions(place.admin, place.account)
            place.world.forget()
    return found


def _burst(place: Arranged, operator: Operator, names: Sequence[str], limit: float) -> Result:
    size = len(names)
    place.watcher.begin()
    seen, before, cpu = place.watcher.seen, operator.samples(), operator.cpu()
    plane = control_plane()
    began = time.monotonic()

    def make(number: int) -> None:
        seen.asked[names[number]] = time.monotonic()
        place.admin.ask("POST", _REQUESTS, body_of(names[number], number))

    with ThreadPoolExecutor(_HANDS) as pool:
        list(pool.map(make, range(size)))
    made = time.monotonic()
    place.watcher.until(lambda now: len(now.ready) >= size, limit)
    plane = {name: seconds - plane.get(name, 0) for name, seconds in control_plane().items()}
    keeping = sum(plane.get(name, 0) for name in _KEEPING)
    after, spent = operator.samples(), operator.cpu() - cpu
    pods, ready, latencies = dict(seen.pods), dict(seen.ready), seen.latencies()
    return {
        **({} if len(ready) >= size else {"why": _why_not(place, names)}),
        "made_seconds": made - began,
        "pods": len(pods),
        "pods_seconds": max(pods.values(), default=began) - began,
        "ready": len(ready),
        "ready_seconds": max(ready.values(), default=began) - began,
        **({"p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)} if latencies else {}),
        "burst_requests": (requests_of(after) - requests_of(before)) / size,
        "burst_writes": (writes_of(after) - writes_of(before)) / size,
        "burst_calls": (calls_of(after) - calls_of(before)) / size,
        "burst_cpu": spent / size,
        "burst_api": keeping / size,
        "burst_controllers": (sum(plane.values()) - keeping) / size,
        "burst_by": json.dumps(by_kind(before, after, size)),
    }


def _why_not(place: Arranged, names: Sequence[str]) -> str:
    """Repeat what the first that is not Ready says."""
    for name in names:
        status = (place.admin.ask("GET", f"{_REQUESTS}/{name}") or {}).get("status") or {}
        for entry in status.get("conditions") or ():
            if entry["type"] == "Ready" and entry["status"] != "True":
                return f"{name}: {entry['reason']}: {entry['message']}"
    return ""


def _idle(place: Arranged, operator: Operator, size: int, quiet: float) -> Result:
    """Count over a while in which nothing happens, once nothing does."""
    settled = _settle(operator)
    before, cpu, served, began = operator.samples(), operator.cpu(), _served(place), time.monotonic()
    time.sleep(quiet)
    minutes = (time.monotonic() - began) / 60
    after, spent = operator.samples(), operator.cpu() - cpu
    each = size * minutes
    return {
        "settled": settled,
        "idle_minutes": minutes,
        "idle_requests": (requests_of(after) - requests_of(before)) / each,
        "idle_by": json.dumps(by_kind(before, after, each)),
        "idle_writes": writes_of(after) - writes_of(before),
        "idle_calls": (calls_of(after) - calls_of(before)) / each,
        "idle_cpu": spent / each,
        "idle_served": (_served(place) - served) / each,
        "rss_mib": operator.mib(),
        "most_mib": operator.mib("VmHWM"),
    }


def control_plane(folder: Path = Path("/proc")) -> dict[str, float]:
    """Tell how many seconds each part of Kubernetes has computed; its containers are processes of this machine."""
    found: dict[str, float] = {}
    for path in folder.glob("[0-9]*/stat"):
        try:
            stat = path.read_text()
        except OSError:
            # It has ended meanwhile.
            continue
        name = stat.partition("(")[2].rpartition(")")[0]
        if name in {*_KEEPING, *_CONTROLLING}:
            found[name] = found.get(name, 0) + cpu_of(stat)
    return found


def _served(place: Arranged) -> float:
    """Count what the API server has answered to anybody, watches aside."""
    return total(samples_of(place.admin.text("/metrics")), "apiserver_request_total")


def _settle(operator: Operator) -> float:
    """Wait until nothing is written any more, and give the seconds that took."""
    began = changed = time.monotonic()
    writes = writes_of(operator.samples())
    while time.monotonic() < min(changed + _SETTLED, began + _SETTLING):
        time.sleep(1)
        now = writes_of(operator.samples())
        if now != writes:
            writes, changed = now, time.monotonic()
    return changed - began


def _restart(operator: Operator, size: int, limit: float) -> Result:
    operator.stop()
    operator.start()
    until = time.monotonic() + limit
    while True:
        now, samples = time.monotonic(), operator.samples()
        visited = int(samples.get(VISITED, 0))
        if now > until or (visited >= size and not samples.get("volatile_rse_queue_due")):
            break
        time.sleep(0.1)
    spent, seconds = operator.cpu(), now - operator.began
    # What a visit has begun to write, it has written by then.
    time.sleep(5)
    after = operator.samples()
    return {
        "visited": visited,
        "restart_seconds": seconds,
        "restart_cpu": spent,
        "restart_writes": writes_of(after),
        "restart_requests": requests_of(after) / size,
    }


def _deletion(place: Arranged, operator: Operator, names: Sequence[str], limit: float) -> Result:
    size = len(names)
    before, cpu, began = operator.samples(), operator.cpu(), time.monotonic()
    _drop(place.admin, (f"{_REQUESTS}/{name}" for name in names))
    place.watcher.until(lambda now: len(now.closed) >= size and len(now.gone) >= size, limit)
    seen, after, spent = place.watcher.seen, operator.samples(), operator.cpu() - cpu
    return {
        "closed": len(seen.closed),
        "deletion_seconds": max([*seen.closed.values(), *seen.gone.values()], default=began) - began,
        "deletion_requests": (requests_of(after) - requests_of(before)) / size,
        "deletion_cpu": spent / size,
        "deletion_by": json.dumps(by_kind(before, after, size)),
        "left": place.world.left(),
    }


def run(sizes: Sequence[int], delay: float = 0.0) -> Result:
    """Measure every size; the assembly without a cache only where it ends at all."""
    found: Result = {"sizes": json.dumps(sizes), "delay": delay}
    with arranged(delay) as place:
        for assembly in ("before", "after"):
            for size in sizes:
                if assembly == "before" and size > BEFORE:
                    continue
                one = measure(place, assembly, size)
                found |= {f"{assembly}.{size}.{name}": value for name, value in one.items()}
    return found
