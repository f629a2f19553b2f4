"""A real JupyterHub on the testbed's cluster, configured as Zero to JupyterHub does it from values."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests
import yaml

from testbed import cluster, containers, grid, installation, loading, pki, session, wheels
from testbed.layout import CHECKOUT, NODE
from testbed.progress import step
from testbed.sessions import wait_for

__all__ = [
    "CHECK",
    "PASSWORD",
    "RIGHTS",
    "TOKEN",
    "Hub",
    "answers",
    "image",
    "lab_image",
    "reached",
    "rucio_files",
    "up",
]

PASSWORD = "demo"  # noqa: S105 (of a hub that lives for a test)
TOKEN = "7e0b1c5d9a344f0e8c2d6b7a90f1e3d5"  # noqa: S105 (as above)
"""Of a service with rights over all users."""
VALUES = CHECKOUT / "examples" / "jupyterhub" / "values.yaml"
RIGHTS = CHECKOUT / "manifests" / "hub.yaml"

_CONFIG = """\
import json
with open("/etc/jupyterhub/values.json") as file:
    values = json.load(file)
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
for name, section in values["hub"]["config"].items():
    c[name].update(section)
for _, code in sorted(values["hub"]["extraConfig"].items()):
    exec(code)
"""
"""What the chart's own configuration does, as far as these values ask for it."""

_OWN: dict[str, dict[str, Any]] = {
    "JupyterHub": {
        "authenticator_class": "dummy",
        "bind_url": "http://:8000",
        "hub_bind_url": "http://:8081",
        "hub_connect_url": "http://hub:8081",
        "db_url": "sqlite:////srv/hub/state/hub.sqlite",
        "cookie_secret_file": "/srv/hub/state/cookie",
        "allow_named_servers": True,
        "cleanup_servers": False,
        "services": [{"name": "tests", "api_token": TOKEN}],
        "load_roles": [
            {"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "read:hub"]}
        ],
    },
    "ConfigurableHTTPProxy": {"pid_file": "/srv/hub/state/proxy.pid"},
    "DummyAuthenticator": {"password": PASSWORD},
    "Authenticator": {"allow_all": True, "admin_users": ["admin"]},
    "Spawner": {"default_url": "/lab"},
    "KubeSpawner": {
        "image_pull_policy": "IfNotPresent",
        "start_timeout": 180,
        "http_timeout": 60,
        "uid": 10960,
        "fs_gid": 10960,
        "delete_grace_period": 1,
        "container_security_context": {"capabilities": {"drop": ["ALL"]}},
        "pod_security_context": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "grid-ca", "configMap": {"name": "grid-ca"}}],
        "volume_mounts": [{"name": "grid-ca", "mountPath": "/etc/grid-ca", "readOnly": True}],
    },
}


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub that runs."""

    namespace: str
    url: str

    def logs(self) -> str:
        """Give what it has said."""
        return cluster.kubectl("-n", self.namespace, "logs", "deployment/hub", "--tail=400")


CHECK = """
from volatile_rse.jupyterhub.checks import Rucio
with open("/etc/rucio/server") as file:
    server, account = file.read().split()
c.VolatileRSESpawner.vrse_check = Rucio(
    server, account=account, username=account, password_file="/etc/rucio/password", ca="/etc/rucio/ca.crt"
)
"""
"""Has the form ask the testbed's Rucio."""


def rucio_files() -> dict[str, str]:
    """Give the files that CHECK names."""
    facts = grid.grid()
    return {
        "/etc/rucio/server": f"{facts.inside} {grid.ALICE}",
        "/etc/rucio/password": facts.passwords[grid.ALICE],
        "/etc/rucio/ca.crt": pki.CA.read_text(),
    }


def image(version: str = "") -> str:
    """Give the tag of the hub's image, known to the cluster; of another version if one is named."""
    arguments = {"REQUIREMENTS": f"requirements-{version}.txt"} if version else {}
    tag = containers.build("hub", CHECKOUT / "testbed" / "images" / "hub", **arguments)
    loading.to_cluster(tag)
    return tag


def lab_image() -> str:
    """Give the tag of the servers' image, known to the cluster."""
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        context = Path(folder) / "lab"
        shutil.copytree(CHECKOUT / "testbed" / "images" / "lab", context)
        # As an installation leaves it: with what tells fsspec of the plug-in.
        shutil.unpack_archive(wheels.session(Path(folder)), context / "packages", "zip")
        tag = containers.build("lab", context, SESSION=session.image())
    loading.to_cluster(tag)
    return tag


