from __future__ import annotations

import contextlib
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.execute import execute
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service
from volatile_rse.reconcile.world import World
from volatile_rse.telemetry.metrics import Metrics

CLASS = Ref("VolatileRSEClass", None, "standard")


def second(small: Small) -> dict[str, str]:
    """Ask for another buffer in the namespace of the first; give its condition Ready."""
    spec = (small.cluster.get(REQUEST) or {})["spec"]
    small.cluster.create(
        {
            "apiVersion": "volatilerse.io/v1alpha1",
            "kind": "VolatileRSE",
            "metadata": {"namespace": "alice", "name": "second"},
            "spec": spec,
        }
    )
    return looked_at_second(small)


def looked_at_second(small: Small) -> dict[str, str]:
    """Have the other one visited; give its condition Ready."""
    ref = Ref("VolatileRSE", "alice", "second")
    uid = (small.cluster.get(ref) or {})["metadata"]["uid"]
    record_id = identify(small.settings.instance, uid).record_id
    Reconciler(small.world()).visit(record_id, ("alice", "second"))
    conditions = (small.cluster.get(ref) or {})["status"]["conditions"]
    return next(dict(entry) for entry in conditions if entry["type"] == "Ready")


TOO_LARGE = "uses 1073741824 bytes, and may use 2000Mi with the 1Gi that are asked for"


@pytest.mark.parametrize(
    ("whose", "limits", "said"),
    [
        ("perNamespace", {"buffers": 1}, "has 1 buffers, and may have 1"),
        ("perNamespace", {"bytes": "2000Mi"}, TOO_LARGE),
        (
            "perOwner",
            {"buffers": 1},
            "Account 'alice' in namespace 'alice' has 1 buffers, and may have 1, by limits.perOwner",
        ),
        ("perOwner", {"bytes": "2000Mi"}, TOO_LARGE),
        ("perOwner", {"files": 2}, "has 2 files on its buffers, and may have 2"),
        ("perOwner", {"newPerHour": 1}, "has begun 1 buffers within an hour, and may begin 1"),
    ],
)
def test_nobody_gets_more_than_the_class_allows(whose: str, limits: dict[str, object], said: str) -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {whose: limits}}})
    small.request()
    small.until(small.has_session)
    ready = second(small)
    assert ready["reason"] == "LimitExceeded"
    assert said in ready["message"]
    assert "USER must act" in ready["message"]


@pytest.mark.parametrize("changed", [{"account": "bob"}, {"namespace": "lab", "namespaceUID": "of-lab"}])
def test_another_owner_is_not_kept_out(changed: dict[str, str]) -> None:
    """Another account, and the same account in another namespace."""
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"buffers": 1, "newPerHour": 1}}}})
    small.request()
    small.until(small.has_session)
    body = small.record
    claim = {**body["spec"]["claims"][0], **changed}
    small.cluster.merge(Ref("RSERecord", None, body["metadata"]["name"]), {"spec": {"claims": [claim]}})
    assert second(small)["reason"] != "LimitExceeded"


def test_a_record_that_cannot_be_read_counts_as_a_buffer_of_its_namespace() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": {"buffers": 1}}}})
    small.request()
    small.until(small.has_session)
    body = small.record
    odd = {"capacity": ["1Gi"], "claims": [{**body["spec"]["claims"][0], "account": 7}]}
    small.cluster.merge(Ref("RSERecord", None, body["metadata"]["name"]), {"spec": odd})
    assert "has 1 buffers, and may have 1, by limits.perNamespace" in second(small)["message"]


def test_who_begins_many_in_an_hour_waits_and_then_goes_on() -> None:
    small = Small(inputs=0)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"newPerHour": 2}}}})
    for _ in range(2):
        small.request()
        small.step()
        small.delete()
        small.until(small.is_closed)
        small.renew()
    small.request()
    small.until(lambda: small.condition("Ready").get("reason") == "LimitExceeded")
    small.clock.turn(timedelta(hours=1))
    small.until(small.has_session)


