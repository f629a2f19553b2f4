"""What a storage pod asks of the cluster, and where it may run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.schema import parse_quantity
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.builders.storage import drain_objects, memory_shares, pod
from volatile_rse.domain.settings import Settings

SETTINGS = Settings(name="test", instance="test.1", namespace="ops", buffers="bufs", buffer_image="b:1")
MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
MEBI, GIBI = 1 << 20, 1 << 30
MEMORY: dict[str, Any] = {"storage": {"memory": {}}}


def record(capacity: str = "4Gi", **class_: Any) -> RSERecordSpec:
    return RSERecordSpec.model_validate(
        {
            "recordId": "abcdefghij",
            "rseName": "VRSE-ABCDEFGHIJ",
            "instance": "test.1",
            "ledger": "vrse:vrse-abcdefghij.ledger",
            "capacity": capacity,
            "className": "standard",
            "classSnapshot": VolatileRSEClassSpec.example() | class_,
            "connectionName": "rucio",
            "connectionSnapshot": {
                "server": "https://rucio.example.org",
                "account": "ops",
                "userpass": {"secretName": "login"},
                "ledgerScope": "vrse",
            },
            "claims": [
                {
                    "uid": "u",
                    "namespace": "alice",
                    "name": "run",
                    "account": "alice",
                    "request": {
                        "className": "standard",
                        "account": "alice",
                        "capacity": capacity,
                    },
                }
            ],
        }
    )


def memory_of(spec: RSERecordSpec) -> dict[str, tuple[int, int]]:
    """Give the request and the limit of each container, in bytes."""
    containers = pod(SETTINGS, spec)["spec"]["containers"]
    return {
        container["name"]: (
            parse_quantity(container["resources"]["requests"]["memory"]),
            parse_quantity(container["resources"]["limits"]["memory"]),
        )
        for container in containers
    }


@pytest.mark.parametrize("capacity", [1, 64 * MEBI, 4 * GIBI, 4 * GIBI + 1])
def test_a_memory_class_sets_its_capacity_aside(capacity: int) -> None:
    """The scheduler reserves what will be used: else the kubelet evicts this pod first, and its bytes are lost."""
    found = memory_of(record(str(capacity), **MEMORY))
    assert sum(requested for requested, _ in found.values()) == capacity + 2 * 128 * MEBI


@pytest.mark.parametrize("capacity", [1, 4 * GIBI, 4 * GIBI + 1])
def test_either_container_may_write_the_whole_memory_volume(capacity: int) -> None:
    """Pages are charged to the container that writes them."""
    found = memory_of(record(str(capacity), **MEMORY))
    assert {limit for _, limit in found.values()} == {capacity + GIBI}


def test_a_volume_on_disk_takes_no_memory_for_its_bytes() -> None:
    assert memory_of(record(storage={"volume": {}})) == {
        "xrootd": (128 * MEBI, GIBI),
        "agent": (128 * MEBI, GIBI),
    }


def test_a_class_says_what_its_containers_need() -> None:
    resources = {
        "xrootd": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
        "agent": {"requests": {"memory": "300Mi"}, "limits": {"memory": "600Mi"}},
    }
    found = pod(SETTINGS, record("1Gi", **MEMORY, pods={"resources": resources}))["spec"]["containers"]
    assert [container["resources"] for container in found] == [
        {
            "requests": {"cpu": "500m", "memory": str(256 * MEBI + GIBI // 2)},
            "limits": {"cpu": "2", "memory": str(3 * GIBI)},
        },
        {"requests": {"memory": str(300 * MEBI + GIBI // 2)}, "limits": {"memory": str(600 * MEBI + GIBI)}},
    ]


def test_a_class_that_sets_no_limit_gets_none_and_reserves_the_volume_all_the_same() -> None:
    none: dict[str, Any] = {"requests": {}, "limits": {}}
    found = pod(SETTINGS, record("1Gi", **MEMORY, pods={"resources": {"xrootd": none, "agent": none}}))
    half = {"requests": {"memory": str(GIBI // 2)}}
    assert [container["resources"] for container in found["spec"]["containers"]] == [half, half]


def test_the_shares_of_an_odd_capacity_lose_no_byte() -> None:
    class_ = VolatileRSEClassSpec.model_validate(VolatileRSEClassSpec.example() | MEMORY)
    shares = memory_shares(class_, 7)
    assert shares.xrootd + shares.agent == shares.volume == 7


PLACEMENT: dict[str, Any] = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "buffers", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    "priorityClassName": "buffers",
}


def test_a_class_says_where_its_pods_run() -> None:
    spec = record(pods=PLACEMENT | {"imagePullSecrets": ["registry"]})
    expected = PLACEMENT | {"imagePullSecrets": [{"name": "registry"}]}
    made = [pod(SETTINGS, spec)["spec"]]
    made += [
        body["spec"]["template"]["spec"]
        for body in drain_objects(SETTINGS, spec.class_snapshot, {}, not_after="2100-01-01T00:00:00Z")
        if body["kind"] == "Deployment"
    ]
    assert len(made) == 2
    for found in made:
        assert {field: found.get(field) for field in expected} == expected


def test_a_class_that_says_nothing_of_it_leaves_placement_to_the_cluster() -> None:
    found = pod(SETTINGS, record())["spec"]
    assert not {*PLACEMENT, "imagePullSecrets"} & set(found)


def test_the_containers_of_a_pod_share_the_data_and_no_temporary_files() -> None:
    """The agent keeps the sites' authorities there: what the server could change, the agent would trust."""
    found = pod(SETTINGS, record())["spec"]
    mounts = {
        container["name"]: {mount["name"] for mount in container["volumeMounts"]} for container in found["containers"]
    }
    assert mounts["xrootd"] & mounts["agent"] == {"data"}
    paths = [mount["mountPath"] for container in found["containers"] for mount in container["volumeMounts"]]
    assert paths.count("/tmp") == 2  # noqa: S108 (each container's own)


def test_the_budget_of_the_manifests_is_for_the_pods_that_are_held_and_for_no_others() -> None:
    bodies = yaml.safe_load_all((MANIFESTS / "operator.yaml").read_text())
    [budget] = [body for body in bodies if body["kind"] == "PodDisruptionBudget"]
    [(label, value)] = budget["spec"]["selector"]["matchLabels"].items()
    assert pod(SETTINGS, record(), held=True)["metadata"]["labels"][label] == value
    assert label not in pod(SETTINGS, record())["metadata"]["labels"]
    template = drain_objects(SETTINGS, record().class_snapshot, {}, not_after="")[-1]["spec"]["template"]
    assert label not in template["metadata"]["labels"]
