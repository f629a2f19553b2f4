"""The pods of a session: which they are, when one is over, and which Jobs may start another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from volatile_rse.api.injection import GATE
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.injection import is_offloaded
from volatile_rse.builders.objects import session_name
from volatile_rse.domain.session import JobRef
from volatile_rse.domain.times import later, when

__all__ = ["has_come", "is_awaited", "is_gated", "is_given", "is_over", "jobs_of", "of_session", "secrets_of"]

_OVERDUE = timedelta(minutes=2)
_DEFAULT = "kubectl.kubernetes.io/default-container"
_NAME, _UID = 253, 64
"""Characters of an object's name and of its UID."""
_JOB = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""What the API server takes as a name."""
_OVER = {"Succeeded", "Failed"}

Object = Mapping[str, Any]


def of_session(pods: Iterable[Object], ready_at: str | None, now: datetime) -> tuple[Object, ...]:
    """Leave out pods that ended before the session could begin, and those of which nobody will say that they ended.

    Parameters
    ----------
    ready_at
        When the session could begin.
    now
        A pod whose deletion is overdue by minutes runs on a dead node, if anywhere; but not one of a virtual node.
    """
    return tuple(pod for pod in pods if not _ended_before(pod, ready_at) and not _is_lost(pod, now))


def is_given(pod: Object) -> bool:
    """Tell whether a pod gets its session's Secret, by injection or by hand; without it, it is nobody's session."""
    name = (pod["metadata"].get("labels") or {}).get(SESSION_LABEL, "")
    return session_name(name) in secrets_of(pod)


def is_gated(pod: Object) -> bool:
    """Tell whether a pod waits for its buffer by our gate."""
    return any(entry.get("name") == GATE for entry in _entries(_part(pod, "spec"), "schedulingGates"))


def secrets_of(pod: Object) -> frozenset[str]:
    """Name the Secrets that a pod mounts, or has variables of."""
    return frozenset(name for name in _secrets(_part(pod, "spec")) if isinstance(name, str))


def _secrets(spec: Object) -> Iterator[object]:
    for volume in _entries(spec, "volumes"):
        yield _part(volume, "secret").get("secretName")
        for source in _entries(_part(volume, "projected"), "sources"):
            yield _part(source, "secret").get("name")
    for kind in ("initContainers", "containers"):
        for container in _entries(spec, kind):
            for source in _entries(container, "envFrom"):
                yield _part(source, "secretRef").get("name")
            for entry in _entries(container, "env"):
                yield _part(_part(entry, "valueFrom"), "secretKeyRef").get("name")


def _part(body: Object, key: str) -> Object:
    """Give a part of what somebody else has made; one that is none is empty."""
    found = body.get(key)
    return found if isinstance(found, Mapping) else {}


def _entries(body: Object, key: str) -> Iterator[Object]:
    found = body.get(key)
    return (entry for entry in (found if isinstance(found, list) else ()) if isinstance(entry, Mapping))


def is_over(pod: Object) -> bool:
    """Tell whether a pod is over: as a whole, or its default container is, whatever sidecar outlives that."""
    return _status(pod).get("phase") in _OVER or _is_outlived(pod)


def has_come(pod: Object) -> bool:
    """Tell whether anything of a pod ever ran: one that its node refused, or evicted before, is nobody's session."""
    return any({"running", "terminated"} & set(state) for state in _states(pod))


def jobs_of(pods: Iterable[Object], ready_at: str | None) -> Mapping[JobRef, int]:
    """Give the Jobs that control pods, those of the latest pods first.

    Parameters
    ----------
    ready_at
        When the session could begin: a Job whose pods had all ended before is none of it.

    Returns
    -------
    Mapping[JobRef, int]
        Each -> how many of its pods run on for the sake of a sidecar alone.
    """
    recent = [pod for pod in pods if not _ended_before(pod, ready_at)]
    recent.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp") or ""), reverse=True)
    found: Counter[JobRef] = Counter()
    for pod in recent:
        for owner in pod["metadata"].get("ownerReferences") or ():
            of_batch = str(owner.get("apiVersion")).startswith("batch/")
            if owner.get("controller") and of_batch and owner.get("kind") == "Job" and _can_be(owner):
                outlived = _status(pod).get("phase") not in _OVER and _is_outlived(pod)
                found[JobRef(owner["name"], owner["uid"])] += outlived
    return found


