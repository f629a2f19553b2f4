"""The operator's account has the rights that the operator uses, and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from tests.unit.reconcile.scenarios import (
    comes_and_goes,
    it_is_deleted_when_it_is_finished,
    its_cluster_is_lost,
    its_lists_are_long,
    its_owner_discards,
    its_volume_is_removed,
    the_keys_are_deleted,
    the_namespace_goes,
    the_storage_pod_and_its_claim_are_deleted,
)
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.cached_cluster import CachedCluster
from volatile_rse.adapters.kubernetes import RESOURCES
from volatile_rse.api.conditions import Reason
from volatile_rse.api.injection import GATE
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.builders.objects import session_name
from volatile_rse.ports.cluster import Listing, Object, Ref, Scope, Source, WatchEvent
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.authority import stored_authority
from volatile_rse.reconcile.class_status import ClassProbes
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.gates import Gates
from volatile_rse.reconcile.gather import stages
from volatile_rse.reconcile.lease import Lease
from volatile_rse.reconcile.scopes import lasts, scopes
from volatile_rse.reconcile.searching import search
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.uninstall import release_all, stakes_of
from volatile_rse.reconcile.world import World

MANIFESTS = Path(__file__).parents[3] / "manifests"
PLACES = {"volatile-rse": "ops", "volatile-rse-buffers": "bufs"}
"""Namespace of the manifests -> the one of these tests."""
TENANT = "alice"
T = TypeVar("T")


WAYS = (
    comes_and_goes,
    it_is_deleted_when_it_is_finished,
    its_cluster_is_lost,
    its_lists_are_long,
    its_owner_discards,
    its_volume_is_removed,
    the_keys_are_deleted,
    the_namespace_goes,
    the_storage_pod_and_its_claim_are_deleted,
)
"""Between them they have every effect on objects of Kubernetes."""


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One thing that the account may do."""

    namespace: str
    """Empty: everywhere."""
    resource: str
    """With its subresource, if any."""
    verb: str


KOPF = {
    *(
        Right("", resource, verb)
        for resource in ("volatilerses", "volatilerseclasses", "rucioconnections")
        for verb in ("list", "watch")
    ),
    *(Right("", "customresourcedefinitions", verb) for verb in ("list", "watch")),
    *(Right("", "leases", verb) for verb in ("list", "watch")),
}
"""What the library that watches does by itself; it is asked for nothing else."""


def bodies(kind: str) -> Iterator[dict[str, Any]]:
    for name in ("operator.yaml", "tenant.yaml"):
        yield from (body for body in yaml.safe_load_all((MANIFESTS / name).read_text()) if body["kind"] == kind)


