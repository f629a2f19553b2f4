from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.unit.adapters.slow_server import AUTHORITY, slow_server
from tests.unit.reconcile.small_world import REQUEST, Small, given
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.api.injection import GATE
from volatile_rse.api.volatilerse import SESSION_LABEL
from volatile_rse.domain.stage import Stage
from volatile_rse.ports import deadline
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import UnreachableError
from volatile_rse.reconcile import service as service_module
from volatile_rse.reconcile.service import Service


def closed() -> tuple[Small, Service]:
    small = Small(inputs=0)
    small.request()
    small.step()
    small.delete()
    small.until(small.is_closed)
    return small, Service(small.world(), threads=0)


def test_a_closed_record_is_kept_for_thirty_days() -> None:
    small, service = closed()
    small.clock.turn(timedelta(days=29))
    service.sweep()
    assert small.record
    small.clock.turn(timedelta(days=2))
    service.sweep()
    assert not small.record


def test_the_record_of_a_vrse_that_still_exists_is_kept_however_old() -> None:
    small = Small(inputs=0)
    small.begin()
    small.end_pod()
    small.until(small.is_closed)
    small.clock.turn(timedelta(days=400))
    Service(small.world(), threads=0).sweep()
    small.step()
    assert small.is_closed(), "it would run again"


def test_an_open_record_is_never_too_old() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.clock.turn(timedelta(days=400))
    Service(small.world(), threads=0).sweep()
    assert small.record


def test_the_sweep_says_whether_the_catalogue_answers() -> None:
    small, service = closed()
    service.sweep()
    connection = Ref("RucioConnection", None, "rucio")
    before = small.cluster.get(connection)["status"]  # type: ignore[index]
    assert before["reachable"] is True
    small.clock.turn(timedelta(minutes=5))
    service.sweep()
    assert small.cluster.get(connection)["status"] == before, "nothing has changed"  # type: ignore[index]
    small.catalogue.down = True
    service.sweep()
    status = small.cluster.get(connection)["status"]  # type: ignore[index]
    assert status["reachable"] is False
    assert "does not answer" in status["message"]
    assert status["since"] > before["since"]
    ready, reachable, stalled = status["conditions"]
    for type_, condition in (("Ready", ready), ("Reachable", reachable)):
        assert (condition["type"], condition["status"]) == (type_, "False")
        assert (condition["reason"], condition["lastTransitionTime"]) == ("CatalogueUnreachable", status["since"])
    assert (stalled["type"], stalled["status"], stalled["reason"]) == ("Stalled", "False", "NotStalled")
    assert stalled["lastTransitionTime"] == before["conditions"][2]["lastTransitionTime"], "that has not changed"