def _can_be(owner: Object) -> bool:
    """Tell whether a Job can be called so: whoever makes a pod writes what they like there."""
    name, uid = owner.get("name"), owner.get("uid")
    is_name = isinstance(name, str) and len(name) <= _NAME and _JOB.fullmatch(name) is not None
    return is_name and isinstance(uid, str) and 0 < len(uid) <= _UID


def is_awaited(job: Object | None, uid: str, outlived: int) -> bool:
    """Tell whether a Job may start another pod.

    Parameters
    ----------
    job
        What has the Job's name; None: nothing has.
    uid
        Of the Job that controls the session's pods.
    outlived
        Its pods that sidecars keep from ending. Kubernetes counts them as active, and so the Job never completes.
    """
    if job is None or job["metadata"]["uid"] != uid or "deletionTimestamp" in job["metadata"]:
        return False
    status = _status(job)
    ends = [entry for entry in status.get("conditions") or () if entry.get("type") in {"Complete", "Failed"}]
    if any(entry.get("status") == "True" for entry in ends):
        return False
    # Without a number of completions the first success is the last pod.
    wanted = (job.get("spec") or {}).get("completions") or 1
    return not outlived or (status.get("succeeded") or 0) + outlived < wanted


def _is_outlived(pod: Object) -> bool:
    """Tell whether the default container has ended, and will not be started again."""
    container = _default(pod)
    statuses = _status(pod).get("containerStatuses") or ()
    named = [entry.get("state") or {} for entry in statuses if entry.get("name") == container.get("name")]
    ended = named[0].get("terminated") if named else None
    return ended is not None and not _restarts(pod, container, ended)


def _default(pod: Object) -> Object:
    """Give the container that the annotation names, as `kubectl logs` does; else the first."""
    containers: Sequence[Object] = pod["spec"].get("containers") or ()
    wanted = (pod["metadata"].get("annotations") or {}).get(_DEFAULT)
    named = [container for container in containers if container.get("name") == wanted]
    return next(iter((*named, *containers)), {})


def _restarts(pod: Object, container: Object, ended: Object) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    if container.get("restartPolicyRules"):
        # Whether one of them applies is the kubelet's to say: the pod's own phase tells it.
        return True
    policy = container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always"
    return policy == "Always" or (policy == "OnFailure" and ended.get("exitCode") != 0)


def _is_lost(pod: Object, now: datetime) -> bool:
    # The deletion's time is that of its grace's end; a batch job goes on while nobody there tells of its end.
    deleted = when(pod["metadata"].get("deletionTimestamp"))
    return deleted is not None and now > later(deleted, _OVERDUE) and not is_offloaded(pod)


def _ended_before(pod: Object, time: str | None) -> bool:
    """Tell whether a pod was over by then.

    A pod that was evicted has no end of its containers, or of some only. It had ended when its conditions changed last.
    """
    if time is None or not is_over(pod):
        return False
    # Times of Kubernetes have one form, in which their order is that of their letters.
    return max(_times(pod), default="") < time


def _times(pod: Object) -> Iterator[str]:
    """Give the times at which something of a pod that is over is known to have changed."""
    ends = [state["terminated"].get("finishedAt") for state in _states(pod) if state.get("terminated")]
    conditions = _status(pod).get("conditions") or ()
    changes = [entry.get("lastTransitionTime") for entry in conditions]
    made = pod["metadata"].get("creationTimestamp")
    yield from (str(found) for found in (*ends, *changes, made) if found)


def _states(pod: Object) -> Iterator[Object]:
    """Give what is told of the containers: of each its state, and the one before."""
    for kind in ("initContainerStatuses", "containerStatuses"):
        for entry in _status(pod).get(kind) or ():
            yield from (entry.get(which) or {} for which in ("state", "lastState"))


def _status(body: Object) -> Object:
    return body.get("status") or {}
