"""Ways in which a part of the world fails for a while; it is whole again afterwards, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from testbed import cluster, installation
from testbed.layout import NODE
from tests.e2e.flows import docker

PROCESS = "python3 -m volatile_rse$"
"""Of the operator, among the processes of the node."""


@contextmanager
def stopped(container: str) -> Iterator[None]:
    """Its connections are refused."""
    docker("stop", "-t", "1", container)
    try:
        yield
    finally:
        docker("start", container)


@contextmanager
def paused(container: str) -> Iterator[None]:
    """It takes connections and never answers."""
    docker("pause", container)
    try:
        yield
    finally:
        docker("unpause", container)


@contextmanager
def cut_off(container: str) -> Iterator[None]:
    """Nothing gets through between the cluster and it, and nobody says so."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = docker("inspect", "-f", form, container).strip()
    rules = [(chain, "-d", address, "-j", "DROP") for chain in ("FORWARD", "OUTPUT")]
    try:
        for rule in rules:
            docker("exec", NODE, "iptables", "-I", *rule)
        yield
    finally:
        for rule in rules:
            docker("exec", NODE, "iptables", "-D", *rule)


@contextmanager
def operators(replicas: int) -> Iterator[None]:
    """None or several of them, then one."""
    scale = ("-n", installation.NAMESPACE, "scale", "deployment/volatile-rse")
    cluster.kubectl(*scale, f"--replicas={replicas}")
    try:
        yield
    finally:
        cluster.kubectl(*scale, "--replicas=1")


def process_of(pod: str) -> str:
    """Give the process of an operator's pod, as the node numbers it."""
    look = f'grep -lz "^HOSTNAME={pod}$" $(pgrep -f "{PROCESS}" | sed "s|.*|/proc/&/environ|") 2>/dev/null || true'
    return docker("exec", NODE, "sh", "-c", look).strip().split("/")[2]


@contextmanager
def frozen(process: str) -> Iterator[None]:
    """A process of the node stands still."""
    docker("exec", NODE, "kill", "-STOP", process)
    try:
        yield
    finally:
        # It may be gone: its pod's probe does not wait for ever.
        docker("exec", NODE, "sh", "-c", f"kill -CONT {process} || true")
