"""Helm, and the operator's chart on the testbed's cluster as an admin installs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from testbed import buffer, cluster, golang, installation, rendering, sidecar
from testbed.layout import CHECKOUT, KUBE_CONTEXT, KUBECONFIG
from testbed.progress import StepError

__all__ = ["CHART", "RELEASE", "forget", "helm", "images", "install"]

CHART = CHECKOUT / "charts" / "volatile-rse"
RELEASE = "volatile-rse"
_HELM = rendering.HELM


def helm(command: str, *argv: str) -> str:
    """Run a command of Helm in the operator's namespace of the testbed's own cluster, and give all that it prints.

    Raises
    ------
    StepError
        Helm failed; all that it printed.
    """
    where = ("--kubeconfig", str(KUBECONFIG), "--kube-context", KUBE_CONTEXT, "-n", installation.NAMESPACE)
    program = str(golang.installed(*_HELM))
    done = subprocess.run([program, command, *where, *argv], capture_output=True, text=True, check=False, timeout=300)
    # Logs of hooks go to stderr.
    said = done.stdout + done.stderr
    if done.returncode != 0:
        message = f"helm {command}: {said}"
        raise StepError(message)
    return said


def install(chart: Path | None = None) -> None:
    """Install the chart with this clone's images; what is there already becomes part of the release.

    Parameters
    ----------
    chart
        Another one than this clone's.
    """
    cluster.guard()
    helm("install", RELEASE, str(chart or CHART), "--take-ownership", "--wait", "--timeout", "120s", *images())


def images() -> tuple[str, ...]:
    """Give the arguments that name this clone's images."""
    named = {"image": installation.image(), "bufferImage": buffer.image(), "sidecarImage": sidecar.image()}
    values = ((name, *image.rsplit(":", 1)) for name, image in named.items())
    return (
        "--set",
        ",".join(
            [
                f"injection={installation.way_of_injection()}",
                *(f"{name}.repository={where},{name}.tag={tag}" for name, where, tag in values),
            ]
        ),
    )


def forget() -> None:
    """Have Helm know no release, without touching what it installed."""
    selector = f"owner=helm,name={RELEASE}"
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secrets", "-l", selector, "--ignore-not-found")
