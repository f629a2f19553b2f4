"""Containers beside the cluster: images by content, volumes by label, one container made anew only if it must be."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed import baseimages
from testbed.layout import LABEL, NETWORK
from testbed.progress import Log, StepError, step

__all__ = ["build", "ensure", "port", "remove", "settle", "volume"]

_MADE_OF = f"{LABEL}.made-of"
"""Label that holds the digest of everything a container was started with."""


def build(name: str, folder: Path, **arguments: str) -> str:
    """Build the image of a folder, once for each content and each set of build arguments, and give its tag."""
    key = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        key.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    given = [word for pair in sorted(arguments.items()) for word in ("--build-arg", "=".join(pair))]
    key.update("\0".join(given).encode())
    image = f"vrse-testbed/{name}:{key.hexdigest()[:16]}"
    if not baseimages.image_exists(image):
        with step(f"Image {name}") as log:
            log.run("docker", "build", "--network", "host", "--label", f"{LABEL}=image", *given, "-t", image, folder)
    return image


def volume(name: str) -> str:
    """Make sure that a labelled volume exists and give its name."""
    subprocess.run(["docker", "volume", "create", "--label", f"{LABEL}=volume", name], capture_output=True, check=True)
    return name


def ensure(name: str, image: str, options: Sequence[str], *command: str, log: Log) -> bool:
    """Make sure that a container runs as described, keeping what runs and starting what was stopped.

    Returns
    -------
    bool
        Whether it was created or started just now.
    """
    argv = [
        "--name", name, "--hostname", name, "--network", NETWORK, "--label", f"{LABEL}=container", *options, image,
        *command,
    ]  # fmt: skip
    key = hashlib.sha256("\0".join(argv).encode())
    # A mounted file that was replaced would stay the old one to a running container.
    for source in (Path(word.split(":")[0]) for word in options if word.startswith("/")):
        if source.is_file():
            key.update(source.read_bytes())
    made_of = key.hexdigest()
    known, running = _inspect(name)
    if known == made_of and running:
        return False
    if known == made_of:
        log.run("docker", "start", name)
        return True
    # Volumes are named, so what a container keeps survives its replacement.
    log.run("docker", "rm", "-f", name, check=False)
    log.run("docker", "run", "-d", "--label", f"{_MADE_OF}={made_of}", *argv)
    return True


def remove(*names: str, volumes: Sequence[str] = ()) -> None:
    """Remove containers and volumes, present or not."""
    subprocess.run(["docker", "rm", "-fv", *names], capture_output=True, check=False)
    if volumes:
        subprocess.run(["docker", "volume", "rm", "-f", *volumes], capture_output=True, check=False)


def port(name: str, inner: int) -> int:
    """Give the port of this machine's loopback address that leads to a container's port."""
    out = subprocess.run(["docker", "port", name, f"{inner}/tcp"], capture_output=True, text=True, check=True).stdout
    return int(out.split()[0].rsplit(":", 1)[1])


def settle(name: str, log: Log, probe: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a probe of a container no longer fails.

    Raises
    ------
    StepError
        The container ended, or the probe still fails after that time; the container's log stands in the step's log.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            probe()
        except (OSError, StepError, subprocess.SubprocessError) as error:
            _, running = _inspect(name)
            if running and time.monotonic() < until:
                time.sleep(0.3)
                continue
            log.run("docker", "logs", name, check=False)
            state = "does not answer" if running else "has ended"
            message = f"{name} {state}: {error} (see {log.path})"
            raise StepError(message) from error
        else:
            return


def _inspect(name: str) -> tuple[str, bool]:
    """Give the digest that a container carries and whether it runs; an empty digest for none."""
    template = f'{{{{index .Config.Labels "{_MADE_OF}"}}}} {{{{.State.Running}}}}'
    argv = ["docker", "inspect", "--type", "container", "-f", template, name]
    out = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    made_of, _, running = out.strip().rpartition(" ")
    return made_of, running == "true"
