"""Grants by label and pattern, and namespaces that are made again under their names."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service

CLASS = Ref("VolatileRSEClass", None, "standard")
NAMESPACE = Ref("Namespace", None, "alice")
ONE = {"perOwner": {"buffers": 1, "newPerHour": 1, "files": 1}, "perNamespace": {"buffers": 1, "bytes": "1Gi"}}


def grant(small: Small, *grants: dict[str, Any]) -> None:
    whole = [{"accounts": ["alice"], "scopes": ["user.alice"], **entry} for entry in grants]
    small.cluster.merge(CLASS, {"spec": {"tenancy": {"grants": whole}}})


def uid(small: Small) -> str:
    return str((small.cluster.get(NAMESPACE) or {})["metadata"]["uid"])


def made_again(small: Small) -> None:
    """Delete the namespace with everything in it, and make one of its name; the next session's pod is a new one."""
    small.cluster.delete(NAMESPACE, uid(small))
    small.until(lambda: small.is_gone)
    small.cluster.end_pods()
    small.until(lambda: small.cluster.get(NAMESPACE) is None)
    small.clock.turn(timedelta(seconds=2))
    assert small.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "alice"}})


def stalled(small: Small) -> str:
    small.until(lambda: small.condition("Stalled").get("status") == "True")
    return f"{small.condition('Stalled')['reason']}: {small.condition('Ready')['message']}"


def test_a_grant_by_pattern_serves() -> None:
    small = Small()
    grant(small, {"namespaces": ["al*"]})
    small.request()
    small.until(small.has_session)


def test_a_namespace_gets_its_label_while_its_session_waits() -> None:
    small = Small()
    grant(small, {"namespaceSelector": {"matchLabels": {"team": "cms"}}})
    small.request()
    said = stalled(small)
    assert said.startswith("NamespaceNotGranted: ")
    assert "to namespace 'alice': grants[0] wants label team=cms, and this one has none such. ADMIN must act" in said
    small.cluster.merge(NAMESPACE, {"metadata": {"labels": {"team": "cms"}}})
    small.until(small.has_session)


def test_a_session_that_runs_keeps_what_it_has_when_its_grant_goes_as_when_its_class_takes_it_away() -> None:
    small = Small()
    grant(small, {"namespaceSelector": {"matchLabels": {"team": "cms"}}})
    small.cluster.merge(NAMESPACE, {"metadata": {"labels": {"team": "cms"}}})
    small.begin()
    small.cluster.merge(NAMESPACE, {"metadata": {"labels": {"team": None}}})
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_the_label_counts_again_when_the_inputs_are_judged() -> None:
    small = Small()
    grant(small, {"namespaceSelector": {"matchLabels": {"team": "cms"}}})
    small.cluster.merge(NAMESPACE, {"metadata": {"labels": {"team": "cms"}}})
    small.catalogue.down = True
    small.request()
    small.until(lambda: small.record)
    small.cluster.merge(NAMESPACE, {"metadata": {"labels": {"team": None}}})
    small.catalogue.down = False
    said = stalled(small)
    assert said.startswith("NamespaceNotGranted: ")
    assert "spec.inputs[in]: user.alice:in: 2 of 2 files are in scopes that class 'standard' does not grant" in said
    assert "grants[0] wants label team=cms" in said


def test_a_wrong_grant_is_told_of_its_class_and_keeps_no_other_back() -> None:
    small = Small()
    wrong = {"namespaceSelector": {"matchLabels": {"a b": "c"}}}
    grant(small, wrong, {"namespaces": ["alice"]})
    small.request()
    small.until(small.has_session)
    service = Service(small.world(), threads=0)
    service.sweep()
    service.sweep()
    told = [event for event in small.cluster.events if event.about == CLASS]
    assert [event.reason for event in told] == ["ConfigurationInvalid"]
    assert "spec.tenancy.grants[0].namespaceSelector.matchLabels: 'a b' is no key of a label" in told[0].message
    assert "ADMIN must act" in told[0].message


def test_who_has_a_wrong_grant_alone_is_told() -> None:
    small = Small()
    grant(small, {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}})
    small.request()
    assert "grants[0] is wrong, and holds for nobody: see the Events of the class" in stalled(small)


def test_a_record_bears_the_uid_of_its_namespace() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    assert small.record["spec"]["claims"][0]["namespaceUID"] == uid(small)


def test_a_grant_with_a_uid_ends_with_its_namespace() -> None:
    small = Small()
    first = uid(small)
    grant(small, {"namespaces": ["alice"], "uid": first})
    small.request()
    small.until(small.has_session)
    made_again(small)
    small.renew()
    small.request()
    assert f"wants uid {first}, and this one has {uid(small)}" in stalled(small)


@pytest.mark.parametrize("limits", [{"perOwner": ONE["perOwner"]}, {"perNamespace": ONE["perNamespace"]}])
@pytest.mark.parametrize("version", ["of today", "of an earlier version"])
def test_a_namespace_that_is_made_again_inherits_no_quarantine_and_no_limits(
    limits: dict[str, Any], version: str
) -> None:
    """The outputs of the old one stay in quarantine, and are kept in the end."""
    small = Small(inputs=1)
    small.cluster.merge(CLASS, {"spec": {"limits": limits}})
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    if version != "of today":
        with small.cluster.unchecked(Ref("RSERecord", None, small.record["metadata"]["name"])) as body:
            del body["spec"]["claims"][0]["namespaceUID"]
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.fail_copies(steps=10_000)
    small.cluster.finish(Ref("Pod", "alice", "job"))
    small.until(lambda: small.truth.get("quarantinedAt"))
    made_again(small)
    old = small.record["metadata"]["name"]
    small.renew()
    small.request()
    small.until(small.has_session)
    assert small.record["metadata"]["name"] != old
    was = (small.cluster.get(Ref("RSERecord", None, old)) or {})["status"]
    assert was["quarantinedAt"]
    assert not was.get("safeAt")


def test_a_record_of_an_earlier_version_counts_in_the_namespace_that_it_was_made_in() -> None:
    small = Small(inputs=1)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"buffers": 1}}}})
    small.request()
    small.until(small.has_session)
    with small.cluster.unchecked(Ref("RSERecord", None, small.record["metadata"]["name"])) as body:
        del body["spec"]["claims"][0]["namespaceUID"]
    spec = (small.cluster.get(REQUEST) or {})["spec"]
    second = {"kind": "VolatileRSE", "metadata": {"namespace": "alice", "name": "second"}, "spec": spec}
    small.cluster.create({"apiVersion": "volatilerse.io/v1alpha1", **second})
    ref = Ref("VolatileRSE", "alice", "second")
    record_id = identify(small.settings.instance, (small.cluster.get(ref) or {})["metadata"]["uid"]).record_id
    Reconciler(small.world()).visit(record_id, ("alice", "second"))
    ready = next(entry for entry in (small.cluster.get(ref) or {})["status"]["conditions"] if entry["type"] == "Ready")
    assert ready["reason"] == "LimitExceeded"


def test_an_adopted_rse_counts_for_no_namespace_of_the_name_that_it_bears() -> None:
    small = Small(inputs=1)
    small.cluster.merge(CLASS, {"spec": {"limits": ONE}})
    small.begin()
    rse = small.rse
    lost = small.lose_cluster()
    small.cluster.merge(CLASS, {"spec": {"limits": ONE}})
    small.adopt(lost)
    assert small.rse == rse
    claim = small.record["spec"]["claims"][0]
    assert (claim["namespace"], claim["namespaceUID"]) == ("alice", claim["uid"])
    small.renew()
    small.request()
    small.until(small.has_session)
