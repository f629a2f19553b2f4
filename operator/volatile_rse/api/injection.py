"""What a pod of a session gets by its label alone: names that policy, webhook, operator and sidecar share."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "CONFIG",
    "FILES",
    "GATE",
    "INJECTION",
    "KEEP_ENV",
    "KEPT_PATTERN",
    "KEYS",
    "MOUNTS",
    "NAME_PATTERN",
    "NOBODY",
    "OFFLOADED",
    "PROGRAM",
    "RUN",
    "SIDECAR",
    "TENANT",
    "TOKEN",
    "TOKEN_FILE",
    "TOKEN_ITSELF",
    "WAIT",
]

INJECTION = ("volatile-rse-session", "volatile-rse-session-usable")
"""Names of the policies' bindings; the webhook's configuration has the first."""
TENANT = "volatilerse.io/tenant"
"""Label of namespaces whose pods get it: ``true``."""
GATE = "volatilerse.io/usable"
"""Scheduling gate of a pod whose buffer is not usable yet."""
WAIT = "volatilerse.io/wait"
"""Annotation of a pod: ``false`` has it start at once, and what it gets appear when it is there."""
KEEP_ENV = "volatilerse.io/keep-env"
"""Annotation of a pod: variables that it has of its own where nobody can see them from outside, by ``envFrom`` or its
image. ``NAME``, or ``CONTAINER/NAME`` for one container; ``*`` is every name."""
KEPT_PATTERN = "[-A-Za-z0-9_*/]+"
"""One of them; anything may stand between two."""
OFFLOADED = "virtual-node.interlink/no-schedule"
"""Taint of virtual nodes, whose pods are jobs of a batch system. A pod that tolerates it means to run there, where no
sidecars and no addresses of the cluster are: it is left as it is."""
SIDECAR = "volatilerse-credentials"
"""Init container that runs beside the others."""
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""Values of the session's label that name a VolatileRSE; a pod with another one is left as it is."""

CONFIG, TOKEN, RUN = "volatilerse-config", "volatilerse-token", "volatilerse-run"
"""Volumes: the session's ConfigMap, its Secret, and what the sidecar makes of both."""
MOUNTS: Mapping[str, str] = {CONFIG: "/etc/vrse", TOKEN: "/etc/vrse-secret", RUN: "/run/vrse"}
"""Where every container sees them, read-only."""
TOKEN_FILE, TOKEN_ITSELF = "BEARER_TOKEN_FILE", "BEARER_TOKEN"
FILES: Mapping[str, str] = {"X509_CERT_DIR": "/run/vrse/ca", TOKEN_FILE: "/run/vrse/token"}
"""Variable -> what the sidecar makes."""
KEYS = (
    "VRSE_ROOT_URL",
    "VRSE_DAVS_URL",
    "VRSE_OUTBOX",
    "VRSE_PUBLISH",
    "VRSE_RSE",
    "VRSE_INPUTS_URL",
    "VRSE_LEASE",
    "VRSE_STATUS",
    "VRSE_PUBLIC_ROOT_URL",
    "VRSE_PUBLIC_DAVS_URL",
)
"""Variables that have the ConfigMap's value of that key, where it has one."""
NOBODY = 65532
"""Uid of the sidecar where the pod states none."""
PROGRAM = ("/bin/busybox", "sh", "/bin/keep")
