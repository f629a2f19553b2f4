"""What the pod of a session has: a label, and the session's Secret and ConfigMap wherever they are; pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from volatile_rse.jupyterhub.lab import FOLDER
from volatile_rse.jupyterhub.volatilerses import SESSION_LABEL

__all__ = ["WAIT", "additions"]

WAIT = "volatilerse.io/wait"
"""Annotation; ``false``: the pod is not held until its buffer is usable, since the hub has waited already."""
_CONFIG, _TOKEN = "volatilerse-config", "volatilerse-token"
"""Volumes, as the injection of pods calls them: what is there already stays."""
_NONE: Mapping[str, str] = MappingProxyType({})


def additions(name: str, files: Mapping[str, str] = _NONE) -> dict[str, Any]:
    """Give what is added to a pod, in the words of Kubernetes.

    Parameters
    ----------
    name
        Of the VolatileRSE.
    files
        For JupyterLab, by their names below a folder of its configuration.
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
    if files:
        # By annotations: the hub needs no right to write ConfigMaps.
        keys = {path: f"volatilerse.io/{path.rpartition('/')[2]}" for path in files}
        annotations |= {key: files[path] for path, key in keys.items()}
        items = [
            {"fieldRef": {"fieldPath": f"metadata.annotations['{key}']"}, "path": path} for path, key in keys.items()
        ]
        volumes.append({"name": "volatilerse-jupyter", "downwardAPI": {"items": items}})
        mounts.append({"name": "volatilerse-jupyter", "mountPath": FOLDER, "readOnly": True})
        environment.append({"name": "JUPYTER_CONFIG_PATH", "value": FOLDER})
    return {
        "labels": {SESSION_LABEL: name},
        "annotations": annotations,
        "volumes": volumes,
        "mounts": mounts,
        "environment": environment,
    }
