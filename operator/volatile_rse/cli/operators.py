"""Where an operator works, and how its own code is run there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode

from volatile_rse.api.conditions import Actor
from volatile_rse.cli.errors import CommandError, Exit
from volatile_rse.cli.server import Object, Server, Unreadable, Written

__all__ = ["Operator", "operators_among", "run_beside", "run_within", "the_operator"]

T = TypeVar("T")
_NAMESPACE = "volatile-rse"
"""Where it is installed, if nobody says otherwise."""
_OURS = {"labelSelector": "app.kubernetes.io/name=volatile-rse"}
_PROGRAM = ("python3", "-m", "volatile_rse")
_NAME, _BUFFERS = "VOLATILE_RSE_NAME", "VOLATILE_RSE_BUFFERS"
_KEPT = ("image", "imagePullPolicy", "env", "envFrom", "resources", "securityContext", "volumeMounts")
"""Of the operator's container, what a process of its code needs as well."""
_BEGINS = 120.0
"""Seconds until a pod must have begun."""
_SILENT = 60.0
"""Seconds that the API server may not answer while a pod works."""
_PAUSE = 1.0
_PASSED_ON = frozenset({Exit.DONE, Exit.REFUSED, Exit.USAGE})
"""Exit codes that the operator's commands have; any other one is of a process that was ended."""
_WORKS = "it may still work"
"""Why a pod must not go, if nobody knows better."""
_NEEDED = (("get", "pods"), ("get", "pods/log"), ("delete", "pods"))
"""What a user needs who has made a pod."""


