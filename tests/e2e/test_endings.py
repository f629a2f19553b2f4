"""The end of an installation, and what another one makes of what it has left: uninstall, loss, adoption."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import asking, cluster, grid, installation
from testbed.layout import CHECKOUT, NODE
from testbed.sessions import Session, wait_for
from tests.e2e.flows import (
    ALICE,
    NANO,
    PUBLISH,
    assert_nothing_left,
    discard,
    end_of,
    new_dataset,
    output,
    patch,
    states,
    vrse,
)
from tests.mortal import Death, Mortal
from volatile_rse.adapters.rucio import RucioServer
from volatile_rse.api.names import lfn_name
from volatile_rse.api.rucioconnection import RucioConnectionSpec, SecretKeys
from volatile_rse.domain.catalogue import BufferRse, Did, LedgerOwner
from volatile_rse.domain.identity import identify

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

OPERATOR = ("-n", installation.NAMESPACE)
OBJECTS = "pods,services,secrets,configmaps,persistentvolumeclaims"


@pytest.fixture(scope="module", autouse=True)
def _operator() -> Iterator[None]:
    installation.up()
    yield
    # Whatever came of it, the next module finds an operator.
    installation.up()


def admin(*command: str, code: int = 0) -> str:
    """Run a command of an admin; give all that it prints."""
    done = vrse("admin", *command)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def uninstall() -> str:
    """Run the Job as it is shipped, with this clone's image; give its log."""
    job = yaml.safe_load((CHECKOUT / "manifests" / "uninstall-job.yaml").read_text())
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["image"] = installation.image()
    name = f"job/{job['metadata']['name']}"
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(job))
    try:
        wait_for("the Job to end", lambda: ended(name), 120)
        return cluster.kubectl(*OPERATOR, "logs", name)
    finally:
        cluster.kubectl(*OPERATOR, "delete", name, "--wait=true")


def ended(job: str) -> bool:
    status = json.loads(cluster.kubectl(*OPERATOR, "get", job, "-o", "json")).get("status", {})
    return bool(status.get("succeeded") or status.get("failed"))


def finalizers(*what: str) -> list[str]:
    found: list[str] = json.loads(cluster.kubectl("get", *what, "-o", "json"))["metadata"].get("finalizers", [])
    return found


@pytest.fixture
def publisher(session: Session) -> Iterator[Session]:
    """Give a second session in the namespace of the first."""
    made = Session(session.namespace, "publisher", session.class_name)
    yield made
    end_of(made)


@dataclass(frozen=True, slots=True)
class Buffer:
    """What is known of a buffer before its record is lost."""

    record: dict[str, Any]
    volume: str

    @classmethod
    def of(cls, session: Session) -> Buffer:
        record = session.record()
        claim = cluster.kubectl("-n", installation.BUFFERS, "get", "pvc", record["metadata"]["name"], "-o", "json")
        return cls(record, json.loads(claim)["spec"]["volumeName"])

    @property
    def name(self) -> str:
        return str(self.record["metadata"]["name"])

    @property
    def rse(self) -> str:
        return str(self.record["spec"]["rseName"])

    def stays(self) -> str:
        claim = self.record["spec"]["claims"][0]
        owner = f"{claim['namespace']}/{claim['name']}"
        return f"{self.name} of {owner}: {self.rse}, outputs that are not safe; volume {self.volume} stays"


def lose(session: Session, buffer: Buffer) -> None:
    """Take away all that an uninstalled operator has let go."""
    request = ("-n", session.namespace, "vrse", session.name)
    for what in (("rser", buffer.name), request, ("vrseclass", session.class_name)):
        assert not [entry for entry in finalizers(*what) if "volatilerse.io" in entry], f"{what} is held by nobody"
    cluster.kubectl("delete", "vrse", session.name, "-n", session.namespace, "--timeout=30s")
    cluster.kubectl("delete", "rser", buffer.name, "--timeout=30s")
    selector = ("-l", f"volatilerse.io/record={buffer.record['spec']['recordId']}", "--timeout=60s")
    cluster.kubectl("-n", installation.BUFFERS, "delete", OBJECTS, *selector)
    cluster.kubectl("-n", session.namespace, "delete", "secrets,configmaps", *selector)
    kept = json.loads(cluster.kubectl("get", "pv", buffer.volume, "-o", "json"))
    assert kept["spec"]["persistentVolumeReclaimPolicy"] == "Retain", "the volume of unsafe outputs went"
    remains = asking.remains(buffer.record)
    assert f"RSE {buffer.rse}" in remains
    assert any(what.startswith("replica of") for what in remains), "this test shows nothing"