def up(
    namespace: str,
    settings: Mapping[str, Any],
    code: str = "",
    files: Mapping[str, str] = MappingProxyType({}),
    version: str = "",
) -> Hub:
    """Start a hub in a namespace, with the values of examples/jupyterhub, and wait until it answers.

    Parameters
    ----------
    settings
        Of the spawner: ``hub.config.VolatileRSESpawner``.
    code
        More configuration: one of ``hub.extraConfig``.
    files
        Paths in the hub's container, and what stands there: ``hub.extraFiles``.
    version
        Of the hub, if not the newest.
    """
    hub_image, server_image = image(version), lab_image()
    values = yaml.safe_load(VALUES.read_text())
    config = {name: dict(section) for name, section in _OWN.items()}
    config["KubeSpawner"]["image"] = server_image
    values["hub"]["config"] = config | {"VolatileRSESpawner": dict(settings)}
    values["hub"]["extraConfig"]["10-site"] = code
    for number, (path, text) in enumerate(files.items()):
        values["hub"]["extraFiles"][f"site-{number}"] = {"mountPath": path, "stringData": text}
    with step("Hub"):
        installation.apply(_objects(namespace, values, hub_image))
        cluster.kubectl("-n", namespace, "apply", "-f", str(RIGHTS))
        cluster.kubectl("-n", namespace, "rollout", "status", "deployment/hub", "--timeout=120s")
    return reached(namespace, "proxy")


def reached(namespace: str, proxy: str) -> Hub:
    """Give a hub that answers through its proxy.

    Parameters
    ----------
    proxy
        Name of the Service, which has a NodePort.
    """
    service = json.loads(cluster.kubectl("-n", namespace, "get", "service", proxy, "-o", "json"))
    url = f"http://{_node_address()}:{service['spec']['ports'][0]['nodePort']}"
    wait_for("the hub answers", lambda: answers(f"{url}/hub/health"), 60)
    return Hub(namespace, url)


def _objects(namespace: str, values: Mapping[str, Any], hub_image: str) -> list[dict[str, Any]]:
    files = values["hub"]["extraFiles"]

    def made(kind: str, name: str, content: Mapping[str, Any], version: str = "v1") -> dict[str, Any]:
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}

    told = {"hub": {key: values["hub"][key] for key in ("config", "extraConfig")}}
    closed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "hub",
        "image": hub_image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "securityContext": closed,
        "readinessProbe": {"httpGet": {"port": 8081, "path": "/hub/health"}, "periodSeconds": 2},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/jupyterhub"},
            {"name": "state", "mountPath": "/srv/hub"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of that pod alone)
            *({"name": "files", "mountPath": file["mountPath"], "subPath": key} for key, file in files.items()),
        ],
    }
    pod = {
        "serviceAccountName": "hub",
        "terminationGracePeriodSeconds": 3,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10950,
            "fsGroup": 10950,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [
            {
                "name": "state",
                "image": hub_image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["mkdir", "-p", "/srv/hub/state"],
                "securityContext": closed,
                "volumeMounts": [{"name": "state", "mountPath": "/srv/hub"}],
            }
        ],
        "containers": [container],
        "volumes": [
            {"name": "config", "configMap": {"name": "hub-config"}},
            {"name": "files", "secret": {"secretName": "hub-files"}},
            {"name": "state", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "delete"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    binding = {
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "hub"},
        "subjects": [{"kind": "ServiceAccount", "name": "hub", "namespace": namespace}],
    }
    template = {"metadata": {"labels": {"app": "hub"}}, "spec": pod}
    deployment = {
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {"app": "hub"}},
        "template": template,
    }
    return [
        made("ServiceAccount", "hub", {}),
        made("Role", "hub", {"rules": rules}, f"{rbac}/v1"),
        made("RoleBinding", "hub", binding, f"{rbac}/v1"),
        made("Secret", "hub-files", {"stringData": {key: file["stringData"] for key, file in files.items()}}),
        made("ConfigMap", "hub-config", {"data": {"jupyterhub_config.py": _CONFIG, "values.json": json.dumps(told)}}),
        made("ConfigMap", "grid-ca", {"data": {"ca.crt": pki.CA.read_text()}}),
        made("Service", "hub", {"spec": {"selector": {"app": "hub"}, "ports": [{"port": 8081}]}}),
        made("Service", "proxy", {"spec": {"type": "NodePort", "selector": {"app": "hub"}, "ports": [{"port": 8000}]}}),
        made("Deployment", "hub", {"spec": deployment}, "apps/v1"),
    ]


def answers(url: str) -> bool:
    """Tell whether there is a good answer."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def _node_address() -> str:
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    argv = ["docker", "inspect", "-f", template, NODE]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
