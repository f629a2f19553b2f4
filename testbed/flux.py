"""Flux on the testbed's cluster, and a Git server beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from testbed import cluster, containers, golang, installation, loading
from testbed.layout import NETWORK
from testbed.progress import step

__all__ = ["NAMESPACE", "removed", "repository", "up"]

NAMESPACE = "flux-system"
_SOURCES = "source-controller"
_ARGUMENTS = {
    "kustomize-controller": [],
    _SOURCES: ["--storage-path=/data", f"--storage-adv-addr={_SOURCES}.{NAMESPACE}.svc.cluster.local."],
}
"""Controller -> what it is started with."""
_READY = {"kustomize-controller": {"path": "/readyz", "port": 9440}, _SOURCES: {"path": "/", "port": 9090}}
_DOCKERFILE = "FROM scratch\nCOPY kustomize-controller source-controller /\nUSER 65534:65534\n"
"""Both are static, and need no file but their own."""


def image() -> str:
    """Give the image's tag, built from both controllers and known to the cluster."""
    with tempfile.TemporaryDirectory(prefix="flux-") as folder:
        for name in _ARGUMENTS:
            shutil.copy(golang.flux_controller(name), Path(folder, name))
        Path(folder, "Dockerfile").write_text(_DOCKERFILE)
        tag = containers.build("flux", Path(folder))
    loading.to_cluster(tag)
    return tag


def up() -> None:
    """Install Flux, as its own manifests do it: with all rights, in a namespace of its own."""
    cluster.guard()
    tag = image()
    with step("Flux"):
        for name in _ARGUMENTS:
            folder = str(golang.kinds_of_flux(name))
            cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", folder)
            cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", folder)
        installation.apply([*_rights(), *(_deployment(name, tag) for name in _ARGUMENTS), _service()])
        for name in _ARGUMENTS:
            cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=120s")


def removed() -> None:
    """Take all of it away."""
    cluster.kubectl("delete", "clusterrolebinding", NAMESPACE, "--ignore-not-found")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    for name in _ARGUMENTS:
        cluster.kubectl("delete", "--ignore-not-found", "-f", str(golang.kinds_of_flux(name)))


def _rights() -> list[dict[str, Any]]:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    who = {"kind": "ServiceAccount", "name": "default", "namespace": NAMESPACE}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {**binding, "metadata": {"name": NAMESPACE}, "roleRef": role, "subjects": [who]},
    ]


def _deployment(name: str, tag: str) -> dict[str, Any]:
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {
        "name": "manager",
        "image": tag,
        "imagePullPolicy": "IfNotPresent",
        "command": [f"/{name}"],
        "args": _ARGUMENTS[name],
        "env": [{"name": "RUNTIME_NAMESPACE", "value": NAMESPACE}, {"name": "HOME", "value": "/tmp"}],  # noqa: S108 (a volume of that pod alone)
        "securityContext": closed,
        "readinessProbe": {"httpGet": _READY[name], "periodSeconds": 1},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}],  # noqa: S108 (as above)
    }
    secure = {"runAsNonRoot": True, "runAsUser": 65534, "fsGroup": 1337, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {
        "securityContext": secure,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": name}}, "strategy": {"type": "Recreate"}, "template": template},
    }


def _service() -> dict[str, Any]:
    """Have kustomize-controller find what source-controller has brought."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": _SOURCES, "namespace": NAMESPACE},
        "spec": {"selector": {"app": _SOURCES}, "ports": [{"port": 80, "targetPort": 9090}]},
    }


@contextmanager
def repository(folder: Path, name: str) -> Iterator[str]:
    """Serve a new bare repository by Git's own program, to the cluster and to whoever clones it; give its URL.

    Parameters
    ----------
    folder
        Where it is made.
    name
        Of the repository.
    """
    bare = folder / f"{name}.git"
    for words in (["init", "--quiet", "--bare", "--initial-branch=main"], ["config", "http.receivepack", "true"]):
        place = [str(bare)] if words[0] == "init" else []
        subprocess.run(["git", *([] if place else ["-C", str(bare)]), *words, *place], check=True, timeout=30)

    class Handler(_Git):
        root = folder

    # The cluster's node, and through it its pods, know this machine by the address of the network's bridge.
    argv = ["docker", "network", "inspect", NETWORK, "-f", "{{(index .IPAM.Config 0).Gateway}}"]
    gateway = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    with ThreadingHTTPServer((gateway, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{gateway}:{server.server_port}/{bare.name}"
        finally:
            server.shutdown()


class _Git(BaseHTTPRequestHandler):
    """Hands each request to ``git http-backend``, as a web server does."""

    root: Path

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(
            ["git", "http-backend"],
            input=body, env={**os.environ, **variables}, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(HTTPStatus(int(fields.pop("Status", "200").split()[0])))
        for key, value in {**fields, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 (the name that the library calls)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
