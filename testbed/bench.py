"""How fast it is, beside stock clients that do the same in the same run: ``make bench``, on a running testbed.

``python -m testbed.bench PART...`` measures some of it; each part is bounded in count and time, and keeps its result in
``.testbed/bench.json``. ``python -m testbed.bench table`` writes docs/benchmarks.md from what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

from testbed import buffer, clients, cluster, grid, holding, installation, scale, scale_table, trust
from testbed.layout import CHECKOUT, CLIENT, NETWORK, RUCIO, SITES, STATE
from testbed.progress import StepError
from testbed.sessions import LABEL, Session, wait_for
from volatile_rse.api.names import hash_path

__all__ = ["main"]

_RESULTS = STATE / "bench.json"
_SITE = "SITE-A"
_SCOPE = f"user.{grid.ALICE}"
_ROUNDS = 5
_VOLUMES = {"memory": "a memory-backed volume", "disk": "the machine's disk"}
_FILES = 2000
"""Of many small ones; what a peer does with fewer of them is said in its row."""
_INPUTS = 200
_UPLOADED = 200
"""By ``rucio upload``, which takes some eight minutes for all of them, beside copies that the agent makes."""
_MIB = 1 << 20
_AIMS = {("large", "xrdcp"): 0.9, ("small", "xrdcp"): 1.5, ("small", "rucio"): 4}
Result = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Sample:
    """Files on a site that Rucio knows as a dataset."""

    dataset: str
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Of all."""
        return sum(self.sizes)

    def name(self, number: int) -> str:
        """Give the name of a file."""
        return f"{self.dataset}.{number:05}"

    def data(self, number: int) -> bytes:
        """Make a file: nothing that compresses, and always the same."""
        block = (f"{self.dataset}{number}".encode() * 97)[:4093]
        return (block * (self.sizes[number] // len(block) + 1))[: self.sizes[number]]


LARGE = Sample("bench.large", (_MIB * 1024 // 10,) * 10)
SMALL = Sample("bench.small", (100_000,) * _FILES)
FEW = Sample("bench.few", (100_000,) * _INPUTS)
HUGE = Sample("bench.huge", (2200 * _MIB,))


def _url(path: str, rse: str = _SITE) -> str:
    return f"{grid.grid().davs_outside[rse]}{path}"


def _path(name: str) -> str:
    return f"/store/{hash_path(_SCOPE, name)}"


def _put(name: str, data: bytes) -> None:
    facts = grid.grid()
    headers = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
    answer = requests.put(_url(_path(name)), data=data, headers=headers, verify=facts.bundle, timeout=120)
    answer.raise_for_status()


def _file(name: str, data: bytes) -> dict[str, Any]:
    """Say what Rucio is told of a file."""
    return {"scope": _SCOPE, "name": name, "bytes": len(data), "adler32": f"{zlib.adler32(data):08x}"}


def publish(sample: Sample) -> list[dict[str, Any]]:
    """Have the files at the site and in Rucio; give the entries of a manifest."""
    client, facts = grid.client("root"), grid.grid()
    known = list(client.list_dids(_SCOPE, [{"name": sample.dataset}], did_type="dataset"))
    there = {file["name"]: file for file in client.list_files(_SCOPE, sample.dataset)} if known else {}
    files = []
    for number in range(len(sample.sizes)):
        name = sample.name(number)
        if name not in there:
            data = sample.data(number)
            _put(name, data)
            there[name] = _file(name, data)
            files.append(there[name])
    if not known:
        client.add_dataset(_SCOPE, sample.dataset)
    for begin in range(0, len(files), 500):
        client.add_replicas(_SITE, files[begin : begin + 500])
        client.attach_dids(_SCOPE, sample.dataset, files[begin : begin + 500])
    inside = facts.davs[_SITE].replace("https", "davs", 1)
    return [
        {
            "scope": _SCOPE, "name": name, "entries": ["data"], "path": _path(name), "bytes": file["bytes"],
            "adler32": file["adler32"], "sources": [f"{inside}{_path(name)}"],
        }
        for name, file in there.items()
    ]  # fmt: skip


def _manifest(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    facts = grid.grid()
    return {
        "digest": "0" * 64, "claims": ["bench"], "inputs": list(inputs),
        "credentials": dict.fromkeys(SITES.values(), dict.fromkeys(("read", "write"), facts.tokens[grid.ALICE])),
        "trust": Path(facts.bundle).read_text(),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Driver:
    """A program that does a job, and the image that it needs."""

    program: str
    image: Callable[[], str]


AGENT, COMMAND = Driver("bench_driver.py", buffer.image), Driver("bench_command.py", clients.image)


def in_container(
    job: Mapping[str, Any], files: Mapping[str, str] | None = None, volume: str = "disk", driver: Driver = AGENT
) -> dict[str, float]:
    """Run a driver in its image, on a volume of its own."""
    # An anonymous volume: the machine's disk, without the layers of the image.
    volumes = {"disk": ("-v", "/data"), "memory": ("--tmpfs", "/data:rw,size=4g,uid=10940,mode=755")}
    # Nobody shall pay for what another one has left to be written.
    os.sync()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "job.json").write_text(json.dumps(job))
        shutil.copy(CHECKOUT / "testbed" / driver.program, folder)
        (folder / "token").write_text(grid.grid().tokens[grid.ALICE])
        for other, text in (files or {}).items():
            (folder / other).write_text(text)
        for path in folder.iterdir():
            path.chmod(0o444 if path.name != "token" else 0o400)
            os.chown(path, 10940, -1)
        argv = [
            "docker", "run", "--rm", "--user", "10940:10940", "--network", NETWORK,
            "-v", f"{folder}:/bench:ro", "-v", f"{trust.TRUST}:/trust:ro",
            *volumes[volume], "-e", "X509_CERT_DIR=/trust/certificates", "-e", "BEARER_TOKEN_FILE=/bench/token",
            driver.image(), "python3", f"/bench/{driver.program}",
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            message = f"the driver failed: {done.stderr[-2000:]}"
            raise StepError(message)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def _xrdcp(inputs: Sequence[Mapping[str, Any]], volume: str) -> dict[str, float]:
    host = SITES[_SITE]
    urls = "\n".join(f"root://{host}:1094/{entry['path']}" for entry in inputs)
    command = ["xrdcp", "--silent", "--parallel", "8", "--infiles", "/bench/list", "/data/"]
    return in_container({"command": command}, {"list": urls + "\n"}, volume, COMMAND)


def _rucio_download(sample: Sample) -> float:
    with _folder_of_client() as folder:
        began = time.monotonic()
        _client("rucio", "download", "--dir", folder, "--ndownloader", "8", f"{_SCOPE}:{sample.dataset}")
        return time.monotonic() - began


@contextmanager
def _folder_of_client() -> Iterator[str]:
    folder = f"/tmp/bench-{uuid.uuid4().hex[:8]}"  # noqa: S108 (of the client's container)
    _client("mkdir", folder)
    yield folder
    _client("rm", "-rf", folder)


def _client(*argv: str) -> None:
    done = subprocess.run(["docker", "exec", CLIENT, *argv], capture_output=True, text=True, timeout=500, check=False)
    if done.returncode:
        message = f"{argv[0]} failed: {done.stderr[-1000:]}"
        raise StepError(message)


def staging() -> Result:
    """Stage 1 GiB in 10 files, and 2,000 files of 100 KB."""
    large, small = publish(LARGE), publish(SMALL)
    found: Result = {}
    for name, sample, inputs in (("large", LARGE, large), ("small", SMALL, small)):
        job = {"kind": "stage", "manifest": _manifest(inputs)}
        for volume in _VOLUMES:
            ours, xrdcp = [], []
            for _ in range(_ROUNDS):
                ours.append(in_container(job, volume=volume))
                xrdcp.append(_xrdcp(inputs, volume)["seconds"])
            found[f"{name}.{volume}.ours"] = statistics.median(one["seconds"] for one in ours)
            found[f"{name}.{volume}.xrdcp"] = statistics.median(xrdcp)
            found[f"{name}.rss_mib"] = max(one["rss_mib"] for one in ours)
        found[f"{name}.rucio"] = _rucio_download(sample)
    return found


def huge() -> Result:
    """Stage one file of more than 2 GiB."""
    job = {"kind": "stage", "manifest": _manifest(publish(HUGE))}
    done = in_container(job)
    return {"seconds": done["seconds"], "rss_mib": done["rss_mib"], "mib": HUGE.size // _MIB}


def copies() -> Result:
    """Seal and copy 2,000 outputs of 20 KB by the agent alone, and upload some by the stock client."""
    record, folder = "abcdefgh23", f"/store/bench-{uuid.uuid4().hex[:8]}"
    site = grid.grid().davs["SITE-B"].replace("https", "davs", 1)
    job = {
        "kind": "copy", "files": _FILES, "size": 20_000, "scope": _SCOPE, "dataset": "bench.out", "record": record,
        "url": f"{site}{folder}", "manifest": _manifest([]),
    }  # fmt: skip
    done = in_container(job)
    return {
        "ours": done["seconds"],
        "sealed": done["sealed"],
        "rss_mib": done["rss_mib"],
        "uploaded": _UPLOADED,
        "upload": _rucio_upload()[0] * _FILES / _UPLOADED,
    }


def _requests() -> tuple[int, int]:
    """Count what Rucio's server was asked since it began: by the operator, and by everybody else."""
    done = subprocess.run(["docker", "logs", RUCIO], capture_output=True, text=True, timeout=60, check=True)
    lines = [
        line for line in (done.stdout + done.stderr).splitlines() if " HTTP/1.1" in line and '"GET /ping' not in line
    ]
    ours = sum("volatile-rse" in line for line in lines)
    return ours, len(lines) - ours


def _rucio_upload() -> tuple[float, int]:
    """Give seconds and requests to Rucio of some files of 20 KB."""
    with _folder_of_client() as folder:
        key = uuid.uuid4().hex[:8]
        make = f"for n in $(seq {_UPLOADED}); do head -c 20000 /dev/urandom > {folder}/bench.{key}.$n; done"
        _client("bash", "-c", make)
        upload = f"rucio upload --rse SITE-B --scope {_SCOPE} --lifetime 3600 {folder}/*"
        began, before = time.monotonic(), _requests()[1]
        _client("bash", "-c", upload)
        return time.monotonic() - began, _requests()[1] - before


# On the cluster.


@contextmanager
def _tenant(storage: Mapping[str, object]) -> Iterator[str]:
    cluster.guard()
    name = f"bench-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    installation.enable(name)
    grants = [{"namespaces": [name], "accounts": [grid.ALICE], "scopes": [_SCOPE]}]
    limits = {"perOwner": {"buffers": 1000, "newPerHour": 10_000}}
    installation.apply([installation.class_of(name, grants, storage=dict(storage), limits=limits)])
    try:
        yield name
    finally:
        cluster.kubectl("delete", "volatilerses", "--all", "-n", name, "--wait=false")
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def _catalogue(metrics: Mapping[str, float]) -> tuple[float, float]:
    """Give calls and seconds."""

    def total(part: str) -> float:
        begin = f"volatile_rse_catalogue_call_seconds_{part}{{"
        return sum(value for name, value in metrics.items() if name.startswith(begin))

    return total("count"), total("sum")


def _writes() -> int:
    """Count what the operator has written since it began, its Lease aside."""
    begin = "volatile_rse_cluster_writes_total{"
    found = installation.metrics().items()
    return int(sum(value for name, value in found if name.startswith(begin) and 'kind="Lease"' not in name))


def _operator_mib() -> float:
    """Give the resident memory of the operator's process, by its own metrics or by the kernel."""
    pods = ("-n", installation.NAMESPACE, "exec", "deployment/volatile-rse", "--", "cat", "/proc/1/status")
    line = next(line for line in cluster.kubectl(*pods).splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def ready(count: int = 20) -> Result:
    """Apply sessions without inputs on a memory-backed class, one after the other, and await Ready."""
    seconds, pods, calls, catalogue, writes = [], [], [], [], []
    with _tenant({"memory": {}}) as namespace:
        for number in range(count):
            session = Session(namespace, f"run-{number}", namespace)
            before, wrote = _catalogue(installation.metrics()), _writes()
            began = time.monotonic()
            session.request(capacity="64Mi", minimumDurability="Pod")
            wait_for("Ready", lambda session=session: session.is_true("Ready"), 60, 0.05)  # type: ignore[misc]
            seconds.append(time.monotonic() - began)
            after = _catalogue(installation.metrics())
            calls.append(after[0] - before[0])
            catalogue.append(after[1] - before[1])
            record = session.record()
            pods.append(_pod_seconds(record["metadata"]["name"]))
            session.delete()
            # The end of one would take its share of the beginning of the next.
            session.wait_closed()
            writes.append(_writes() - wrote)
    ordered = sorted(seconds)
    return {
        "count": count,
        "p50": statistics.median(ordered),
        "p99": ordered[-1],
        "pod": statistics.median(pods),
        "catalogue": statistics.median(catalogue),
        "calls": statistics.median(calls),
        "writes": statistics.median(writes),
    }


def _pod_seconds(name: str) -> float:
    """Give the time from the pod's making to its readiness, in whole seconds."""
    pod = json.loads(cluster.kubectl("-n", installation.BUFFERS, "get", "pod", name, "-o", "json"))
    stamps = [pod["metadata"]["creationTimestamp"]]
    stamps += [one["lastTransitionTime"] for one in pod["status"]["conditions"] if one["type"] == "Ready"]
    begin, end = (time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")) for stamp in stamps)
    return end - begin


_MOUNTED_AFTER = range(0, 120, 20)
"""Seconds after which pods begin to wait: the kubelet retries a mount ever later, and then every two minutes."""
_GATED = 3


def late(minutes: int = 10) -> Result:
    """Have inputs come at a file a minute, as from a tape, and time pods that wait for them by gate and by mount."""
    sample = Sample(f"bench.late.{uuid.uuid4().hex[:8]}", (_MIB,) * minutes)
    files = [_file(sample.name(number), sample.data(number)) for number in range(minutes)]
    client = grid.client("root")
    client.add_dataset(_SCOPE, sample.dataset)
    client.add_replicas(_SITE, files)
    client.attach_dids(_SCOPE, sample.dataset, files)
    with _tenant({"memory": {}}) as namespace:
        installation.enable(namespace, injected=True)
        session = Session(namespace, "late", namespace)
        inputs = [{"name": "late", "did": f"{_SCOPE}:{sample.dataset}"}]
        session.request(capacity="64Mi", minimumDurability="Pod", inputs=inputs)
        wait_for("the buffer", lambda: session.status().get("rse"), 120)
        began = time.monotonic()
        plan: list[tuple[int, Callable[[], None]]] = []
        plan += [(0, partial(_waiting, session, f"gate-{number}", by_label=True)) for number in range(_GATED)]
        plan += [(second, partial(_waiting, session, f"mount-{second}")) for second in _MOUNTED_AFTER]
        plan += [
            (60 * number + 60, partial(_put, file["name"], sample.data(number))) for number, file in enumerate(files)
        ]
        for second, do in sorted(plan, key=lambda entry: entry[0]):
            time.sleep(max(began + second - time.monotonic(), 0))
            do()
        wait_for("Usable", lambda: session.is_true("Usable"), 600, 0.1)
        usable = time.monotonic()
        running = _running_after(namespace, _GATED + len(_MOUNTED_AFTER))
        cluster.kubectl("-n", namespace, "delete", "pods", "--all", "--wait=false")
        session.delete()
        session.wait_closed()
    found: Result = {"minutes": (usable - began) / 60, "load": os.getloadavg()[2]}
    for way in ("gate", "mount"):
        seconds = [value for name, value in running.items() if name.startswith(way)]
        found |= {f"{way}.count": len(seconds), f"{way}.p50": statistics.median(seconds)}
        found |= {f"{way}.least": min(seconds), f"{way}.most": max(seconds)}
    return found


def _waiting(session: Session, name: str, *, by_label: bool = False) -> None:
    """Make a pod that waits for its session: by its label, or by Secret and ConfigMap alone."""
    objects = f"{session.name}-vrse"
    volumes = [{"name": "config", "configMap": {"name": objects}}, {"name": "token", "secret": {"secretName": objects}}]
    mounts = [{"name": "config", "mountPath": "/etc/vrse"}, {"name": "token", "mountPath": "/etc/vrse-secret"}]
    container = {
        "name": "main",
        "image": clients.image(),
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "volumeMounts": [] if by_label else mounts,
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsUser": 10960},
        "containers": [container],
        "volumes": [] if by_label else volumes,
    }
    labels = {LABEL: session.name} if by_label else {}
    metadata = {"name": name, "namespace": session.namespace, "labels": labels}
    installation.apply([{"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}])
    gates = cluster.kubectl("-n", session.namespace, "get", "pod", name, "-o", "jsonpath={.spec.schedulingGates}")
    if by_label and not gates:
        message = f"pod {name} has no gate: its namespace is not injected"
        raise StepError(message)


def _running_after(namespace: str, count: int) -> dict[str, float]:
    """Give the seconds after which each pod runs, from now on."""
    began, found = time.monotonic(), dict[str, float]()

    def look() -> bool:
        pods = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
        for pod in pods:
            if pod["status"]["phase"] == "Running":
                found.setdefault(pod["metadata"]["name"], time.monotonic() - began)
        return len(found) == count

    wait_for(f"{count} pods run", look, 240, 0.1)
    return found


def idle(minutes: float = 5) -> Result:
    """Count writes while one session is Ready and nothing happens; memory of the operator with 1, 10, 50 buffers."""
    found: Result = {"minutes": minutes}
    with _tenant({"memory": {}}) as namespace:
        sessions = [Session(namespace, f"run-{number}", namespace) for number in range(50)]
        sessions[0].request(capacity="64Mi", minimumDurability="Pod")
        wait_for("Ready", lambda: sessions[0].is_true("Ready"), 60)
        time.sleep(5)
        found["rss.1"] = _operator_mib()
        before = _writes()
        time.sleep(minutes * 60)
        found["writes"] = _writes() - before
        # The node has room for the pods of some twenty; the others wait for it, and are buffers all the same.
        for count, condition, more in ((10, "Ready", sessions[1:10]), (50, "RSERegistered", sessions[10:])):
            for session in more:
                session.request(capacity="16Mi", minimumDurability="Pod")
            for session in more:
                wait_for(condition, lambda session=session, condition=condition: session.is_true(condition), 300)  # type: ignore[misc]
            time.sleep(5)
            found[f"rss.{count}"] = _operator_mib()
        for session in sessions:
            session.delete()
        for session in sessions:
            session.wait_closed(600)
    return found


def outputs(files: int = _FILES) -> Result:
    """Have a session with inputs write 2,000 outputs, and time from its end until they are safe; count all writes."""
    publish(FEW)
    dataset = f"bench.{uuid.uuid4().hex[:8]}"
    with _tenant({"volume": {}}) as namespace:
        session = Session(namespace, "run", namespace)
        output = {
            "name": "kept", "path": "kept/**", "scope": _SCOPE, "dataset": dataset,
            "destination": {"rseExpression": "SITE-B", "lifetime": "1d"},
        }  # fmt: skip
        inputs = [{"name": "few", "did": f"{_SCOPE}:{FEW.dataset}"}]
        wrote = _writes()
        session.request(inputs=inputs, outputs=[output])
        wait_for("Ready", lambda: session.is_true("Ready"), 60)
        session.job(
            f"mkdir /tmp/kept; for n in $(seq {files}); do head -c 20000 /dev/urandom > /tmp/kept/$n; done\n"
            "xrdcp --silent --recursive --parallel 8 /tmp/kept $ROOT_URL/$OUTBOX/\n"
        )
        wait_for("the end of the session", lambda: _stamp(session, "session", "endedAt"), 240)
        before = _requests()[0]
        wait_for("safe outputs", lambda: session.record()["status"].get("safeAt"), 300)
        asked = _requests()[0] - before
        record = session.record()
        seconds = _seconds(record["status"]["safeAt"]) - _seconds(record["status"]["session"]["endedAt"])
        session.delete()
        session.wait_closed()
        writes = _writes() - wrote
    upload, requested = _rucio_upload()
    times = files / _UPLOADED
    return {
        "files": files, "inputs": _INPUTS, "seconds": seconds, "writes": writes, "requests": asked,
        "uploaded": _UPLOADED, "upload": upload * times, "requested": requested * times,
    }  # fmt: skip


def _stamp(session: Session, *path: str) -> Any:  # noqa: ANN401
    found: Any = session.record().get("status") or {}
    for part in path:
        found = (found or {}).get(part)
    return found


def _seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def fakes() -> Result:
    """Bring many VolatileRSEs to Ready against fakes, in a process of its own."""
    found: Result = {}
    for count in (1, 50, 200):
        argv = [sys.executable, "-m", "tests.bench_fakes", str(count)]
        environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT / 'operator'}{os.pathsep}{CHECKOUT}"}
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=300, check=True, env=environment, cwd=CHECKOUT
        )
        found.update({f"{count}.{name}": value for name, value in json.loads(done.stdout.splitlines()[-1]).items()})
    return found


def many() -> Result:
    """Have many buffers at once, as many as SCALE says, on a node that runs nothing."""
    return scale.run(scale.sizes_of(os.environ.get("SCALE", "")), float(os.environ.get("SCALE_DELAY", "0")) / 1000)


PARTS: Mapping[str, Callable[[], Result]] = {
    "staging": staging, "huge": huge, "copies": copies, "fakes": fakes, "ready": ready, "outputs": outputs,
    "late": late, "idle": idle, "scale": many,
}  # fmt: skip


def _known() -> dict[str, Result]:
    return json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}


def _row(what: str, ours: str, peer: str, ratio: float, aim: float | None = None) -> str:
    judged = "" if aim is None else f"{aim:g}: {'reached' if ratio >= aim else 'missed'}"
    return f"| {what} | {ours} | {peer} | {ratio:.1f} | {judged} |"


def _scaled(one: Mapping[str, Any], files: int) -> str:
    return f", {files / one['uploaded']:.0f} times what {one['uploaded']} took"


def _compared(known: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if one := known.get("staging"):
        for name, what, count in (("large", "staging 1 GiB in 10 files", 0), ("small", "staging 2,000 x 100 KB", 2000)):
            for volume, where in _VOLUMES.items():
                ours = one[f"{name}.{volume}.ours"]
                rate = f"{count / ours:.0f} files/s" if count else f"{1024 / ours:.0f} MiB/s"
                peers = {"xrdcp": ("`xrdcp --parallel 8`", one[f"{name}.{volume}.xrdcp"])}
                if volume == "disk":
                    peers["rucio"] = "`rucio download`", one[f"{name}.rucio"]
                for peer, (said, other) in peers.items():
                    aim = _AIMS.get((name, peer))
                    what_there = f"{what}, {where}"
                    yield _row(what_there, f"{ours:.2f} s, {rate}", f"{said} {other:.2f} s", other / ours, aim)
    if one := known.get("copies"):
        ours, other = one["ours"], one["upload"]
        said = f"{ours:.1f} s, {_FILES / ours:.0f} files/s; sealing {one['sealed']:.1f} s"
        peer = f"`rucio upload` {other:.0f} s{_scaled(one, _FILES)}"
        yield _row("copying 2,000 x 20 KB out, verified", said, peer, other / ours)
    if one := known.get("outputs"):
        ours, other = one["seconds"], one["upload"]
        what = f"{one['files']} outputs, session's end to safe"
        scaled = _scaled(one, one["files"])
        yield _row(what, f"{ours:.0f} s", f"`rucio upload` {other:.0f} s{scaled}", other / ours, 10)
        ours, other = max(one["requests"], 1), one["requested"]
        said = f"`rucio upload` {other:.0f} requests{scaled}"
        yield _row("the same, asked of Rucio's server", f"{ours:.0f} requests", said, other / ours, 100)


def _figures(known: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if one := known.get("huge"):
        memory = f"{one['rss_mib']:.0f} MiB of memory"
        yield f"- One input of {one['mib']} MiB: {one['seconds']:.1f} s, the agent has {memory}."
    if one := known.get("staging"):
        yield f"- The agent with 2,000 inputs has {one['small.rss_mib']:.0f} MiB of memory."
    if one := known.get("ready"):
        yield f"- Apply to Ready, no inputs, memory-backed class, {one['count']} in a row:"
        yield f"  p50 {one['p50']:.1f} s (aim: 5), p99 {one['p99']:.1f} s (the slowest). Of the median,"
        yield f"  the start of the pod takes {one['pod']:.1f} s, {one['calls']:.0f} catalogue calls"
        rest = one["p50"] - one["pod"] - one["catalogue"]
        yield f"  {one['catalogue']:.1f} s, and the rest, {rest:.1f} s, is the operator's and the API server's."
        yield "- The operator's API writes for such a session from request to Closed, Events included:"
        yield f"  {one['writes']:.0f} (aim: 25)."
    if one := known.get("outputs"):
        yield f"- The same for a session with {one['inputs']} input files, a Job and {one['files']} outputs:"
        yield f"  {one['writes']:.0f}."
    if one := known.get("late"):
        yield f"- From Usable to Running, of pods that waited for {one['minutes']:.0f} minutes while inputs came at a"
        yield f"  file a minute: {_range(one, 'gate')} where the label holds them by a gate,"
        yield f"  {_range(one, 'mount')}, made 20 s apart, where a mount of Secret and ConfigMap does,"
        yield f"  which the kubelet retries ever later. Load {one['load']:.0f} in the last 15 minutes."
    if one := known.get("idle"):
        yield f"- The operator's API writes, its Lease aside, in {one['minutes']:.0f} idle minutes with one"
        yield f"  Ready buffer: {one['writes']} (aim: 0)."
        rss = " / ".join(f"{one[f'rss.{count}']:.0f}" for count in (1, 10, 50))
        yield f"- The operator's memory with 1 / 10 / 50 buffers: {rss} MiB. Of the 50"
        yield "  some have pods that wait for room on the node."
    if one := known.get("fakes"):
        each = (one["200.rss_mib"] - one["1.rss_mib"]) / 199 * 1024
        yield f"- On fakes, one thread: 200 VolatileRSEs at once are Ready after {one['200.seconds']:.1f} s, 50 after"
        yield f"  {one['50.seconds']:.1f} s; {each:.0f} KiB of memory for each,"
        yield f"  fakes included. The whole process with 50: {one['50.rss_mib']:.0f} MiB."


def _range(one: Mapping[str, Any], way: str) -> str:
    least, most = one[f"{way}.least"], one[f"{way}.most"]
    return f"{one[f'{way}.p50']:.1f} s ({one[f'{way}.count']} pods, {least:.1f} to {most:.1f} s)"


def table(known: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the page."""
    lines = [
        "# Benchmarks", "",
        "`make bench` measures and writes this page. A ratio is the peer's time over ours, in the same run.", "",
        *_machine(), "",
        "| what | ours | peer | ratio | aim |", "|---|---|---|---|---|", *_compared(known), "", *_figures(known), "",
        "All of it, sites, Rucio and cluster, shares these cores. What the agent stages is synced and compared with",
        f"Rucio's adler32 as it arrives, `xrdcp` does neither. Medians of {_ROUNDS} runs, ours and the peer's in turn,",
        "count. Peers do the same number of files, but where their row says otherwise.",
    ]  # fmt: skip
    if one := known.get("scale"):
        lines += ["", *scale_table.section(one)]
    return "\n".join(lines) + "\n"


def _machine() -> list[str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    kernel, day = platform.release().split("-")[0], time.strftime("%Y-%m-%d", time.gmtime())
    return [
        f"Machine: {os.cpu_count()} cores, {memory:.0f} GiB, ext4, Linux {kernel}; one kind node. XRootD 5.9.9,",
        f"Rucio 41.5.1, Python {platform.python_version()} (fakes), Debian trixie's 3.13 (agent). Measured {day}.",
        f"Load when this was written: {os.getloadavg()[2]:.1f} in the last 15 minutes.",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m testbed.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "table"], default=[*PARTS, "table"])
    parts = parser.parse_args(argv).parts
    holding.join("make bench")
    for part in parts:
        if part == "table":
            (CHECKOUT / "docs" / "benchmarks.md").write_text(table(_known()))
            continue
        found = PARTS[part]()
        rounded = {name: round(value, 2) if isinstance(value, float) else value for name, value in found.items()}
        print(part, json.dumps(rounded))
        _RESULTS.write_text(json.dumps({**_known(), part: found}, indent=1))


if __name__ == "__main__":
    main()
