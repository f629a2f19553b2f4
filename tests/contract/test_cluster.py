"""What the reconciler relies on, shown on the fake and on the real API server."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed import cluster as testbed_cluster
from testbed import installation, layout
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.fake_cluster import FakeCluster, play_controllers
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.api.conditions import Reason
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.cluster import ANY, Cluster, Ref, Scope, Source, WatchEvent
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.reconcile.lease import Lease, LeaseLostError
from volatile_rse.reconcile.session_pods import is_awaited

CRDS = Path(__file__).resolve().parents[2] / "crds"


def _install_crds() -> None:
    testbed_cluster.guard()
    testbed_cluster.kubectl("apply", "--server-side", "-f", str(CRDS))
    names = [json.loads(path.read_text())["metadata"]["name"] for path in sorted(CRDS.glob("*.json"))]
    wait = ("wait", "--for=condition=Established", "--timeout=60s")
    testbed_cluster.kubectl(*wait, *(f"crd/{name}" for name in names))


def _source(name: str) -> Source:
    if name == "fake":
        return FakeCluster()
    _install_crds()
    made = KubernetesCluster.connect(layout.KUBECONFIG, layout.KUBE_CONTEXT)
    # Some things only the operator may write; its rights are no matter of this contract.
    for header, value in {"Impersonate-User": installation.OPERATOR, "Impersonate-Group": "system:masters"}.items():
        made._client.set_default_header(header, value)  # type: ignore[no-untyped-call]
    return made


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
def source(request: pytest.FixtureRequest) -> Source:
    return _source(request.param)


WATCHED = ("ConfigMap", "Namespace", "PersistentVolumeClaim", "Pod", "RSERecord", "Secret", "Service", "VolatileRSE")


@pytest.fixture(
    scope="module",
    params=[
        "fake",
        pytest.param("real", marks=pytest.mark.cluster),
        pytest.param("watched", marks=pytest.mark.cluster),
    ],
)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = _source(request.param)
    if request.param != "watched":
        yield made
        return
    watched = CachedCluster(made, [Scope(kind) for kind in WATCHED])
    watched.start()
    assert watched.unsynced(60) == ()
    yield watched
    watched.stop()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    assert cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    ref = Ref("Namespace", None, name)
    cluster.delete(ref, uid(cluster, ref))


@pytest.fixture
def name() -> str:
    return f"x-{uuid.uuid4().hex[:8]}"


def read(cluster: Cluster, ref: Ref) -> Any:
    stored = cluster.get(ref)
    assert stored is not None
    return stored


def uid(cluster: Cluster, ref: Ref) -> str:
    return str(read(cluster, ref)["metadata"]["uid"])


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def config_map(ref: Ref, data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    place = {"namespace": ref.namespace, "name": ref.name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place | metadata, "data": data}


def request(ref: Ref) -> dict[str, Any]:
    return {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "VolatileRSE",
        "metadata": {"namespace": ref.namespace, "name": ref.name},
        "spec": {
            "className": "standard",
            "account": "alice",
            "capacity": "1Gi",
            "inputs": [],
            "outputs": [],
        },
    }


def test_the_cluster_has_an_identity(cluster: Cluster) -> None:
    assert cluster.identity() == cluster.identity() != ""


def test_a_namespace_has_a_uid_and_labels_and_made_again_it_is_another(cluster: Cluster, name: str) -> None:
    ref, own = Ref("Namespace", None, name), {"kubernetes.io/metadata.name": name}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert cluster.create(body)
    assert read(cluster, ref)["metadata"]["labels"] == own
    cluster.merge(ref, {"metadata": {"labels": {"team": "cms", **dict.fromkeys(own, "other")}}})
    assert read(cluster, ref)["metadata"]["labels"] == {"team": "cms", **own}
    first = uid(cluster, ref)
    cluster.delete(ref, first)
    assert eventually(lambda: cluster.get(ref) is None)
    assert cluster.create(body)
    assert uid(cluster, ref) != first
    assert read(cluster, ref)["metadata"]["labels"] == own
    assert not cluster.create(body)
    cluster.delete(ref, first)
    assert "deletionTimestamp" not in read(cluster, ref)["metadata"]
    cluster.delete(ref, uid(cluster, ref))


def test_absent_is_none(cluster: Cluster, namespace: str, name: str) -> None:
    assert cluster.get(Ref("Pod", namespace, name)) is None
    assert cluster.get(Ref("RSERecord", None, name)) is None


def told(body: Any) -> Any:
    """Leave out what nobody reads, and views do not keep."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def test_a_write_gives_the_object_as_it_is_then(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    held = {"finalizers": ["test.example.org/held"]}
    made: Any = cluster.create(config_map(ref, {"a": "1"}, **held))
    assert told(made) == told(read(cluster, ref))
    assert cluster.create(config_map(ref, {"a": "2"})) is None
    assert told(cluster.merge(ref, {"data": {"a": "3"}})) == told(read(cluster, ref))
    applied = cluster.apply(config_map(ref, {"a": "4"}))
    assert applied["data"] == {"a": "4"}
    assert told(applied) == told(read(cluster, ref))
    left = cluster.delete(ref, made["metadata"]["uid"])
    assert left is not None
    assert "deletionTimestamp" in left["metadata"]
    last = cluster.merge(ref, {"metadata": {"finalizers": []}})
    assert not last["metadata"].get("finalizers")
    assert cluster.get(ref) is None
    assert cluster.delete(ref, made["metadata"]["uid"]) is None


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret", "Service"])
def test_what_nobody_holds_is_gone_with_the_answer(cluster: Cluster, namespace: str, name: str, kind: str) -> None:
    ref, ports = Ref(kind, namespace, name), [{"port": 80, "protocol": "TCP"}]
    place = {"namespace": namespace, "name": name}
    made = cluster.create(
        {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": place,
            **({"spec": {"ports": ports}} if kind == "Service" else {}),
        }
    )
    assert made is not None
    assert cluster.delete(ref, made["metadata"]["uid"]) is None
    assert cluster.get(ref) is None