def test_a_connection_that_waiting_does_not_cure_is_stalled_since_it_is_so() -> None:
    small, service = closed()
    small.catalogue.down = True
    service.sweep()
    small.clock.turn(timedelta(minutes=5))
    # The server does not answer, and from now on nobody could log in anyway.
    login = Ref("Secret", small.settings.namespace, "login")
    small.cluster.delete(login, small.cluster.get(login)["metadata"]["uid"])  # type: ignore[index]
    service.sweep()
    status = small.cluster.get(Ref("RucioConnection", None, "rucio"))["status"]  # type: ignore[index]
    ready, _, stalled = status["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "CredentialMissing")
    assert (stalled["status"], stalled["reason"], stalled["message"]) == ("True", "CredentialMissing", ready["message"])
    assert ready["lastTransitionTime"] < stalled["lastTransitionTime"], "it has been out of reach for longer"


def test_a_slow_search_holds_up_no_sweep_and_is_no_reason_to_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    over, searching, swept, seen = (threading.Event() for _ in range(4))
    swept_at: list[float] = []

    def blocks(*_: object) -> dict[Any, Any]:
        searching.set()
        over.wait(30)
        return {}

    def counting() -> None:
        sweep()
        if searching.is_set():
            swept_at.append(time.monotonic())
            swept.set()
        if len(swept_at) >= 30:
            seen.set()

    monkeypatch.setattr(small.catalogue, "ledgers", blocks)
    service = Service(small.world(), threads=0, interval=0.02)
    sweep = service.sweep
    monkeypatch.setattr(service, "sweep", counting)
    service.start()
    try:
        assert searching.wait(10)
        assert seen.wait(10), "sweeps go on"
        assert swept_at[-1] - swept_at[0] > 10 * 0.02, "long enough for a sweep that hangs to be told"
        assert service.healthy()
        assert service.stop(), "nobody waits for a search"
    finally:
        over.set()
        service.stop()


def test_a_server_that_takes_long_to_answer_is_no_reason_to_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    small, waited = Small(inputs=0), threading.Event()
    small.request()
    monkeypatch.setattr(small.catalogue, "ping", lambda: waited.wait(1))
    service = Service(small.world(), threads=0, interval=0.05)
    service.sweep()
    assert service.healthy()


def test_a_request_that_comes_in_the_middle_of_a_sweep_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    service = Service(small.world(), threads=0)
    listed = small.cluster.list

    def late(kind: str, *args: Any, **kwargs: Any) -> Any:
        if kind == "VolatileRSE":
            # It is made, and seen, just after the list was read.
            return ()
        if kind == "RSERecord":
            service.saw("VolatileRSE", small.cluster.get(REQUEST) or {})
        return listed(kind, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(small.cluster, "list", late)
        service.sweep()
    assert service._known[small.record_id] == ("alice", "run")
    small.delete()
    service.sweep()
    assert service._known == {}


def vrse(namespace: str, number: int, account: object = "alice") -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": f"run-{number}", "uid": f"{namespace}-{number}"}
    return {"kind": "VolatileRSE", "metadata": metadata, "spec": {"account": account}}


def test_who_has_many_buffers_delays_nobody_else_s() -> None:
    small = Small(inputs=0)
    small.request()
    service = Service(small.world(), threads=0)
    for number in range(500):
        service.saw("VolatileRSE", vrse("greedy", number))
    service.saw("VolatileRSE", vrse("lab", 1))
    service.saw("VolatileRSE", vrse("greedy", 501, account="another"))
    service.saw("VolatileRSE", vrse("odd", 1, account=["none"]))
    first = []
    for _ in range(4):
        key = str(service._queue.take())
        first.append(service._known[key][0])
        service._queue.done(key)
    assert sorted(first) == ["greedy", "greedy", "lab", "odd"]


def test_a_record_whose_vrse_is_gone_is_worked_on_for_its_owner() -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    service = Service(small.world(), threads=0)
    service.saw("RSERecord", small.record)
    assert service._owner_of(small.record_id) == ("alice", "alice")
    assert service._owner_of("unknown") == ("unknown", "")
    small.delete()
    small.until(small.is_closed)
    small.clock.turn(timedelta(days=31))
    service.sweep()
    service.sweep()
    assert service._owner_of(small.record_id) == (small.record_id, ""), "it is forgotten with its record"


def test_a_sweep_counts_every_buffer_for_its_owner() -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    service = Service(small.world(), threads=0)
    service.sweep()
    assert service._owner_of(small.record_id) == ("alice", "alice")


def awaited(seen: Callable[[], object], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < until, "it has not come about"
        time.sleep(0.002)


def test_agents_that_hang_cost_the_others_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of them are known after one visit each; from then on they have threads of their own."""
    small = Small(inputs=0)
    small.request()
    monkeypatch.setattr(service_module, "_VISIT", 0.3)
    monkeypatch.setattr(service_module, "_SLOW", 0.2)
    asked, seen = list[str](), list[str]()

    with slow_server(tmp_path, "says nothing before TLS") as slow:
        pair = AUTHORITY.client("operator", timedelta(days=1))
        agent = AgentClient(("127.0.0.1", slow.port), "localhost", AUTHORITY.bundle(), pair)

        def visit(key: str, _known: object) -> float:
            if key.startswith("hanging"):
                asked.append(key)
                with pytest.raises(UnreachableError):
                    agent.report()
                asked.remove(key)
                return 0
            seen.append(key)
            return 1000

        service = Service(small.world(), threads=4, interval=1000)
        monkeypatch.setattr(service, "sweep", lambda: None)
        monkeypatch.setattr(service, "search", lambda: None)
        monkeypatch.setattr(service._reconciler, "visit", visit)
        keys = [f"hanging-{number}" for number in range(10)]
        for key in keys:
            service._queue.add(key)
        service.start()
        try:
            awaited(lambda: all(service._queue.is_slow(key) for key in keys))
            # They hang for longer than anything here takes, and the service waits for its threads longer still.
            monkeypatch.setattr(service_module, "_VISIT", 60)
            monkeypatch.setattr(service_module, "_PATIENCE", 90)
            service._allowed.clear()
            awaited(lambda: len(asked) == 2)
            for number in range(50):
                service._queue.add(f"other-{number}")
            awaited(lambda: len(seen) == 50)
            assert len(asked) == 2, "they hang still, and have the slow threads alone"
        finally:
            slow.close()
            assert service.stop(), "all threads end"


def test_a_visit_that_was_cut_off_has_more_time_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    service = Service(small.world(), threads=0)
    given: list[float] = []
    late = True

    def visit(*_: object) -> None:
        given.append(deadline.left())
        if late:
            deadline.missed()

    monkeypatch.setattr(service._reconciler, "visit", visit)
    for _ in range(5):
        service._visit(small.record_id)
    late = False
    for _ in range(2):
        service._visit(small.record_id)
    assert given == [pytest.approx(seconds, abs=5) for seconds in (60, 120, 240, 300, 300, 300, 150)]
    monkeypatch.setattr(service_module, "_SLOW", 0)
    for _ in range(2):
        service._visit(small.record_id)
    assert given[-2:] == [pytest.approx(75, abs=5)] * 2, "what sufficed is kept, unless it was quick"
    monkeypatch.setattr(service_module, "_SLOW", 5)
    for _ in range(2):
        service._visit(small.record_id)
    assert given[-1] == pytest.approx(60, abs=5)
    late = True
    monkeypatch.setattr(service._reconciler, "stage", lambda _: Stage.PREPARING)
    for _ in range(6):
        service._visit(small.record_id)
    assert given[-6:] == [pytest.approx(seconds, abs=5) for seconds in (60, 120, 240, 480, 900, 900)]
    monkeypatch.setattr(service._reconciler, "stage", lambda _: Stage.SERVING)
    service._visit(small.record_id)
    assert given[-1] == pytest.approx(300, abs=5)
    service._visit(small.record_id)
    service._forget([small.record_id])
    service._visit(small.record_id)
    assert given[-1] == pytest.approx(60, abs=5)
    assert deadline.left() == float("inf"), "the time ends with the visit"


@pytest.mark.parametrize(("took", "is_slow"), [(0.1, False), (4.9, False), (5.0, True), (59.0, True)])
def test_by_how_long_it_took_a_visit_is_slow(monkeypatch: pytest.MonkeyPatch, took: float, *, is_slow: bool) -> None:
    small, now = Small(inputs=0), 0.0
    small.request()
    service = Service(small.world(), threads=0)

    def visit(*_: object) -> float:
        nonlocal now
        now += took
        return 7

    monkeypatch.setattr(service._reconciler, "visit", visit)
    monkeypatch.setattr("volatile_rse.reconcile.service.time.monotonic", lambda: now)
    service._queue.add(small.record_id)
    assert service._queue.take() == small.record_id
    service._visit(small.record_id)
    assert service._queue.is_slow(small.record_id) is is_slow


def make_slow(service: Service, key: str) -> None:
    service._queue.add(key)
    assert service._queue.take() == key
    service._queue.done(key, slow=True)


@pytest.mark.parametrize("how", ["deleted", "asked to end"])
def test_a_session_that_is_to_end_waits_once_among_the_quick_ones(how: str) -> None:
    small = Small(inputs=0)
    small.request()
    service, key = Service(small.world(), threads=0), small.record_id
    request = small.cluster.get(REQUEST) or {}
    make_slow(service, key)
    service.saw("VolatileRSE", request)
    assert service._queue.take(slow=True) == key, "nothing has happened to it"
    service._queue.done(key, slow=True)
    if how == "deleted":
        request = {**request, "metadata": {**request["metadata"], "deletionTimestamp": "2030-01-01T00:00:00Z"}}
    else:
        request = {**request, "spec": {**request["spec"], "endRequested": True}}
    service._queue.add(key)
    service.saw("VolatileRSE", request)
    assert service._queue.take() == key
    service._queue.done(key, slow=True)
    service.saw("VolatileRSE", request)
    assert service._queue.take(slow=True) == key, "each of its visits writes its status, which is an event, too"
    service._forget([key])
    assert key not in service._ending


def test_pods_that_wait_are_looked_at_after_each_visit() -> None:
    """What the operator writes into a status itself, no watch tells it: without this they would wait for the sweep."""
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    waits = Ref("Pod", "alice", "waits")
    metadata = {"namespace": "alice", "name": waits.name, "labels": {SESSION_LABEL: "run"}}
    spec = {"schedulingGates": [{"name": GATE}], "containers": [{"name": "main"}], **given("run")}
    small.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    service = Service(small.world(), threads=0)
    service._learn(small.cluster.get(REQUEST) or {})
    service._visit(small.record_id)
    assert list(service._gates._due) == [("alice", "run")]
    service._gates.look(("alice", "run"))
    assert not (small.cluster.get(waits) or {})["spec"].get("schedulingGates")


def test_a_session_that_is_fenced_waits_once_among_the_quick_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    small.request()
    service, key = Service(small.world(), threads=0), small.record_id
    stage = Stage.SERVING
    monkeypatch.setattr(service_module, "_SLOW", 0)
    monkeypatch.setattr(service._reconciler, "visit", lambda *_: 0)
    monkeypatch.setattr(service._reconciler, "stage", lambda _: stage)
    lanes = []
    service._queue.add(key)
    for slow in (False, True, False, True):
        assert service._queue.take(slow=slow) == key
        service._visit(key)
        lanes.append(slow)
        stage = Stage.FENCING
    service._forget([key])
    assert key not in service._fencing


def test_the_stage_of_a_buffer_is_known_after_a_visit() -> None:
    small = Small()
    small.request()
    service = Service(small.world(), threads=0)
    assert service._reconciler.stage(small.record_id) is None
    small.cut_rucio(50)
    service.saw("VolatileRSE", small.cluster.get(REQUEST) or {})
    for _ in range(3):
        service._visit(small.record_id)
    assert service._reconciler.stage(small.record_id) is Stage.PREPARING
