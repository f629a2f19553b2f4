"""Who may give outputs up, what is held while it is used, and when an operator may go: asked of a real API server."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.api_server import ApiServer
from testbed.layout import KUBECONFIG, SITES
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import ALICE, BOB, WRITE, assert_nothing_left, discard, new_dataset, output, patch
from tests.unit.fuzz.fields import fields_of, plant
from tests.unit.fuzz.hostile import ABSENT, shown, worst

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


def quarantined(session: Session) -> dict[str, Any]:
    """Have outputs that cannot become safe: the token of their class for the destination is wrong."""
    name = session.namespace
    body = installation.site_tokens(name, dict.fromkeys(SITES.values(), "wrong"))
    grants = [{"namespaces": [name], "accounts": ["alice"], "scopes": ["user.alice"]}]
    credentials = {"secretName": name, "caConfigMap": "grid-ca"}
    installation.apply([body, installation.class_of(name, grants, siteCredentials=credentials)])
    session.request(outputs=[output(new_dataset())], teardown={"deadline": "5s"})
    session.job(WRITE)
    wait_for("quarantine", lambda: session.condition("OutputsSafe").get("reason") == "Quarantined", 120)
    return session.record()


def test_an_admin_gives_up_what_has_no_vrse_any_more(session: Session) -> None:
    name, record = session.namespace, quarantined(session)
    buffer = ["rser", record["metadata"]["name"]]
    patch(buffer, discard(record["spec"]["rseName"], "bob"), *BOB)
    refused = wait_for(
        "it is refused", lambda: (said := session.condition("Stalled")).get("reason") == "DiscardRefused" and said, 90
    )
    assert f"counts once VolatileRSE {name}/{session.name} is gone" in refused["message"]
    assert "discarded" not in session.record()["status"]
    session.delete()
    closed = wait_for(
        "it is closed",
        lambda: (
            (found := json.loads(cluster.kubectl("get", *buffer, "-o", "json")))["status"].get("closedAt") and found
        ),
        240,
    )
    assert closed["status"]["discarded"]["requestedBy"] == "bob"
    assert closed["status"]["discarded"]["files"] == 2
    assert_nothing_left(closed)
    cluster.kubectl("delete", "volatilerseclass", name, "--wait=false")
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", name)


def test_only_the_requester_gives_up_and_only_this_buffer(session: Session) -> None:
    """A class of its own, whose token for the destination is wrong: its outputs cannot become safe."""
    name, record = session.namespace, quarantined(session)
    assert record["status"]["filesAtRisk"] == 2
    assert record["status"]["bytesAtRisk"] == 2003893
    request, rse = ["-n", name, "vrse", session.name], record["spec"]["rseName"]
    deployment = ("-n", installation.NAMESPACE, "exec", "deploy/volatile-rse", "--")
    with pytest.raises(StepError, match="buffers are not closed"):
        cluster.kubectl(*deployment, "python3", "-m", "volatile_rse", "uninstall")
    cluster.kubectl("delete", "volatilerseclass", name, "--wait=false")
    with pytest.raises(StepError, match="must be your own name"):
        patch(request, {"teardown": discard(rse, "alice")}, *BOB)
    with pytest.raises(StepError, match="must be the name of this buffer's RSE"):
        patch(request, {"teardown": discard("VRSE-OTHER", "alice")}, *ALICE)
    with pytest.raises(StepError, match="must be your own name"):
        patch(["rser", record["metadata"]["name"]], discard(rse, "alice"), *BOB)
    assert cluster.kubectl("get", "volatilerseclass", name, "-o", "name"), "the class went while it was used"
    patch(request, {"teardown": discard(rse, "alice")}, *ALICE)
    with pytest.raises(StepError, match="cannot be taken back"):
        patch(request, {"teardown": {"discard": None}}, *ALICE)
    patch(request, {"session": {"ttl": "30m"}}, *ALICE)
    closed = session.wait_closed(240)
    assert closed["status"]["discarded"]["requestedBy"] == "alice"
    assert closed["status"]["discarded"]["files"] == 2
    assert closed["status"]["outcome"]["files"] == 0
    assert session.condition("Ready")["reason"] == "Completed"
    assert session.condition("OutputsSafe")["reason"] == "Discarded"
    listed = f"{record['metadata']['name']}-discarded"
    assert cluster.kubectl("-n", installation.BUFFERS, "get", "configmap", listed, "-o", "name")
    assert_nothing_left(closed)
    wait_for(
        "the class is gone", lambda: not cluster.kubectl("get", "volatilerseclass", name, "--ignore-not-found"), 90
    )
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", name)


def assert_only_the_operator_writes(session: Session) -> None:
    """An admin of the cluster has every right, and is refused with words that say what to do instead."""
    record = session.record()
    name = record["metadata"]["name"]
    of_record, of_request = ["rser", name], ["-n", session.namespace, "vrse", session.name]

    def change(what: list[str], body: dict[str, object], *how: str) -> None:
        cluster.kubectl("patch", *what, "--type=merge", "-p", json.dumps(body), *how)

    safe: dict[str, object] = {"status": {"safeAt": "2026-01-01T00:00:00Z", "freedAt": "2026-01-01T00:00:00Z"}}
    refused: dict[str, tuple[list[str], dict[str, object], list[str]]] = {
        "only the operator writes rserecords/status": (of_record, safe, ["--subresource=status"]),
        "only the operator writes volatilerses/status": (
            of_request,
            {"status": {"rse": "A"}},
            ["--subresource=status"],
        ),
        "only the operator writes the spec": (of_record, {"spec": {"capacity": "1"}}, []),
        "only the operator takes its finalizer": (of_record, {"metadata": {"finalizers": []}}, []),
        "only the operator writes the labels": (of_record, {"metadata": {"labels": {"a": "b"}}}, []),
    }
    for message, (what, body, how) in refused.items():
        with pytest.raises(StepError, match=message):
            change(what, body, *how)
    made = {key: record[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "vrse-aaaaaaaaaa"}}
    with pytest.raises(StepError, match="only the operator writes rserecords: "):
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(made))
    # What people may: consent to a loss, and notes; what Kubernetes' own controllers do.
    consent: dict[str, object] = {"spec": discard(record["spec"]["rseName"], "alice")}
    change(of_record, consent, *ALICE, "--dry-run=server")
    change(of_record, {"metadata": {"annotations": {"note": "looked at"}}})
    kept = record["metadata"]["finalizers"]
    change(of_record, {"metadata": {"finalizers": [*kept, "foregroundDeletion"]}})
    change(of_record, {"metadata": {"finalizers": kept}})
    # The documented way for who must.
    binding = "validatingadmissionpolicybinding/volatile-rse-operator-keeps"
    cluster.kubectl("delete", binding)
    try:
        wait_for("it is allowed", lambda: accepted(of_record), 30)
        # The kind itself keeps even them from what would let last copies be given up as lost.
        with pytest.raises(StepError, match="an adoption is told at birth"):
            change(of_record, {"spec": {"adoptedFrom": "gone.by"}}, "--dry-run=server")
    finally:
        installation.admission()


def planted(server: ApiServer, path: str, place: tuple[str | int, ...], value: object) -> object:
    """Give the spec that would be stored, if it differs, or why none would be; the operator writes on it meanwhile."""
    for _ in range(10):
        record = server.ask("GET", path) or {}
        body = copy.deepcopy(record)
        if place:
            plant(body, place, value)
        try:
            stored = server.ask("PUT", path, body, {"dryRun": "All"}) or {}
        except StepError as error:
            if f"{path}: 409" not in str(error):
                return str(error)
        else:
            return None if stored["spec"] == record["spec"] else stored["spec"]
    raise AssertionError(path)


def assert_no_value_gets_into_a_record_s_spec(session: Session, folder: Path) -> None:
    """Who plants something in any field of its spec, an admin of the cluster, is refused, or changes nothing.

    So a record whose spec cannot be read does not come about: what the operator wrote, it can read.
    """
    server = ApiServer(KUBECONFIG, folder)
    path = f"/apis/volatilerse.io/v1alpha1/rserecords/{session.record()['metadata']['name']}"
    got_in: dict[str, object] = {}
    asked, refusals = 0, list[str]()

    assert planted(server, path, (), None) is None, "what changes nothing is taken"
    for field in fields_of("RSERecord", "spec"):
        if field.path[1:2] == ("discard",):
            continue  # What people may write there has tests of its own.
        for value in (*worst(field.form), ABSENT):
            asked += 1
            found = planted(server, path, field.path, value)
            if isinstance(found, str):
                refusals.append(found)
            elif found is not None:
                got_in[f"{field} is {shown(value)}"] = found
    assert not got_in
    assert asked > 400
    assert all(f"{path}: 4" in refusal for refusal in refusals)


def assert_volumes_are_the_operators_as_far_as_it_needs(session: Session) -> None:
    """Its account may patch volumes by RBAC; a policy keeps it to those of its buffers, and to a few fields."""
    claim = session.record()["metadata"]["name"]
    own = cluster.kubectl("-n", installation.BUFFERS, "get", "pvc", claim, "-o", "jsonpath={.spec.volumeName}")
    foreign = f"{session.namespace}-foreign"
    spec = {
        "capacity": {"storage": "1Mi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": "/nowhere"},
        "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "default", "name": claim},
    }
    installation.apply([{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": foreign}, "spec": spec}])

    def change(name: str, body: dict[str, object]) -> None:
        who = (f"--as={installation.OPERATOR}", "--dry-run=server")
        cluster.kubectl("patch", "pv", name, "--type=merge", "-p", json.dumps(body), *who)

    refused: list[tuple[str, dict[str, object], str]] = [
        (foreign, {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}, "volumes of its own buffers alone"),
        (own, {"spec": {"claimRef": {"namespace": "default"}}}, "to another claim"),
        (own, {"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}, "retains a volume or has it deleted"),
        (own, {"spec": {"storageClassName": "other"}}, "nothing else of its spec"),
        (own, {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}}, "its own labels"),
        (own, {"metadata": {"annotations": {"a": "b"}}}, "neither annotations nor finalizers"),
        (own, {"metadata": {"finalizers": ["a.example/b"]}}, "neither annotations nor finalizers"),
    ]
    try:
        for name, body, message in refused:
            with pytest.raises(StepError, match=message):
                change(name, body)
        change(own, {"spec": {"persistentVolumeReclaimPolicy": "Delete"}})
        change(own, {"metadata": {"labels": {"volatilerse.io/record": "other"}}})
        change(own, {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
    finally:
        cluster.kubectl("delete", "pv", foreign)


def assert_people_have_what_kubernetes_own_roles_give(session: Session) -> None:
    """Who may edit a namespace asks for buffers there; the records of all are nobody's without a role for them."""
    name = session.namespace
    for person in ("edit", "view"):
        cluster.kubectl("-n", name, "create", "rolebinding", person, f"--clusterrole={person}", f"--user={person}")

    def may(person: str, verb: str, what: str, *more: str) -> bool:
        try:
            return cluster.kubectl("-n", name, "auth", "can-i", verb, what, f"--as={person}", *more).strip() == "yes"
        except StepError:
            # kubectl says "no" by its exit code, too.
            return False

    assert may("edit", "create", "volatilerses.volatilerse.io")
    assert may("edit", "delete", "volatilerses.volatilerse.io")
    assert may("view", "get", "volatilerses.volatilerse.io")
    assert not may("view", "create", "volatilerses.volatilerse.io")
    assert not may("edit", "get", "rserecords.volatilerse.io")
    assert not may("edit", "patch", "volatilerses.volatilerse.io", "--subresource=status")


