"""What happens when bytes are gone, or would be: the catalogue points at nothing, and nothing vanishes from it."""

from __future__ import annotations

import json
import time
import uuid
import zlib
from datetime import datetime

import pytest
import requests

from testbed import cluster, grid, installation
from testbed.layout import NODE
from testbed.sessions import Session, wait_for
from tests.e2e.flows import (
    ALICE,
    NANO,
    PUBLISH,
    assert_nothing_left,
    discard,
    docker,
    let_go,
    new_dataset,
    output,
    patch,
    states,
)
from volatile_rse.api.agent import DATA
from volatile_rse.api.names import hash_path, lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

SCOPE = "user.alice"


def lose_volume(name: str) -> None:
    """Take the storage away for good: pod, claim, volume, and the bytes on the node's disk."""
    claim = json.loads(cluster.kubectl("-n", installation.BUFFERS, "get", "persistentvolumeclaim", name, "-o", "json"))
    volume = claim["spec"]["volumeName"]
    path = json.loads(cluster.kubectl("get", "persistentvolume", volume, "-o", "json"))["spec"]["hostPath"]["path"]
    cluster.kubectl("delete", "persistentvolume", volume, "--wait=false")
    cluster.kubectl("-n", installation.BUFFERS, "delete", "persistentvolumeclaim", name, "--wait=false")
    cluster.kubectl("-n", installation.BUFFERS, "delete", "pod", name, "--grace-period=0", "--force")
    docker("exec", NODE, "rm", "-rf", path)


@pytest.mark.usefixtures("refused")
def test_a_lost_volume_is_hidden_within_a_minute_and_its_rse_stays_until_somebody_gives_it_up(session: Session) -> None:
    """What was published is nowhere else: the site that it should go to refuses our token."""
    dataset = new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset) | {"register": "Continuous"}])
    session.job(PUBLISH)
    wait_for("the Job has written", lambda: session.is_true("Usable") and "written" in session.log())
    record = session.record()
    rse, file = record["spec"]["rseName"], lfn_name(dataset, record["spec"]["recordId"], b"kept/one.txt")
    wait_for("it is registered", lambda: states(rse, file) == {file: "AVAILABLE"})
    staged = states(rse, "nano_dimuon")

    lose_volume(record["metadata"]["name"])
    wait_for("it is hidden", lambda: states(rse, file) == {file: "TEMPORARY_UNAVAILABLE"})
    [loss] = session.record()["status"]["losses"]
    assert time.time() - datetime.fromisoformat(loss.split(": ")[0]).timestamp() < 60
    wait_for("the inputs are there again", lambda: session.is_true("Usable") and states(rse, "nano_dimuon") == staged)
    assert set(staged.values()) == {"AVAILABLE"}
    assert session.condition("OutputsSafe")["reason"] == "StorageLost"

    let_go(session)
    wait_for("it is told what is lost", lambda: file in session.record()["status"].get("message", ""), 180)
    assert states(rse, file) == {file: "TEMPORARY_UNAVAILABLE"}, "people are sent to it, or it vanishes from Rucio"
    patch(["-n", session.namespace, "vrse", session.name], {"teardown": discard(rse, "alice")}, *ALICE)
    closed = session.wait_closed(240)
    assert closed["status"]["discarded"]["files"] == 1
    assert_nothing_left(closed)


@pytest.mark.long
def test_an_input_that_is_nowhere_else_any_more_stays_readable(session: Session) -> None:
    client, facts, name = grid.client("root"), grid.grid(), f"last.{uuid.uuid4().hex[:10]}"
    data = name.encode()
    file = {"scope": SCOPE, "name": name, "bytes": len(data), "adler32": f"{zlib.adler32(data):08x}"}
    token = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
    url = f"{facts.davs_outside['SITE-A']}/store/{hash_path(SCOPE, name)}"
    requests.put(url, data=data, headers=token, verify=facts.bundle, timeout=60).raise_for_status()
    client.add_replicas("SITE-A", [file])
    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{name}"}])
    wait_for("Usable", lambda: session.is_true("Usable"))
    record = session.record()
    rse = record["spec"]["rseName"]

    client.declare_bad_file_replicas([{"scope": SCOPE, "name": name, "rse": "SITE-A"}], "a test")
    session.delete()
    message = f"{rse} holds the last copy of {SCOPE}:{name}."
    wait_for("it is told", lambda: message in session.record()["status"].get("message", ""))
    pod = record["metadata"]["name"]
    before = uid_of_ready(pod)
    cluster.kubectl("-n", installation.BUFFERS, "delete", "pod", pod, "--wait=false")
    wait_for("the storage stands again", lambda: uid_of_ready(pod) not in {"", before})
    cat = f"cat $(find {DATA} -type f -name {name})"
    exec_ = ("-n", installation.BUFFERS, "exec", pod, "-c", "agent", "--", "sh", "-c", cat)
    assert cluster.kubectl(*exec_).encode() == data
    assert states(rse, name) == {name: "AVAILABLE"}
    client.update_replicas_states("SITE-A", [{"scope": SCOPE, "name": name, "state": "A"}])
    assert_nothing_left(session.wait_closed())


def uid_of_ready(pod: str) -> str:
    """Give the UID of a pod that is ready; empty if none is."""
    text = cluster.kubectl("-n", installation.BUFFERS, "get", "pod", pod, "--ignore-not-found", "-o", "json")
    body = json.loads(text) if text.strip() else {"status": {}}
    ready = [entry["status"] for entry in body["status"].get("conditions", ()) if entry["type"] == "Ready"]
    return str(body["metadata"]["uid"]) if ready == ["True"] else ""