def test_sessions_that_are_over_and_not_deleted_are_bounded_with_their_records() -> None:
    small = Small(inputs=0)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"closedRecords": 1}}}})
    small.begin()
    small.end_pod()
    small.until(small.is_closed)
    assert "has 1 VolatileRSEs whose sessions are over, and may have 1: delete some" in second(small)["message"]
    small.delete()
    small.until(lambda: not small.record["metadata"].get("finalizers"))
    assert looked_at_second(small)["reason"] != "LimitExceeded"


def test_the_inputs_of_all_buffers_are_counted_when_they_are_resolved() -> None:
    small = Small(inputs=3)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"files": 2}}}})
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "LimitExceeded")
    said = small.condition("Ready")["message"]
    assert "has 0 files on its other buffers, and may have 2 with the 3 of these inputs" in said
    assert not small.cluster.list("Pod", "bufs")
    small.delete()
    small.until(small.is_closed)


def test_bytes_in_quarantine_count() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": {"quarantinedBytes": "5"}}}})
    small.fail_copies(steps=10_000)
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"))
    assert "has 6 bytes in quarantine, and may have 5" in second(small)["message"]


@pytest.mark.parametrize(
    ("quarantine", "said"), [({"maxBytes": "5"}, "6 bytes, more than 5"), ({"maxAge": "1s"}, "older")]
)
def test_a_class_whose_quarantine_is_full_takes_no_new_sessions(quarantine: dict[str, object], said: str) -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"quarantine": quarantine}})
    small.fail_copies(steps=10_000)
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"))
    ready = second(small)
    assert ready["reason"] == "QuarantineFull"
    assert said in ready["message"]
    assert "ADMIN must act" in ready["message"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"quarantine": {"maxBytes": "1Mi"}}, "1073741824 bytes, more than 1Mi"),
        ({"limits": {"perNamespace": {"quarantinedBytes": "1Mi"}}}, "has 1073741824 bytes in quarantine"),
    ],
)
def test_a_buffer_of_which_nothing_is_known_counts_with_its_capacity(limits: dict[str, object], said: str) -> None:
    metrics = Metrics()
    small = Small(telemetry=metrics)
    small.cluster.merge(CLASS, {"spec": limits})
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.step()
    small.buffer.down = True
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"))
    small.until(lambda: "is not known yet; it is kept" in small.message)
    assert "is not known yet; it is kept" in small.condition("OutputsSafe")["message"]
    assert not {"filesAtRisk", "bytesAtRisk"} & {key for key, value in small.truth.items() if value is not None}
    assert said in second(small)["message"]
    for reference, bytes_ in ((REQUEST, 6), (None, 1 << 30)):
        Service(small.world(), threads=0).sweep()
        claim = small.record["spec"]["claims"][0]
        whose = {"class": small.record["spec"]["className"], "namespace": claim["namespace"]}
        labels = {**whose, "account": claim["account"], "session": "ended"}
        assert metrics.registry.get_sample_value("volatile_rse_at_risk_bytes", labels) == bytes_
        if reference is not None:
            small.delete()
            small.until(lambda: small.is_gone)
    small.buffer.down = False
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_there_is_room_again_once_a_buffer_is_closed() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": {"buffers": 1}}}})
    small.request()
    small.until(small.has_session)
    small.delete()
    small.until(small.is_closed)
    small.renew()
    small.request()
    small.until(small.has_session)


class Frozen(BaseException):
    """The visit is over."""


class Crowd:
    """The fake cluster for several threads, each call by itself; who looks at the records waits for all to do so."""

    def __init__(self, cluster: Any, people: int) -> None:
        self._cluster = cluster
        self._turn = threading.Lock()
        self._people = people
        self.meet()

    def meet(self) -> None:
        self._looks = threading.Barrier(self._people)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._turn:
                answer = getattr(self._cluster, name)(*args, **kwargs)
            if (name, args) == ("list", ("RSERecord",)):
                # If they are kept apart, the first one waits in vain, and nobody after it.
                with contextlib.suppress(threading.BrokenBarrierError):
                    self._looks.wait(timeout=0.5)
            return answer

        return call


