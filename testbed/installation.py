"""The operator on the testbed's cluster: images, kinds, manifests, and what an admin of the site configures."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from testbed import buffer, cluster, containers, grid, loading, pki, rucio, sidecar
from testbed.layout import ALL_SITES, CHECKOUT, NODE
from testbed.progress import StepError, step
from volatile_rse.api.injection import TENANT

__all__ = [
    "BUFFERS",
    "CLASS",
    "CONNECTION",
    "NAMESPACE",
    "OPERATOR",
    "admission",
    "apply",
    "class_of",
    "enable",
    "image",
    "manifests",
    "metrics",
    "up",
    "way_of_injection",
]

NAMESPACE, BUFFERS = "volatile-rse", "volatile-rse-buffers"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:volatile-rse"
"""As the API server knows it."""
CONNECTION, CLASS = "rucio", "standard"
LOGIN, SITE_TOKENS = "rucio-login", "grid-tokens"
"""Secrets of the connection and of the class."""
_AUTHORITY = "volatile-rse-ca"
_RELEASED = "volatile-rse/{}:latest"
"""Images, as manifests name them."""
_INSTALLED: set[tuple[str, str]] = set()
"""Images of the operator and of buffers that this process has installed."""
_FIELDS = ("operator/volatile_rse", "requirements/operator.txt")


def image() -> str:
    """Give the image's tag, built from this content and known to the cluster."""
    with tempfile.TemporaryDirectory(prefix="operator-") as folder:
        context = Path(folder)
        shutil.copy(CHECKOUT / "images" / "operator" / "Dockerfile", context)
        for field in _FIELDS:
            source, target = CHECKOUT / field, context / field
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        tag = containers.build("operator", context)
    loading.to_cluster(tag)
    return tag


def up() -> None:
    """Install the operator as it is in this clone, and have the grid trust its authority; once in a process."""
    cluster.guard()
    with step("Operator image"):
        operator_image = image()
    with step("Buffer image"):
        buffer_image = buffer.image()
    with step("Sidecar image"):
        sidecar_image = sidecar.image()
    if (operator_image, buffer_image) in _INSTALLED and _serves(operator_image, buffer_image):
        return
    with step("Operator") as log:
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHECKOUT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CHECKOUT / "crds"))
        apply(manifests(operator_image, buffer_image, sidecar_image))
        apply(_configuration())
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/volatile-rse", "--timeout=120s")
        log.write(f"{operator_image} {buffer_image}")
        rucio.add_authority("operator", _authority())
    _INSTALLED.add((operator_image, buffer_image))


def _serves(operator_image: str, buffer_image: str) -> bool:
    """Tell whether nobody has removed or changed what this process installed."""
    try:
        found = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "deployment", "volatile-rse", "-o", "json"))
    except StepError:
        return False
    container = found["spec"]["template"]["spec"]["containers"][0]
    images = {container["image"], *(entry.get("value") for entry in container["env"])}
    return {operator_image, buffer_image} <= images and found.get("status", {}).get("readyReplicas") == 1


def admission() -> None:
    """Have the API server refuse what only the operator may write, and whose consent is not their own."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHECKOUT / "manifests/admission.yaml"))


def way_of_injection() -> str:
    """Tell how: by the API server, unless the cluster was made by an earlier version, without the policies for it."""
    return "policy" if "v1beta1" in cluster.kubectl("get", "--raw", "/apis/admissionregistration.k8s.io") else "webhook"


def manifests(operator_image: str, buffer_image: str, sidecar_image: str) -> list[dict[str, Any]]:
    """Give what of ``manifests/`` is installed, as an admin would write it who has these images."""
    names = ("operator", "metrics", "admission", f"injection-{way_of_injection()}")
    text = "---\n".join((CHECKOUT / "manifests" / f"{name}.yaml").read_text() for name in names)
    images = {_RELEASED.format("operator"): operator_image, _RELEASED.format("buffer"): buffer_image}
    for said, image in {**images, sidecar.RELEASED: sidecar_image}.items():
        text = text.replace(said, image)
    return list(yaml.safe_load_all(text))


def apply(bodies: Sequence[Mapping[str, Any]]) -> None:
    """Apply objects as an admin would."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


def metrics() -> dict[str, float]:
    """Read the operator's metrics from its pod: each sample's name with its labels, and its value."""
    pods = ("-n", NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=volatile-rse")
    pod = cluster.kubectl(*pods, "--field-selector", "status.phase=Running", "-o", "name").split()[0].split("/")[1]
    text = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8081/proxy/metrics")
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def enable(namespace: str, *, injected: bool = False) -> None:
    """Let buffers be used in a namespace.

    Parameters
    ----------
    injected
        Its pods get what their session has by its label alone.
    """
    cluster.kubectl("apply", "-n", namespace, "-f", str(CHECKOUT / "manifests" / "tenant.yaml"))
    if injected:
        cluster.kubectl("label", "namespace", namespace, "--overwrite", f"{TENANT}=true")


def class_of(name: str, grants: Sequence[Mapping[str, Sequence[str]]], **changes: object) -> dict[str, Any]:
    """Describe a class on this testbed."""
    spec: dict[str, Any] = {
        "connectionName": CONNECTION,
        "storage": {"volume": {}},
        "exposure": {"publicHost": NODE},
        "siteCredentials": {"secretName": SITE_TOKENS, "caConfigMap": "grid-ca"},
        "tenancy": {"grants": list(grants)},
        **changes,
    }
    return {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "VolatileRSEClass",
        "metadata": {"name": name},
        "spec": spec,
    }


def site_tokens(name: str, tokens: Mapping[str, str]) -> dict[str, Any]:
    """Describe a Secret of tokens by host."""
    metadata = {"name": name, "namespace": NAMESPACE}
    kind = {"apiVersion": "v1", "kind": "Secret", "type": "volatilerse.io/site-tokens"}
    return {**kind, "metadata": metadata, "stringData": dict(tokens)}


def login(name: str) -> dict[str, Any]:
    """Describe a Secret of the operator's login at Rucio."""
    facts, metadata = grid.grid(), {"name": name, "namespace": NAMESPACE}
    texts = {"username": grid.OPERATOR, "password": facts.passwords[grid.OPERATOR], "server": facts.inside}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": texts}


def _configuration() -> list[dict[str, Any]]:
    facts = grid.grid()
    tokens = dict.fromkeys(ALL_SITES.values(), facts.tokens[grid.OPERATOR])
    connection = {
        "server": facts.inside,
        "caConfigMap": "grid-ca",
        "account": grid.OPERATOR,
        "userpass": {"secretName": LOGIN},
        "ledgerScope": grid.LEDGER_SCOPE,
    }
    grants = [{"namespaces": ["alice"], "accounts": ["alice"], "scopes": ["user.alice", "cms"]}]

    def made(kind: str, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}

    return [
        site_tokens(SITE_TOKENS, tokens),
        login(LOGIN),
        made("ConfigMap", "grid-ca", {"data": {"ca.crt": pki.CA.read_text()}}),
        {
            "apiVersion": "volatilerse.io/v1alpha1",
            "kind": "RucioConnection",
            "metadata": {"name": CONNECTION},
            "spec": connection,
        },
        class_of(CLASS, grants),
    ]


def _authority() -> str:
    """Read the operator's authority, which it makes at its first start."""
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=create", f"configmap/{_AUTHORITY}", "--timeout=60s")
    return cluster.kubectl("-n", NAMESPACE, "get", "configmap", _AUTHORITY, "-o", r"jsonpath={.data.ca\.crt}")
