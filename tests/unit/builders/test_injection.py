"""What a pod gets by its session's label; `CASES` are put to the API server, too (tests/e2e/test_injection.py)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.api.injection import (
    FILES,
    GATE,
    KEEP_ENV,
    KEPT_PATTERN,
    KEYS,
    MOUNTS,
    NAME_PATTERN,
    OFFLOADED,
    PROGRAM,
    SIDECAR,
    TOKEN_FILE,
    TOKEN_ITSELF,
)
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.injection import inject, session_of

MANIFEST = Path(__file__).parents[3] / "manifests" / "injection-policy.yaml"
IMAGE = "volatile-rse/sidecar:latest"
SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
RESTRICTED = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
MAIN: Mapping[str, Any] = {"name": "main", "image": "example.org/main:1", "securityContext": SAFE}


def container(name: str = "main", uid: int | None = None, **fields: object) -> dict[str, Any]:
    context = SAFE if uid is None else SAFE | {"runAsUser": uid}
    return {**MAIN, "name": name, "securityContext": context, **fields}


def pod(
    name: str,
    *containers: dict[str, Any],
    session: str = "dimuon",
    uid: int | None = None,
    annotations: Mapping[str, str] | None = None,
    **spec: object,
) -> dict[str, Any]:
    context = RESTRICTED if uid is None else RESTRICTED | {"runAsUser": uid}
    metadata: dict[str, Any] = {"name": name, "labels": {SESSION_LABEL: session}}
    if annotations:
        metadata["annotations"] = dict(annotations)
    whole = {
        "automountServiceAccountToken": False,
        "securityContext": context,
        "containers": list(containers) or [container()],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


OWN_MOUNTS = [{"name": "mine", "mountPath": "/etc/vrse"}, {"name": "scratch", "mountPath": "/run/vrse"}]
OWN_VOLUMES = [{"name": "mine", "configMap": {"name": "dimuon-vrse"}}, {"name": "scratch", "emptyDir": {}}]
OWN_FROM = [{"configMapRef": {"name": "mine"}}, {"secretRef": {"name": "other"}, "prefix": "BEARER_"}]
CASES = [
    pod("bare"),
    pod("pod-uid", uid=10960),
    pod("container-uid", container(uid=10960)),
    pod("two-uids", container(uid=10960), container("other", uid=10961), container("none")),
    pod("pod-and-container", container(), container("other", uid=10961), uid=10960),
    pod("no-wait", uid=10960, annotations={"volatilerse.io/wait": "false", "other": "kept"}),
    pod("wait-said", annotations={"volatilerse.io/wait": "true"}),
    pod("node", nodeName="nowhere"),
    pod("gated", schedulingGates=[{"name": "example.org/licence"}]),
    pod("own-gate", schedulingGates=[{"name": GATE}]),
    pod("own-init", initContainers=[container("setup", uid=10961), container("side", restartPolicy="Always")]),
    pod("own-mounts", container(volumeMounts=OWN_MOUNTS), volumes=OWN_VOLUMES),
    pod("own-env", container(env=[{"name": "X509_CERT_DIR", "value": "/own"}, {"name": "VRSE_OUTBOX", "value": "/o"}])),
    pod("own-token", container(env=[{"name": "BEARER_TOKEN", "value": "t"}], uid=10960), uid=10960),
    pod("own-file", container(env=[{"name": "BEARER_TOKEN_FILE", "value": "/t"}])),
    pod(
        "keeps",
        container(envFrom=OWN_FROM),
        container("other"),
        initContainers=[container("first")],
        annotations={KEEP_ENV: "X509_CERT_DIR, other/VRSE_OUTBOX,other/X,first/*"},
    ),
    pod(
        "keeps-token", container(uid=10960), container("other"), annotations={KEEP_ENV: "main/BEARER_TOKEN"}, uid=10960
    ),
    pod("keeps-file", container(), container("other"), annotations={KEEP_ENV: "BEARER_TOKEN_FILE"}),
    pod("keeps-all", container(), container("main-2"), annotations={KEEP_ENV: "*"}),
    pod(
        "keeps-odd", container(envFrom=OWN_FROM), annotations={KEEP_ENV: " ,;main/\n/,x509_cert_dir main/main/VRSE_RSE"}
    ),
    pod("guaranteed", container(resources={"limits": {"cpu": "1", "memory": "1Gi"}})),
    pod("dotted", session="a.b-c"),
    pod("no-name", session="", uid=10960),
    pod("upper-case", session="Dimuon"),
    pod("trailing", session="dimuon_x"),
    pod("offloaded", schedulingGates=[{"name": GATE}], tolerations=[{"key": OFFLOADED, "operator": "Exists"}]),
    pod("tolerant", tolerations=[{"operator": "Exists"}]),
]
"""Pods as people write them, in a namespace of restricted Pod Security."""
NAMELESS = {"no-name", "upper-case", "trailing"}
"""Those whose label names nothing."""
LEFT = NAMELESS | {"offloaded"}
BY_NAME = {body["metadata"]["name"]: body for body in CASES}


def injected(name: str, **options: bool) -> dict[str, Any]:
    spec: dict[str, Any] = inject(BY_NAME[name], IMAGE, **options)["spec"]
    return spec


def env(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in entry["env"]}


def test_a_bare_pod_gets_everything() -> None:
    spec = injected("pod-uid")
    (main,), (sidecar,) = spec["containers"], spec["initContainers"]
    assert spec["schedulingGates"] == [{"name": GATE}]
    assert [volume["name"] for volume in spec["volumes"]] == list(MOUNTS)
    assert {mount["mountPath"] for mount in main["volumeMounts"]} == set(MOUNTS.values())
    assert set(env(main)) == {*KEYS, *FILES}
    assert env(main)["VRSE_OUTBOX"]["configMapKeyRef"] == {
        "name": "dimuon-vrse", "key": "VRSE_OUTBOX", "optional": True,
    }  # fmt: skip
    assert (sidecar["image"], sidecar["restartPolicy"], sidecar["securityContext"]["runAsUser"]) == (
        IMAGE, "Always", 10960,
    )  # fmt: skip


@pytest.mark.parametrize("body", CASES, ids=lambda body: body["metadata"]["name"])
def test_what_is_injected_once_is_injected(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    once = inject(body, IMAGE)
    assert body == before, "the pod that was given is not changed"
    assert inject(once, IMAGE) == once
    assert (once == body) == (body["metadata"]["name"] in LEFT)
    # The operator takes the gate away, and nothing puts it back.
    freed = {**once, "spec": {key: value for key, value in once["spec"].items() if key != "schedulingGates"}}
    assert inject(freed, IMAGE) == freed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bare", {"main": "BEARER_TOKEN"}),
        ("pod-uid", {"main": "BEARER_TOKEN_FILE"}),
        ("two-uids", {"main": "BEARER_TOKEN_FILE", "other": "BEARER_TOKEN", "none": "BEARER_TOKEN"}),
        ("pod-and-container", {"main": "BEARER_TOKEN_FILE", "other": "BEARER_TOKEN"}),
        ("own-token", {"main": "BEARER_TOKEN"}),
        ("own-file", {"main": "BEARER_TOKEN_FILE"}),
    ],
)
def test_a_container_gets_the_token_once_and_a_file_only_if_it_can_read_it(
    name: str, expected: Mapping[str, str]
) -> None:
    containers = injected(name)["containers"]
    found = {each["name"]: [key for key in env(each) if key.startswith(TOKEN_ITSELF)] for each in containers}
    assert found == {key: [value] for key, value in expected.items()}


def test_what_a_pod_says_itself_stays() -> None:
    own = env(injected("own-env")["containers"][0])
    assert (own["X509_CERT_DIR"], own["VRSE_OUTBOX"]) == ("/own", "/o")
    mounts = injected("own-mounts")["containers"][0]["volumeMounts"]
    assert [mount["mountPath"] for mount in mounts] == ["/etc/vrse", "/run/vrse", "/etc/vrse-secret"]
    assert injected("gated")["schedulingGates"] == [{"name": "example.org/licence"}, {"name": GATE}]
    assert [each["name"] for each in injected("own-init")["initContainers"]] == [SIDECAR, "setup", "side"]


_ALL = {*KEYS, *FILES, TOKEN_ITSELF}


@pytest.mark.parametrize(
    ("name", "lacking"),
    [
        (
            "keeps",
            {
                "main": {"X509_CERT_DIR", TOKEN_FILE},
                "other": {"X509_CERT_DIR", "VRSE_OUTBOX", TOKEN_FILE},
                "first": _ALL,
            },
        ),
        ("keeps-token", {"main": {TOKEN_ITSELF, TOKEN_FILE}, "other": {TOKEN_ITSELF}}),
        ("keeps-file", {"main": {TOKEN_ITSELF, TOKEN_FILE}, "other": {TOKEN_ITSELF, TOKEN_FILE}}),
        ("keeps-all", {"main": _ALL, "main-2": _ALL}),
        ("keeps-odd", {"main": {TOKEN_FILE}}),
    ],
)
def test_a_container_keeps_what_its_pod_says_that_it_has_unseen(name: str, lacking: Mapping[str, set[str]]) -> None:
    spec = injected(name)
    containers = [*spec["initContainers"][1:], *spec["containers"]]
    assert {each["name"]: _ALL - env(each).keys() for each in containers} == lacking
    assert all({mount["name"] for mount in each["volumeMounts"]} == set(MOUNTS) for each in containers)


@pytest.mark.parametrize(
    ("name", "options"), [("no-wait", {}), ("node", {}), ("bare", {"usable": True}), ("own-gate", {"usable": True})]
)
def test_a_pod_that_need_not_wait_gets_no_gate(name: str, options: Mapping[str, bool]) -> None:
    assert "schedulingGates" not in injected(name, **options)


def test_a_pod_that_does_not_wait_starts_without_what_is_not_there() -> None:
    spec = injected("no-wait")
    config, token, _ = spec["volumes"]
    assert (config["configMap"]["optional"], token["secret"]["optional"]) == (True, True)
    assert spec["initContainers"][0]["startupProbe"]["exec"]["command"] == ["/bin/busybox", "true"]
    config, token, _ = injected("bare")["volumes"]
    assert (config["configMap"]["optional"], token["secret"]["optional"]) == (False, False)


def test_the_policy_has_the_same_names() -> None:
    """What it does with them is seen on the API server."""
    policy, *_ = yaml.safe_load_all(MANIFEST.read_text())
    text = " ".join(yaml.safe_dump(policy, width=100_000).replace("''", "'").split())
    names = (GATE, KEEP_ENV, KEPT_PATTERN, OFFLOADED, SIDECAR, IMAGE, NAME_PATTERN)
    for said in (*names, *KEYS, *FILES.values(), *MOUNTS, *MOUNTS.values()):
        assert f"'{said}'" in text, said
    assert str(list(PROGRAM)) in text
    assert [session_of(BY_NAME[name]) for name in ("bare", "dotted", *sorted(NAMELESS))] == [
        "dimuon",
        "a.b-c",
        *[None] * 3,
    ]