def accepted(record: list[str]) -> bool:
    try:
        cluster.kubectl("patch", *record, "--type=merge", "-p", '{"spec":{"capacity":"1"}}', "--dry-run=server")
    except StepError:
        return False
    return True


def test_what_was_asked_for_cannot_be_changed_but_for_an_end(session: Session, tmp_path: Path) -> None:
    session.request()
    request = ["-n", session.namespace, "vrse", session.name]
    wait_for("Usable", lambda: session.is_true("Usable"))
    assert_only_the_operator_writes(session)
    assert_no_value_gets_into_a_record_s_spec(session, tmp_path)
    assert_volumes_are_the_operators_as_far_as_it_needs(session)
    assert_people_have_what_kubernetes_own_roles_give(session)
    changes: dict[str, object] = {
        "account": "bob",
        "className": "other",
        "capacity": "2Gi",
        "session": {"ttl": "9h"},
        "teardown": {"deadline": "9h"},
        "minimumDurability": "Pod",
    }
    for field, value in changes.items():
        with pytest.raises(StepError, match="immutable"):
            patch(request, {field: value})
    as_operator = (f"--as={installation.OPERATOR}", "--dry-run=server")
    with pytest.raises(StepError, match="the operator deletes a VolatileRSE with"):
        cluster.kubectl("delete", *request, *as_operator)
    patch(request, {"ttlAfterFinished": "30d"})
    cluster.kubectl("delete", *request, *as_operator)
    patch(request, {"ttlAfterFinished": None})
    patch(request, {"session": {"extendUntil": "2026-12-01T18:00:00+01:00"}})
    for less in ("2026-12-01T16:59:59Z", None):
        with pytest.raises(StepError, match="only raised"):
            patch(request, {"session": {"extendUntil": less}})
    patch(request, {"session": {"extendUntil": "2026-12-01T17:00:00Z"}})
    for odd in ("2027-02-30T18:00:00Z", "2027-02-03T18:00:00+02:90", "2027-02-03T18:00:00+25:00"):
        with pytest.raises(StepError, match="extendUntil"):
            patch(request, {"session": {"extendUntil": odd}})
    patch(request, {"endRequested": True})
    with pytest.raises(StepError, match="cannot be taken back"):
        patch(request, {"endRequested": False})
    record = session.wait_closed()
    assert record["status"]["session"]["endReason"] == "Requested"
    assert session.condition("Ready")["reason"] == "Completed"
    assert_nothing_left(record)
