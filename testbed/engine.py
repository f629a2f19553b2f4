"""A Docker engine: the one that answers, or one that is started here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from testbed.layout import CACHE
from testbed.progress import Log, StepError, step

__all__ = ["answers", "ensure"]

_CAP_SYS_RESOURCE = 24
"""Bit of the capability (linux/capability.h)."""

_WAIT = 60
"""Seconds in which a fresh engine must answer."""


def answers() -> bool:
    """Tell whether a Docker engine answers on the default socket or on ``DOCKER_HOST``."""
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, check=False)
    return done.returncode == 0


def ensure() -> None:
    """Make sure that a Docker engine answers; start one only if none does.

    Raises
    ------
    StepError
        None answers and none can be started.
    """
    if answers():
        return
    with step("Start a Docker engine") as log:
        if os.geteuid() != 0 or shutil.which("dockerd") is None:
            message = "no Docker engine answers: start one, or run as root where docker.io can be installed"
            raise StepError(message)
        _start(log)


def _start(log: Log) -> None:
    directory = CACHE / "engine"
    directory.mkdir(parents=True, exist_ok=True)
    argv = ["dockerd"]
    if not _has_sys_resource():
        argv += ["--add-runtime", f"modest={_wrapper(directory)}", "--default-runtime", "modest"]
    output = directory / "dockerd.log"
    log.write(f"$ {' '.join(argv)} >{output}")
    # A stale pid file of an engine that died with its machine would keep the new one from starting.
    pid_file = Path("/var/run/docker.pid")
    if pid_file.exists() and not Path(f"/proc/{pid_file.read_text().strip()}").exists():
        pid_file.unlink()
    with output.open("ab") as stream:
        # Its own session: the engine outlives this command, like a service.
        engine = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True, cwd="/"
        )
    until = time.monotonic() + _WAIT
    while not answers():
        if engine.poll() is not None or time.monotonic() > until:
            message = f"dockerd does not answer (see {output})"
            raise StepError(message)
        time.sleep(0.2)


def _has_sys_resource() -> bool:
    status = Path("/proc/self/status").read_text()
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    return bool(int(bounding, 16) >> _CAP_SYS_RESOURCE & 1)


def _wrapper(directory: Path) -> Path:
    """Write a runtime that asks of runc only what this machine may give."""
    path = directory / "modest-runc"
    runc = shutil.which("runc") or "/usr/sbin/runc"
    # The interpreter itself, not the venv's link to it: the engine outlives this clone.
    path.write_text(f"#!{Path(sys.executable).resolve()} -IS\nRUNC = {json.dumps(runc)}\n{_WRAPPER}")
    path.chmod(0o755)
    return path


_WRAPPER = '''
"""runc without CAP_SYS_RESOURCE: takes it, raised limits and lowered OOM scores out of each request."""
import json, os, sys


def modest(process):
    for names in (process.get("capabilities") or {}).values():
        if isinstance(names, list) and "CAP_SYS_RESOURCE" in names:
            names.remove("CAP_SYS_RESOURCE")
    process.pop("rlimits", None)
    if (process.get("oomScoreAdj") or 0) < 0:
        process["oomScoreAdj"] = 0


def rewrite(path, pick):
    with open(path) as stream:
        document = json.load(stream)
    modest(pick(document))
    with open(path, "w") as stream:
        json.dump(document, stream)


def option(names):
    for index, word in enumerate(sys.argv):
        for name in names:
            if word == name:
                return sys.argv[index + 1]
            if word.startswith(name + "="):
                return word.split("=", 1)[1]
    return None


if "create" in sys.argv or "run" in sys.argv:
    rewrite(os.path.join(option(["--bundle", "-b"]) or ".", "config.json"), lambda document: document["process"])
elif "exec" in sys.argv and option(["--process", "-p"]):
    rewrite(option(["--process", "-p"]), lambda document: document)
os.execv(RUNC, [RUNC, *sys.argv[1:]])
'''
