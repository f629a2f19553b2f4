"""Grants by label and by pattern, and a namespace that is made again under its name, on the testbed's cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import SIZES, assert_kept, end_of, new_dataset, output, running

pytestmark = [pytest.mark.cluster, pytest.mark.grid]

LABEL = "example.org/tenant"


@pytest.fixture
def tenant(namespace: str) -> Iterator[Session]:
    """Give a session of a class that grants nothing yet."""
    installation.up()
    installation.enable(namespace)
    grant(namespace, [])
    made = Session(namespace, "run", namespace)
    yield made
    end_of(made)
    cluster.kubectl("delete", "volatilerseclasses", namespace, "--ignore-not-found")


def grant(name: str, whom: Sequence[dict[str, Any]], **limits: object) -> None:
    grants = [{**entry, "accounts": ["alice"], "scopes": ["user.alice"]} for entry in whom]
    installation.apply([installation.class_of(name, grants, limits=limits)])


def uid_of(namespace: str) -> str:
    return cluster.kubectl("get", "namespace", namespace, "-o", "jsonpath={.metadata.uid}").strip()


def refused(session: Session, reason: str) -> str:
    wait_for(f"it says {reason}", lambda: session.condition("Stalled").get("reason") == reason, 90)
    return str(session.condition("Stalled")["message"])


def test_a_grant_by_label_counts_once_the_namespace_has_it_and_one_by_pattern_at_once(tenant: Session) -> None:
    name, value = tenant.namespace, tenant.namespace.removeprefix("test-")
    grant(name, [{"namespaceSelector": {"matchExpressions": [{"key": LABEL, "operator": "In", "values": [value]}]}}])
    tenant.request()
    said = refused(tenant, "NamespaceNotGranted")
    assert f"to namespace {name!r}: grants[0] wants label {LABEL} with one of {value}, and this one has none" in said
    assert "ADMIN must act" in said
    cluster.kubectl("label", "namespace", name, f"{LABEL}={value}")
    wait_for("it is usable", lambda: tenant.is_true("Usable"))
    claim = tenant.record()["spec"]["claims"][0]
    assert claim["namespaceUID"] == uid_of(name)
    end_of(tenant)
    grant(name, [{"namespaces": [f"{name[:-1]}*"]}])
    cluster.kubectl("label", "namespace", name, f"{LABEL}-")
    by_pattern = Session(name, "pattern", name)
    by_pattern.request()
    wait_for("it is usable", lambda: by_pattern.is_true("Usable"))
    end_of(by_pattern)


@pytest.mark.slow
def test_a_namespace_that_is_made_again_inherits_nothing(tenant: Session) -> None:
    """One buffer for each namespace: the record of the old one stays, in quarantine and then closed."""
    name = tenant.namespace
    one = {"perNamespace": {"buffers": 1}, "perOwner": {"newPerHour": 2}}
    grant(name, [{"namespaces": [f"{name[:-1]}*"]}], **one)
    dataset = running(tenant)
    old = tenant.record()
    first = uid_of(name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    wait_for("it is gone", lambda: not cluster.kubectl("get", "namespace", name, "--ignore-not-found").strip())
    cluster.kubectl("create", "namespace", name)
    installation.enable(name)
    assert uid_of(name) != first

    tenant.request(outputs=[output(new_dataset())])
    wait_for("it has a buffer of its own", lambda: tenant.record() != {} and tenant.is_true("Usable"))
    new = record_of(uid_of(name))
    assert record_of(first)["metadata"]["uid"] == old["metadata"]["uid"]
    assert new["spec"]["recordId"] != old["spec"]["recordId"]
    another = Session(name, "another", name)
    another.request()
    assert "has 1 buffers, and may have 1, by limits.perNamespace" in refused(another, "LimitExceeded")
    another.delete()
    tenant.delete()
    wait_for("both are closed", lambda: {phase_of(uid) for uid in (first, uid_of(name))} == {"Closed"}, 240)
    assert_kept(dataset, record_of(first), SIZES)
    third = Session(name, "third", name)
    third.request()
    wait_for("closed ones of the old namespace do not count", lambda: third.is_true("Usable"))
    end_of(third)
    fourth = Session(name, "fourth", name)
    fourth.request()
    assert "has begun 2 buffers within an hour, and may begin 2" in refused(fourth, "LimitExceeded")
    fourth.delete()


def record_of(namespace: str) -> dict[str, Any]:
    """Read the record of the VolatileRSE of a namespace, by its UID."""
    found = json.loads(cluster.kubectl("get", "rserecords", "-o", "json"))["items"]
    mine = [body for body in found if body["spec"]["claims"][0].get("namespaceUID") == namespace]
    return max(mine, key=lambda body: body["metadata"]["creationTimestamp"], default={})


def phase_of(namespace: str) -> str:
    return str((record_of(namespace).get("status") or {}).get("phase"))


def test_what_can_be_no_grant_is_refused_by_the_api_server(namespace: str) -> None:
    installation.up()
    for wrong, said in (
        ({}, "a grant has namespaces, or a namespaceSelector, or both"),
        ({"namespaces": []}, "should have at least 1 items"),
        ({"namespaces": ["a?"]}, "should match"),
        ({"namespaces": ["a*"], "uid": "u"}, "uid is for one namespace"),
        ({"namespaceSelector": {}, "uid": "u"}, "uid is for one namespace"),
        ({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "operators In and NotIn need"),
        ({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}, "Unsupported"),
        ({"namespaceSelector": {"matchLabels": {"a": "b c"}}}, "should match"),
        ({"namespaceSelector": {"matchLabels": {"a b": "c"}}}, "no key of a label"),
    ):
        with pytest.raises(StepError, match=said):
            grant(namespace, [wrong])
