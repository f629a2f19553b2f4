"""Many sessions, many files, many random kills; then Rucio and the disks are asked what is lost, and what stays behind.

``python -m testbed.kills``: the operator is never asked whether an output is safe.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed import asking, cluster, grid, holding, installation, writer
from testbed.layout import DAEMONS, DATABASE, NODE, RUCIO, SITES
from testbed.progress import StepError
from testbed.sessions import Session, wait_for

__all__ = ["KINDS", "Kill", "Outcome", "Plan", "Verdict", "main", "run", "table"]

_SITE = "SITE-B"
_PATIENCE = 600
"""Seconds from the last kill to the last trace gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much happens."""

    sessions: int = 10
    files: int = 2000
    """Of all sessions together."""
    kills: int = 100
    pause: float = 3
    """Seconds between two kills, on average."""
    pace: float = 0.6
    """Seconds between two files of a session, on average."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Kill:
    """Something was killed."""

    second: float
    """Since the first session was asked for."""
    kind: str
    victim: str
    stages: dict[str, int]
    """Stage -> how many buffers were in it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one session, by Rucio and the disk of the site."""

    session: str
    acknowledged: int
    refused: int
    """Files that the client gave up; nobody was told that they are kept."""
    lost: Sequence[str]
    """Acknowledged files that are not safe, each with the reason."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of all."""

    seconds: float
    kills: Sequence[Kill]
    verdicts: Sequence[Verdict]
    orphans: Sequence[str]

    @property
    def lost(self) -> list[str]:
        """All acknowledged files that are not safe."""
        return [f"{verdict.session}: {line}" for verdict in self.verdicts for line in verdict.lost]


def _docker(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False, timeout=120)
    return done.stdout.strip()


def _process(pattern: str) -> Callable[[random.Random], str]:
    def kill(rng: random.Random) -> str:
        # From the node: no process of a container can kill its first one.
        found = _docker("exec", NODE, "pgrep", "-f", pattern).split()
        victim = rng.choice(found) if found else ""
        if victim:
            _docker("exec", NODE, "kill", "-KILL", victim)
        return victim

    return kill


def _pod(namespace: str, selector: str) -> Callable[[random.Random], str]:
    def kill(rng: random.Random) -> str:
        found = cluster.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "name").split()
        victim = rng.choice(found) if found else ""
        if victim:
            now = ("--grace-period=0", "--force", "--wait=false", "--ignore-not-found")
            cluster.kubectl("-n", namespace, "delete", victim, *now)
        return victim

    return kill


def _container(*names: str) -> Callable[[random.Random], str]:
    def kill(rng: random.Random) -> str:
        victim = rng.choice(names)
        _docker("kill", "--signal", "KILL", victim)
        time.sleep(rng.uniform(0, 3))
        _docker("start", victim)
        return victim

    return kill


KINDS: dict[str, Callable[[random.Random], str]] = {
    "operator, pod": _pod(installation.NAMESPACE, "app.kubernetes.io/name=volatile-rse"),
    "operator, process": _process("python3 -m volatile_rse$"),
    "agent, process": _process("volatile_rse[.]agent$"),
    "XRootD, process": _process("xrootd -c .*/(open|fenced)[.]cfg"),
    "storage pod": _pod(installation.BUFFERS, "volatilerse.io/record"),
    "Rucio, server": _container(RUCIO),
    "Rucio, daemons": _container(DAEMONS),
    "PostgreSQL": _container(DATABASE),
    "site": _container(*SITES.values()),
    "kubelet": _process("^/usr/bin/kubelet"),
}
"""What is killed -> how; gives the victim, or nothing if there is none now. All of them start again."""


