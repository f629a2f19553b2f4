"""A pod with its session's label and nothing else gets everything, by the API server's own policy."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from testbed import clients, cluster, installation, sidecar
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_kept, assert_nothing_left, fresh_namespace, new_dataset, output
from tests.unit.builders.test_injection import CASES, SAFE, container, pod
from volatile_rse.api.injection import GATE, SIDECAR, TENANT
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.injection import inject

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

READ = """
url=$(python3 -c 'import json; print(json.loads(open("/etc/vrse/inputs.jsonl").readline())["url"])')
xrdcp -s "$url" /tmp/in && echo "read $(stat -c %s /tmp/in)"
"""
WRITE = """
seq 1 1000 > /tmp/one.txt
xrdcp -s -f /tmp/one.txt $VRSE_ROOT_URL/$VRSE_OUTBOX/kept/$1/one.txt && echo written
"""

KEEPS = "echo $X509_CERT_DIR $BEARER_TOKEN ${BEARER_TOKEN_FILE:-none} $VRSE_RSE"


@pytest.fixture
def injected(session: Session) -> Session:
    installation.enable(session.namespace, injected=True)
    # The API server hears of a label a moment later.
    wait_for("pods are injected", lambda: is_injected(dry_run(session.namespace, [pod("probe")])[0]), 30)
    return session


def dry_run(namespace: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give pods as the API server would store them."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": bodies})
    argv = ("-n", namespace, "create", "--dry-run=server", "-o", "json", "-f", "-")
    rest, found = cluster.kubectl(*argv, stdin=text).strip(), list[dict[str, Any]]()
    while rest:
        # One object after the other.
        body, end = json.JSONDecoder().raw_decode(rest)
        found.append(body)
        rest = rest[end:].strip()
    return found


def is_injected(body: dict[str, Any]) -> bool:
    return any(entry["name"] == SIDECAR for entry in body["spec"].get("initContainers", ()))


def read(session: Session, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", session.namespace, "get", "pod", name, "-o", "json"))
    return found


def events(session: Session, name: str) -> list[tuple[str, str]]:
    selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
    found = cluster.kubectl("-n", session.namespace, "get", "events", "--field-selector", selector, "-o", "json")
    ours = [entry for entry in json.loads(found)["items"] if entry["source"].get("component") == "volatile-rse"]
    ours.sort(key=lambda entry: entry["metadata"]["creationTimestamp"])
    return [(entry["reason"], entry["message"]) for entry in ours]


def job(name: str, body: dict[str, Any], session: Session) -> dict[str, Any]:
    metadata = {"name": name, "namespace": session.namespace}
    template = {"metadata": body["metadata"], "spec": body["spec"] | {"restartPolicy": "Never"}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[str, str]]:
    """Give a namespace with injection and one without."""
    installation.up()
    with fresh_namespace() as with_label, fresh_namespace() as without:
        installation.enable(with_label, injected=True)
        wait_for("pods are injected", lambda: is_injected(dry_run(with_label, [pod("probe")])[0]), 30)
        yield with_label, without


def test_the_policy_says_what_the_function_says(namespaces: tuple[str, str]) -> None:
    with_label, without = namespaces
    image = sidecar.image()
    by_policy = dry_run(with_label, CASES)
    by_function = dry_run(without, [inject(body, image) for body in CASES])
    assert len(by_policy) == len(CASES)
    for ours, theirs in zip(by_policy, by_function, strict=True):
        assert ours["spec"] == theirs["spec"], ours["metadata"]["name"]


def test_a_pod_elsewhere_or_without_the_label_is_left_alone(namespaces: tuple[str, str]) -> None:
    with_label, without = namespaces
    (elsewhere,) = dry_run(without, [pod("bare")])
    unlabelled = pod("bare")
    del unlabelled["metadata"]["labels"]
    (other,) = dry_run(with_label, [unlabelled])
    assert not is_injected(elsewhere)
    assert not is_injected(other)


def test_bare_pods_wait_and_then_read_and_write(injected: Session) -> None:
    """A Job, a pod whose image alone has a uid, and a pod without a shell are there before the buffer."""
    session, dataset = injected, new_dataset()
    image = clients.image()

    def script(name: str) -> list[str]:
        return ["bash", "-ec", f"set -- {name}\n{READ}{WRITE}"]

    bare = pod("bare", container(image=image, command=script("bare")), session="run", restartPolicy="Never")
    distroless = pod(
        "distroless",
        container(image=sidecar.image(), command=["/bin/busybox", "test", "-s", "/run/vrse/token"]),
        session="run", uid=10962, restartPolicy="OnFailure",
    )  # fmt: skip
    of_its_own = pod(
        "keeps",
        container(
            image=sidecar.image(),
            command=["/bin/busybox", "sh", "-ec", KEEPS],
            envFrom=[{"configMapRef": {"name": "own"}}],
        ),
        session="run", uid=10960, restartPolicy="Never",
        annotations={"volatilerse.io/keep-env": "X509_CERT_DIR,main/BEARER_TOKEN"},
    )  # fmt: skip
    own = {"X509_CERT_DIR": "/own", "BEARER_TOKEN": "mine", "VRSE_RSE": "overridden"}
    metadata = {"name": "own", "namespace": session.namespace}
    installation.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": own}])
    stated = pod("run", container(image=image, command=script("job")), session="run", uid=10960)
    for body in (bare, distroless, of_its_own):
        body["metadata"]["namespace"] = session.namespace
    installation.apply([bare, distroless, of_its_own, job("run", stated, session)])
    wait_for("it is told", lambda: events(session, "bare"), 90)
    assert events(session, "bare")[0][0] == "UnknownVolatileRSE"
    waiting = read(session, "bare")
    assert waiting["spec"]["schedulingGates"] == [{"name": GATE}]
    # It reserves nothing: no scheduler has looked at it.
    assert "nodeName" not in waiting["spec"]
    assert {entry["reason"] for entry in waiting["status"]["conditions"]} == {"SchedulingGated"}
    session.request(inputs=[NANO], outputs=[output(dataset)])
    wait_for("Usable", lambda: session.is_true("Usable"))
    usable = time.monotonic()
    wait_for("it runs", lambda: read(session, "bare")["status"]["phase"] != "Pending", 60, 0.1)
    (now,) = dry_run(session.namespace, [pod("now", session="run")])
    assert is_injected(now)
    assert "schedulingGates" not in now["spec"]
    print(f"Usable to Running: {time.monotonic() - usable:.1f} s")  # noqa: T201 (a measurement)
    wait_for("the Job has succeeded", session.succeeded)
    for name in ("bare", "distroless", "keeps"):
        argv = ("-n", session.namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}")
        cluster.kubectl(*argv, "--timeout=60s")
    assert cluster.kubectl("-n", session.namespace, "logs", "bare", "-c", "main").splitlines()[-1] == "written"
    said = cluster.kubectl("-n", session.namespace, "logs", "keeps", "-c", "main")
    assert said.split() == ["/own", "mine", "none", session.status()["rse"]]
    reasons = [reason for reason, _ in events(session, "bare")]
    assert reasons[-1] == "BufferUsable"
    # Within one second they have no order.
    assert set(reasons[:-1]) >= {"UnknownVolatileRSE", "WaitingForBuffer"}
    record = session.wait_closed()
    assert_kept(dataset, record, [3893, 3893])
    assert_nothing_left(record)
    # What comes after the end waits for ever, and is told why.
    late = pod("late", session="run")
    late["metadata"]["namespace"] = session.namespace
    installation.apply([late])
    wait_for("it is told", lambda: [reason for reason, _ in events(session, "late")] == ["SessionOver"], 90)


def test_the_operator_takes_its_gate_and_nothing_else(injected: Session) -> None:
    waiting = pod("waiting", container(command=["true"]), schedulingGates=[{"name": "example.org/licence"}])
    waiting["metadata"]["namespace"] = injected.namespace
    installation.apply([waiting])
    operator = (f"--as={installation.OPERATOR}", "--as-group=system:masters")
    patch = ("-n", injected.namespace, "patch", "pod", "waiting", *operator, "--type=json", "-p")

    def remove(path: str) -> str:
        return json.dumps([{"op": "remove", "path": path}])

    names = [gate["name"] for gate in read(injected, "waiting")["spec"]["schedulingGates"]]
    theirs, ours = names.index("example.org/licence"), names.index(GATE)
    image = json.dumps([{"op": "replace", "path": "/spec/containers/0/image", "value": "example.org/other:1"}])
    label = json.dumps([{"op": "add", "path": "/metadata/labels/other", "value": "x"}])
    for change, said in (
        (remove(f"/spec/schedulingGates/{theirs}"), "takes the gate volatilerse.io/usable"),
        (image, "nothing of the spec"),
        (label, "neither labels"),
    ):
        with pytest.raises(StepError, match=said):
            cluster.kubectl(*patch, change)
    cluster.kubectl(*patch, remove(f"/spec/schedulingGates/{ours}"))
    assert read(injected, "waiting")["spec"]["schedulingGates"] == [{"name": "example.org/licence"}]


WEBHOOK = "volatilerse.io/test-webhook"
"""Label of namespaces of which the webhook is asked here: the policies know nothing of it."""


@pytest.fixture
def asked(session: Session) -> Iterator[Session]:
    """Give a session of a namespace whose pods the webhook is asked about."""
    images = {"volatile-rse/operator:latest": installation.image(), sidecar.RELEASED: sidecar.image()}
    text = (CHECKOUT / "manifests" / "injection-webhook.yaml").read_text().replace(f"{TENANT}:", f"{WEBHOOK}:")
    for said, image in images.items():
        text = text.replace(said, image)
    bodies = list(yaml.safe_load_all(text))
    installation.apply(bodies)
    cluster.kubectl("label", "namespace", session.namespace, f"{WEBHOOK}=true")
    yield session
    cluster.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=text)
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", "volatile-rse-webhook", "--ignore-not-found")


def test_the_webhook_gives_the_same_and_without_it_a_pod_starts_and_is_no_session(asked: Session) -> None:
    session, namespace = asked, asked.namespace
    deployment = ("-n", installation.NAMESPACE, "deployment/volatile-rse-webhook")
    cluster.kubectl("rollout", "status", *deployment, "--timeout=90s")
    wait_for("pods are injected", lambda: is_injected(dry_run(namespace, [pod("probe")])[0]), 60)
    by_webhook = dry_run(namespace, CASES)
    with fresh_namespace() as without:
        by_function = dry_run(without, [inject(body, sidecar.image()) for body in CASES])
    for ours, theirs in zip(by_webhook, by_function, strict=True):
        assert ours["spec"] == theirs["spec"], ours["metadata"]["name"]
    cluster.kubectl("scale", *deployment, "--replicas=0")
    wait_for("it is gone", lambda: not is_injected(dry_run(namespace, [pod("probe")])[0]), 60)

    bare = pod("bare", container(image=clients.image(), command=["sleep", "600"]), session="run", uid=10960)
    bare["metadata"] |= {"namespace": namespace}
    session.request()
    installation.apply([bare])
    wait_for("it is told", lambda: [reason for reason, _ in events(session, "bare")] == ["NotInjected"], 90)
    wait_for("Usable", lambda: session.is_true("Usable"))
    wait_for("it runs", lambda: read(session, "bare")["status"]["phase"] == "Running")
    assert session.condition("SessionActive")["reason"] == "WaitingForSession"
    assert not session.record()["status"]["session"].get("startedAt")
    assert read(session, "bare")["metadata"]["labels"] == {SESSION_LABEL: "run"}
    assert read(session, "bare")["spec"]["containers"][0]["securityContext"] == SAFE


@pytest.mark.people
def test_a_pod_that_does_not_wait_and_a_deployment_get_it_when_it_is_there(injected: Session) -> None:
    """The kubelet tells a mounted Secret that has come later within about a minute."""
    session = injected
    ready = ["bash", "-ec", "until test -s $BEARER_TOKEN_FILE; do sleep 0.5; done; echo there; sleep 600"]
    early = pod(
        "early", container(image=clients.image(), command=ready),
        session="run", uid=10960, annotations={"volatilerse.io/wait": "false"},
    )  # fmt: skip
    early["metadata"]["namespace"] = session.namespace
    labels = {"app": "worker", SESSION_LABEL: "run"}
    template = pod("worker", container(image=clients.image(), command=ready), session="run", uid=10960)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "worker", "namespace": session.namespace},
        "spec": {
            "selector": {"matchLabels": {"app": "worker"}},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
        },
    }
    installation.apply([early, deployment])
    wait_for("it runs", lambda: read(session, "early")["status"]["phase"] == "Running", 60)
    session.request()
    wait_for("Usable", lambda: session.is_true("Usable"))
    argv = ("-n", session.namespace)
    cluster.kubectl(*argv, "rollout", "status", "deployment/worker", "--timeout=60s")
    for what in ("pod/early", "deployment/worker"):
        wait_for(
            f"{what} has its token",
            lambda what=what: "there" in cluster.kubectl(*argv, "logs", what, "-c", "main"),  # type: ignore[misc]
            150,
        )
    # A replacement has a gate and loses it again, or never has one.
    before = cluster.kubectl(*argv, "get", "pods", "-l", "app=worker", "-o", "name").split()
    cluster.kubectl(*argv, "delete", *before, "--wait=false", "--grace-period=1")
    cluster.kubectl(*argv, "rollout", "status", "deployment/worker", "--timeout=60s")
    cluster.kubectl(*argv, "delete", "deployment/worker", "pod/early", "--grace-period=1", "--wait=false")
