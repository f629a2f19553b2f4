"""What the benchmark of many buffers makes of metrics, events and clocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from testbed import scale
from testbed.api_server import ApiServer
from testbed.progress import StepError
from volatile_rse.api.volatilerse import VolatileRSESpec
from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.telemetry.metrics import Metrics

TEXT = """\
# HELP volatile_rse_cluster_requests_total Requests.
volatile_rse_cluster_requests_total{kind="Pod",verb="list"} 7.0
volatile_rse_cluster_requests_total{kind="Lease",verb="patch"} 100.0
volatile_rse_cluster_requests_total{kind="Pod",verb="watch"} 50.0
volatile_rse_cluster_requests_total{kind="Secret",verb="get"} 2.0
volatile_rse_cluster_requests_total_more{kind="Secret"} 9.0
volatile_rse_queue_due 3.0
apiserver_request_total{code="200",verb="WATCH"} 11
apiserver_request_total{code="200",verb="GET"} 13
"""


def test_requests_are_added_up_without_lease_and_watches() -> None:
    samples = scale.samples_of(TEXT)
    assert scale.requests_of(samples) == 9
    assert scale.total(samples, "apiserver_request_total") == 13
    assert scale.total(samples, "volatile_rse_queue_due") == 3
    assert scale.total(samples, "volatile_rse_nothing") == 0


def test_requests_by_verb_and_kind_are_those_that_came_since() -> None:
    after = scale.samples_of(TEXT)
    before = {key: value - (4 if "Secret" not in key else 2) for key, value in after.items()}
    assert scale.by_kind(before, after, 2) == {"list Pod": 2, "get Secret": 1}
    assert list(scale.by_kind({}, after, 1).items()) == [("list Pod", 7), ("get Secret", 2)]
    assert scale.by_kind(after, after, 1) == {}


def test_the_operator_s_own_metrics_have_these_names() -> None:
    metrics = Metrics()
    metrics.asked("get", "Pod")
    metrics.asked("patch", "Lease")
    samples = scale.samples_of(generate_latest(metrics.registry).decode())
    assert scale.requests_of(samples) == 1
    assert samples["volatile_rse_sweep_timestamp_seconds"] == samples["volatile_rse_queue_due"] == 0


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)], ids=["p50", "p99", "most", "least"]
)
def test_percentiles(share: float, value: float) -> None:
    assert scale.percentile([float(number) for number in range(100, 0, -1)], share) == value
    assert scale.percentile([4.0], share) == 4


def test_processor_time_is_read_behind_the_program_s_name() -> None:
    ticks = scale._TICKS
    fields = ["S", *["0"] * 10, str(3 * ticks), str(ticks), "9", "9"]
    assert scale.cpu_of(f"12 (python (odd) name) {' '.join(fields)}") == 4


def test_the_parts_of_kubernetes_are_found_by_their_names(tmp_path: Path) -> None:
    ticks = scale._TICKS
    for pid, name, seconds in (("1", "etcd", 2), ("22", "kube-apiserver", 3), ("23", "etcd", 4), ("4", "python", 9)):
        (tmp_path / pid).mkdir()
        numbers = " ".join(["0"] * 10)
        (tmp_path / pid / "stat").write_text(f"{pid} ({name}) S {numbers} {seconds * ticks} 0 9")
    (tmp_path / "self").mkdir()
    (tmp_path / "5").mkdir()
    assert scale.control_plane(tmp_path) == {"etcd": 6, "kube-apiserver": 3}


@pytest.mark.parametrize(
    ("text", "sizes"), [("", (100, 300, 1000)), ("300 100", (100, 300)), ("7 7", (7,)), ("1384", (1384,))]
)
def test_sizes(text: str, sizes: tuple[int, ...]) -> None:
    assert scale.sizes_of(text) == sizes


@pytest.mark.parametrize("text", ["many", "0", "-3", "1385", "1.5"])
def test_sizes_that_no_cluster_has_room_for(text: str) -> None:
    with pytest.raises(StepError, match=r"SCALE="):
        scale.sizes_of(text)


def request(name: str, ready: str = "", **metadata: Any) -> dict[str, Any]:
    conditions = [{"type": "Stalled", "status": "True"}, *([{"type": "Ready", "status": ready}] if ready else [])]
    return {"metadata": {"name": name, **metadata}, "status": {"conditions": conditions}}


def test_the_first_time_counts_and_others_sessions_do_not() -> None:
    seen = scale.Seen(asked={"a": 10.0, "b": 11.0, "c": 12.0})
    for type_, body, now in (
        ("ADDED", request("a"), 12.0),
        ("MODIFIED", request("a", "False"), 13.0),
        ("MODIFIED", request("a", "True"), 14.0),
        ("MODIFIED", request("a", "True"), 19.0),
        ("ADDED", request("b", "True"), 21.0),
        ("ADDED", request("somebody", "True"), 22.0),
        ("DELETED", request("b", "True"), 30.0),
        ("DELETED", request("c", "True"), 31.0),
    ):
        seen.request(type_, body, now)
    assert sorted(seen.latencies()) == [4.0, 10.0]
    assert seen.gone == {"b": 30.0, "c": 31.0}


def test_storage_pods_and_records() -> None:
    seen = scale.Seen()
    pod = {"metadata": {"name": "p", "labels": {"volatilerse.io/record": "abc"}}}
    seen.pod("DELETED", pod, 1.0)
    seen.pod("ADDED", {"metadata": {"name": "drain-x"}}, 2.0)
    seen.pod("ADDED", pod, 3.0)
    seen.pod("MODIFIED", pod, 4.0)
    assert seen.pods == {"abc": 3.0}
    for instance, phase, now in (
        ("scale-bench.u", "Draining", 5.0),
        ("volatile-rse.u", "Closed", 6.0),
        ("scale-bench.u", "Closed", 7.0),
    ):
        body = {"metadata": {"name": "r"}, "spec": {"instance": instance}, "status": {"phase": phase}}
        seen.record("MODIFIED", body, now)
    assert seen.closed == {"r": 7.0}


class Objects(ApiServer):
    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        self.lists = lists

    def ask(self, method: str, path: str, *_: Any, **__: Any) -> dict[str, Any] | None:
        assert method == "GET"
        return {"items": self.lists.get(path.rpartition("/")[2], [])}


def test_a_cluster_with_somebody_s_buffers_is_left_alone() -> None:
    closed = {"metadata": {"name": "vrse-old"}, "status": {"closedAt": "2026-01-01T00:00:00Z"}}
    scale.refuse_in_use(Objects(rserecords=[closed]))
    living = {"metadata": {"name": "vrse-new"}, "status": {"phase": "Serving"}}
    mine = {"metadata": {"name": "run", "namespace": "alice"}}
    with pytest.raises(StepError, match=r"VolatileRSE alice/run, RSERecord vrse-new\. USER must act"):
        scale.refuse_in_use(Objects(rserecords=[closed, living], volatilerses=[mine]))


def test_a_service_is_answered_by_its_name_and_at_its_ports() -> None:
    ports = [{"port": 1094, "nodePort": 30001}, {"port": 8443, "nodePort": 30002}]
    inside, root, *outside = scale.addresses_of({"metadata": {"name": "vrse-x"}, "spec": {"ports": ports}})
    assert inside[0] == root[0] == "vrse-x.volatile-rse-buffers.svc"
    assert [port for _, port in outside] == [30001, 30002]


def test_what_is_asked_for_is_what_the_operator_reads() -> None:
    assert VolatileRSESpec.model_validate(scale.body_of("run-0", 70)["spec"]).account == "student-6"
    (class_,) = (body for body in scale._objects() if body["kind"] == "VolatileRSEClass")
    assert VolatileRSEClassSpec.model_validate(class_["spec"]).pods.node_selector == {
        "volatilerse.io/scale-bench": "true"
    }