@dataclass(slots=True)
class _Run:
    plan: Plan
    rng: random.Random
    name: str = field(default_factory=lambda: f"kills-{uuid.uuid4().hex[:6]}")
    began: float = field(default_factory=time.monotonic)
    started: list[Session] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)

    def second(self) -> float:
        return time.monotonic() - self.began

    def prepare(self) -> None:
        for namespace in self.namespaces():
            cluster.kubectl("create", "namespace", namespace)
            installation.enable(namespace)
        grants = [{"namespaces": self.namespaces(), "accounts": ["alice"], "scopes": ["user.alice"]}]
        installation.apply([installation.class_of(self.name, grants)])

    def namespaces(self) -> list[str]:
        return [f"{self.name}-{number}" for number in range(self.plan.sessions)]

    def start_due(self) -> None:
        """Start half of the sessions with the first kill, the others one by one: kills meet all stages at once."""
        share = 0.5 + len(self.kills) / max(1, self.plan.kills)
        due = min(self.plan.sessions, max(1, round(self.plan.sessions * share)))
        while len(self.started) < due:
            self._start(len(self.started))

    def _start(self, number: int) -> None:
        session = Session(self.namespaces()[number], "run", self.name)
        session.request(
            inputs=[{"name": "nano", "did": "user.alice:nano_dimuon"}],
            outputs=[
                {
                    "name": "kept",
                    "path": "kept/**",
                    "scope": "user.alice",
                    "dataset": session.namespace,
                    "destination": {"rseExpression": _SITE, "lifetime": "1d"},
                }
            ],
            session={"endGrace": "5s", "ttl": "2h"},
        )
        total, extra = divmod(self.plan.files, self.plan.sessions)
        files = total + (number < extra)
        program = shlex.quote(Path(writer.__file__).read_text())
        numbers = f"{files} {self.plan.pace} {self.plan.seed * 1000 + number}"
        session.job(f'python3 -c {program} "$ROOT_URL/$OUTBOX/kept" {numbers}\n')
        self.started.append(session)

    def kill_one(self) -> None:
        kind = self.rng.choice(list(KINDS))
        stages = _stages(self.name)
        second = self.second()
        victim = KINDS[kind](self.rng)
        if victim:
            self.kills.append(Kill(second, kind, victim, stages))
            met = ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))
            print(f"{second:7.1f} s  kill {len(self.kills):3}: {kind} {victim} ({met})", file=sys.stderr, flush=True)

    def clear(self) -> None:
        cluster.kubectl("delete", "namespace", *self.namespaces(), "--wait=false", "--ignore-not-found")
        cluster.kubectl("delete", "volatilerseclasses", self.name, "--ignore-not-found")


def run(plan: Plan) -> Outcome:
    """Let it happen, and judge.

    Raises
    ------
    StepError
        A session did not come to its end.
    """
    made = _Run(plan, random.Random(plan.seed))  # noqa: S311 (repeatable, no secret)
    before = _traces()
    made.prepare()
    made.began = time.monotonic()
    while len(made.kills) < plan.kills:
        made.start_due()
        time.sleep(made.rng.uniform(0, 2 * plan.pause))
        made.kill_one()
    made.start_due()
    _await_end(made)
    seconds = made.second()
    # Kubernetes takes a volume away a moment after its claim.
    left = _settle(made.name, before)
    disk = _on_disk(made.name)
    verdicts = [_judge(session, disk) for session in made.started]
    catalogued = {name for session in made.started for name in _catalogued(session)}
    dark = [f"file {name} on the disk of {_SITE} that Rucio does not know" for name in sorted({*disk} - catalogued)]
    made.clear()
    return Outcome(seconds, made.kills, verdicts, [*left, *dark])


