"""Sessions on the testbed's cluster: a VolatileRSE, its Job, and what becomes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed import clients, cluster, installation
from testbed.progress import StepError

__all__ = ["LABEL", "Session", "kill_operator", "wait_for"]

LABEL = "volatilerse.io/session"
"""Key of the label of a session's pods; its value is the name of the VolatileRSE."""

_PREPARE = """\
install -m 600 /etc/vrse-secret/token /tmp/token
install -D -m 644 -t /tmp/authorities /etc/vrse/*.0
export BEARER_TOKEN_FILE=/tmp/token X509_CERT_DIR=/tmp/authorities
ROOT_URL=$(cat /etc/vrse/VRSE_ROOT_URL) OUTBOX=$(cat /etc/vrse/VRSE_OUTBOX)
"""
"""Clients of XRootD refuse a token that others may read, and authorities where others may write."""


def wait_for(what: str, look: Callable[[], Any], seconds: float = 120, pause: float = 0.3) -> Any:  # noqa: ANN401
    """Look until there is something to see, and give it.

    Raises
    ------
    StepError
        Not within that time.
    """
    until = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > until:
            message = f"not within {seconds:.0f} s: {what}"
            raise StepError(message)
        time.sleep(pause)
    return seen


@dataclass(frozen=True, slots=True)
class Session:
    """One analysis session."""

    namespace: str
    name: str
    class_name: str

    def request(self, **spec: object) -> None:
        """Apply the VolatileRSE; what is not said is as short as a test wants it."""
        body = {
            "apiVersion": "volatilerse.io/v1alpha1",
            "kind": "VolatileRSE",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {
                "className": self.class_name,
                "account": "alice",
                "capacity": "1Gi",
                "session": {"endGrace": "2s", "ttl": "30m"},
                **spec,
            },
        }
        installation.apply([body])

    def job(
        self,
        script: str,
        *,
        retries: int = 0,
        name: str = "",
        image: str = "",
        unprepared: str = "",
    ) -> None:
        """Start a Job of the session that runs a shell script with XRootD's clients, its token and authorities.

        Parameters
        ----------
        name
            Of the Job, if not the session's own.
        image
            If not that of XRootD's clients.
        unprepared
            Name of a ConfigMap that is mounted at ``/files``; then nothing is done for the script before it begins.
        """
        files = [{"name": "files", "mountPath": "/files"}] if unprepared else []
        closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
        container = {
            "name": "main",
            "image": image or clients.image(),
            "imagePullPolicy": "IfNotPresent",
            "command": ["bash", "-ec", script if unprepared else _PREPARE + script],
            "securityContext": closed,
            "volumeMounts": [
                {"name": "vrse", "mountPath": "/etc/vrse"},
                {"name": "token", "mountPath": "/etc/vrse-secret"},
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (a volume of that pod alone)
                *files,
            ],
        }
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10960, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [
                {"name": "vrse", "configMap": {"name": f"{self.name}-vrse"}},
                {"name": "token", "secret": {"secretName": f"{self.name}-vrse"}},
                {"name": "tmp", "emptyDir": {}},
                *({"name": mount["name"], "configMap": {"name": unprepared}} for mount in files),
            ],
        }
        template = {"metadata": {"labels": {LABEL: self.name}}, "spec": pod}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name or self.name, "namespace": self.namespace},
            "spec": {"backoffLimit": retries, "template": template},
        }
        installation.apply([body])

    def log(self) -> str:
        """Give what the Job has printed so far: nothing before its pod has started."""
        try:
            return cluster.kubectl("-n", self.namespace, "logs", f"job/{self.name}")
        except StepError as error:
            # The last two are said while the node has not told of the container, or not heard of the pod yet.
            unready = ("waiting to start", "not found", "is not available", "could not find the requested resource")
            if any(words in str(error) for words in unready):
                return ""
            raise

    def succeeded(self) -> bool:
        """Tell whether the Job has succeeded."""
        job = _read("-n", self.namespace, "get", "job", self.name) or {}
        return bool((job.get("status") or {}).get("succeeded"))

    def pods(self) -> list[str]:
        """Name its pods that run."""
        selector = ("-l", f"{LABEL}={self.name}", "--field-selector", "status.phase=Running", "-o", "name")
        return cluster.kubectl("-n", self.namespace, "get", "pods", *selector).split()

    def delete(self) -> None:
        """Ask for the deletion, and do not wait for it."""
        cluster.kubectl("-n", self.namespace, "delete", "volatilerse", self.name, "--wait=false")

    def body(self) -> dict[str, Any] | None:
        """Read the VolatileRSE."""
        return _read("-n", self.namespace, "get", "volatilerse", self.name)

    def status(self) -> Mapping[str, Any]:
        """Read its status."""
        return (self.body() or {}).get("status") or {}

    def condition(self, type_: str) -> Mapping[str, Any]:
        """Read one of its conditions; empty as long as there is none."""
        conditions = self.status().get("conditions") or []
        return next((entry for entry in conditions if entry["type"] == type_), {})

    def is_true(self, type_: str) -> bool:
        """Tell whether a condition is True."""
        return self.condition(type_).get("status") == "True"

    def record(self) -> dict[str, Any]:
        """Read its record, which outlives it; of several requests of one name, the latest's."""
        found = json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]
        mine = [body for body in found if self._is_mine(body)]
        return max(mine, key=lambda body: body["metadata"]["creationTimestamp"], default={})

    def phase(self) -> str:
        """Tell the stage of its record."""
        return str((self.record().get("status") or {}).get("phase", ""))

    def wait_closed(self, seconds: float = 180) -> dict[str, Any]:
        """Wait until nothing but the record is left of it, and give the record."""
        wait_for(f"{self.name} is closed", lambda: self.phase() == "Closed", seconds)
        return self.record()

    def _is_mine(self, body: Mapping[str, Any]) -> bool:
        claim = body["spec"]["claims"][0]
        return (claim["namespace"], claim["name"]) == (self.namespace, self.name)


def kill_operator() -> None:
    """Kill the operator's pod, as a node that fails does, and wait for its successor."""
    pods = ("-n", installation.NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=volatile-rse", "-o", "name")
    before = set(cluster.kubectl(*pods).split())
    cluster.kubectl("-n", installation.NAMESPACE, "delete", *before, "--grace-period=0", "--force", "--wait=false")
    wait_for("another operator", lambda: set(cluster.kubectl(*pods).split()) - before)
    cluster.kubectl("-n", installation.NAMESPACE, "rollout", "status", "deployment/volatile-rse", "--timeout=120s")


def _read(*argv: str) -> dict[str, Any] | None:
    text = cluster.kubectl(*argv, "--ignore-not-found", "-o", "json")
    return json.loads(text) if text.strip() else None
