"""Somebody deletes every piece of a buffer, in each stage in which it may rest: nothing of what counts is lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from testbed import cluster, grid, installation
from testbed.layout import SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import (
    NANO,
    SIZES,
    WRITE,
    assert_kept,
    assert_nothing_left,
    finish,
    let_go,
    new_dataset,
    output,
    running,
)

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow, pytest.mark.long]

PIECES = "services,secrets,configmaps,pods"
LOGIN = ("-n", installation.NAMESPACE, "secret", "rucio-login")


def pieces(record_id: str) -> dict[str, str]:
    """Give name -> UID of what a buffer has, but for its volume."""
    selector = ("-l", f"volatilerse.io/record={record_id}", "-o", "json")
    found = json.loads(cluster.kubectl("-n", installation.BUFFERS, "get", PIECES, *selector))["items"]
    return {f"{body['kind'].lower()}/{body['metadata']['name']}": body["metadata"]["uid"] for body in found}


def delete_all(session: Session, *, needed: Callable[[str], bool] = lambda _name: True) -> None:
    """Delete piece by piece, and await each anew; at last the credential of Rucio, which comes back by a person."""
    record_id = session.record()["spec"]["recordId"]
    for name, uid in sorted(pieces(record_id).items()):
        cluster.kubectl("-n", installation.BUFFERS, "delete", name, "--wait=false")
        if not needed(name):
            continue
        wait_for(f"{name} anew", lambda name=name, uid=uid: pieces(record_id).get(name, uid) != uid, 90)  # type: ignore[misc]
    secret = json.loads(cluster.kubectl("get", *LOGIN, "-o", "json"))
    made = {key: secret[key] for key in ("apiVersion", "kind", "type", "data")}
    made["metadata"] = {"name": secret["metadata"]["name"], "namespace": installation.NAMESPACE}
    cluster.kubectl("delete", *LOGIN)
    try:
        wait_for("it is told", lambda: "is missing" in json.dumps([session.record(), session.body()]), 120)
    finally:
        installation.apply([made])


def after_the_session(name: str) -> bool:
    """Tell what a buffer needs then: its inputs are listed for nobody any more."""
    return not name.endswith("-inputs")


def test_while_a_session_runs(session: Session) -> None:
    dataset = running(session)
    delete_all(session)
    wait_for("Usable again", lambda: session.is_true("Usable") and session.is_true("StorageReady"), 180)
    let_go(session)
    finish(session, dataset)


def test_while_outputs_cannot_be_copied(session: Session) -> None:
    name = session.namespace
    right = dict.fromkeys(SITES.values(), grid.grid().tokens[grid.OPERATOR])
    grants = [{"namespaces": [name], "accounts": ["alice"], "scopes": ["user.alice"]}]
    credentials = {"secretName": name, "caConfigMap": "grid-ca"}
    wrong = installation.site_tokens(name, dict.fromkeys(right, "wrong"))
    installation.apply([wrong, installation.class_of(name, grants, siteCredentials=credentials)])
    dataset = new_dataset()
    session.request(outputs=[output(dataset)])
    session.job(WRITE)
    wait_for("failing copies", lambda: session.condition("OutputsSafe").get("reason") == "CopyFailed", 120)
    try:
        delete_all(session, needed=after_the_session)
        installation.apply([installation.site_tokens(name, right)])
        record = session.wait_closed(300)
        assert_kept(dataset, record, SIZES)
        assert_nothing_left(record)
    finally:
        cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", name)


def test_while_somebodys_rule_keeps_the_rse(session: Session) -> None:
    dataset = new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset)])
    wait_for("Usable", lambda: session.is_true("Usable"))
    rse, client = session.record()["spec"]["rseName"], grid.client(grid.OPERATOR)
    scope, name = NANO["did"].split(":")
    file = next(iter(client.list_files(scope, name)))
    did = [{"scope": file["scope"], "name": file["name"]}]
    (rule,) = client.add_replication_rule(did, 2, f"{rse}|SITE-A", ignore_availability=True, lifetime=3600)
    end: Callable[[], object] = lambda: client.update_replication_rule(rule, {"lifetime": 0})  # noqa: E731 (for finally)
    try:
        session.job(WRITE)
        wait_for("the rule is named", lambda: rule in str(session.record()["status"].get("message")), 180)
        # Nothing but the agent is asked there; it needs all the rest, once it has to be made anew.
        delete_all(session, needed=lambda name: name.startswith("pod/"))
    finally:
        end()
    record = session.wait_closed(300)
    assert_kept(dataset, record, SIZES)
    assert_nothing_left(record)
