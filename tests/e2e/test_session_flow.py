"""The whole way, on the real cluster, with the real Rucio and the real sites."""

from __future__ import annotations

import json
import re
import time
import uuid
import zlib
from typing import Any

import pytest
import requests

from testbed import asking, cluster, grid, installation
from testbed.layout import CHECKOUT
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, WRITE, assert_kept, assert_nothing_left, fresh_dataset, new_dataset, output
from volatile_rse.api.names import hash_path
from volatile_rse.api.schema import parse_quantity

pytestmark = [pytest.mark.cluster, pytest.mark.grid]


READ_BY_HTTPS = """
python3 - $(grep -o '//store/user/bob/[^"]*' /etc/vrse/inputs.jsonl) <<'.'
import ssl, sys, urllib.request
door, token = open("/etc/vrse/VRSE_DAVS_URL").read(), open("/etc/vrse-secret/token").read()
request = urllib.request.Request(door + sys.argv[1][1:], headers={"Authorization": "Bearer " + token})
with urllib.request.urlopen(request, context=ssl.create_default_context(cafile="/etc/vrse/ca.crt")) as answer:
    assert answer.read() == b"bob's"
.
"""


def left_by_the_page() -> dict[str, int]:
    """Give the rows of Rucio's database that stay, as the page for its admins says."""
    page = (CHECKOUT / "docs" / "your-rucio.md").read_text().split("## What stays in the database\n")[1]
    return {table: int(number) for table, number in re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)}


