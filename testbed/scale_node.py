"""A node that runs nothing: pods that are put on it are told to run, and to have ended, as a kubelet would tell it.

The scheduler puts there what selects its label and bears its taint, and nothing else. A node's network does not exist
here: nobody reaches the addresses of its pods.
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal

from testbed.api_server import ApiServer
from testbed.progress import StepError
from volatile_rse.builders.objects import RECORD

__all__ = ["LABEL", "NAME", "Node", "Step", "node", "placement", "starting", "status_of", "step_of"]

_log = logging.getLogger(__name__)

NAME = "scale-bench"
LABEL = "volatilerse.io/scale-bench"
"""Key of the node's label and taint."""
PODS = 2000
_ADDRESSES = ipaddress.ip_network("198.18.0.0/15")
"""For benchmarks (RFC 2544): no real network has them."""
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_RENEWAL = 10
"""Seconds: Kubernetes takes a node for lost after forty."""
_WORKERS = 4
_AGAIN = 0.2
"""Seconds until a pod is looked at again that lacks what it mounts."""
_STEPS = 100
Object = Mapping[str, Any]
Step = Literal["start", "answer", "end"]


def placement() -> dict[str, Any]:
    """Say in a class that its pods run there."""
    return {
        "nodeSelector": {LABEL: "true"},
        "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
    }


def node(now: datetime) -> dict[str, Any]:
    """Make the node; without the label of an operating system no DaemonSet of the cluster wants to be there."""
    room = {"cpu": "4000", "memory": "16Ti", "ephemeral-storage": "16Ti", "pods": str(PODS)}
    ready = {"type": "Ready", "status": "True", "reason": "Simulated", "message": "It runs nothing."}
    stamp = _stamp(now)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NAME, "labels": {LABEL: "true", "kubernetes.io/hostname": NAME}},
        "spec": {"taints": [{"key": LABEL, "effect": "NoSchedule"}]},
        "status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "Hostname", "address": NAME}],
            "conditions": [{**ready, "lastHeartbeatTime": stamp, "lastTransitionTime": stamp}],
        },
    }


def step_of(pod: Object) -> Step | None:
    """Tell what the node has to do for a pod now: start it, have it answer its probes, or end it."""
    if "deletionTimestamp" in pod["metadata"]:
        return "end"
    status = pod.get("status") or {}
    if status.get("phase", "Pending") == "Pending":
        return "start"
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions") or ())
    return None if ready or status["phase"] != "Running" else "answer"


def mounted(pod: Object) -> list[tuple[str, str]]:
    """Name what has to be there before a pod starts: plural and name of Secrets and ConfigMaps."""
    volumes = pod["spec"].get("volumes") or ()
    secrets = {("secrets", volume["secret"]["secretName"]) for volume in volumes if "secret" in volume}
    maps = {("configmaps", volume["configMap"]["name"]) for volume in volumes if "configMap" in volume}
    return sorted(secrets | maps)


def starting(pod: Object, address: str, now: datetime) -> dict[str, Any]:
    """Give the status of a pod whose programs run, and whose probes have not succeeded yet."""
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": _stamp(now),
        **status_of(pod, now, ready=False),
    }


def status_of(pod: Object, now: datetime, *, ready: bool) -> dict[str, Any]:
    """Give the part of a status that changes once its probes succeed."""
    stamp = _stamp(now)
    truths = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    before = {entry["type"]: entry for entry in (pod.get("status") or {}).get("conditions") or ()}

    def condition(type_: str, *, true: bool) -> dict[str, Any]:
        known, said = before.get(type_, {}), "True" if true else "False"
        since = known.get("lastTransitionTime", stamp) if known.get("status") == said else stamp
        why = {} if true else {"reason": "ContainersNotReady", "message": "its probes have not succeeded yet"}
        return {"type": type_, "status": said, "lastTransitionTime": since, **why}

    containers = [
        {
            "name": container["name"], "image": container["image"], "imageID": "", "ready": ready, "started": True,
            "restartCount": 0, "state": {"running": {"startedAt": stamp}},
        }
        for container in pod["spec"]["containers"]
    ]  # fmt: skip
    return {
        "conditions": [condition(type_, true=true) for type_, true in truths.items()],
        "containerStatuses": containers,
    }


