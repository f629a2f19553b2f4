"""A pod of the session on a node that is dead: Kubernetes marks it, and nobody ever says that it has ended."""

from __future__ import annotations

from datetime import timedelta

from tests.unit.reconcile.small_world import Small, given
from volatile_rse.ports.cluster import Ref

JOB = Ref("Pod", "alice", "job")


def terminating(*tolerations: dict[str, str]) -> Small:
    """Have a session whose pod is being deleted, and stays."""
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.cluster.merge(JOB, {"spec": {"tolerations": list(tolerations)}})
    # As the kubelet that does not answer: it would have to let the pod go.
    small.cluster.merge(JOB, {"metadata": {"finalizers": ["example.org/kubelet"]}})
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.cluster.delete(JOB, (small.cluster.get(JOB) or {})["metadata"]["uid"])
    return small


def test_a_pod_that_ends_slowly_is_still_the_session() -> None:
    small = terminating()
    small.clock.turn(timedelta(seconds=100))
    for _ in range(5):
        small.step()
    assert (small.cluster.get(JOB) or {})["metadata"]["deletionTimestamp"]
    assert small.condition("SessionActive")["status"] == "True"
    assert not small.truth["session"].get("endedAt")


def test_a_pod_whose_deletion_is_overdue_by_minutes_keeps_no_session_alive() -> None:
    small = terminating()
    small.clock.turn(timedelta(minutes=3))
    small.until(lambda: small.truth["session"].get("endedAt"))
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.cluster.get(JOB) is not None, "it is the dead node's, not ours"
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_a_job_of_a_batch_system_goes_on_while_its_virtual_node_tells_nothing() -> None:
    small = terminating({"key": "virtual-node.interlink/no-schedule", "operator": "Exists"})
    small.clock.turn(timedelta(hours=3))
    for _ in range(5):
        small.step()
    assert not small.truth["session"].get("endedAt")
    small.cluster.merge(JOB, {"metadata": {"finalizers": []}})
    small.until(lambda: small.truth["session"].get("endedAt"))


def test_a_pod_that_tolerates_everything_is_none_of_a_virtual_node() -> None:
    small = terminating({"operator": "Exists"})
    small.clock.turn(timedelta(minutes=3))
    small.until(lambda: small.truth["session"].get("endedAt"))


def test_a_pod_that_runs_beside_a_lost_one_keeps_the_session() -> None:
    small = terminating()
    body = small.cluster.get(JOB) or {}
    metadata = {"namespace": "alice", "name": "again", "labels": body["metadata"]["labels"]}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": given("run")})
    small.step()
    small.clock.turn(timedelta(minutes=10))
    for _ in range(5):
        small.step()
    assert not small.truth["session"].get("endedAt")


def test_a_pod_that_came_and_went_while_no_operator_looked_is_known_by_its_files() -> None:
    small = Small(inputs=0)
    small.request(session={"startTimeout": "60s"})
    small.until(small.has_session)
    small.write("kept/a")
    small.step()
    assert not small.truth["session"].get("endedAt"), "whoever wrote may write on"
    small.clock.turn(timedelta(minutes=1))
    small.until(small.is_closed)
    assert small.truth["session"]["endReason"] == "PodsGone"
    assert small.is_kept("kept/a")