def taken(source: Source, scope: Scope, version: str, until: int) -> list[WatchEvent]:
    """Watch until so many changes have come."""
    found: list[WatchEvent] = []
    for event in source.watch(scope, version):
        if event.type != "BOOKMARK":
            found.append(event)
        if len(found) == until:
            break
    return found


def test_a_watch_goes_on_where_the_list_has_ended(source: Source, name: str) -> None:
    scope = Scope("ConfigMap", "default", label=f"test.example.org/{name}")
    labels = {str(scope.label): "1"}
    refs = [Ref("ConfigMap", "default", f"{name}-{letter}") for letter in "ab"]
    for ref in refs:
        source.create(config_map(ref, {"a": "1"}, labels=labels))
    objects, version = source.listing(scope)
    assert sorted(body["metadata"]["name"] for body in objects) == [ref.name for ref in refs]
    assert {body["kind"] for body in objects} == {"ConfigMap"}
    first, second = refs
    source.merge(first, {"data": {"a": "2"}})
    source.merge(first, {"metadata": {"labels": {str(scope.label): None}}})
    source.merge(first, {"metadata": {"labels": labels}})
    for ref in refs:
        source.delete(ref, (source.get(ref) or {})["metadata"]["uid"])
    events = taken(source, scope, version, 5)
    assert [(event.type, event.body["metadata"]["name"]) for event in events] == [
        ("MODIFIED", first.name),
        ("DELETED", first.name),
        ("ADDED", first.name),
        ("DELETED", first.name),
        ("DELETED", second.name),
    ]
    assert events[0].body["data"] == {"a": "2"}
    versions = [int(event.body["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)
    assert versions[0] > int(version)


def test_a_version_that_is_too_old_is_no_end_of_a_watch(source: Source) -> None:
    if isinstance(source, FakeCluster):
        source.compact()
    with pytest.raises(UnreachableError, match="too old"):
        list(source.watch(Scope("ConfigMap", "default"), "1"))


def test_what_would_be_admitted_is_not_created(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    assert cluster.admitted(config_map(ref, {"a": "1"}))["data"] == {"a": "1"}
    assert cluster.get(ref) is None
    assert cluster.create(config_map(ref, {"a": "1"}))
    with pytest.raises(RefusedError) as refused:
        cluster.admitted(config_map(ref, {"a": "1"}))
    assert refused.value.reason is Reason.CLUSTER_REFUSED


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_what_an_api_server_may_not_know_is_not_there(cluster: Cluster, name: str, version: str) -> None:
    assert cluster.get(Ref(f"MutatingAdmissionPolicyBinding.{version}", None, name)) is None
    assert cluster.get(Ref("MutatingWebhookConfiguration", None, name)) is None


def test_created_once(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    assert cluster.create(config_map(ref, {"a": "1"}))
    assert not cluster.create(config_map(ref, {"a": "2"}))
    assert read(cluster, ref)["data"] == {"a": "1"}


def test_listed_by_labels(cluster: Cluster, namespace: str, name: str) -> None:
    for suffix, labels in (("a", {"set": name, "one": "1"}), ("b", {"set": name})):
        cluster.create(config_map(Ref("ConfigMap", namespace, f"{name}-{suffix}"), {}, labels=labels))
    both = cluster.list("ConfigMap", namespace, {"set": name})
    assert [item["metadata"]["name"] for item in both] == [f"{name}-a", f"{name}-b"]
    assert both[0]["kind"] == "ConfigMap"
    assert both[0]["apiVersion"] == "v1"
    assert len(cluster.list("ConfigMap", namespace, {"set": name, "one": "1"})) == 1
    assert len(cluster.list("ConfigMap", None, {"set": name})) == 2
    assert cluster.list("ConfigMap", "default", {"set": name}) == ()
    assert cluster.list("ConfigMap", namespace, {"set": ANY, "one": "1"}) == both[:1]
    assert both[1] in cluster.list("ConfigMap", None, {"set": ANY})
    assert cluster.list("ConfigMap", namespace, {"set": ANY, "one": "2"}) == ()


def test_what_is_no_label_is_refused(cluster: Cluster, namespace: str) -> None:
    if isinstance(cluster, CachedCluster):
        # Nobody is asked: no pod has such a label.
        assert cluster.list("Pod", namespace, {"session": "my value"}) == ()
        return
    with pytest.raises(RefusedError) as refused:
        cluster.list("Pod", namespace, {"session": "my value"})
    assert refused.value.reason is Reason.CLUSTER_REFUSED


def test_applied_again_it_is_repaired_and_then_unchanged(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    cluster.apply(config_map(ref, {"a": "1"}))
    cluster.merge(ref, {"data": {"a": "drifted", "theirs": "2"}})
    cluster.apply(config_map(ref, {"a": "1"}))
    stored = read(cluster, ref)
    assert stored["data"]["a"] == "1"
    cluster.apply(config_map(ref, {"a": "1"}))
    assert read(cluster, ref)["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


def test_what_is_applied_no_more_goes(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    cluster.apply(config_map(ref, {"a": "1", "b": "2"}, labels={"x": "y"}))
    cluster.merge(ref, {"data": {"theirs": "3"}})
    cluster.apply(config_map(ref, {"a": "1"}))
    stored = read(cluster, ref)
    assert stored["data"] == {"a": "1", "theirs": "3"}
    assert "labels" not in stored["metadata"]


def test_a_patch_with_an_old_version_fails(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    cluster.create(config_map(ref, {"a": "1"}))
    old = read(cluster, ref)["metadata"]["resourceVersion"]
    cluster.merge(ref, {"metadata": {"resourceVersion": old}, "data": {"a": "2", "b": None}})
    with pytest.raises(RefusedError) as caught:
        cluster.merge(ref, {"metadata": {"resourceVersion": old}, "data": {"a": "3"}})
    assert caught.value.reason is Reason.CHANGED_MEANWHILE
    assert name in caught.value.what
    assert read(cluster, ref)["data"] == {"a": "2"}


def test_a_patch_of_nothing_and_of_another_fails(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    with pytest.raises(RefusedError) as caught:
        cluster.merge(ref, {"data": {"a": "1"}})
    assert caught.value.reason is Reason.CHANGED_MEANWHILE
    cluster.create(config_map(ref, {}))
    with pytest.raises(RefusedError) as caught:
        cluster.merge(ref, {"metadata": {"uid": str(uuid.uuid4())}, "data": {"a": "1"}})
    assert caught.value.reason is Reason.CHANGED_MEANWHILE


def test_status_is_apart_from_spec(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("VolatileRSE", namespace, name)
    cluster.create(request(ref) | {"status": {"rse": "VRSE-0"}})
    first = read(cluster, ref)
    # An operator that runs here may have looked at it meanwhile: it says other things.
    assert "rse" not in first["status"]
    assert first["metadata"]["generation"] == 1
    cluster.merge(ref, {"status": {"rse": "VRSE-A"}}, subresource="status")
    cluster.merge(ref, {"status": {"rse": "VRSE-B"}, "metadata": {"labels": {"a": "b"}}})
    second = read(cluster, ref)
    assert second["status"]["rse"] == "VRSE-A"
    assert second["metadata"]["labels"] == {"a": "b"}
    assert second["metadata"]["generation"] == 1
    assert second["spec"] == first["spec"]


def test_a_changed_spec_is_another_generation(cluster: Cluster, name: str) -> None:
    ref = Ref("VolatileRSEClass", None, name)
    spec = VolatileRSEClassSpec.example()
    body = {"apiVersion": "volatilerse.io/v1alpha1", "kind": ref.kind, "metadata": {"name": name}, "spec": spec}
    assert cluster.create(body)
    try:
        cluster.merge(ref, {"metadata": {"labels": {"a": "b"}}})
        assert read(cluster, ref)["metadata"]["generation"] == 1
        cluster.merge(ref, {"spec": {"maxCapacity": "7Gi"}})
        assert read(cluster, ref)["metadata"]["generation"] == 2
    finally:
        cluster.delete(ref, uid(cluster, ref))


def test_a_finalizer_holds_what_is_deleted(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    cluster.create(config_map(ref, {}, finalizers=["volatilerse.io/test"]))
    mine = uid(cluster, ref)
    cluster.delete(ref, mine)
    stamp = read(cluster, ref)["metadata"]["deletionTimestamp"]
    cluster.delete(ref, mine)
    assert read(cluster, ref)["metadata"]["deletionTimestamp"] == stamp
    cluster.merge(ref, {"metadata": {"finalizers": None}})
    assert cluster.get(ref) is None


def test_only_this_very_object_is_deleted(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    cluster.delete(ref, str(uuid.uuid4()))
    cluster.create(config_map(ref, {}))
    cluster.delete(ref, str(uuid.uuid4()))
    cluster.delete(ref, uid(cluster, ref))
    assert cluster.get(ref) is None


def test_nothing_is_made_in_no_namespace(cluster: Cluster, name: str) -> None:
    body = config_map(Ref("ConfigMap", f"{name}-none", name), {})
    for call in (cluster.create, cluster.apply):
        with pytest.raises(RefusedError) as caught:
            call(body)
        assert caught.value.reason is Reason.CLUSTER_REFUSED


def test_a_namespace_that_ends_takes_nothing_and_waits_for_finalizers(cluster: Cluster, name: str) -> None:
    place, held = Ref("Namespace", None, name), Ref("ConfigMap", name, "held")
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster.create(config_map(held, {}, finalizers=["volatilerse.io/test"]))
    cluster.delete(place, uid(cluster, place))
    assert "deletionTimestamp" in read(cluster, place)["metadata"]
    with pytest.raises(RefusedError):
        cluster.create(config_map(Ref("ConfigMap", name, "late"), {}))
    assert eventually(lambda: "deletionTimestamp" in read(cluster, held)["metadata"])
    cluster.merge(held, {"metadata": {"finalizers": None}})
    assert eventually(lambda: cluster.get(place) is None)


def controllers_did(cluster: Cluster, holds: Callable[[], bool]) -> bool:
    """Await what controllers do; the fake's work when they are told to."""
    if isinstance(cluster, FakeCluster):
        play_controllers(cluster)
    return eventually(holds)


def test_a_claim_goes_after_its_pod_which_its_kubelet_ends(cluster: Cluster, namespace: str, name: str) -> None:
    claim, pod = Ref("PersistentVolumeClaim", namespace, name), Ref("Pod", namespace, name)
    metadata = {"namespace": namespace, "name": name}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    cluster.create({"apiVersion": "v1", "kind": claim.kind, "metadata": metadata, "spec": spec})
    # Bound to its node by hand, it waits there for a volume that nobody provides.
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": name}}]
    containers = [{"name": "any", "image": "none.invalid/none"}]
    on_node = {"nodeName": layout.NODE, "containers": containers, "volumes": volumes}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": on_node})
    for ref in (claim, pod):
        cluster.delete(ref, uid(cluster, ref))
        assert "deletionTimestamp" in read(cluster, claim)["metadata"]
    assert "deletionTimestamp" in read(cluster, pod)["metadata"]
    assert controllers_did(cluster, lambda: cluster.get(pod) is None)
    assert controllers_did(cluster, lambda: cluster.get(claim) is None)


def test_a_pod_of_no_node_goes_at_once(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("Pod", namespace, name)
    containers = [{"name": "any", "image": "none.invalid/none"}]
    spec = {"containers": containers, "nodeSelector": {"volatilerse.io/no-such-node": name}}
    metadata = {"namespace": namespace, "name": name}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    cluster.delete(ref, uid(cluster, ref))
    assert cluster.get(ref) is None


def test_a_job_is_found_by_its_name_until_it_is_gone(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("Job", namespace, name)
    assert cluster.get(ref) is None
    pod = {"restartPolicy": "Never", "containers": [{"name": "any", "image": "none.invalid/none"}]}
    spec = {"suspend": True, "template": {"spec": pod}}
    cluster.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": namespace, "name": name}, "spec": spec}
    )
    assert is_awaited(cluster.get(ref), uid(cluster, ref), 0), "a suspended Job may go on"
    cluster.delete(ref, uid(cluster, ref))
    eventually(lambda: not is_awaited(cluster.get(ref), "its UID", 0))


def test_what_was_made_for_an_owner_that_is_gone_is_removed(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    owner = {"apiVersion": "v1", "kind": "Secret", "name": "none", "uid": str(uuid.uuid4())}
    cluster.create(config_map(ref, {}, ownerReferences=[owner]))
    assert controllers_did(cluster, lambda: cluster.get(ref) is None)


def test_a_service_gets_node_ports_and_keeps_them(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("Service", namespace, name)
    ports = [{"name": "root", "port": 1094, "protocol": "TCP"}, {"name": "davs", "port": 8443, "protocol": "TCP"}]
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "NodePort", "selector": {"a": "b"}, "ports": ports},
    }
    cluster.apply(body)
    given = [port["nodePort"] for port in read(cluster, ref)["spec"]["ports"]]
    assert len(set(given)) == 2
    cluster.apply(body)
    assert [port["nodePort"] for port in read(cluster, ref)["spec"]["ports"]] == given


def test_a_service_that_gets_no_node_port_is_refused_and_not_there(cluster: Cluster, namespace: str, name: str) -> None:
    if not isinstance(cluster, FakeCluster):
        pytest.skip("it would take all NodePorts; its words stand in tests/unit/adapters/test_kubernetes.py")
    ref, range_ = Ref("Service", namespace, name), cluster.node_ports
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "NodePort", "ports": [{"name": "root", "port": 1094}, {"name": "davs", "port": 8443}]},
    }
    first = range_[-1] + 1
    try:
        cluster.node_ports = [first]
        with pytest.raises(RefusedError, match="failed to allocate a nodePort: range is full") as caught:
            cluster.create(body)
        assert caught.value.reason is Reason.NODE_PORTS_EXHAUSTED
        assert cluster.get(ref) is None
        cluster.node_ports = [first, first + 1]
        assert cluster.create(body) is not None
    finally:
        cluster.node_ports = range_


def test_a_secret_takes_plain_text(cluster: Cluster, namespace: str, name: str) -> None:
    place = {"namespace": namespace, "name": name}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": place, "stringData": {"token": "abc"}})
    assert read(cluster, Ref("Secret", namespace, name))["data"] == {"token": "YWJj"}


def test_plain_text_is_merged_into_a_secret_and_leaves_the_rest(cluster: Cluster, namespace: str, name: str) -> None:
    place, ref = {"namespace": namespace, "name": name}, Ref("Secret", namespace, name)
    plain = {"key": "abc", "certificate": "old"}
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": place, "stringData": plain})
    metadata = {"uid": read(cluster, ref)["metadata"]["uid"], "annotations": {"example.org/until": "then"}}
    cluster.merge(ref, {"metadata": metadata, "stringData": {"certificate": "new"}})
    after = read(cluster, ref)
    assert after["data"] == {"key": "YWJj", "certificate": "bmV3"}
    assert after["metadata"]["annotations"]["example.org/until"] == "then"


def test_a_config_map_takes_a_mebibyte(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    too_much = base64.b64encode(bytes((1 << 20) + 1)).decode()
    with pytest.raises(RefusedError) as caught:
        cluster.create(config_map(ref, {}) | {"binaryData": {"list": too_much}})
    assert caught.value.reason is Reason.CLUSTER_REFUSED
    body = config_map(ref, {"others": "x"}) | {"binaryData": {"list": base64.b64encode(bytes(700 << 10)).decode()}}
    assert cluster.create(body)
    assert read(cluster, ref)["binaryData"] == body["binaryData"]


def test_an_event_is_written(cluster: Cluster, namespace: str, name: str) -> None:
    ref = Ref("ConfigMap", namespace, name)
    cluster.create(config_map(ref, {}))
    cluster.event(read(cluster, ref), type_="Warning", reason="Tested", message="m" * 2000)
    if isinstance(cluster, FakeCluster):
        assert cluster.events[-1].about == ref
    else:
        written = cluster.list("Event", namespace)
        assert [event["reason"] for event in written if event["involvedObject"]["name"] == name] == ["Tested"]
    missing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": f"{name}-none", "name": name}}
    cluster.event(missing, type_="Normal", reason="Tested", message="into no namespace")


@pytest.mark.cluster
def test_a_refusal_names_the_object_and_the_server_s_words(namespace: str) -> None:
    real = KubernetesCluster.connect(layout.KUBECONFIG, layout.KUBE_CONTEXT)
    bad = config_map(Ref("ConfigMap", "default", "Not_A_Name"), {})
    with pytest.raises(RefusedError, match=r"ConfigMap default/Not_A_Name.*RFC 1123") as caught:
        real.apply(bad)
    assert caught.value.reason is Reason.CLUSTER_REFUSED
    assert namespace


def test_no_answer_is_unreachable(tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    fake = FakeCluster()
    fake.down = True
    pod = Ref("Pod", "a", "b")
    for dead in (KubernetesCluster.connect(tmp_path / "config", "x"), fake):
        with pytest.raises(UnreachableError, match="Pod a/b") as read:
            dead.get(pod)
        with pytest.raises(UnreachableError, match="Pod a/b") as deleted:
            dead.delete(pod, "u")
        assert {read.value.reason, deleted.value.reason} == {Reason.CLUSTER_UNREACHABLE}
        dead.event(config_map(Ref("ConfigMap", "a", "b"), {}), type_="Normal", reason="R", message="m")


def test_a_lease_has_one_holder_until_it_is_given_back(cluster: Cluster, namespace: str, name: str) -> None:
    settings = Settings(name=name, instance="i", namespace=namespace, buffers="b", buffer_image="b:1")
    lost: list[str] = []
    first, second = (Lease(cluster, settings, holder, lambda: lost.append("lost")) for holder in ("first", "second"))
    first.wait()
    assert not second.acquire()
    first.check()
    first.release()
    assert second.acquire()
    with pytest.raises(LeaseLostError):
        first.check()
    assert lost == ["lost"]
