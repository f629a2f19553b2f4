"""A batch system beside the cluster: Slurm in a container that has nothing of the cluster but its public addresses."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from testbed import containers
from testbed.layout import CHECKOUT, NODE, SLURM
from testbed.progress import StepError, step

__all__ = ["administer", "asked", "image", "put", "remove", "start"]

_USER = "physicist"
_HOME = f"/home/{_USER}"
_IMAGE = CHECKOUT / "testbed" / "images" / "slurm"


def image(base: str = "") -> str:
    """Give the image's tag, built from this content.

    Parameters
    ----------
    base
        Image that its jobs find their programs in; empty: with XRootD's clients alone.
    """
    given = {"BASE": base} if base else {}
    return containers.build("slurm", _IMAGE, **given)


def start(base: str = "") -> None:
    """Have it run, with nothing of earlier jobs."""
    tag = image(base)
    with step("Slurm") as log:
        containers.remove(SLURM)
        containers.ensure(SLURM, tag, [], log=log)
        _close()
        containers.settle(SLURM, log, _idle)


def remove() -> None:
    """Remove it."""
    containers.remove(SLURM)


def put(folder: Path) -> str:
    """Copy a folder into the home of its user, as scp would; give its path there."""
    there = f"{_HOME}/{folder.name}"
    _run("docker", "cp", folder, f"{SLURM}:{there}")
    _run("docker", "exec", SLURM, "chown", "-R", f"{_USER}:{_USER}", there)
    return there


def asked(*argv: str) -> str:
    """Give what a command of its user prints.

    Raises
    ------
    StepError
        It failed.
    """
    return _run("docker", "exec", "-u", _USER, "-w", _HOME, SLURM, *argv)


def administer(*argv: str) -> str:
    """Give what a command of its administrator prints.

    Raises
    ------
    StepError
        It failed.
    """
    return _run("docker", "exec", SLURM, *argv)


def _idle() -> None:
    if asked("sinfo", "-h", "-o", "%t").strip() != "idle":
        message = "its node is not idle yet"
        raise StepError(message)


def _close() -> None:
    """Let nothing out of it but what is for a public address of a buffer."""
    seen = _run("docker", "exec", SLURM, "getent", "ahostsv4", NODE)
    rules = (_IMAGE / "firewall.nft").read_text().replace("HOST", seen.split()[0])
    _run("docker", "exec", "--interactive", "--privileged", SLURM, "nft", "-f", "-", given=rules)


def _run(*argv: object, given: str | None = None) -> str:
    words: Sequence[str] = [str(word) for word in argv]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=120, input=given)
    if done.returncode:
        message = f"{' '.join(words)} failed: {done.stdout}{done.stderr}"
        raise StepError(message)
    return done.stdout