def ends(session: Session, buffer: Buffer) -> dict[str, Any]:
    """Await the end of what was adopted; nothing is left then but the volume, and it goes by hand."""
    adopted = session.wait_closed(240)
    assert adopted["spec"]["adoptedFrom"] == buffer.record["spec"]["instance"]
    assert cluster.kubectl("get", "pv", buffer.volume, "-o", "name"), "the volume of unsafe outputs was given up"
    cluster.kubectl("delete", "pv", buffer.volume)
    assert_nothing_left(adopted)
    return adopted


@pytest.mark.usefixtures("refused")
def test_what_an_uninstalled_operator_left_is_adopted_by_the_next(session: Session, publisher: Session) -> None:
    """It refuses first; told otherwise it lets all go but the volumes, and its RSEs are orphans until they are adopted.

    What the second session has published is nowhere else: the site that it should go to refuses our token.
    """
    dataset = new_dataset()
    session.request(inputs=[NANO])
    publisher.request(inputs=[NANO], outputs=[output(dataset) | {"register": "Continuous"}])
    publisher.job(PUBLISH)
    wait_for("Usable", lambda: session.is_true("Usable"))
    wait_for("the Job has written", lambda: publisher.is_true("Usable") and "written" in publisher.log())
    buffer, published = Buffer.of(session), Buffer.of(publisher)
    file = lfn_name(dataset, published.record["spec"]["recordId"], b"kept/one.txt")
    wait_for("it is registered", lambda: states(published.rse, file) == {file: "AVAILABLE"})

    assert "2 buffers are not closed. ADMIN must act" in uninstall()
    assert "2 buffers are not closed. ADMIN must act" in admin("uninstall", code=1)
    assert finalizers("rser", buffer.name), "a refused uninstall let something go"
    said = admin("uninstall", "--leave")
    assert "Nothing is held any more. Remove the operator at once" in said
    assert buffer.stays() in said
    assert published.stays() in said
    cluster.kubectl(*OPERATOR, "delete", "deployment", "volatile-rse", "--wait=true")
    lose(session, buffer)
    lose(publisher, published)

    installation.up()
    instance = buffer.record["spec"]["instance"]
    wait_for("they are listed", lambda: {buffer.rse, published.rse} <= listed(instance), 60)
    adopt = ("adopt", "--class", session.class_name, "--instance")
    refused = admin(*adopt, "volatile-rse-other", buffer.rse, code=1)
    assert re.search(r"belongs to .*, not to 'volatile-rse-other'", refused)
    assert "SITE-A is not adopted" in admin(*adopt, instance, "SITE-A", code=1)
    said = admin(*adopt, instance, buffer.rse, published.rse)
    for one in (buffer, published):
        assert f"{one.rse} is adopted: RSERecord {one.name}" in said
    ends(session, buffer)
    # The inputs have lost nothing but this replica.
    found = grid.client("root").list_replicas([{"scope": "user.alice", "name": "nano_dimuon"}])
    assert all("AVAILABLE" in entry["states"].values() for entry in found)

    last = f"{published.rse} holds the last copy of user.alice:{file}."
    wait_for("it is told what is lost", lambda: last in publisher.record()["status"].get("message", ""))
    assert states(published.rse, file) == {file: "TEMPORARY_UNAVAILABLE"}, "people are sent to it, or it vanishes"
    patch(["rser", published.name], discard(published.rse, "alice"), *ALICE)
    adopted = ends(publisher, published)
    assert adopted["status"]["discarded"]["files"] == 1
    assert list(grid.client("root").list_dids("user.alice", [{"name": file}], did_type="file")) == []