def test_inputs_come_and_outputs_are_kept(session: Session) -> None:
    dataset, bobs = new_dataset(), put_bobs_file(b"bob's")
    alice, name = grid.client("alice"), f"{dataset}.in"
    alice.add_dataset("user.alice", name, lifetime=86400)
    own = [{"scope": entry["scope"], "name": entry["name"]} for entry in alice.list_files(*NANO["did"].split(":"))]
    alice.attach_dids("user.alice", name, [*own, {"scope": "user.bob", "name": bobs}])
    session.request(inputs=[{**NANO, "did": f"user.alice:{name}"}], outputs=[output(dataset)])
    stalled = wait_for("Stalled", lambda: session.is_true("Stalled") and session.condition("Stalled"), 30)
    assert stalled["reason"] == "ScopeNotGranted"
    assert f"user.bob (1 file: user.bob:{bobs})" in stalled["message"]
    grant = {"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}
    installation.apply([installation.class_of(session.namespace, [{**grant, "readScopes": ["user.b*"]}])])
    read = "for url in $(grep -o 'root://[^\"]*' /etc/vrse/inputs.jsonl); do xrdcp -f $url /tmp/in; done\n"
    whole = "xrdcp -f $(cat /etc/vrse/VRSE_INPUTS_URL) /tmp/list; cmp /tmp/list /etc/vrse/inputs.jsonl\n"
    session.job(f"set -e\n{read}{READ_BY_HTTPS}{whole}set +e\n{WRITE}")
    record = session.wait_closed()
    status = session.status()
    assert record["status"]["session"]["endReason"] == "PodsGone"
    assert session.is_true("Ready")
    assert session.condition("Ready")["reason"] == "Completed"
    assert session.is_true("OutputsSafe")
    assert status["inputs"][0]["staged"] == status["inputs"][0]["files"] > 0
    assert [(entry["sealed"], entry["safe"], entry["bytesAtRisk"]) for entry in status["outputs"]] == [(2, 2, 0)]
    assert record["status"]["outcome"]["exceptions"] == ["unmatched: scratch.txt (3893 bytes)"]
    assert_kept(dataset, record, [3893, 2000000])
    assert_nothing_left(record)
    assert asking.rows(record["spec"]["rseName"]) == left_by_the_page()
    assert_told(session, installation.metrics())


def put_bobs_file(data: bytes) -> str:
    """Put a file of bob's at SITE-A, where Rucio knows it; give its name."""
    facts, name = grid.grid(), f"secret.{uuid.uuid4().hex[:10]}"
    url = f"{facts.davs_outside['SITE-A']}/store/{hash_path('user.bob', name)}"
    token = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
    requests.put(url, data=data, headers=token, verify=facts.bundle, timeout=60).raise_for_status()
    about = {"scope": "user.bob", "name": name, "bytes": len(data), "adler32": f"{zlib.adler32(data):08x}"}
    grid.client("root").add_replicas("SITE-A", [about])
    return name


def assert_told(session: Session, metrics: dict[str, float]) -> None:
    """See that the operator's metrics have a session that came and went."""
    found = {name.removeprefix("volatile_rse_"): value for name, value in metrics.items()}
    assert found['visit_seconds_count{result="done"}'] >= 1
    of = f'{{class="{session.class_name}"}}'
    assert found[f"ready_seconds_count{of}"] == found[f"safe_seconds_count{of}"] == 1
    assert found['visit_seconds_bucket{le="+Inf",result="done"}'] == found['visit_seconds_count{result="done"}']
    assert found['effects_total{effect="Fence",result="done"}'] >= 1
    assert any(name.startswith("catalogue_call_seconds_count{") for name in found)
    assert found["watch_age_seconds"] < 60
    assert found["queue_age_seconds"] < 60
    assert time.time() - found["sweep_timestamp_seconds"] < 300
    for name in ('records{stage="Closed"}', "orphans"):
        assert name in found


def test_a_job_that_fails_after_writing_loses_nothing_even_of_a_memory_volume(session: Session) -> None:
    dataset = new_dataset()
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    installation.apply([installation.class_of(session.namespace, grants, storage={"memory": {}})])
    session.request(outputs=[output(dataset)], minimumDurability="Pod")
    session.job(WRITE + "exit 3\n")
    record = session.wait_closed()
    assert_kept(dataset, record, [3893, 2000000])
    assert_nothing_left(record)


def test_deletion_in_the_middle_of_the_session_keeps_what_was_written(session: Session) -> None:
    dataset = new_dataset()
    session.request(outputs=[output(dataset)], session={})
    session.job(WRITE + "echo written; sleep 600\n")
    wait_for("the Job has written", lambda: session.is_true("SessionActive") and "written" in session.log())
    session.delete()
    wait_for("the VolatileRSE is gone", lambda: session.body() is None)
    assert session.record()["status"]["safeAt"], "released before the outputs were safe"
    record = session.wait_closed()
    assert record["status"]["session"]["endReason"] == "Deleted"
    assert_kept(dataset, record, [3893, 2000000])
    assert_nothing_left(record)


def missing(name: str) -> dict[str, Any]:
    return {"name": "nano", "did": f"user.alice:{name}"}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown class": ({"className": "nowhere"}, "UnknownClass"),
    "account": ({"account": "bob"}, "AccountNotGranted"),
    "scope": ({"outputs": [{**output("x"), "scope": "user.bob"}]}, "ScopeNotGranted"),
    "unknown DID": ({"inputs": [missing("never_made")]}, "DIDNotFound"),
    "no replica": ({"inputs": [{**NANO, "sourceRSEExpression": "SITE-B"}]}, "NoReplica"),
    "too large": ({"inputs": [NANO], "capacity": "1Mi"}, "InputsTooLarge"),
    "no destination": ({"outputs": [output("x", rseExpression="tier=99")]}, "NoDestination"),
    "too few destinations": ({"outputs": [output("x", copies=3)]}, "NoDestination"),
    "escaping path": ({"outputs": [{**output("x"), "path": "../**"}]}, "PathEscapesOutbox"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_a_condition_that_says_who_must_do_what(session: Session, case: str) -> None:
    spec, reason = BAD[case]
    session.request(**spec)
    stalled = wait_for("Stalled", lambda: session.is_true("Stalled") and session.condition("Stalled"), 30)
    assert stalled["reason"] == reason
    assert "USER must act: " in stalled["message"] or "ADMIN must act: " in stalled["message"]
    assert session.condition("Ready")["reason"] == reason
    selector = f"volatilerse.io/record={(session.record().get('spec') or {}).get('recordId', 'none')}"
    assert cluster.kubectl("-n", installation.BUFFERS, "get", "pods,pvc,services", "-l", selector, "-o", "name") == ""
    session.delete()
    wait_for("the VolatileRSE is gone", lambda: session.body() is None)


def test_a_closed_dataset_is_refused_before_anything_is_staged(session: Session) -> None:
    dataset, alice = new_dataset(), grid.client("alice")
    alice.add_dataset("user.alice", dataset)
    alice.close("user.alice", dataset)
    session.request(inputs=[NANO], outputs=[output(dataset)])
    stalled = wait_for("Stalled", lambda: session.is_true("Stalled") and session.condition("Stalled"), 30)
    assert stalled["reason"] == "DatasetRefused"
    assert f"user.alice:{dataset} is closed. USER must act" in stalled["message"]


def test_an_unknown_connection_stalls_until_it_exists_and_its_login_is_for_its_server(session: Session) -> None:
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    installation.apply([installation.class_of(session.namespace, grants, connectionName=session.namespace)])
    session.request()
    stalled = wait_for("Stalled", lambda: session.is_true("Stalled") and session.condition("Stalled"), 30)
    assert stalled["reason"] == "UnknownConnection"
    connection = json.loads(cluster.kubectl("get", "rucioconnections", installation.CONNECTION, "-o", "json"))
    body = {**connection, "metadata": {"name": session.namespace}}
    body.pop("status")
    body["spec"]["userpass"] = {"secretName": session.namespace}
    login = installation.login(session.namespace)
    right, login["stringData"]["server"] = login["stringData"]["server"], "https://rucio.example.org"
    installation.apply([login, body])
    wait_for("the login is for another", lambda: session.condition("Stalled").get("reason") == "CredentialMismatch", 30)
    for told in (f"Secret {installation.NAMESPACE}/{session.namespace}", "is for https://rucio.example.org", right):
        assert told in session.condition("Stalled")["message"]
    installation.apply([{**login, "stringData": {**login["stringData"], "server": right}}])
    wait_for("Usable", lambda: session.is_true("Usable"), 60)
    assert not session.is_true("Stalled")
    session.delete()
    record = session.wait_closed()
    assert_nothing_left(record)
    cluster.kubectl("delete", "rucioconnections", session.namespace)
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", session.namespace)


SMALL: dict[str, Any] = {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "160Mi"}}
"""What a container needs for itself here: far less than the volume, so that its pages show if they are not counted."""
FULL = 360 << 20
"""Bytes in a buffer of 400 MiB."""


def assert_no_container_was_ended(session: Session) -> None:
    name = session.record()["metadata"]["name"]
    pod = json.loads(cluster.kubectl("-n", installation.BUFFERS, "get", "pod", name, "-o", "json"))
    assert [(status["restartCount"], status["ready"]) for status in pod["status"]["containerStatuses"]] == [
        (0, True)
    ] * 2
    requests = [container["resources"]["requests"]["memory"] for container in pod["spec"]["containers"]]
    assert sum(map(parse_quantity, requests)) == (400 + 2 * 96) << 20


@pytest.mark.parametrize("side", ["the agent", "the session"])
def test_a_memory_buffer_is_filled_from_one_side_alone(session: Session, side: str) -> None:
    """The kernel charges pages of the volume to the container that writes them, and ends the one that has too many."""
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    pods = {"resources": {"xrootd": SMALL, "agent": SMALL}}
    installation.apply([installation.class_of(session.namespace, grants, storage={"memory": {}}, pods=pods)])
    common = {"capacity": "400Mi", "minimumDurability": "Pod"}
    if side == "the agent":
        with fresh_dataset("full", 1, FULL) as (did, _):
            session.request(inputs=[{"name": "full", "did": did}], **common)
            wait_for("Usable", lambda: session.is_true("Usable"), 180)
    else:
        session.request(**common)
        session.job(
            f"head -c {FULL} /dev/zero >/tmp/full && xrdcp -s /tmp/full $ROOT_URL/$OUTBOX/full && echo written\n"
            "while [ ! -e /tmp/go ]; do sleep 0.2; done\n"
        )
        wait_for("all is written", lambda: "written" in session.log(), 180)
    assert_no_container_was_ended(session)
