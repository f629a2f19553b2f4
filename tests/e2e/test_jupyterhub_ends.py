"""Spawns that go otherwise: refused, cancelled, forgotten by a hub that is killed; and servers of a plain KubeSpawner.

By the hub's REST API.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests

from testbed import cluster, hub, installation
from testbed import session as session_image
from testbed.layout import CHECKOUT
from testbed.sessions import LABEL, Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left, end_of

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.people]

MANY, SECONDS = 70, 180
PATIENT = """
c.KubeSpawner.start_timeout = 900
c.VolatileRSESpawner.vrse_wait = 600
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
"""
"""None of those who wait starts without data while a test looks, and a request for a server is answered at once."""
SLOW = {"volatile_rse": {"inputs": [NANO["did"]], "capacity": "1Gi"}}


@dataclass(frozen=True, slots=True)
class Rest:
    """The hub's API, as a service with rights over all users."""

    hub: hub.Hub

    def __call__(self, method: str, path: str, seconds: float = 120, **more: Any) -> requests.Response:
        url, headers = f"{self.hub.url}/hub/api/{path}", {"Authorization": f"token {hub.TOKEN}"}
        return requests.request(method, url, headers=headers, timeout=(30, seconds), **more)

    def spawn(self, server: str, options: dict[str, Any], user: str = "alice", seconds: float = 1) -> None:
        """Ask for a server, and do not wait for it longer than that."""
        self("POST", f"users/{user}")
        with suppress(requests.ReadTimeout):
            answer = self("POST", f"users/{user}/servers/{server}", json=options, seconds=seconds)
            assert answer.ok, answer.text

    def heard(self, server: str, user: str = "alice") -> list[dict[str, Any]]:
        """Listen to the spawn's progress until it is over."""
        answer = self("GET", f"users/{user}/servers/{server}/progress", stream=True)
        lines = (line.decode() for line in answer.iter_lines() if line.startswith(b"data:"))
        return [json.loads(line.removeprefix("data:")) for line in lines]

    def waiting(self) -> set[str]:
        """Name the users whose server is on its way, and not there."""
        users = self("GET", "users?limit=200").json()
        return {user["name"] for user in users if user.get("pending") == "spawn" and not user.get("server")}


@pytest.fixture
def rest(session: Session, request: pytest.FixtureRequest) -> Iterator[Rest]:
    settings = {
        "vrse_class": session.class_name,
        "vrse_capacities": ["1Gi"],
        "vrse_end_grace": "2s",
        "vrse_ttl_after_finished": getattr(request, "param", "7d"),
    }
    yield Rest(hub.up(session.namespace, settings))
    for name in sessions_of(session):
        end_of(replace(session, name=name))


def sessions_of(session: Session) -> dict[str, dict[str, Any]]:
    text = cluster.kubectl("-n", session.namespace, "get", "volatilerses", "-o", "json")
    return {body["metadata"]["name"]: body for body in json.loads(text)["items"]}


def ended(session: Session) -> list[bool]:
    return [bool(body["spec"].get("endRequested")) for body in sessions_of(session).values()]


def is_over(session: Session, name: str) -> bool:
    body = sessions_of(session).get(name)
    return body is None or bool(body["spec"].get("endRequested"))


def records_of(session: Session) -> list[dict[str, Any]]:
    found = json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]
    return [body for body in found if body["spec"]["claims"][0]["namespace"] == session.namespace]


def living_of(session: Session) -> list[str]:
    """Name the records of buffers that are not closed."""
    found = ((body["metadata"]["name"], body.get("status") or {}) for body in records_of(session))
    return [name for name, status in found if status.get("phase") != "Closed"]


def pods_of(session: Session) -> list[str]:
    return cluster.kubectl("-n", session.namespace, "get", "pods", "-l", "volatilerse.io/session", "-o", "name").split()


def test_inputs_that_do_not_exist_fail_the_spawn_with_what_to_do(session: Session, rest: Rest) -> None:
    rest.spawn("odd", {"volatile_rse": {"inputs": ["user.alice:none"], "capacity": "1Gi"}})
    last = rest.heard("odd")[-1]
    assert last["failed"]
    assert "USER must act: " in last["message"]
    wait_for("its session has ended", lambda: ended(session) == [True])
    assert not pods_of(session)
    refused = rest("POST", "users/alice/servers/odd", json={"volatile_rse": {"inputs": ["none"], "capacity": "1Gi"}})
    assert refused.status_code == 400
    assert "SCOPE:NAME" in refused.text
    assert len(sessions_of(session)) == 1, "by REST, too, nothing is made of what is no DID"


def test_a_cancelled_spawn_leaves_no_pod_and_ends(session: Session, rest: Rest) -> None:
    rest.spawn("one", SLOW)
    wait_for("a VolatileRSE", lambda: sessions_of(session))
    assert rest("DELETE", "users/alice/servers/one").status_code in {202, 204}
    wait_for("its session has ended", lambda: ended(session) == [True])
    wait_for("no pod is left", lambda: not pods_of(session))


