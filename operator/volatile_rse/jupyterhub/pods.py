"""What the pod of a session has: a label, and the session's Secret and ConfigMap wherever they are; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from volatile_rse.jupyterhub.volatilerses import SESSION_LABEL

__all__ = ["CONFIGURATION", "WAIT", "additions", "jupyterlab"]

WAIT = "volatilerse.io/wait"
"""Annotation; ``false``: the pod is not held until its buffer is usable, since the hub has waited already."""
CONFIGURATION = "volatilerse.io/jupyter-server-config"
"""Annotation that has what rucio-jupyterlab is told."""
_CONFIG, _TOKEN = "volatilerse-config", "volatilerse-token"
_INSTANCE = "vrse"
"""The name of the session's RSE in rucio-jupyterlab."""
"""Volumes, as the injection of pods calls them: what is there already stays."""
_OF_THE_WHOLE = ("default_auth_type",)
_FOLDER = "/etc/vrse-jupyter"
_FILE = "jupyter_server_config.json"


def additions(name: str, configuration: str = "") -> dict[str, Any]:
    """Give what is added to a pod, in the words of Kubernetes.

    Parameters
    ----------
    name
        Of the VolatileRSE.
    configuration
        For the server's ``jupyter_server_config.json``; empty: none.
    """
    objects = f"{name}-vrse"
    volumes: list[dict[str, Any]] = [
        # Data that are late appear in the running pod within two minutes.
        {"name": _CONFIG, "configMap": {"name": objects, "optional": True}},
        {"name": _TOKEN, "secret": {"secretName": objects, "optional": True}},
    ]
    mounts = [
        {"name": _CONFIG, "mountPath": "/etc/vrse", "readOnly": True},
        {"name": _TOKEN, "mountPath": "/etc/vrse-secret", "readOnly": True},
    ]
    annotations, environment = {WAIT: "false"}, []
    if configuration:
        field = {"fieldRef": {"fieldPath": f"metadata.annotations['{CONFIGURATION}']"}, "path": _FILE}
        volumes.append({"name": "volatilerse-jupyter", "downwardAPI": {"items": [field]}})
        mounts.append({"name": "volatilerse-jupyter", "mountPath": _FOLDER, "readOnly": True})
        annotations[CONFIGURATION] = configuration
        environment.append({"name": "JUPYTER_CONFIG_PATH", "value": _FOLDER})
    return {
        "labels": {SESSION_LABEL: name},
        "annotations": annotations,
        "volumes": volumes,
        "mounts": mounts,
        "environment": environment,
    }


def jupyterlab(instance: Mapping[str, Any] | None, status: Mapping[str, Any]) -> str:
    """Configure rucio-jupyterlab for the RSE of a session; empty where its address is not known yet.

    Parameters
    ----------
    instance
        What the hub's admin says of the catalogue; ``default_auth_type`` is that of the whole extension.
    status
        Of the VolatileRSE.
    """
    endpoints = status.get("endpoints")
    urls = [
        str(entry.get("url"))
        for entry in (endpoints if isinstance(endpoints, list) else [])
        if isinstance(entry, Mapping) and entry.get("protocol") == "root"
    ]
    rse = status.get("rse")
    if not instance or not urls or not isinstance(rse, str):
        return ""
    own = {
        "name": _INSTANCE,
        "display_name": f"This session ({rse})",
        "mode": "replica",
        "destination_rse": rse,
        # The path of a file begins with a slash of its own, and root:// asks for two.
        "rse_mount_path": f"{urls[0].rstrip('/')}//",
        "path_begins_at": 0,
    }
    whole = {key: instance[key] for key in _OF_THE_WHOLE if key in instance}
    entry = {key: value for key, value in instance.items() if key not in whole}
    return json.dumps({"RucioConfig": {**whole, "default_instance": _INSTANCE, "instances": [{**entry, **own}]}})