def _stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """The node at work, until it is removed.

    Parameters
    ----------
    namespace
        Of the pods that it runs; nothing is done for pods of any other.
    ran
        Told of the record and the address of each pod that answers its probes, and with an empty address once it ends.
    delay
        Seconds from a pod's start until it answers its probes.
    """

    def __init__(self, api: ApiServer, namespace: str, ran: Callable[[str, str], None], delay: float = 0.0) -> None:
        self._api = api
        self._pods = f"/api/v1/namespaces/{namespace}"
        self._ran = ran
        self._delay = delay
        self._numbers = itertools.count(1)
        self._addresses: dict[str, str] = {}
        """UID of a pod -> its address."""
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        """UIDs of pods for which something is being done."""
        self._seen: dict[str, Object] = {}
        """UID of a pod -> how it was seen last."""
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_WORKERS, "kubelet")
        self._threads = [
            threading.Thread(target=work, name=f"node-{work.__name__}", daemon=True)
            for work in (self._renew, self._watch)
        ]

    def start(self) -> None:
        """Register it, and wait until the scheduler may use it.

        Raises
        ------
        StepError
            Kubernetes does not take it for ready.
        """
        body = node(_now())
        self._api.ask("POST", "/api/v1/nodes", body)
        self._api.ask("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": body["status"]})
        for thread in self._threads:
            thread.start()
        for _ in range(_STEPS):
            found = self._api.ask("GET", f"/api/v1/nodes/{NAME}") or {}
            taints = [taint["key"] for taint in (found.get("spec") or {}).get("taints") or ()]
            if taints == [LABEL]:
                return
            time.sleep(_AGAIN)
        message = f"node {NAME} is not ready for pods: taints {taints}"
        raise StepError(message)

    def stop(self) -> None:
        """Do nothing more; the node's objects stay."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # The kubelet.

    def _watch(self) -> None:
        only = {"fieldSelector": f"spec.nodeName={NAME}"}
        for type_, pod in self._api.watch(f"{self._pods}/pods", only, self._stopping):
            uid = pod["metadata"]["uid"]
            with self._lock:
                if type_ == "DELETED":
                    self._seen.pop(uid, None)
                    self._addresses.pop(uid, None)
                    continue
                self._seen[uid] = pod
            self._take_up(uid)

    def _take_up(self, uid: str) -> None:
        with self._lock:
            pod = self._seen.get(uid)
            if pod is None or uid in self._busy or self._stopping.is_set() or step_of(pod) is None:
                return
            self._busy.add(uid)
            self._pool.submit(self._work, uid)

    def _work(self, uid: str) -> None:
        """Do one step for a pod as it was seen last; its event brings the next one."""
        with self._lock:
            pod = self._seen.get(uid)
        done = True
        try:
            if pod is not None:
                done = self._step(pod)
        except StepError as error:
            # The pod has changed or gone meanwhile: the watch tells of it.
            _log.warning("%s", error)
        finally:
            with self._lock:
                self._busy.discard(uid)
                changed = self._seen.get(uid) is not pod
        if not done:
            timer = threading.Timer(_AGAIN, self._take_up, [uid])
            timer.daemon = True
            timer.start()
        elif changed:
            self._take_up(uid)

    def _step(self, pod: Object) -> bool:
        """Do what is to be done; False: it has to wait for what it mounts, or for its programs."""
        metadata, now = pod["metadata"], _now()
        path, record = f"{self._pods}/pods/{metadata['name']}", (metadata.get("labels") or {}).get(RECORD, "")
        match step_of(pod):
            case "start":
                if any(self._api.ask("GET", f"{self._pods}/{kind}/{name}") is None for kind, name in mounted(pod)):
                    return False
                self._api.ask("PATCH", f"{path}/status", {"status": starting(pod, self._address(pod), now)})
            case "answer":
                if self._delay and (now - _when(pod["status"]["startTime"])).total_seconds() < self._delay:
                    return False
                self._ran(record, pod["status"]["podIP"])
                self._api.ask("PATCH", f"{path}/status", {"status": status_of(pod, now, ready=True)})
            case "end":
                self._ran(record, "")
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
                self._api.ask("DELETE", path, options)
        return True

    def _address(self, pod: Object) -> str:
        with self._lock:
            uid = pod["metadata"]["uid"]
            if uid not in self._addresses:
                self._addresses[uid] = str(_ADDRESSES[next(self._numbers) % _ADDRESSES.num_addresses])
            return self._addresses[uid]

    # Its Lease.

    def _renew(self) -> None:
        while True:
            stamp = _now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"holderIdentity": NAME, "leaseDurationSeconds": 4 * _RENEWAL, "renewTime": stamp}
            try:
                if self._api.ask("PATCH", f"{_LEASES}/{NAME}", {"spec": spec}) is None:
                    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME}}
                    self._api.ask("POST", _LEASES, {**lease, "spec": spec})
            except (StepError, OSError) as error:
                _log.warning("the Lease of node %s was not renewed: %s", NAME, error)
            if self._stopping.wait(_RENEWAL):
                return


def _when(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def remove(api: ApiServer) -> None:
    """Remove the node's objects; what it ran goes with it."""
    api.ask("DELETE", f"/api/v1/nodes/{NAME}")
    api.ask("DELETE", f"{_LEASES}/{NAME}")