def table(plan: Plan, outcome: Outcome) -> str:
    """Show what happened."""
    kinds = Counter(kill.kind for kill in outcome.kills)
    met: Counter[str] = Counter()
    for kill in outcome.kills:
        met.update(kill.stages)
    acknowledged = sum(verdict.acknowledged for verdict in outcome.verdicts)
    rows = {
        "sessions, files, kills, seed": f"{plan.sessions}, {plan.files}, {len(outcome.kills)}, {plan.seed}",
        "kills": ", ".join(f"{kinds[kind]} {kind.replace(',', '')}" for kind in KINDS if kinds[kind]),
        "buffers met by a kill, by stage": ", ".join(f"{count} {stage}" for stage, count in met.most_common()),
        "files acknowledged to the sessions": str(acknowledged),
        "files never acknowledged": str(sum(verdict.refused for verdict in outcome.verdicts)),
        "of the acknowledged: safe in Rucio and on the disk of the site": str(acknowledged - len(outcome.lost)),
        "lost": str(len(outcome.lost)),
        "orphans": str(len(outcome.orphans)),
        "duration": f"{outcome.seconds:.0f} s",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> int:
    """Run it from the command line; 1: something is lost or stays behind."""
    parser = argparse.ArgumentParser(prog="python -m testbed.kills", description=__doc__)
    default = Plan()
    for name in ("sessions", "files", "kills", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    for name in ("pause", "pace"):
        parser.add_argument(f"--{name}", type=float, default=getattr(default, name))
    plan = Plan(**vars(parser.parse_args()))
    holding.join("make test-kills")
    installation.up()
    try:
        outcome = run(plan)
    except StepError as error:
        print(f"kills: {error}", file=sys.stderr)
        return 1
    print(table(plan, outcome))
    for line in (*outcome.lost, *outcome.orphans):
        print(line, file=sys.stderr)
    return 1 if outcome.lost or outcome.orphans else 0


def _bodies() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]
    return found


def _owner(body: dict[str, Any]) -> str:
    return str(body["spec"]["claims"][0]["namespace"].rpartition("-")[0])


def _owners() -> list[tuple[str, str]]:
    """Give the run, or the like of it, that each record belongs to, and the record's id."""
    return [(_owner(body), body["spec"]["recordId"]) for body in _bodies()]


def _records(class_name: str) -> list[dict[str, Any]]:
    return [body for body in _bodies() if _owner(body) == class_name]


def _stages(class_name: str) -> dict[str, int]:
    return dict(Counter((body.get("status") or {}).get("phase") or "new" for body in _records(class_name)))


def _await_end(made: _Run) -> None:
    def closed() -> bool:
        return _stages(made.name).get("Closed", 0) == made.plan.sessions

    try:
        wait_for("all sessions are closed", closed, _PATIENCE, pause=2)
    except StepError as error:
        open_ = [body for body in _records(made.name) if not (body.get("status") or {}).get("closedAt")]
        lines = [f"{body['metadata']['name']}: {json.dumps(body.get('status'))}" for body in open_]
        message = f"{error}\n" + "\n".join(lines)
        raise StepError(message) from error


def _traces() -> set[str]:
    """List what buffers are made of: in Rucio, in the cluster, on the disk of the node."""
    root = grid.client("root")
    found = {f"RSE {entry['rse']}" for entry in root.list_rses() if entry["rse"].startswith("VRSE-")}
    found |= {f"ledger {name}" for name in root.list_dids(grid.LEDGER_SCOPE, [{"name": "*"}], did_type="dataset")}
    kinds = "pods,secrets,configmaps,services,persistentvolumeclaims"
    listed = cluster.kubectl("-n", installation.BUFFERS, "get", kinds, "-l", "volatilerse.io/record", "-o", "name")
    found |= {f"object {name}" for name in listed.split()}
    form = r'jsonpath={range .items[*]}{.metadata.name}/{.spec.claimRef.name}{"\n"}{end}'
    found |= {f"volume {name}" for name in cluster.kubectl("get", "persistentvolumes", "-o", form).split()}
    folders = _docker("exec", NODE, "sh", "-c", "ls /var/local-path-provisioner 2>/dev/null || true")
    return found | {f"folder {name} of the node" for name in folders.split()}


def _settle(class_name: str, before: set[str]) -> list[str]:
    """Give what stays behind; a buffer of somebody else whose record is there is none of it."""

    def left() -> list[str]:
        others = [record_id for owner, record_id in _owners() if owner != class_name]
        return sorted(name for name in _traces() - before if not any(_is_of(name, one) for one in others))

    try:
        wait_for("every trace to go", lambda: not left(), 60, pause=2)
    except StepError:
        return left()
    return []


def _is_of(trace: str, record_id: str) -> bool:
    return f"vrse-{record_id}" in trace.lower()


def _on_disk(prefix: str) -> dict[str, tuple[int, str]]:
    """Read every file of the run from the disk of the site: name -> size and checksum of what is there."""
    text = subprocess.run(
        ["docker", "exec", SITES[_SITE], "python3", "-c", _READ, prefix], capture_output=True, text=True, check=True
    ).stdout
    return {name: (size, digest) for name, size, digest in json.loads(text)}


_READ = """\
import json, pathlib, sys, zlib
found = [path for path in pathlib.Path("/data").rglob(sys.argv[1] + "*") if path.is_file()]
print(json.dumps([(path.name, path.stat().st_size, f"{zlib.adler32(path.read_bytes()):08x}") for path in found]))
"""


def _catalogued(session: Session) -> dict[str, dict[str, Any]]:
    dids = [{"scope": "user.alice", "name": session.namespace}]
    replicas = grid.client(grid.ALICE).list_replicas(dids, all_states=True)
    return {entry["name"]: entry for entry in replicas}


def _judge(session: Session, disk: dict[str, tuple[int, str]]) -> Verdict:
    lines = [line.split() for line in session.log().splitlines()]
    acknowledged = {line[1]: (int(line[2]), line[3]) for line in lines if line[:1] == ["ACK"]}
    catalogued = _catalogued(session)
    # A slash is written as two dashes; nothing else of these paths changes.
    named = {name.split(".", 2)[2]: name for name in catalogued}
    lost = []
    for path, content in acknowledged.items():
        name = named.get(f"kept--{path.replace('/', '--')}", "")
        entry = catalogued.get(name, {})
        if (entry.get("bytes"), entry.get("adler32")) != content or entry["states"] != {_SITE: "AVAILABLE"}:
            lost.append(f"{path}: Rucio has {entry or 'nothing'}")
        elif disk.get(name) != content:
            lost.append(f"{path}: the disk of {_SITE} has {disk.get(name)}, acknowledged was {content}")
    rules = [rule["state"] for rule in asking.rules("user.alice", session.namespace)] if acknowledged else ["OK"]
    if rules != ["OK"]:
        lost.append(f"rules of the dataset: {rules}")
    return Verdict(session.namespace, len(acknowledged), sum(line[:1] == ["NO"] for line in lines), lost)


if __name__ == "__main__":
    sys.exit(main())
