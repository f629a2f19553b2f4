"""Spawns that go otherwise: refused, cancelled, forgotten by a hub that is killed; and servers of a plain KubeSpawner.

By the hub's REST API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests

from testbed import cluster, hub, installation
from testbed import session as session_image
from testbed.layout import CHECKOUT
from testbed.sessions import LABEL, Session, wait_for
from tests.e2e.flows import NANO, end_of

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.people]

SLOW = {"volatile_rse": {"inputs": [NANO["did"]], "capacity": "1Gi"}}


@dataclass(frozen=True, slots=True)
class Rest:
    """The hub's API, as a service with rights over all users."""

    hub: hub.Hub

    def __call__(self, method: str, path: str, seconds: float = 120, **more: Any) -> requests.Response:
        headers = {"Authorization": f"token {hub.TOKEN}"}
        return requests.request(method, f"{self.hub.url}/hub/api/{path}", headers=headers, timeout=seconds, **more)

    def spawn(self, server: str, options: dict[str, Any]) -> None:
        """Ask for a server for alice, and do not wait for it."""
        self("POST", "users/alice")
        with suppress(requests.ReadTimeout):
            self("POST", f"users/alice/servers/{server}", json=options, seconds=1)

    def heard(self, server: str) -> list[dict[str, Any]]:
        """Listen to the spawn's progress until it is over."""
        answer = self("GET", f"users/alice/servers/{server}/progress", stream=True)
        lines = (line.decode() for line in answer.iter_lines() if line.startswith(b"data:"))
        return [json.loads(line.removeprefix("data:")) for line in lines]

    def server(self, server: str) -> dict[str, Any]:
        """Read what the hub knows of a server; empty: nothing."""
        servers: dict[str, Any] = self("GET", "users/alice").json().get("servers") or {}
        return dict(servers.get(server) or {})


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
