"""Whatever answers in the API server's place: objects are whole in what every object has, or there is an error."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes.client import ApiClient

from tests.unit.fuzz.answers import altered, places_of, values_for
from tests.unit.fuzz.hostile import shown
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.cluster import Cluster, Ref
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

POD = Ref("Pod", "alice", "job")
_OBJECT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "job",
        "namespace": "alice",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 1,
        "labels": {"a": "b"},
        "annotations": {"a": "b"},
        "finalizers": ["f"],
        "creationTimestamp": "2030-01-01T00:00:00Z",
        "deletionTimestamp": "2030-01-01T00:00:00Z",
        "ownerReferences": [{"kind": "Secret", "name": "s", "uid": "v", "apiVersion": "v1"}],
    },
    "spec": {"containers": []},
    "status": {"phase": "Running"},
}
_LIST = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "8"}, "items": [_OBJECT]}
_STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "reason": "Invalid",
    "message": "no",
    "code": 422,
    "details": {"causes": [{"field": "metadata.uid", "message": "x"}]},
}
_CALLS: Mapping[str, tuple[Callable[[Cluster], object], int, Mapping[str, Any]]] = {
    "identity": (lambda cluster: cluster.identity(), 200, _OBJECT),
    "get": (lambda cluster: cluster.get(POD), 200, _OBJECT),
    "list": (lambda cluster: cluster.list("Pod", "alice"), 200, _LIST),
    "create": (lambda cluster: cluster.create(_OBJECT), 409, _STATUS),
    "apply": (lambda cluster: cluster.apply(_OBJECT), 200, _OBJECT),
    "merge": (lambda cluster: cluster.merge(POD, {"metadata": {"uid": "u"}}), 422, _STATUS),
    "delete": (lambda cluster: cluster.delete(POD, "u"), 404, _STATUS),
    "event": (lambda cluster: cluster.event(_OBJECT, type_="Normal", reason="x", message="y"), 422, _STATUS),
}


@dataclass
class Answer:
    status: int
    data: bytes

    def read(self) -> bytes:
        return self.data

    def getheader(self, name: str) -> str | None:
        return str(len(self.data)) if name == "Content-Length" else None


class Client(ApiClient):
    """Gives one answer to whatever is asked."""

    def __init__(self, status: int, data: bytes) -> None:
        super().__init__()
        self._given = Answer(status, data)
        self.asked: list[str] = []

    def call_api(self, *args: Any, **_named: Any) -> Any:
        self.asked.append(args[1])
        return self._given


def asked(name: str, status: int, data: bytes) -> object:
    return _CALLS[name][0](KubernetesCluster(Client(status, data)))


def metadata_of(found: object) -> list[Mapping[str, Any]]:
    bodies = found if isinstance(found, tuple) else (found,)
    return [body["metadata"] for body in bodies if isinstance(body, Mapping)]


def is_sound(metadata: Mapping[str, Any]) -> bool:
    texts = [metadata["name"], metadata["uid"], metadata["resourceVersion"]]
    texts += [*(metadata.get("labels") or {}).values(), *(metadata.get("finalizers") or ())]
    return all(isinstance(text, str) for text in texts)


@pytest.mark.parametrize("name", _CALLS)
def test_no_answer_of_the_api_server_is_more_than_a_port_s_error(name: str) -> None:
    _, status, right = _CALLS[name]
    for place, kind in places_of(right):
        for value in values_for(kind):
            case = f"{name}: {list(place)} is {shown(value)}"
            data = json.dumps(altered(right, place, value)).encode()
            try:
                found = asked(name, status, data)
                assert all(map(is_sound, metadata_of(found))), case
            except PortError:
                pass
            except Exception as error:
                error.add_note(case)
                raise


@pytest.mark.parametrize("name", _CALLS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"7",
        b'"x"',
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"<html>no</html>",
        b"NaN",
    ],
    ids=range(11),
)
@pytest.mark.parametrize("status", [200, 404, 409, 422, 503])
def test_what_is_no_object_is_more_than_a_port_s_error_never(name: str, data: bytes, status: int) -> None:
    with (
        pytest.raises(UnreachableError)
        if name in {"identity", "get", "list"} and status == 200
        else suppress(PortError)
    ):
        asked(name, status, data)


def test_a_list_that_never_ends_is_told() -> None:
    endless = copy.deepcopy(_LIST) | {"metadata": {"continue": "again"}, "items": []}
    with pytest.raises(UnreachableError, match="no end"):
        asked("list", 200, json.dumps(endless).encode())


@pytest.mark.parametrize("name", ["a/../../secrets/b", "a?b", "a%2fb", "\ud800", "a\nb"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    client = Client(200, json.dumps(_OBJECT).encode())
    KubernetesCluster(client).get(Ref("Secret", "alice", name))
    path = client.asked[0].partition("/secrets/")[2]
    assert path
    assert not {"/", "?"} & set(path)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(RefusedError) as told:
        KubernetesCluster(Client(200, json.dumps(_OBJECT).encode())).get(Ref("Secret", "alice", name))
    assert told.value.reason is Reason.CLUSTER_REFUSED


def test_what_cannot_be_written_into_a_request_is_refused() -> None:
    with pytest.raises(RefusedError) as told:
        KubernetesCluster(Client(200, b"{}")).create({**_OBJECT, "data": {"a": object()}})
    assert told.value.reason is Reason.CLUSTER_REFUSED