@pytest.mark.parametrize("rest", ["1s"], indirect=True)
def test_of_a_hub_that_is_killed_and_a_user_that_is_deleted_nothing_is_left(session: Session, rest: Rest) -> None:
    rest.spawn("", SLOW)
    (first,) = wait_for("a VolatileRSE", lambda: sessions_of(session))
    where = ("-n", session.namespace)
    cluster.kubectl(*where, "delete", "pod", "-l", "app=hub", "--grace-period=0", "--force")
    cluster.kubectl(*where, "rollout", "status", "deployment/hub", "--timeout=120s")
    # Its database went with its pod.
    wait_for("the hub answers", lambda: hub.answers(f"{rest.hub.url}/hub/health"))
    rest.spawn("", SLOW)
    wait_for("the second", lambda: set(sessions_of(session)) - {first})
    wait_for("the first has ended", lambda: is_over(session, first))
    assert rest.heard("")[-1]["ready"]
    gone = rest("DELETE", "users/alice")
    assert gone.status_code == 204, gone.text
    wait_for("no VolatileRSE is left", lambda: not sessions_of(session), 180)
    assert not pods_of(session)
    wait_for("each buffer is closed", lambda: not living_of(session), 180)
    assert len(records_of(session)) == 2
    for record in records_of(session):
        assert_nothing_left(record)


def test_without_rights_a_server_starts_without_data(session: Session, rest: Rest) -> None:
    cluster.kubectl("-n", session.namespace, "delete", "rolebinding", "volatile-rse-hub")
    rest.spawn("two", SLOW)
    told = rest.heard("two")
    assert told[-1]["ready"]
    assert any("ADMIN must act: install the operator" in event.get("message", "") for event in told), told
    assert not sessions_of(session)
    assert not pods_of(session)
    assert rest("DELETE", "users/alice/servers/two").status_code in {202, 204}


PAGE = (CHECKOUT / "docs" / "jupyterhub.md").read_text()
(LABELLED,) = re.findall(r"```python\n(c.KubeSpawner.extra_labels.*?)```", PAGE, re.DOTALL)
"""All that such a hub says of us."""
PLAIN = 'c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"\n'
READ = """
import json
import os
import ROOT

with open("/etc/vrse/inputs.jsonl") as lines:
    urls = [json.loads(line)["url"] for line in lines]
print(os.environ["BEARER_TOKEN_FILE"], ROOT.RDataFrame("Events", urls).Count().GetValue())
"""


def test_a_server_of_a_plain_kubespawner_has_its_session_by_the_label_alone(session: Session) -> None:
    installation.enable(session.namespace, injected=True)
    rest = Rest(hub.up(session.namespace, {}, PLAIN + LABELLED.replace("dimuon", session.name)))
    rest.spawn("", {})
    argv = ("-n", session.namespace)
    selector = (*argv, "get", "pods", "-l", f"{LABEL}={session.name}")
    gate = "jsonpath={.items[*].spec.schedulingGates[*].name}"
    wait_for("the server waits", lambda: cluster.kubectl(*selector, "-o", gate) == "volatilerse.io/usable")
    session.request(inputs=[NANO])
    assert rest.heard("")[-1]["ready"]
    (pod,) = pods_of(session)
    read = cluster.kubectl(*argv, "exec", pod, "-c", "notebook", "--", session_image.ROOT_PYTHON, "-c", READ)
    assert read.splitlines()[-1] == "/run/vrse/token 200000"
    assert session.is_true("SessionActive")
    assert rest("DELETE", "users/alice/server").status_code in {202, 204}
    session.wait_closed()


def left_of(session: Session) -> dict[str, dict[str, Any]]:
    """Delete what there is, again and again: a hub that was killed makes more until its node has heard of it."""
    cluster.kubectl("-n", session.namespace, "delete", "volatilerses", "--all", "--wait=false")
    return sessions_of(session)


@pytest.fixture
def unplaced(session: Session) -> Iterator[str]:
    """Have no data come by the session's class: no node has the memory that its storage pods want."""
    name = session.namespace
    grants = [{"namespaces": [name], "accounts": ["alice"], "scopes": ["user.alice"]}]
    pods = {"resources": {"agent": {"requests": {"memory": "64Ti"}, "limits": {"memory": "64Ti"}}}}
    limits = {"perOwner": {"buffers": 2 * MANY, "newPerHour": 2 * MANY}}
    # Whatever goes wrong here, seventy servers are more than the testbed has room for.
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": name}}
    few = {**quota, "spec": {"hard": {"pods": "3"}}}
    installation.apply([few, installation.class_of(name, grants, pods=pods, limits=limits)])
    yield name
    cluster.kubectl("-n", name, "delete", "deployment", "hub", "--grace-period=0", "--force", "--ignore-not-found")
    wait_for("no VolatileRSE is left", lambda: not left_of(session), 180, 3)
    wait_for("each buffer is closed", lambda: not living_of(session), 300, 3)


def test_beside_seventy_that_wait_for_data_one_without_starts(session: Session, unplaced: str) -> None:
    settings = {"vrse_class": unplaced, "vrse_account": "alice", "vrse_capacities": ["1Gi"]}
    rest = Rest(hub.up(session.namespace, settings, PATIENT))
    users = {f"user{number}" for number in range(MANY)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda user: rest.spawn("", SLOW, user, 60), users))
    wait_for("all of them wait", lambda: rest.waiting() == users, 300)
    wait_for("each has a VolatileRSE", lambda: len(sessions_of(session)) == MANY, 300)
    began = time.monotonic()
    rest.spawn("", {}, "zoe", 60)
    assert rest.heard("", "zoe")[-1]["ready"]
    took = time.monotonic() - began
    print(f"beside {MANY} that wait, one without data was ready after {took:.0f} s")  # noqa: T201 (a measurement)
    assert took < SECONDS
    assert rest.waiting() == users, "all others still wait"
    assert len(sessions_of(session)) == MANY
    assert not pods_of(session)
