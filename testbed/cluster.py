"""A real Kubernetes cluster by kind, with its own network that the catalogue and the sites share."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed import baseimages, golang
from testbed.layout import CHECKOUT, CLUSTER, KUBE_CONTEXT, KUBECONFIG, LABEL, NETWORK, NODE, STATE
from testbed.progress import Log, StepError, step

__all__ = ["delete", "ensure_network", "guard", "is_foreign", "kubectl", "load", "nodes", "up"]

_KIND = ("sigs.k8s.io/kind", "v0.33.0")
_PROVISIONER = ("github.com/rancher/local-path-provisioner", "v0.0.30")
_PUBLISHED = f"kindest/node:{golang.KUBERNETES_VERSION}"
_IMAGES = CHECKOUT / "testbed" / "images"
_IDENTITY = STATE / "cluster.json"
_CLONE = STATE / "clone"
_OWNER = f"{LABEL}.clone"
_READY = 180
"""Seconds in which a new cluster must be ready."""
_MUTATING_POLICIES: dict[str, Any] = {
    "featureGates": {"MutatingAdmissionPolicy": True},
    "runtimeConfig": {"admissionregistration.k8s.io/v1beta1": "true"},
}
"""Have MutatingAdmissionPolicy work, which is general from Kubernetes 1.36 on. Either of the two alone does not do."""


def kubectl(*argv: str, stdin: str | None = None) -> str:
    """Run kubectl against the testbed's own cluster, and no other.

    Raises
    ------
    StepError
        kubectl failed; its message.
    """
    done = subprocess.run([*_kubectl(), *argv], input=stdin, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        message = f"kubectl {' '.join(argv[:3])}: {done.stderr.strip() or done.stdout.strip()}"
        raise StepError(message)
    return done.stdout


def guard() -> None:
    """Refuse a cluster that this clone's testbed did not create.

    Raises
    ------
    StepError
        The kubeconfig speaks of another cluster, or of none.
    """
    if not _IDENTITY.exists() or not KUBECONFIG.exists():
        message = "this clone has no testbed: run `make up`"
        raise StepError(message)
    context = kubectl("config", "current-context").strip()
    known = json.loads(_IDENTITY.read_text())["uid"]
    if context != KUBE_CONTEXT or _uid() != known:
        message = f"context {context} of {KUBECONFIG} is not the cluster that the testbed created: run `make down up`"
        raise StepError(message)


def ensure_network() -> None:
    """Create the shared network: IPv4 only, since pods have no IPv6 and AAAA answers would come first."""
    if _owner() is None:
        STATE.mkdir(exist_ok=True)
        _CLONE.write_text(uuid.uuid4().hex)
        labels = ["--label", f"{LABEL}=network", "--label", f"{_OWNER}={_CLONE.read_text()}"]
        with step("Docker network") as log:
            log.run("docker", "network", "create", "--driver", "bridge", *labels, NETWORK)


def is_foreign() -> bool:
    """Tell whether what runs was made by another clone, or by this one before it lost its keys and passwords."""
    owner = _owner()
    return owner is not None and (not _CLONE.exists() or _CLONE.read_text() != owner)


def _owner() -> str | None:
    """Give the mark of the clone whose testbed exists; None: there is none."""
    template = f'{{{{index .Labels "{_OWNER}"}}}}'
    argv = ["docker", "network", "inspect", "-f", template, NETWORK]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def up() -> None:
    """Make sure that the cluster runs and is ready."""
    ensure_network()
    if not _is_ours():
        image = node_image()
        delete()
        with step("Kubernetes cluster") as log:
            _create(image, log)
    with step("Cluster is ready") as log:
        _await(log, "the node is Ready", lambda: "True" in _node_ready())
        for deployment in ("kube-system/coredns", "local-path-storage/local-path-provisioner"):
            namespace, name = deployment.split("/")
            log.write(kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={_READY}s"))


def _create(image: str, log: Log) -> None:
    STATE.mkdir(exist_ok=True)
    configuration: dict[str, Any] = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", **_MUTATING_POLICIES}
    if image != _PUBLISHED:
        configuration["networking"] = {"disableDefaultCNI": True, "podSubnet": "10.244.0.0/16"}
    log.run(
        *_kind(), "create", "cluster", "--name", CLUSTER, "--image", image, "--kubeconfig", KUBECONFIG,
        "--config", "-", "--retain", "--wait", "0s",
        stdin=json.dumps(configuration), env={"KIND_EXPERIMENTAL_DOCKER_NETWORK": NETWORK},
    )  # fmt: skip
    _IDENTITY.write_text(json.dumps({"uid": _uid()}))


def nodes() -> list[str]:
    """Name the cluster's containers, whichever clone created them, stopped ones too: their volumes have the outputs."""
    if shutil.which("docker") is None:
        return []
    argv = ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", f"label=io.x-k8s.kind.cluster={CLUSTER}"]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()