@pytest.mark.parametrize("limits", [{"buffers": 1}, {"bytes": "2000Mi"}])
def test_four_that_look_at_the_same_time_are_not_all_let_in(limits: dict[str, object]) -> None:
    small = Small(inputs=0)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perNamespace": limits}}})
    small.request()
    first = small.cluster.get(REQUEST) or {}
    names = ["run", "b", "c", "d"]
    for name in names[1:]:
        small.cluster.create({**first, "metadata": {"namespace": "alice", "name": name}})
    crowd = Crowd(small.cluster, len(names))
    world: World = dataclasses.replace(small.world(), cluster=crowd)
    decided, once = threading.Barrier(len(names), crowd.meet), threading.local()

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if isinstance(effect, do.CreateRecord) and not hasattr(once, "waited"):
            once.waited = True
            decided.wait(timeout=30)
        execute(world, connections, facts, effect)

    reconciler = Reconciler(world, apply)

    def visit(name: str) -> None:
        uid = (small.cluster.get(Ref("VolatileRSE", "alice", name)) or {})["metadata"]["uid"]
        reconciler.visit(identify(small.settings.instance, uid).record_id, ("alice", name))

    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        list(pool.map(visit, names))
    assert len(small.cluster.list("RSERecord")) == 1
    reasons = [
        next(entry["reason"] for entry in body["status"]["conditions"] if entry["type"] == "Ready")
        for body in small.cluster.list("VolatileRSE")
    ]
    assert sorted(reasons) == ["InProgress", "LimitExceeded", "LimitExceeded", "LimitExceeded"]


def test_two_that_resolve_their_inputs_at_the_same_time_do_not_both_have_the_last_files() -> None:
    small = Small(inputs=2)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"files": 3}}}})
    small.request()
    first = small.cluster.get(REQUEST) or {}
    small.cluster.create({**first, "metadata": {"namespace": "alice", "name": "b"}})
    names = ["run", "b"]
    crowd = Crowd(small.cluster, 1)
    decided, once = threading.Barrier(len(names)), threading.local()

    def apply(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if isinstance(effect, do.Remember) and effect.status.inputs and not hasattr(once, "waited"):
            once.waited = True
            decided.wait(timeout=30)
        execute(world, connections, facts, effect)
        if isinstance(effect, do.Remember):
            # What comes next is of one buffer alone in this world.
            raise Frozen

    reconciler = Reconciler(dataclasses.replace(small.world(), cluster=crowd), apply)

    def visit(name: str) -> None:
        uid = (small.cluster.get(Ref("VolatileRSE", "alice", name)) or {})["metadata"]["uid"]
        with contextlib.suppress(Frozen):
            reconciler.visit(identify(small.settings.instance, uid).record_id, ("alice", name))

    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        list(pool.map(visit, names))
    frozen = [bool((body.get("status") or {}).get("inputs")) for body in small.cluster.list("RSERecord")]
    assert sorted(frozen) == [False, True]
    told = [
        next(entry["reason"] for entry in body["status"]["conditions"] if entry["type"] == "Stalled")
        for body in small.cluster.list("VolatileRSE")
        if (body.get("status") or {}).get("conditions")
    ]
    assert "LimitExceeded" in told


def test_who_makes_and_deletes_in_a_loop_fills_no_etcd() -> None:
    small = Small(inputs=0)
    small.cluster.merge(CLASS, {"spec": {"limits": {"perOwner": {"closedRecords": 2}}}})
    made = []
    for _ in range(5):
        small.request()
        small.step()
        small.delete()
        small.until(small.is_closed)
        made.append(small.record_id)
        small.renew()
    service = Service(small.world(), threads=0)
    service.sweep()
    assert len(small.cluster.list("RSERecord")) == 5, "they are counted by the hour"
    small.clock.turn(timedelta(hours=1))
    service.sweep()
    assert {body["spec"]["recordId"] for body in small.cluster.list("RSERecord")} == set(made[-2:])
    service.sweep()
    assert len(small.cluster.list("RSERecord")) == 2