@dataclass(frozen=True, slots=True)
class Operator:
    """A Deployment that runs the operator."""

    namespace: str
    deployment: str
    name: str
    """What it is called in its instance."""
    buffers: str
    """Namespace of its buffers."""
    ready: int
    """Pods that are ready."""
    template: Mapping[str, Any]
    """Of its pods, what they are to be."""
    annotations: Mapping[str, str]
    """Of its pods: what is done to them when they are made, such as by a service mesh, goes by these."""
    labels: Mapping[str, str]
    """By which its pods are known."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.deployment}"

    @property
    def container(self) -> Mapping[str, Any]:
        """Give the container of the operator itself."""
        return next(one for one in self.template["containers"] if _NAME in _environment(one))


def operators_among(deployments: Sequence[Object], namespace: str | None = None) -> list[Operator]:
    """Find the operators among Deployments.

    Parameters
    ----------
    namespace
        Theirs, where they do not say it themselves.
    """
    return [found for body in deployments for found in _operator(body, namespace)]


def _operator(body: Object, namespace: str | None) -> Iterator[Operator]:
    spec, metadata = body.get("spec") or {}, body["metadata"]
    pods = spec.get("template") or {}
    template = pods.get("spec") or {}
    for container in template.get("containers") or ():
        said = _environment(container)
        if _NAME in said and _BUFFERS in said:
            yield Operator(
                str(metadata.get("namespace") or namespace),
                str(metadata["name"]),
                said[_NAME],
                said[_BUFFERS],
                int((body.get("status") or {}).get("readyReplicas") or 0),
                template,
                dict((pods.get("metadata") or {}).get("annotations") or {}),
                dict((spec.get("selector") or {}).get("matchLabels") or {}),
            )
            return


def _environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: str(entry.get("value")) for entry in container.get("env") or ()}


def the_operator(server: Server, namespace: str | None) -> Operator:
    """Find the operator of the cluster.

    Parameters
    ----------
    namespace
        Where it runs; None: wherever this user can see it.

    Raises
    ------
    CommandError
        There is none, or there are several, or this user may not look.
    """
    found = _everywhere(server) if namespace is None else None
    where = "the cluster" if namespace is None else f"namespace {namespace}"
    if found is None or isinstance(found, Unreadable):
        where = f"namespace {namespace or _NAMESPACE}"
        found = _within(server, namespace or _NAMESPACE)
    if isinstance(found, Unreadable):
        told = f"You may not list {found.what}, where the operator is."
        raise CommandError(told, Actor.ADMIN, _right_to("list", "deployments of the group apps"))
    if len(found) > 1:
        told = f"There are {len(found)} operators: {', '.join(sorted(map(str, found)))}."
        raise CommandError(told, Actor.USER, "name the namespace of the one that is meant (--operator-namespace).")
    if not found:
        told = f"There is no operator in {where}."
        action = "install it (docs/install.md), or name its namespace (--operator-namespace) and cluster (--context)."
        raise CommandError(told, Actor.ADMIN, action)
    return found[0]


def _everywhere(server: Server) -> list[Operator] | Unreadable:
    found = server.look(f"/apis/apps/v1/deployments?{urlencode(_OURS)}", "Deployments of all namespaces")
    return found if isinstance(found, Unreadable) else operators_among(_items(found))


def _within(server: Server, namespace: str) -> list[Operator] | Unreadable:
    path = f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments"
    found = server.look(path, f"Deployments of namespace {namespace}")
    return found if isinstance(found, Unreadable) else operators_among(_items(found), namespace)


def _items(found: Object | None) -> list[Object]:
    return [body for body in (found or {}).get("items") or () if isinstance(body, Mapping)]


def _right_to(verbs: str, what: str) -> str:
    return f"bind a role with {verbs} on {what} in the operator's namespace to this user (docs/cli.md)."


def run_within(server: Server, operator: Operator, command: Sequence[str], streams: tuple[Written, Written]) -> Exit:
    """Run a command of the operator in its pod, and hand over what it writes.

    Raises
    ------
    CommandError
        No pod of it runs, this user may not, or the command was ended by something else.
    """
    pod, container = _running(server, operator), str(operator.container["name"])
    path = f"/api/v1/namespaces/{quote(operator.namespace)}/pods/{quote(pod)}?{quote(container)}"
    what = f"`{' '.join((*_PROGRAM, command[0]))}` in Pod {operator.namespace}/{pod}"
    right = _right_to("get and create", "pods/exec")
    return _passed_on(server.execute(path, [*_PROGRAM, *command], what, streams, right=right), what)


def _running(server: Server, operator: Operator) -> str:
    """Choose a pod of the operator of which the container runs, rather one that is ready."""
    selector = ",".join(f"{key}={value}" for key, value in sorted(operator.labels.items()))
    path = f"/api/v1/namespaces/{quote(operator.namespace)}/pods?{urlencode({'labelSelector': selector})}"
    found = server.look(path, f"Pods of namespace {operator.namespace}")
    if isinstance(found, Unreadable):
        told = f"You may not list {found.what}."
        raise CommandError(told, Actor.ADMIN, _right_to("list", "pods"))
    name = str(operator.container["name"])
    running = sorted(
        (not state.get("ready"), str(body["metadata"]["name"]))
        for body in _items(found)
        if (state := _state(body, name))
        and "running" in (state.get("state") or {})
        and not body["metadata"].get("deletionTimestamp")
    )
    if not running:
        told = f"Deployment {operator} has no pod that runs."
        action = f"see `kubectl -n {operator.namespace} describe pods`; `vrse doctor` tells more."
        raise CommandError(told, Actor.ADMIN, action, Exit.UNANSWERED)
    return running[0][1]


def _state(body: Object, container: str) -> Mapping[str, Any]:
    found = (body.get("status") or {}).get("containerStatuses") or ()
    return next((state for state in found if state.get("name") == container), {})


def _passed_on(code: int, what: str) -> Exit:
    if code in _PASSED_ON:
        return Exit(code)
    told = f"{what[0].upper()}{what[1:]} was ended with the exit code {code}, before it had done its work."
    raise CommandError(told, Actor.ADMIN, "repeat the command; see the operator's log.", Exit.UNANSWERED)


def run_beside(server: Server, operator: Operator, command: Sequence[str], streams: tuple[Written, Written]) -> Exit:
    """Run a command of the operator in a pod of its own, which goes afterwards: for what ends the operator's process.

    Raises
    ------
    CommandError
        As by ``run_within``.
    """
    pods = f"/api/v1/namespaces/{quote(operator.namespace)}/pods"
    right = _right_to("get, create and delete", "pods, and get on pods/log,")
    what = f"Pod {operator.namespace}/{operator.deployment}-{command[0]}"
    for verb, kind in _NEEDED:
        if not server.may(verb, kind, operator.namespace):
            # Nobody could say how it ends, or remove it: before it is made, nothing is lost.
            told = f"You may not {verb} {kind} in namespace {operator.namespace}: {what} is not made."
            raise CommandError(told, Actor.ADMIN, right)
    made = server.make(pods, _pod(operator, command), what, right=right)["metadata"]["name"]
    pod = _Beside(server, operator.namespace, made, command[0], right)
    aside = streams[1]
    try:
        code = pod.ended()
        try:
            streams[code != Exit.DONE](pod.log())
        except CommandError as error:
            # What it has done is done.
            aside(f"{pod} has ended with the exit code {code}; its log is not here: {error.message}\n".encode())
    finally:
        if left := pod.cleared():
            aside(f"{left}\n".encode())
    return _passed_on(code, str(pod))


def _pod(operator: Operator, command: Sequence[str]) -> dict[str, Any]:
    """Make a pod as the operator's own, with a command in its place."""
    container = {key: value for key, value in operator.container.items() if key in _KEPT}
    own = {key: value for key, value in operator.template.items() if key != "initContainers"}
    own |= {
        "restartPolicy": "Never",
        "containers": [{**container, "name": command[0], "command": [*_PROGRAM, *command]}],
    }
    # Not by the labels of the operator's pods: its Services and budgets are not for this one.
    metadata = {"generateName": f"{operator.deployment}-{command[0]}-", "annotations": dict(operator.annotations)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": own}


class _Beside:
    """A pod of its own that runs a command, as it was seen last."""

    def __init__(self, server: Server, namespace: str, name: str, container: str, right: str) -> None:
        self._server, self._right = server, right
        self._namespace, self._name, self._container = namespace, name, container
        self._path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}"
        self._stays = _WORKS
        """Why it must not go; empty: it can."""
        self._version: str | None = None
        """In which it had not begun; None: it can go in any."""

    def __str__(self) -> str:
        return f"Pod {self._namespace}/{self._name}"

    def ended(self) -> int:
        """Wait until the command has ended; give its exit code."""
        begun = time.monotonic()
        while True:
            found = _answered(self._look)
            status = found.get("status") or {}
            # Whatever else was put into the pod may work on, or have failed.
            own = _state(found, self._container)
            state = own.get("state") or {}
            self._stays, self._version = _WORKS, None
            if (end := state.get("terminated")) is not None:
                self._stays = ""
                return int(end.get("exitCode", 1))
            if status.get("phase") == "Failed":
                self._stays = ""
                _lost(str(self), f"was ended: {status.get('message') or status.get('reason')}")
            if "running" not in state:
                self._stays, self._version = "", found["metadata"].get("resourceVersion")
                if time.monotonic() > begun + _BEGINS:
                    _lost(str(self), f"has not begun within {_BEGINS:.0f} s: {_waits(status, own)}")
            time.sleep(_PAUSE)

    def _look(self) -> Object:
        found = self._server.look(self._path, str(self))
        if isinstance(found, Unreadable):
            told = f"You may not read {self}."
            raise CommandError(told, Actor.ADMIN, self._right)
        if found is None:
            self._stays = ""
            _lost(str(self), "is gone before it had ended")
        return found

    def log(self) -> bytes:
        """Read what the command has written, once it has ended."""
        self._stays = "its log has not been read"
        said = _answered(lambda: self._server.log(self._path, str(self), container=self._container, right=self._right))
        self._stays = ""
        return said

    def cleared(self) -> str:
        """Delete the pod, unless it may still work or has more to say; tell what is left, if anything is."""
        why = self._stays
        if not why:
            try:
                self._server.drop(self._path, str(self), version=self._version, right=self._right)
            except CommandError as error:
                why = error.message
            else:
                return ""
        of = f"-n {self._namespace}"
        log = f"kubectl {of} logs {self._name} -c {self._container}"
        return f"{self} is left ({why}). Read `{log}`; then delete it: `kubectl {of} delete pod {self._name}`."


def _answered(ask: Callable[[], T]) -> T:
    """Ask, and again for a while where nobody answers."""
    until = time.monotonic() + _SILENT
    while True:
        try:
            return ask()
        except CommandError as error:
            if error.code is not Exit.UNANSWERED or time.monotonic() > until:
                raise
        time.sleep(_PAUSE)


def _waits(status: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Say what keeps a pod's own container from its begin."""
    waiting = (own.get("state") or {}).get("waiting")
    told = [f"{waiting.get('reason')}: {waiting.get('message', '')}"] if waiting else []
    told += [str(entry.get("message")) for entry in status.get("conditions") or () if entry.get("status") == "False"]
    return told[0] if told else "nobody says why"


def _lost(what: str, said: str) -> NoReturn:
    action = "see the nodes, and the quota and policies of the operator's namespace; then repeat the command."
    told = f"{what} {said}."
    raise CommandError(told, Actor.ADMIN, action, Exit.UNANSWERED)