def delete() -> None:
    """Delete the cluster, whichever clone created it."""
    if found := nodes():
        with step("Delete the cluster") as log:
            log.run("docker", "rm", "-fv", *found)
    _IDENTITY.unlink(missing_ok=True)
    KUBECONFIG.unlink(missing_ok=True)


def load(*images: str) -> None:
    """Give images of the engine to the cluster's node."""
    guard()
    with step(f"Load {' '.join(images)}") as log:
        log.run(*_kind(), "load", "docker-image", "--name", CLUSTER, *images)


def node_image() -> str:
    """Give the published node image where a registry answers, else the one made here."""
    files = [path for path in sorted(_IMAGES.rglob("*")) if path.is_file() and path.parts[-2] != "__pycache__"]
    parts = [path for path in files if {"node", "components"} & set(path.relative_to(_IMAGES).parts)]
    key = hashlib.sha256(
        "\n".join(path.name + hashlib.sha256(path.read_bytes()).hexdigest() for path in parts).encode()
    )
    if baseimages.image_exists(_PUBLISHED):
        return _PUBLISHED
    candidates = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "vrse-testbed/node"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    if not candidates and baseimages.registry_answers(_PUBLISHED):
        return _PUBLISHED
    binary, pause = golang.kubernetes(), golang.pause()
    provisioner = golang.installed(*_PROVISIONER)
    for program in (binary, pause, provisioner):
        key.update(program.name.encode())
    tag = key.hexdigest()[:16]
    image = f"vrse-testbed/node:{tag}"
    if not baseimages.image_exists(image):
        components = _component_images(
            tag, {"kubernetes": binary, "pause": pause, _PROVISIONER[0].rsplit("/")[-1]: provisioner}
        )
        with step("Node image") as log:
            _build_node(image, binary, components, log)
    return image


def _component_images(tag: str, programs: dict[str, Path]) -> list[str]:
    """Build the one image of all components and tag it by every name that kubeadm asks for."""
    components = f"vrse-testbed/components:{tag}"
    with step("Component images") as log, tempfile.TemporaryDirectory(prefix="components-") as folder:
        context = Path(folder)
        shutil.copytree(_IMAGES / "components", context, dirs_exist_ok=True)
        for name, program in programs.items():
            shutil.copy(program, context / name)
        log.run("docker", "build", "--network", "host", "-t", components, context)
        kubeadm = context / "kubeadm"
        kubeadm.symlink_to("kubernetes")
        names = log.run(kubeadm, "config", "images", "list", "--kubernetes-version", golang.KUBERNETES_VERSION).split()
        for name in [*names, "registry.k8s.io/pause:3.10"]:
            if "coredns" in name:
                build: list[str | Path] = [
                    "-f",
                    context / "coredns.Dockerfile",
                    "--build-arg",
                    f"COMPONENTS={components}",
                ]
                log.run("docker", "build", "--network", "host", "-t", name, *build, context)
            else:
                log.run("docker", "tag", components, name)
    return sorted({components, *names, "registry.k8s.io/pause:3.10"})


def _build_node(image: str, binary: Path, components: list[str], log: Log) -> None:
    with tempfile.TemporaryDirectory(prefix="node-") as folder:
        context = Path(folder)
        shutil.copytree(_IMAGES / "node", context, dirs_exist_ok=True)
        shutil.copy(binary, context / "kubernetes")
        (context / "version").write_text(golang.KUBERNETES_VERSION)
        storage = (context / "default-storage.yaml.in").read_text()
        (own,) = [name for name in components if name.startswith("vrse-testbed/")]
        # containerd completes a name without a registry's host to one of Docker Hub.
        (context / "default-storage.yaml").write_text(storage.replace("@COMPONENTS@", f"docker.io/{own}"))
        log.run("docker", "save", "-o", context / "images.tar", *components)
        log.run("docker", "build", "--network", "host", "-t", image, context)


def _kind() -> list[str | Path]:
    return [golang.installed(*_KIND)]


def _kubectl() -> list[str]:
    """Use kubectl of PATH, else the one inside the compiled Kubernetes."""
    program = shutil.which("kubectl")
    if program is None:
        link = golang.kubernetes().parent / "kubectl"
        if not link.exists():
            link.symlink_to(golang.kubernetes().name)
        program = str(link)
    return [program, "--kubeconfig", str(KUBECONFIG), "--context", KUBE_CONTEXT]


def _uid() -> str:
    return kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")


def _is_ours() -> bool:
    try:
        guard()
    except (StepError, subprocess.TimeoutExpired):
        return False
    return True


def _node_ready() -> str:
    return kubectl("get", "node", NODE, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')


def _await(log: Log, what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _READY
    while not condition():
        if time.monotonic() > until:
            message = f"not reached within {_READY} s: {what} (see {log.path})"
            raise StepError(message)
        time.sleep(0.5)
