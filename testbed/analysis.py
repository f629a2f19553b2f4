"""The image of an analysis on many pods: coffea and Dask on top of the session's image; and the operator of Dask."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import cluster, containers, helm, loading, session, wheels
from testbed.layout import CHECKOUT
from testbed.progress import step

__all__ = ["PYTHON", "dask_operator", "image"]

PYTHON = "/opt/analysis/bin/python"
_IMAGES = CHECKOUT / "testbed" / "images"
_RELEASE = "dask"
_PACKAGE = (
    "/opt/analysis/lib/python3.13/site-packages/dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator"
)
"""Where the package has its chart."""


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    return _images()[0]


def _images() -> tuple[str, str]:
    """Give the tags of the analysis and of the controller of dask-kubernetes: one set of layers."""
    with tempfile.TemporaryDirectory(prefix="analysis-") as folder:
        context = Path(folder) / "analysis"
        shutil.copytree(_IMAGES / "analysis", context)
        # As an installation leaves it: with what tells fsspec of the plug-in.
        shutil.unpack_archive(wheels.session(Path(folder)), context / "packages", "zip")
        analysis = containers.build("analysis", context, SESSION=session.image())
    controller = containers.build("dask", _IMAGES / "dask", ANALYSIS=analysis)
    loading.to_cluster(analysis, controller)
    return analysis, controller


@contextmanager
def dask_operator(namespace: str) -> Iterator[None]:
    """Run the operator of dask-kubernetes for one namespace, by its own chart and kinds."""
    _, controller = _images()
    name, tag = controller.rsplit(":", 1)
    values = {
        "image": {"name": name, "tag": tag},
        "rbac": {"cluster": False},
        "kopfArgs": [f"--namespace={namespace}"],
        "podSecurityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "securityContext": {"runAsUser": 10960},
        # That uid has no name in the image, and kopf asks for one.
        "extraEnv": [{"name": "USER", "value": "dask"}],
    }
    with tempfile.TemporaryDirectory(prefix="dask-") as folder, step("Operator of Dask"):
        chart, given = Path(folder) / "chart", Path(folder) / "values.json"
        _take_out(controller, _PACKAGE, chart)
        given.write_text(json.dumps(values))
        where = ("--namespace", namespace, "--wait", "--timeout", "120s")
        # Large kinds: what an apply notes beside them has no room.
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(chart / "crds"))
        helm.helm("install", _RELEASE, str(chart), "--skip-crds", *where, "--values", str(given))
    yield
    # Its finalizers would keep the namespace, once nobody is there to take them away.
    cluster.kubectl("-n", namespace, "delete", "daskclusters", "--all", "--timeout=60s")
    helm.helm("uninstall", _RELEASE, *where)


def _take_out(tag: str, source: str, target: Path) -> None:
    """Copy a folder out of an image."""

    def docker(*argv: str) -> str:
        return subprocess.run(["docker", *argv], capture_output=True, text=True, check=True).stdout.strip()

    container = docker("create", tag)
    try:
        docker("cp", f"{container}:{source}", str(target))
    finally:
        docker("rm", container)
