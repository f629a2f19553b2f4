"""The ground: pods with volumes run under restricted Pod Security, and the kinds are what the models say."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster, layout
from testbed.progress import StepError
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec

pytestmark = pytest.mark.cluster


def apply(document: dict[str, Any]) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(cluster.kubectl("apply", "-o", "json", "-f", "-", stdin=json.dumps(document)))
    return stored


def request(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "VolatileRSE",
        "metadata": {"name": "dimuon", "namespace": namespace},
        "spec": {
            "className": "standard",
            "account": "alice",
            "capacity": "1Gi",
            "inputs": [{"name": "dimuon", "did": "user.alice:nano_dimuon"}],
            "outputs": [
                {
                    "name": "plots",
                    "path": "plots/**",
                    "scope": "user.alice",
                    "dataset": "plots_v1",
                    "destination": {"rseExpression": "SITE-B"},
                }
            ],
        },
    }


def test_a_restricted_pod_keeps_a_file_on_a_volume(namespace: str) -> None:
    image = cluster.kubectl(
        "-n", "local-path-storage", "get", "deployment", "local-path-provisioner",
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writer", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10940,
                "fsGroup": 10940,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "writer",
                    "image": image,
                    "imagePullPolicy": "Never",
                    "command": ["sh", "-c", "echo kept > /data/file && cat /data/file"],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    apply(claim)
    apply(pod)
    cluster.kubectl("-n", namespace, "wait", "pod/writer", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    assert cluster.kubectl("-n", namespace, "logs", "writer") == "kept\n"


def test_a_privileged_pod_is_refused(namespace: str) -> None:
    containers = [{"name": "p", "image": "none", "securityContext": {"privileged": True}}]
    metadata = {"name": "p", "namespace": namespace}
    with pytest.raises(StepError, match="violates PodSecurity"):
        apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})


def test_a_request_gets_its_defaults_and_nobody_has_looked_yet(crds: list[str], namespace: str) -> None:
    assert len(crds) == 4
    stored = apply(request(namespace))
    assert stored["spec"]["session"]["ttl"] == "8h"
    assert stored["spec"]["inputs"][0]["sourceRSEExpression"] == "*"
    assert stored["spec"]["teardown"] == {"unsafeOutputs": "Retain", "deadline": "1h", "fetch": False}
    assert stored["status"] == {"observedGeneration": -1}


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("account", "bob"),
        ("className", "fast"),
        ("capacity", "2Gi"),
        ("session", {"ttl": "9h"}),
        ("teardown", {"deadline": "2h"}),
    ],
)
def test_what_was_asked_for_does_not_change(namespace: str, field: str, value: str) -> None:
    document = request(namespace)
    apply(document)
    changed = copy.deepcopy(document)
    changed["spec"][field] = value
    with pytest.raises(StepError, match=f"{field} is immutable"):
        apply(changed)


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"session": {"podSelector": {"matchLabels": {"a": "b"}}}}, 'unknown field "spec.session.podSelector"'),
        ({"session": {"ttl": "1h30m"}}, "spec.session.ttl"),
        ({"teardown": {"unsafeOutputs": "Discard"}}, "Unsupported value"),
        ({"colour": "blue"}, "unknown field"),
    ],
    ids=["selector", "duration", "deadline that destroys", "unknown field"],
)
def test_a_request_that_the_schema_refuses(namespace: str, change: dict[str, Any], message: str) -> None:
    document = request(namespace)
    document["spec"] |= change
    with pytest.raises(StepError, match=message):
        apply(document)


@pytest.mark.usefixtures("crds")
def test_a_name_that_is_no_value_of_a_label_is_refused(namespace: str) -> None:
    document = request(namespace)
    document["metadata"]["name"] = "x" * 64
    with pytest.raises(StepError, match="a name has at most 63 characters"):
        apply(document)
    document["metadata"]["name"] = f"a.{'x' * 61}"
    apply(document)


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"storage": {"volume": {}, "memory": {}}}, "choose exactly one of volume and memory"),
        ({"rseAttributes": {"vrse_instance": "another"}}, "say whose an RSE is"),
        ({"rseAttributes": {"lfn2pfn_algorithm": "identity"}}, "where its files are"),
    ],
)
def test_a_class_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    document = {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "VolatileRSEClass",
        "metadata": {"name": "both"},
        "spec": VolatileRSEClassSpec.example() | change,
    }
    with pytest.raises(StepError, match=message):
        apply(document)


@pytest.mark.usefixtures("crds")
def test_kubectl_explains_the_request() -> None:
    explained = cluster.kubectl("explain", "vrse.spec.session")
    assert "volatilerse.io/session" in explained
    assert "a Job of the pods is awaited" in " ".join(explained.split())
    for kind, field in {"vrse": "endRequested", "rser": "adoptedFrom", "vrseclass": "tenancy"}.items():
        assert field in cluster.kubectl("explain", f"{kind}.spec")


@pytest.mark.usefixtures("crds")
def test_kubectl_lists_what_people_look_for(namespace: str) -> None:
    apply(request(namespace))
    head, line = cluster.kubectl("-n", namespace, "get", "vrse").splitlines()
    assert head.split() == ["NAME", "READY", "PHASE", "RSE", "EXPIRES", "AGE"]
    assert line.split()[0] == "dimuon"
    both = cluster.kubectl("-n", namespace, "get", "vrse,rser")
    assert "volatilerse.volatilerse.io/dimuon" in both
    records = cluster.kubectl("get", "rser", "-o", "name").split()
    if records:
        told = cluster.kubectl("get", "rser").splitlines()[0]
        assert all(title in told for title in ("PHASE", "NAMESPACE", "SAFE", "QUARANTINED", "AT RISK", "CLOSED", "AGE"))


def test_a_pod_resolves_containers_beside_the_cluster(namespace: str) -> None:
    image = cluster.kubectl(
        "-n", "local-path-storage", "get", "deployment", "local-path-provisioner",
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "resolver",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["getent", "ahostsv4", layout.NODE],
        "securityContext": security,
    }
    identity = {"runAsNonRoot": True, "runAsUser": 10940, "seccompProfile": {"type": "RuntimeDefault"}}
    apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "resolver", "namespace": namespace},
            "spec": {"restartPolicy": "Never", "securityContext": identity, "containers": [container]},
        }
    )
    cluster.kubectl(
        "-n", namespace, "wait", "pod/resolver", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"
    )
    networks = "{{json .NetworkSettings.Networks}}"
    inspected = subprocess.run(["docker", "inspect", "-f", networks, layout.NODE], capture_output=True, check=True)
    address = json.loads(inspected.stdout)[layout.NETWORK]["IPAddress"]
    assert address
    assert address in cluster.kubectl("-n", namespace, "logs", "resolver")


def test_another_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_IDENTITY", tmp_path / "cluster.json")
    (tmp_path / "cluster.json").write_text('{"uid": "of-another-cluster"}')
    with pytest.raises(StepError, match="is not the cluster that the testbed created"):
        cluster.guard()
