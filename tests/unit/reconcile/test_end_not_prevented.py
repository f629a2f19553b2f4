"""Nothing that anybody typed, or answers, keeps a buffer from its end; it stops no other buffer, and no sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import IN_USE, record_name
from volatile_rse.domain import planning
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.domain.identity import identify
from volatile_rse.domain.stage import Stage
from volatile_rse.domain.status import status_of
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.reconcile import reconciler
from volatile_rse.reconcile.reconciler import Reconciler
from volatile_rse.reconcile.service import Service

Change = Callable[[dict[str, Any]], None]
CLASS, CONNECTION = Ref("VolatileRSEClass", None, "standard"), Ref("RucioConnection", None, "rucio")
FAR, FARTHER, TEXT = "9999999d", "99999999999d", "soon"


def session(**times: object) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["claims"][0]["request"]["session"].update(times)


def asked(part: str, **values: object) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["claims"][0]["request"].setdefault(part, {}).update(values)


def asked_for(**values: object) -> Change:
    return lambda spec: spec["claims"][0]["request"].update(values)


def destination(lifetime: object) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["claims"][0]["request"]["outputs"][0]["destination"].update(lifetime=lifetime)


def input_deadline(value: object) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["claims"][0]["request"]["inputs"][0].update(deadline=value)


def of_class(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["classSnapshot"].update(values)


def capacity(value: object) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        spec["capacity"] = spec["claims"][0]["request"]["capacity"] = value

    return change


TIMES: dict[str, Callable[[object], Change]] = {
    "ttl": lambda value: session(ttl=value),
    "endWarning": lambda value: session(endWarning=value),
    "startTimeout": lambda value: session(startTimeout=value),
    "endGrace": lambda value: session(endGrace=value),
    "teardown.deadline": lambda value: asked("teardown", deadline=value),
    "destination.lifetime": destination,
    "inputs.deadline": input_deadline,
    "recordRetention": lambda value: of_class(recordRetention=value),
    "maxTtl": lambda value: of_class(maxTtl=value),
    "quarantine.maxAge": lambda value: of_class(quarantine={"maxAge": value}),
}
SIZES: dict[str, Callable[[object], Change]] = {
    "capacity": capacity,
    "maxCapacity": lambda value: of_class(maxCapacity=value),
    "quarantine.maxBytes": lambda value: of_class(quarantine={"maxBytes": value}),
    "limits": lambda value: of_class(
        limits={"perNamespace": {"bytes": value, "quarantinedBytes": value, "buffers": 10**30}},
        maxRegisteredReplicas=10**30,
    ),
}


def all_of(fields: dict[str, Callable[[object], Change]], value: object) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        for make in fields.values():
            make(value)(spec)

    return change


STORED: dict[str, Change] = {
    **{f"{name}={FAR}": make(FAR) for name, make in TIMES.items()},
    f"ttl={FARTHER}": session(ttl=FARTHER),
    **{f"extendUntil={value!r}": session(extendUntil=value) for value in (TEXT, "9999-12-31T23:59:59Z", 7, None)},
    **{f"times={value!r:.12}": all_of(TIMES, value) for value in (FARTHER, TEXT, "9" * 5000 + "d", 7, None)},
    **{f"{name}=9999999999999999Pi": make("9999999999999999Pi") for name, make in SIZES.items()},
    **{f"sizes={value!r:.12}": all_of(SIZES, value) for value in ("9" * 20, TEXT, "9" * 5000, 7)},
}


def record_of(small: Small) -> Ref:
    return Ref("RSERecord", None, record_name(small.record_id))


def store(small: Small, change: Callable[[dict[str, Any]], None]) -> None:
    """Have in the record what an earlier version took."""
    spec = small.record["spec"]
    change(spec)
    small.cluster.merge(record_of(small), {"spec": spec})


def running(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")


def ends_by_deletion(small: Small) -> None:
    small.delete()


def ends_by_request(small: Small) -> None:
    small.patch(REQUEST, endRequested=True)


def goes_wholly(small: Small, service: Service) -> None:
    """The buffer reaches its end, and lets everything go that it holds; what the session wrote is kept."""
    small.until(small.is_closed, 150)
    assert small.is_kept(*small.written)
    small.delete()
    small.until(lambda: small.is_gone)
    assert small.leftovers() == []
    for ref in (CLASS, CONNECTION):
        small.cluster.delete(ref, small.cluster.get(ref)["metadata"]["uid"])  # type: ignore[index]
    service.sweep()
    assert small.cluster.get(CLASS) is None, "the class is held"
    assert small.cluster.get(CONNECTION) is None, "the connection is held"


def begin_another(small: Small) -> tuple[Reconciler, str]:
    """Ask for another buffer of the same class."""
    body = small.cluster.get(REQUEST) or {}
    metadata = {"namespace": "alice", "name": "second"}
    spec = {**body["spec"], "capacity": "1Gi", "endRequested": False}
    small.cluster.create({**{key: body[key] for key in ("apiVersion", "kind")}, "metadata": metadata, "spec": spec})
    uid = (small.cluster.get(Ref("VolatileRSE", "alice", "second")) or {})["metadata"]["uid"]
    return Reconciler(small.world()), identify(small.settings.instance, uid).record_id


def another_gets_on(small: Small) -> None:
    """A healthy buffer of the same class is taken up beside it."""
    visitor, record_id = begin_another(small)
    for _ in range(3):
        visitor.visit(record_id, ("alice", "second"))
        small.others()
    status = small.cluster.get(Ref("RSERecord", None, record_name(record_id)))["status"]  # type: ignore[index]
    assert status["phase"] in {"Preparing", "Serving"}
    ref = Ref("VolatileRSE", "alice", "second")
    small.cluster.delete(ref, (small.cluster.get(ref) or {})["metadata"]["uid"])
    for _ in range(60):
        visitor.visit(record_id, ("alice", "second"))
        small.others()
    assert small.cluster.get(ref) is None


@pytest.mark.parametrize("end", [ends_by_deletion, ends_by_request])
@pytest.mark.parametrize("stored", STORED)
def test_what_is_stored_already_is_brought_to_its_end(stored: str, end: Callable[[Small], None]) -> None:
    small = Small(inputs=1)
    running(small)
    store(small, STORED[stored])
    service = Service(small.world(), threads=0)
    service._advanced = float("-inf")
    service.sweep()
    assert service.healthy()
    assert service._queue.due() == 1
    end(small)
    small.step()
    assert small.truth["session"]["endedAt"], "its end is written at the first look"
    goes_wholly(small, service)


@pytest.mark.parametrize("stored", [f"ttl={FAR}", "capacity=9999999999999999Pi", f"times={TEXT!r}"])
def test_another_buffer_goes_on_beside_it(stored: str) -> None:
    small = Small(inputs=1)
    running(small)
    store(small, STORED[stored])
    another_gets_on(small)
    assert small.truth["session"].get("startedAt")


@pytest.mark.parametrize("retention", [FAR, FARTHER, TEXT])
def test_the_sweep_goes_on_past_a_record_of_endless_retention(retention: str) -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    small.delete()
    small.until(small.is_closed)
    body = small.record
    other = {**body["spec"], "recordId": "aaaaaaaaaa"}
    other["classSnapshot"] = {**other["classSnapshot"], "recordRetention": retention}
    small.cluster.create({**body, "metadata": {"name": "vrse-aaaaaaaaaa"}, "spec": other})
    closed = Ref("RSERecord", None, "vrse-aaaaaaaaaa")
    small.cluster.set_status(closed, body["status"])
    small.clock.turn(timedelta(days=31))
    service = Service(small.world(), threads=0)
    service._advanced = float("-inf")
    service.sweep()
    assert service.healthy()
    assert not small.record, "the expired one goes"
    assert (small.cluster.get(closed) is None) is (retention == TEXT), "one that is no time counts as the default"


@pytest.mark.parametrize(
    "bad",
    [
        {"spec": None},
        {"spec": []},
        {"spec": "text"},
        {"spec": {"recordId": 7, "claims": "text"}, "status": "text"},
        {"spec": {"claims": [7], "capacity": {}}, "status": {"session": 5, "quarantinedAt": 5, "bytesAtRisk": "x"}},
    ],
)
def test_one_record_that_is_none_stops_no_sweep_and_no_new_buffer(bad: dict[str, Any]) -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    small.cluster.create(
        {"apiVersion": "volatilerse.io/v1alpha1", "kind": "RSERecord", "metadata": {"name": "vrse-bad"}, **bad}
    )
    service = Service(small.world(), threads=0)
    service._advanced = float("-inf")
    service.sweep()
    assert service.healthy()
    assert service._queue.due() == 2, "the one that is bad is visited, too: that tells why"
    service.search()
    another_gets_on(small)


@pytest.mark.parametrize(
    "spec", [{"session": {"ttl": FARTHER}}, {"capacity": "9999999999999999Pi"}, {"colour": "blue"}]
)
def test_a_request_that_cannot_be_is_told_and_let_go(spec: dict[str, Any]) -> None:
    small = Small(inputs=0)
    small.request()
    small.cluster.merge(REQUEST, {"spec": spec})
    small.step()
    assert small.condition("Stalled")["reason"] == "InvalidSpec"
    assert not small.record
    small.delete()
    small.step()
    assert small.is_gone


@pytest.mark.parametrize("end", [ends_by_deletion, ends_by_request])
@pytest.mark.parametrize("spec", [{"session": {"ttl": FARTHER}}, {"outputs": "none"}, {"account": 7, "teardown": []}])
def test_a_request_that_cannot_be_read_any_more_ends(spec: dict[str, Any], end: Callable[[Small], None]) -> None:
    small = Small(inputs=0)
    running(small)
    small.cluster.merge(REQUEST, {"spec": spec})
    end(small)
    goes_wholly(small, Service(small.world(), threads=0))


@pytest.mark.parametrize("end", [ends_by_deletion, ends_by_request])
@pytest.mark.parametrize(
    "change",
    {
        "class": lambda spec: spec.update(classSnapshot=7),
        "outputs": asked_for(outputs="none"),
        "unknown": asked_for(colour="blue"),
        "session": asked_for(session=None),
    }.items(),
    ids=lambda entry: entry[0],
)
def test_of_a_record_that_is_no_record_any_more_the_session_ends(
    change: tuple[str, Change], end: Callable[[Small], None]
) -> None:
    small = Small(inputs=0)
    running(small)
    before = small.record["spec"]
    store(small, change[1])
    end(small)
    for _ in range(6):
        small.step()
    assert small.truth["session"]["endedAt"]
    assert small.buffer.gate.mode == "fenced"
    assert not small.has_session()
    stalled = small.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RecordUnreadable")
    assert not small.is_gone
    small.clock.turn(timedelta(hours=2))
    small.delete()
    small.until(lambda: small.is_gone)
    assert small.truth["quarantinedAt"]
    assert len(small.leftovers()) >= 4, "nothing is destroyed"
    small.cluster.merge(record_of(small), {"spec": {**dict.fromkeys(small.record["spec"]), **before}})
    goes_wholly(small, Service(small.world(), threads=0))


def test_a_discard_counts_where_the_rest_of_the_request_cannot_be_read() -> None:
    small = Small(inputs=0)
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.fail_copies(10_000)
    small.end_pod()
    small.until(lambda: small.truth.get("quarantinedAt"))
    small.cluster.merge(REQUEST, {"spec": {"session": {"ttl": FARTHER}}})
    small.given_up = small.written
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.until(lambda: small.truth.get("discarded"), 120)
    small.until(small.is_closed)


# What others answer.

FILES = {
    "bytes=-7": {"bytes": -7},
    "bytes=None": {"bytes": None},
    "bytes=True": {"bytes": True},
    "bytes='7'": {"bytes": "7"},
    "bytes=10**30": {"bytes": 10**30},
    "adler32=None": {"adler32": None},
    "adler32=text": {"adler32": "../../etc"},
    "name=None": {"did": Did("user.alice", None)},  # type: ignore[arg-type]
    "name=empty": {"did": Did("user.alice", "")},
}


@pytest.mark.parametrize("odd", FILES)
def test_a_file_that_cannot_be_is_named_and_its_buffer_ends(odd: str) -> None:
    small = Small(inputs=1)
    resolve = small.catalogue.resolve

    def resolved(did: Did) -> tuple[File, ...]:
        first, *others = resolve(did)
        return (replace(first, **FILES[odd]), *others)  # type: ignore[arg-type]

    small.catalogue.resolve = resolved  # type: ignore[method-assign]
    small.request()
    small.until(lambda: small.condition("Stalled").get("status") == "True")
    stalled = small.condition("Stalled")
    assert stalled["reason"] == ("InputUnplaceable" if odd == "name=empty" else "InputUnusable")
    assert odd == "name=empty" or "Rucio at https://rucio.example.org " in stalled["message"]
    assert small.condition("InputsStaged")["reason"] == stalled["reason"]
    small.delete()
    goes_wholly(small, Service(small.world(), threads=0))


class Foul:
    """A port of which one call fails as none should."""

    def __init__(self, port: object, method: str) -> None:
        self._port = port
        self._method = method

    def __getattr__(self, method: str) -> Any:
        if method != self._method:
            return getattr(self._port, method)

        def fails(*_: object, **__: object) -> None:
            message = "no answer that anybody has foreseen, with a secret"
            raise TypeError(message)

        return fails


PORTS = ("catalogue", "buffer")
_METHODS = {
    "catalogue": (
        "rse", "ledger_exists", "registered", "replicas", "foreign_rules", "standing", "unsafe", "locked_by",
        "dataset", "content", "pfns", "sources",
    ),
    "buffer": ("report", "inputs", "outputs", "copies"),
}  # fmt: skip
CALLS = [(port, method) for port in PORTS for method in _METHODS[port]]


@pytest.mark.parametrize(("port", "method"), CALLS)
def test_a_call_that_fails_as_no_port_should_keeps_no_session_from_its_end(port: str, method: str) -> None:
    small = Small(inputs=1)
    running(small)
    small.foul = True
    give = "_connect" if port == "catalogue" else "_agent_at"
    real = getattr(small, give)
    setattr(small, give, lambda *args: Foul(real(*args), method))
    small.forget()
    for _ in range(3):
        small.step()
    assert "secret" not in str(small.truth) + str(small.cluster.get(REQUEST))
    small.delete()
    small.step()
    assert small.truth["session"]["endedAt"]
    assert not small.has_session()
    for _ in range(5):
        small.step()
    assert (small.buffer.gate.mode == "fenced") is (method != "report"), "the fence needs the agent, and nobody else"
    small.clock.turn(timedelta(hours=2))
    small.may_go = True
    small.until(lambda: small.is_gone)
    if not small.truth.get("safeAt"):
        assert small.truth["quarantinedAt"]
    setattr(small, give, real)
    small.forget()
    goes_wholly(small, Service(small.world(), threads=0))


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Service", "ConfigMap", "Pod"])
def test_an_object_that_cannot_be_read_keeps_no_session_from_its_fence(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small(inputs=0)
    running(small)
    small.foul = True
    listed = small.cluster.list

    def odd(asked: str, *args: Any, **kwargs: Any) -> Any:
        return (
            ({"kind": kind, "metadata": {}},)
            if (asked, *args[:1]) == (kind, "bufs")
            else listed(asked, *args, **kwargs)
        )

    with monkeypatch.context() as patched:
        patched.setattr(small.cluster, "list", odd)
        small.delete()
        for _ in range(5):
            small.step()
        assert small.truth["session"]["endedAt"]
        assert small.buffer.gate.mode == "fenced"
        assert small.condition("Ready")["reason"] == "AnswerUnusable"
        assert "KeyError" in small.condition("Ready")["message"]
        assert not small.is_gone
        small.clock.turn(timedelta(hours=2))
        small.until(lambda: small.is_gone)
        assert small.truth["quarantinedAt"]
    goes_wholly(small, Service(small.world(), threads=0))


def test_a_list_that_never_answers_keeps_no_session_from_its_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    running(small)
    listed = small.cluster.list

    def silent(asked: str, *args: Any, **kwargs: Any) -> Any:
        if (asked, *args[:1]) == ("PersistentVolumeClaim", "bufs"):
            raise UnreachableError(Reason.CLUSTER_UNREACHABLE, "The API server did not answer LIST.")
        return listed(asked, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(small.cluster, "list", silent)
        small.delete()
        for _ in range(4):
            small.step()
        assert small.truth["session"]["endedAt"]
        assert small.buffer.gate.mode == "fenced"
        assert not small.has_session()
        assert not small.is_gone
        small.clock.turn(timedelta(hours=2))
        small.until(lambda: small.is_gone)
        assert small.truth["quarantinedAt"]
    goes_wholly(small, Service(small.world(), threads=0))


@pytest.mark.parametrize("effect", ["MakePiece", "SendManifest", "EnsureRse", "Suspend"])
def test_a_deed_that_fails_as_no_port_should_keeps_no_other_back(effect: str) -> None:
    small = Small(inputs=0)
    running(small)
    small.foul = True
    apply = small.apply

    def fails(world: Any, connections: Any, facts: Any, planned: Any) -> None:
        if type(planned).__name__ == effect:
            raise KeyError(effect)
        apply(world, connections, facts, planned)

    small.apply = fails
    small.drop()
    small.delete()
    for _ in range(6):
        small.step()
    assert small.buffer.gate.mode == "fenced"
    small.apply = apply
    goes_wholly(small, Service(small.world(), threads=0))


def test_a_deed_that_is_refused_for_good_holds_nobody_beyond_the_deadline() -> None:
    small = Small(inputs=0)
    running(small)
    apply = small.apply

    def refused(world: Any, connections: Any, facts: Any, planned: Any) -> None:
        if type(planned).__name__ in {"Register", "MakePiece"}:
            raise RefusedError(Reason.CLUSTER_REFUSED, "403")
        apply(world, connections, facts, planned)

    small.apply = refused
    small.delete()
    for _ in range(5):
        small.step()
    assert not small.is_gone
    small.clock.turn(timedelta(hours=2))
    small.until(lambda: small.is_gone)
    assert small.truth["quarantinedAt"]
    assert small.truth.get("safeAt") is None
    small.apply = apply
    goes_wholly(small, Service(small.world(), threads=0))


@pytest.mark.parametrize("part", ["serving", "fencing", "keeping", "keep_in_quarantine", "status_of"])
def test_a_fault_in_what_is_decided_or_told_leaves_the_end(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    running(small)
    small.foul = True

    def fails(*_: object) -> None:
        message = "a secret"
        raise ZeroDivisionError(message)

    with monkeypatch.context() as patched:
        if part in {"serving", "fencing", "keeping"}:
            patched.setitem(planning._STAGES, Stage[part.upper()], fails)
        elif part == "status_of":
            patched.setattr(
                reconciler, part, lambda facts, *rest: fails() if facts.unseen is None else status_of(facts, *rest)
            )
        else:
            patched.setattr(planning, part, fails)
        small.step()
        small.delete()
        for _ in range(6):
            small.step()
        assert small.truth["session"]["endedAt"]
        assert small.buffer.gate.mode == "fenced"
        assert "secret" not in str(small.truth) + str(small.cluster.get(REQUEST))
        small.clock.turn(timedelta(hours=2))
        small.until(lambda: small.is_gone)
    goes_wholly(small, Service(small.world(), threads=0))


def test_a_status_that_is_refused_keeps_no_effect_back(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small(inputs=0)
    running(small)
    merge = small.cluster.merge

    def refusing(ref: Ref, *args: Any, **kwargs: Any) -> Any:
        if ref == REQUEST and kwargs.get("subresource") == "status":
            raise RefusedError(Reason.CLUSTER_REFUSED, "The API server refused PATCH VolatileRSE: 422")
        return merge(ref, *args, **kwargs)

    monkeypatch.setattr(small.cluster, "merge", refusing)
    small.delete()
    goes_wholly(small, Service(small.world(), threads=0))


def test_a_secret_that_somebodys_finalizer_holds_does_not_hold_the_request() -> None:
    small = Small(inputs=0)
    running(small)
    secret = Ref("Secret", "alice", "run-vrse")
    small.cluster.merge(secret, {"metadata": {"finalizers": ["example.org/mine"]}})
    small.delete()
    small.until(lambda: small.is_gone, 120)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize("kind", ["VolatileRSEClass", "RucioConnection"])
def test_one_class_or_connection_that_is_odd_keeps_no_other_held(kind: str) -> None:
    small = Small(inputs=0)
    small.request()
    small.step()
    small.delete()
    small.until(small.is_closed)
    ref = CLASS if kind == "VolatileRSEClass" else CONNECTION
    body = small.cluster.get(ref) or {}
    small.cluster.create({**body, "metadata": {"name": "aaa", "finalizers": [IN_USE]}, "spec": None})
    for name in ("aaa", ref.name):
        one = Ref(kind, None, name)
        small.cluster.delete(one, (small.cluster.get(one) or {})["metadata"]["uid"])
    Service(small.world(), threads=0).sweep()
    assert small.cluster.get(ref) is None
    assert small.cluster.get(Ref(kind, None, "aaa")) is None