def listed(instance: str) -> set[str]:
    """Name the RSEs of an operator that have no record."""
    return set(re.findall(r"; RSE (\S+?)(?:,|$)", admin("orphans", "--instance", instance), re.MULTILINE))


def test_whatever_an_operator_leaves_when_it_dies_is_adopted(session: Session, tmp_path: Path) -> None:
    """Every moment of the making and of the removal of an RSE, by the adapter's own writes."""
    lost = f"volatile-rse.{uuid.uuid4()}"
    left = list(left_behind(lost, tmp_path))
    told = admin("orphans", "--instance", lost)
    found = json.loads(admin("orphans", "--instance", lost, "-o", "json"))["orphans"]
    # The last one's ledger has expired: Rucio itself removes it, as it would have done, at any moment.
    *half, expired = left
    lines = [f"record {each['record']} is missing: {each['what']}" for each in found]
    assert [line for line in told.splitlines() if expired.record_id not in line] == [
        line for line in lines if expired.record_id not in line
    ]
    assert all(f"record {one.record_id} is missing: ledger" in told for one in half)
    assert "; no RSE VRSE-" in told
    assert ", half made or half removed" in told

    said = admin("adopt", "--class", session.class_name, "--instance", lost, *(one.rse for one in half))
    assert all(f"{one.rse} is adopted" in said for one in half)
    names = {f"vrse-{one.record_id}" for one in half}
    wait_for("all are closed", lambda: names <= closed_records(), 240)
    for one in left:
        wait_for(f"{one.rse} leaves nothing", lambda one=one: not asking.remains(one.as_record()), 60)  # type: ignore[misc]
    assert admin("orphans", "--instance", lost) == ""


@dataclass(frozen=True, slots=True)
class Left:
    """What a dead operator has in Rucio of one buffer."""

    record_id: str

    @property
    def rse(self) -> str:
        return f"VRSE-{self.record_id.upper()}"

    @property
    def ledger(self) -> Did:
        return Did(grid.LEDGER_SCOPE, f"vrse-{self.record_id}.ledger")

    def as_record(self) -> dict[str, Any]:
        claims = [{"namespace": installation.BUFFERS}]
        spec = {"rseName": self.rse, "recordId": self.record_id, "ledger": str(self.ledger), "claims": claims}
        return {"metadata": {"name": f"vrse-{self.record_id}"}, "spec": spec}


def left_behind(instance: str, private: Path) -> Iterator[Left]:
    """Make an RSE and remove it, again and again, and die with one write more each time."""
    facts = grid.grid()
    secret = SecretKeys(secret_name="unused")
    spec = RucioConnectionSpec(
        server=facts.outside, account=grid.OPERATOR, userpass=secret, ledger_scope=grid.LEDGER_SCOPE
    )
    login = (grid.OPERATOR, facts.passwords[grid.OPERATOR])
    catalogue = Mortal(RucioServer(spec, login, Path(facts.bundle).read_text(), private))
    for writes in count(1):
        left = Left(identify(instance, str(writes)).record_id)
        catalogue.writes_left = writes
        try:
            live(catalogue, left, instance)
        except Death:
            yield left
        else:
            return


def live(catalogue: Mortal, left: Left, instance: str) -> None:
    marks = {
        "vrse_instance": instance,
        "vrse_record": left.record_id,
        "vrse_claim": "lost/run",
        "vrse_account": "alice",
    }
    catalogue.ensure_ledger(left.ledger, LedgerOwner(instance, left.record_id))
    catalogue.ensure_rse(BufferRse(left.rse, NODE, 30001, 30002, marks))
    catalogue.allow_deletion(left.rse)
    catalogue.delete_rse(left.rse)
    catalogue.expire_ledger(left.ledger)


def closed_records() -> set[str]:
    found = json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]
    return {body["metadata"]["name"] for body in found if body.get("status", {}).get("phase") == "Closed"}
