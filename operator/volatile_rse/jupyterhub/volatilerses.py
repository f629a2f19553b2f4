"""From a choice to a VolatileRSE, and how those of one server are found again; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volatile_rse.jupyterhub.choices import Choice, account_of, scope_of
from volatile_rse.jupyterhub.settings import Settings

__all__ = ["END", "GROUP", "KIND", "SERVER_LABEL", "SESSION_LABEL", "VERSION", "Server", "body_of", "selector_of"]

GROUP, VERSION, KIND = "volatilerse.io", "v1alpha1", "volatilerses"
SESSION_LABEL = "volatilerse.io/session"
"""Key of the label of a session's pods; its value is the name of the VolatileRSE."""
SERVER_LABEL = "volatilerse.io/jupyterhub-server"
"""Key of the label of the VolatileRSEs of one server, for whatever user and name it has."""

END: Mapping[str, Any] = {"spec": {"endRequested": True}}
"""Patch that ends a session, however often it is sent: what was written is kept."""

_PREFIX = 54
"""Characters of the pod's name in that of the VolatileRSE, which has at most 63."""


@dataclass(frozen=True)
class Server:
    """One server of one user."""

    namespace: str
    pod_name: str
    username: str
    name: str
    """Empty: the default one."""

    @property
    def key(self) -> str:
        """Names it in a label's value, which takes neither every character nor every length."""
        return hashlib.sha256(repr((self.pod_name, self.username, self.name)).encode()).hexdigest()[:40]


def selector_of(server: Server) -> str:
    """Select the VolatileRSEs of all sessions of a server."""
    return f"{SERVER_LABEL}={server.key}"


def body_of(server: Server, choice: Choice, settings: Settings, unique: str) -> dict[str, Any]:
    """Describe the VolatileRSE of one session.

    Parameters
    ----------
    unique
        Tells it from those of the server's sessions before, which may be there still: 8 characters.

    Raises
    ------
    RefusedError
        This user can have none.
    """
    account = account_of(server.username, settings)
    annotations = {"hub.jupyter.org/username": server.username, "hub.jupyter.org/servername": server.name}
    labels = {"app.kubernetes.io/managed-by": "jupyterhub", SERVER_LABEL: server.key}
    name = f"{server.pod_name[:_PREFIX].rstrip('-.')}-{unique}"
    inputs = [
        {"name": wanted.name, "did": wanted.did, "deadline": settings.input_deadline, "onDeadline": "Fail"}
        for wanted in choice.inputs
    ]
    spec = {
        "className": settings.class_name,
        "account": account,
        "capacity": choice.capacity,
        "session": {"startTimeout": settings.start_timeout, "ttl": settings.ttl, "endGrace": settings.end_grace},
        "inputs": inputs,
        "outputs": _outputs(choice, account, settings),
        "ttlAfterFinished": settings.ttl_after_finished,
        **({"onBehalfOf": server.username} if settings.on_behalf_of else {}),
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "VolatileRSE",
        "metadata": {"name": name, "namespace": server.namespace, "labels": labels, "annotations": annotations},
        "spec": spec,
    }


def _outputs(choice: Choice, account: str, settings: Settings) -> list[dict[str, Any]]:
    if not choice.destination:
        return []
    lifetime = {} if settings.lifetime is None else {"lifetime": settings.lifetime}
    return [
        {
            "name": "outputs",
            "path": "**",
            "scope": scope_of(account, settings),
            "dataset": choice.dataset,
            "destination": {"rseExpression": choice.destination, **lifetime},
            **({"register": "Continuous"} if settings.publish else {}),
        }
    ]
