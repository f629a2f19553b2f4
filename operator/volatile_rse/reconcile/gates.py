"""The pods with a session's label: they start when their buffer is usable, and are told what they wait for.

Apart from the visits to buffers: a pod may name one that does not exist, and what is decided rests upon nothing but the
pod and the status of its VolatileRSE, which the operator alone writes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from volatile_rse.api.conditions import REMEDIES, Actor, ConditionType, Reason, conditions_by_type
from volatile_rse.api.injection import GATE
from volatile_rse.api.schema import fault_of_label
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.domain.gates import YOUTH, BufferFact, Release, SessionPod, Told, judge
from volatile_rse.domain.times import when
from volatile_rse.ports.cluster import ANY, Cluster, Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.reading import spec_of, status_of
from volatile_rse.reconcile.session_pods import is_gated, is_given, is_over

__all__ = ["Gates", "release_gates"]

_log = logging.getLogger(__name__)

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace and name of a VolatileRSE, whether there is one or not."""
_MOST = 20
"""Events about one pod: a buffer that goes from one trouble to the next does not fill the list of them."""
_AT_ONCE = 50
"""Pods of a session that something is done for before those of others have their turn."""
_SLACK = timedelta(seconds=1)
"""Beyond the youth of a pod: the API server writes its time in whole seconds."""
_TRIES = 3
"""Of a pod that others change meanwhile."""
_PASSES = 10
"""Lists of pods that wait, when the operator is removed: new ones may come until the API server has heard of it."""


