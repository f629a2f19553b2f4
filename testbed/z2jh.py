"""The chart of Zero to JupyterHub, and values by which it runs with the testbed's own images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from testbed import hub

__all__ = ["NotHadError", "chart", "values"]

_CHART = "VRSE_Z2JH"
"""Variable that names a folder or an archive with the chart."""
_VERSION = "5.5"
"""Of JupyterHub, as the chart has it."""
_HOME = "/home/analyst"
_USER = 10960
"""As images/session has them."""


class NotHadError(Exception):
    """The chart cannot be had here."""


def chart() -> Path:
    """Give the chart.

    Raises
    ------
    NotHadError
        Nobody says where it is.
    """
    if said := os.environ.get(_CHART):
        return Path(said).resolve(strict=True)
    message = f"{_CHART} names no folder or archive with the chart of Zero to JupyterHub"
    raise NotHadError(message)


def values(folder: Path, config: Mapping[str, Any]) -> Path:
    """Write what a site says of its hub, on which nothing runs that needs an image of others.

    Parameters
    ----------
    folder
        Where the file is laid.
    config
        Of the hub: ``hub.config``.
    """
    image, server = (_parts(tag) for tag in (hub.image(_VERSION), hub.lab_image()))
    told: dict[str, Any] = {
        "hub": {"image": image, "config": dict(config)},
        # The image of the hub has the proxy, too.
        "proxy": {"chp": {"image": image}, "service": {"type": "NodePort"}},
        "singleuser": {
            "image": server,
            "uid": _USER,
            "fsGid": _USER,
            "storage": {"homeMountPath": _HOME, "capacity": "100Mi"},
            "memory": {"guarantee": "512M"},
            "defaultUrl": "/lab",
            "cloudMetadata": {"blockWithIptables": False},
        },
        "scheduling": {"userScheduler": {"enabled": False}, "userPlaceholder": {"enabled": False}},
        "prePuller": {"hook": {"enabled": False}, "continuous": {"enabled": False}},
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def _parts(image: str) -> dict[str, str]:
    name, _, tag = image.rpartition(":")
    return {"name": name, "tag": tag}
