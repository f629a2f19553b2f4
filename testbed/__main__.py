"""``python -m testbed COMMAND``: the testbed from the command line; needs the standard library alone."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import signal
import subprocess
import sys

from testbed import baseimages, cluster, engine, golang, holding, xrootd
from testbed.layout import LABEL, LOGS, STATE
from testbed.progress import StepError


def up(command: str, *, fresh: bool, holder: int | None = None, force: bool = False) -> None:
    """Bring everything up; repeated, it resumes where it stopped.

    Parameters
    ----------
    command
        What people call it.
    fresh
        Make anew all that carries state.
    holder
        The process that uses the testbed; by default this one.
    force
        Whatever other processes use it.

    Raises
    ------
    StepError
        Another clone uses the testbed, or a step failed.
    """
    for left in holding.take(command, holder, alone=fresh, force=force):
        print(f"testbed: what {left} has left is taken over: that process has ended")
    engine.ensure()
    if fresh or cluster.is_foreign():
        down()
    baseimages.ensure()
    cluster.up()
    # Imported late: `down` must work with the standard library alone.
    for part in ("sites", "rucio", "samples"):
        importlib.import_module(f"testbed.{part}").up()


def prepare() -> None:
    """Have in the cache what takes minutes to compile beside other work; nothing that runs is touched."""
    # A shell lets what it starts beside other work ignore an interrupt, and ends it by a signal that leaves things.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    engine.ensure()
    baseimages.ensure()
    xrootd.source()
    golang.health()


def refuse_while_unsafe() -> None:
    """Look for outputs that may be nowhere else; where there is no cluster nobody has to answer.

    Raises
    ------
    StepError
        There are some; names their records. Or the cluster is there, and does not tell within seconds.
    """
    if not (nodes := cluster.nodes()):
        return
    try:
        left = _unsafe()
    except (StepError, subprocess.SubprocessError, OSError, ValueError, LookupError, TypeError) as error:
        message = (
            f"whether outputs are at risk cannot be told: the cluster's container {', '.join(nodes)} is there, and its "
            f"API server does not answer ({error}). USER must act: have it answer (slow, it may answer later; "
            f"stopped: `docker start {' '.join(nodes)}`) and repeat this, or destroy it with all that it has: "
            "`make down FORCE=1`"
        )
        raise StepError(message) from error
    if left:
        message = f"outputs of {', '.join(left)} are not safe: wait for them, or use `make down FORCE=1`"
        raise StepError(message)


def _unsafe() -> list[str]:
    patience = "--request-timeout=5s"
    kind = cluster.kubectl("get", "crd", "rserecords.volatilerse.io", "--ignore-not-found", "-o", "name", patience)
    if not kind.strip():
        # No operator was ever installed.
        return []
    found = json.loads(cluster.kubectl("get", "rserecords", "-o", "json", patience))["items"]
    statuses = {body["metadata"]["name"]: body.get("status") or {} for body in found}
    began = {name for name, status in statuses.items() if (status.get("session") or {}).get("readyAt")}
    return sorted(name for name in began if not statuses[name].get("safeAt"))


def down() -> None:
    """Remove every container, volume and network of the testbed, whichever clone made them."""
    if _has_engine():
        _remove()
    for path in STATE.glob("*"):
        if path != LOGS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _has_engine() -> bool:
    """Tell whether there is an engine to clean; one that was stopped starts, since it still has the containers."""
    if shutil.which("docker") is None:
        return False
    try:
        engine.ensure()
    except StepError as error:
        print(f"testbed: containers and volumes are left as they are: {error}", file=sys.stderr)
        return False
    return True


def _remove() -> None:
    cluster.delete()
    for list_, remove in (
        (["ps", "-aq"], ["rm", "-fv"]),
        (["volume", "ls", "-q"], ["volume", "rm", "-f"]),
        (["network", "ls", "-q"], ["network", "rm"]),
    ):
        found = subprocess.run(
            ["docker", *list_, "--filter", f"label={LABEL}"], capture_output=True, text=True, check=True
        ).stdout.split()
        if found:
            subprocess.run(["docker", *remove, *found], capture_output=True, check=True)


def status() -> None:
    """Say what runs."""
    subprocess.run(["docker", "ps", "--filter", f"label={LABEL}"], check=False)
    cluster.guard()
    print(cluster.kubectl("get", "nodes,pods", "-A"))


def main() -> int:
    """Run one command; give its exit code."""
    parser = argparse.ArgumentParser(prog="testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    beginning = commands.add_parser("up")
    beginning.add_argument("--fresh", action="store_true", help="make anew all that carries state")
    beginning.add_argument("--holder", type=int, help="process that uses it, by default this one")
    showing = commands.add_parser("demo", help="the main job, shown")
    ending = commands.add_parser("down")
    ending.add_argument("--discard", action="store_true", help="also while outputs are not safe")
    for parts in (beginning, showing, ending):
        parts.add_argument("--force", action="store_true", help="whatever others use it for, and outputs are not safe")
    commands.add_parser("prepare", help="compile XRootD and the like, if it has to be")
    commands.add_parser("status")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "up":
                command = "make test" if arguments.fresh else "make up"
                up(command, fresh=arguments.fresh, holder=arguments.holder, force=arguments.force)
            case "demo":
                up("make demo", fresh=False, force=arguments.force)
                importlib.import_module("testbed.demo").run()
            case "down":
                holding.take("make down", alone=True, force=arguments.force)
                if not (arguments.force or arguments.discard):
                    refuse_while_unsafe()
                down()
                holding.leave()
            case "prepare":
                prepare()
            case _:
                status()
    except (StepError, subprocess.SubprocessError) as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"testbed: interrupted; the same command again resumes (logs: {LOGS})", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