class Gates:
    """Knows which pods wait, and what they were told.

    Parameters
    ----------
    now
        The operator's clock.
    """

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now
        self._told: dict[str, set[tuple[str, ...]]] = {}
        """UID of a pod -> what was said about it."""
        self._due: dict[Key, None] = {}
        self._later: dict[Key, float] = {}
        """Session that has no VolatileRSE -> when its pods are looked at again, by this process's own clock."""
        self._changed = threading.Condition()
        self._closed = False

    def saw(self, kind: str, body: Object) -> None:
        """Take note of a pod of a session, or of a VolatileRSE."""
        metadata = body["metadata"]
        if kind == "VolatileRSE":
            self.add((metadata["namespace"], metadata["name"]))
        elif kind == "Pod" and (name := (metadata.get("labels") or {}).get(SESSION_LABEL)):
            self.add((metadata["namespace"], name))

    def add(self, key: Key) -> None:
        """Have the pods of a session looked at."""
        with self._changed:
            self._due[key] = None
            self._changed.notify()

    def take(self) -> Key | None:
        """Wait for a session whose pods are to be looked at; None: there will be none any more."""
        with self._changed:
            while not self._closed and not self._move():
                self._changed.wait(max(min(self._later.values()) - time.monotonic(), 0) if self._later else None)
            if self._closed:
                return None
            key = next(iter(self._due))
            del self._due[key]
            return key

    def _move(self) -> bool:
        """Tell whether a session is to be looked at now."""
        now = time.monotonic()
        for key in [key for key, at in self._later.items() if at <= now]:
            del self._later[key]
            self._due[key] = None
        return bool(self._due)

    def close(self) -> None:
        """Have nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def sweep(self) -> None:
        """Have all pods looked at that wait or lack something, and forget those that are gone."""
        pods = self._cluster.list("Pod", None, {SESSION_LABEL: ANY})
        alive = {pod["metadata"]["uid"] for pod in pods}
        for uid in set(self._told) - alive:
            del self._told[uid]
        for pod in pods:
            if is_gated(pod) or not is_given(pod):
                self.add((pod["metadata"]["namespace"], pod["metadata"]["labels"][SESSION_LABEL]))

    def look(self, key: Key) -> None:
        """Do what is to be done for the pods of a session now.

        Raises
        ------
        PortError
            The API server does not answer, or refuses the first of those that it refused; the sweep comes back to it.
        """
        namespace, name = key
        if fault_of_label(SESSION_LABEL, name):
            return
        waiting = [pod for pod in self._pods(key) if is_gated(pod) or not is_given(pod)]
        if not waiting:
            return
        request = self._cluster.get(Ref("VolatileRSE", namespace, name)) if name else None
        buffer = None if request is None else _buffer(request)
        facts = [(pod, self._fact(pod, key)) for pod in waiting]
        if buffer is None and any(fact.age < YOUTH for _, fact in facts):
            with self._changed:
                self._later[key] = time.monotonic() + (YOUTH + _SLACK).total_seconds()
        refused: list[RefusedError] = []
        done = 0
        for pod, fact in facts:
            try:
                done += self._do(pod, judge(fact, buffer))
            except RefusedError as error:
                # What is refused of one pod, by a policy of the site perhaps, keeps no other one.
                refused.append(error)
            if done == _AT_ONCE:
                self.add(key)
                break
        if refused:
            raise refused[0]

    def _pods(self, key: Key) -> Iterator[Object]:
        for pod in self._cluster.list("Pod", key[0], {SESSION_LABEL: key[1]}):
            if not is_over(pod) and "deletionTimestamp" not in pod["metadata"]:
                yield pod

    def _fact(self, pod: Object, key: Key) -> SessionPod:
        created = when(pod["metadata"].get("creationTimestamp"))
        age = timedelta.max if created is None else self._now() - created
        return SessionPod(*key, gated=is_gated(pod), given=is_given(pod), age=age)

    def _do(self, pod: Object, verdict: Release | Told | None) -> bool:
        """Do it, and tell whether there was anything left to do."""
        if isinstance(verdict, Release):
            released = _release(self._cluster, pod)
            if released:
                self._say(pod, Told(Reason.BUFFER_USABLE, "The buffer is usable: this pod may start.", False, ("",)))
            return released
        return verdict is not None and self._say(pod, verdict)

    def _say(self, pod: Object, told: Told) -> bool:
        said = self._told.setdefault(pod["metadata"]["uid"], set())
        if told.key in said or len(said) >= _MOST:
            return False
        said.add(told.key)
        type_ = "Warning" if told.warns else "Normal"
        self._cluster.event(pod, type_=type_, reason=told.reason.value, message=told.message)
        return True


def release_gates(cluster: Cluster) -> None:
    """Let every pod start that waits by our gate: nobody will be there to do it.

    Raises
    ------
    PortError
        The first pod that could not be let go; the others are.
    """
    failed: dict[str, Exception] = {}
    for _ in range(_PASSES):
        waiting = [pod for pod in cluster.list("Pod", None, {SESSION_LABEL: ANY}) if is_gated(pod)]
        for pod in waiting:
            uid = pod["metadata"]["uid"]
            try:
                failed.pop(uid, None)
                _release(cluster, pod)
            except Exception as error:  # noqa: BLE001 (raised below)
                failed[uid] = error
        if not waiting or len(failed) == len(waiting):
            break
    for first in failed.values():
        raise first


def _release(cluster: Cluster, pod: Object) -> bool:
    """Take our gate from a pod, and tell whether it was there: whoever changed the pod meanwhile is not overwritten."""
    metadata = pod["metadata"]
    ref = Ref("Pod", metadata["namespace"], metadata["name"])
    for _ in range(_TRIES):
        if not is_gated(pod):
            return False
        left = [gate for gate in spec_of(pod)["schedulingGates"] if gate.get("name") != GATE]
        patch = {
            "metadata": {"uid": metadata["uid"], "resourceVersion": pod["metadata"]["resourceVersion"]},
            "spec": {"schedulingGates": left or None},
        }
        try:
            cluster.merge(ref, patch)
        except RefusedError as error:
            again = cluster.get(ref) if error.reason is Reason.CHANGED_MEANWHILE else None
            if again is None or again["metadata"]["uid"] != metadata["uid"]:
                if error.reason is Reason.CHANGED_MEANWHILE:
                    return False
                raise
            pod = again
        else:
            return True
    return False


def _buffer(request: Object) -> BufferFact:
    """Read what a VolatileRSE tells of its buffer; whoever may write a status may write anything."""
    status = status_of(request)
    said = conditions_by_type(status)
    usable, ready = said.get(ConditionType.USABLE.value, {}), said.get(ConditionType.READY.value, {})
    reason = str(usable.get("reason") or "")
    is_deleted = "deletionTimestamp" in request["metadata"]
    remedy = REMEDIES.get(Reason(reason)) if reason in set(Reason) else None
    message = str(usable.get("message") or ready.get("message") or "")
    return BufferFact(
        usable=usable.get("status") == "True" and not is_deleted,
        over=is_deleted or reason == Reason.SESSION_ENDED.value,
        fails=remedy is not None and remedy.actor is not Actor.NOBODY,
        reason=reason,
        phase=str(status.get("phase") or ""),
        message="It is being deleted." if is_deleted else message,
    )