def granted() -> set[Right]:
    """Read what the manifests grant to the operator's account."""
    roles = {
        (body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]): body["rules"]
        for kind in ("Role", "ClusterRole")
        for body in bodies(kind)
    }
    found: set[Right] = set()
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        for binding in bodies(kind):
            role, place = binding["roleRef"], binding["metadata"].get("namespace", "")
            rules = roles[role["kind"], place if role["kind"] == "Role" else "", role["name"]]
            where = "" if kind == "ClusterRoleBinding" else PLACES.get(place, TENANT)
            assert [subject["name"] for subject in binding["subjects"]] == ["volatile-rse"]
            found |= {
                Right(where, resource, verb)
                for rule in rules
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
    return found


class Bounded(Source):
    """A cluster that refuses what the account has no right to, and knows which rights were used."""

    def __init__(self, cluster: Source, used: set[Right]) -> None:
        self._cluster = cluster
        self._used = used
        self._granted = granted()

    def _check(self, verb: str, kind: str, namespace: str | None, subresource: str | None = None) -> None:
        resource = RESOURCES[kind].plural + (f"/{subresource}" if subresource else "")
        for where in (namespace or "", ""):
            right = Right(where, resource, verb)
            if right in self._granted:
                self._used.add(right)
                return
        raise RefusedError(Reason.CLUSTER_REFUSED, f"{verb} {resource} in {namespace!r}: 403 Forbidden")

    def identity(self) -> str:
        self._check("get", "Namespace", None)
        return self._cluster.identity()

    def get(self, ref: Ref) -> Object | None:
        self._check("get", ref.kind, ref.namespace)
        return self._cluster.get(ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        self._check("list", kind, namespace)
        return self._cluster.list(kind, namespace, labels)

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        self._check("list", kind, None)
        return self._cluster.select(kind, read)

    def listing(self, scope: Scope) -> Listing:
        self._check("list", scope.kind, scope.namespace)
        return self._cluster.listing(scope)

    def watch(self, scope: Scope, version: str) -> Iterator[WatchEvent]:
        self._check("watch", scope.kind, scope.namespace)
        return self._cluster.watch(scope, version)

    def create(self, body: Object) -> Object | None:
        self._check("create", body["kind"], body["metadata"].get("namespace"))
        return self._cluster.create(body)

    def admitted(self, body: Object) -> Object:
        self._check("create", body["kind"], body["metadata"].get("namespace"))
        return self._cluster.admitted(body)

    def apply(self, body: Object) -> Object:
        # Of an object that is not there the API server wants both.
        for verb in ("patch", "create"):
            self._check(verb, body["kind"], body["metadata"].get("namespace"))
        return self._cluster.apply(body)

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> Object:
        self._check("patch", ref.kind, ref.namespace, subresource)
        return self._cluster.merge(ref, patch, subresource=subresource)

    def delete(self, ref: Ref, uid: str) -> Object | None:
        self._check("delete", ref.kind, ref.namespace)
        return self._cluster.delete(ref, uid)

    def event(self, about: Object, *, type_: str, reason: str, message: str) -> None:
        self._check("create", "Event", about["metadata"].get("namespace", "default"))
        self._cluster.event(about, type_=type_, reason=reason, message=message)


def bounded_worlds(monkeypatch: pytest.MonkeyPatch, used: set[Right]) -> None:
    unbounded = Small.world

    def world(small: Small) -> World:
        made = unbounded(small)
        bounded = Bounded(small.cluster, used)
        cluster = CachedCluster(bounded, scopes(small.settings), partial(lasts, small.settings), small._seconds)
        return dataclasses.replace(made, cluster=cluster, fresh=cluster.live)

    monkeypatch.setattr(Small, "world", world)


def swept(small: Small) -> None:
    """Do what the threads beside the visits do, and the commands of an admin."""
    world = small.world()
    service = Service(world)
    service.sweep()
    ClassProbes(world, Connections(world)).probe()
    search(world, Connections(world), small.settings.instance)
    stored_authority(world.cluster, small.settings, LocalAuthority.create)
    lease = Lease(world.cluster, small.settings, "one", lambda: None)
    lease.seize()
    lease.release()
    release_all(world.cluster, small.settings, stakes_of(world.cluster, small.settings))


def authorities(name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ops"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": "PEM"}}


def made_again(small: Small) -> None:
    """Make what is there already, though no watch has told of it: it is read, whoever has made it."""
    for kind in ("Pod", "PersistentVolumeClaim"):
        (body, *_) = small.cluster.list(kind, "bufs")
        assert small.world().cluster.create(body) is None


def left_alone(small: Small) -> None:
    """End a session whose ConfigMap was taken from its Secret, so that it has to be deleted by itself."""
    ref = Ref("ConfigMap", TENANT, session_name("run"))
    small.cluster.merge(ref, {"metadata": {"ownerReferences": None}})
    small.end_pod()
    small.until(lambda: small.cluster.get(ref) is None)


def has_injection(small: Small) -> None:
    """Have the API server ask a webhook and follow a policy, and a pod that waits."""
    hook = {"name": "session.volatilerse.io", "clientConfig": {"service": {"name": "volatile-rse-webhook"}}}
    for kind in ("MutatingWebhookConfiguration", "MutatingAdmissionPolicyBinding.v1beta1"):
        small.cluster.create({"kind": kind, "metadata": {"name": "volatile-rse-session"}, "webhooks": [hook]})
    metadata = {"namespace": TENANT, "name": "waits", "labels": {SESSION_LABEL: "run"}}
    spec = {"schedulingGates": [{"name": GATE}]}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def lets_go_of_a_pod_that_changes() -> None:
    """Take the gate from a pod that somebody else has changed meanwhile."""
    small = Small()
    small.begin()
    has_injection(small)
    ref = Ref("Pod", TENANT, "waits")
    volume = {"name": "v", "secret": {"secretName": session_name("run")}}
    small.cluster.merge(ref, {"spec": {"volumes": [volume]}})
    cluster = small.world().cluster
    gates = Gates(cluster, small.clock.now)
    small.cluster.fail_next(RefusedError(Reason.CHANGED_MEANWHILE, "it has changed"))
    gates.look((TENANT, "run"))
    assert not (small.cluster.get(ref) or {})["spec"].get("schedulingGates")
    assert cluster.list("Pod", TENANT, {SESSION_LABEL: "run"}), "nobody could see any session's pods"


def awaits_a_job() -> None:
    """Have a session whose pod has failed, and whose Job has not."""
    small = Small()
    small.begin()
    job = Ref("Job", TENANT, "analysis")
    kind = {"apiVersion": "batch/v1", "kind": job.kind}
    small.cluster.create({**kind, "metadata": {"namespace": TENANT, "name": job.name}, "spec": {}})
    uid = (small.cluster.get(job) or {})["metadata"]["uid"]
    owner = {**kind, "name": job.name, "uid": uid, "controller": True}
    small.cluster.merge(Ref("Pod", TENANT, "job"), {"metadata": {"ownerReferences": [owner]}})
    small.cluster.finish(Ref("Pod", TENANT, "job"), code=1)
    small.until(lambda: small.truth["session"].get("lastSeenAt"))
    small.clock.turn(timedelta(minutes=1))
    small.visit()
    assert not small.truth["session"].get("endedAt")


def looked_at_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fence a session of which nothing but its pod can be looked at."""

    def fails(*_: object) -> None:
        raise RefusedError(Reason.CLUSTER_REFUSED, "what the cluster holds of it cannot be used")

    small = Small()
    small.begin()
    with monkeypatch.context() as patched:
        patched.setattr(stages, "_looked", fails)
        small.patch(REQUEST, endRequested=True)
        small.until(lambda: small.buffer.report().desired.mode == "fenced")


def test_the_account_may_do_what_the_operator_does_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ways that a session may go, the sweep, the search for orphans, and the end of the installation."""
    used: set[Right] = set()
    bounded_worlds(monkeypatch, used)
    for scenario in WAYS:
        small = Small()
        scenario(small)
    small = Small()
    small.cluster.create(authorities("site-authorities"))
    small.patch(Ref("VolatileRSEClass", None, "standard"), siteCredentials={"caConfigMap": "site-authorities"})
    small.begin()
    small.write("kept/a")
    made_again(small)
    has_injection(small)
    swept(small)
    left_alone(small)
    looked_at_in_vain(monkeypatch)
    awaits_a_job()
    lets_go_of_a_pod_that_changes()
    closed = Small()
    closed.begin()
    closed.end_pod()
    closed.until(closed.is_closed)
    closed.cluster.delete(REQUEST, (closed.cluster.get(REQUEST) or {})["metadata"]["uid"])
    closed.until(lambda: closed.cluster.get(REQUEST) is None)
    closed.clock.turn(timedelta(days=31))
    swept(closed)
    unused = granted() - used - KOPF
    assert not unused, "rights that nobody uses: " + ", ".join(map(str, sorted(unused)))
    assert granted() >= KOPF, "kopf needs them"


def test_a_right_that_is_missing_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[Right] = set()
    bounded_worlds(monkeypatch, used)
    fewer = {right for right in granted() if right.verb != "create"}
    monkeypatch.setattr("tests.unit.reconcile.test_rights.granted", lambda: fewer)
    small = Small()
    small.request()
    with pytest.raises(AssertionError):
        small.until(small.has_session)
