"""Helm, and the operator's chart on the testbed's cluster as an admin installs it."""

from __future__ import annotations

import subprocess

from testbed import buffer, cluster, golang, installation, sidecar
from testbed.layout import CHECKOUT, KUBE_CONTEXT, KUBECONFIG
from testbed.progress import StepError

__all__ = ["CHART", "RELEASE", "forget", "helm", "install"]

CHART = CHECKOUT / "charts" / "volatile-rse"
RELEASE = "volatile-rse"
_HELM = ("helm.sh/helm/v3/cmd/helm", "v3.19.5")


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


def install() -> None:
    """Install the chart with this clone's images; what is there already becomes part of the release."""
    cluster.guard()
    images = f"operatorImage={installation.image()},bufferImage={buffer.image()},sidecarImage={sidecar.image()}"
    values = f"{images},injection=policy"
    helm("install", RELEASE, str(CHART), "--take-ownership", "--wait", "--timeout", "120s", "--set", values)


def forget() -> None:
    """Have Helm know no release, without touching what it installed."""
    selector = f"owner=helm,name={RELEASE}"
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secrets", "-l", selector, "--ignore-not-found")
