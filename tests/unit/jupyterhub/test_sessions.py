from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.jupyterhub.fake_api import ApiError, FakeApi
from volatile_rse.jupyterhub import RefusedError, Settings, cluster, sessions
from volatile_rse.jupyterhub.choices import Choice, Wanted
from volatile_rse.jupyterhub.cluster import Cluster, UnavailableError
from volatile_rse.jupyterhub.sessions import Begun, Told, begin, end
from volatile_rse.jupyterhub.volatilerses import Server

SERVER = Server("hub", "jupyter-alice", "alice", "")
CHOICE = Choice((Wanted("a", "user.alice:a"),), "1Gi", "", "x")
USABLE = [{"type": "Usable", "status": "True"}]


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_PERIOD", 0.001)
    monkeypatch.setattr(cluster, "_PATIENCE", 0.05)


def begun(api: FakeApi, told: Told, wait: float = 0.05) -> Begun | None:
    return asyncio.run(begin(Cluster(api), SERVER, CHOICE, Settings(), told, wait=wait))


def becomes(api: FakeApi, *conditions: list[dict[str, Any]], **status: Any) -> None:
    coming = list(conditions)

    def on_read(body: dict[str, Any]) -> None:
        body["status"] = {"conditions": coming.pop(0) if len(coming) > 1 else coming[0], **status}

    api.on_read = on_read


def test_a_server_waits_for_its_data_and_no_longer() -> None:
    api, told = FakeApi(), Told()
    becomes(api, [], [{"type": "StorageReady", "status": "False"}], USABLE, rse="VRSE-X")
    found = begun(api, told, wait=60)
    assert found is not None
    assert found.status["rse"] == "VRSE-X"
    assert [line for _, line in told.lines][1:] == [
        "Waiting for the operator of volatile RSEs.",
        "The storage is being started.",
        "The data are there, on VRSE-X.",
    ]
    assert [percent for percent, _ in told.lines] == sorted(percent for percent, _ in told.lines)


def test_data_that_are_late_come_later() -> None:
    api, told = FakeApi(), Told()
    becomes(api, [{"type": "StorageReady", "status": "False"}])
    assert begun(api, told) is not None
    assert "staging goes on" in told.lines[-1][1]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ApiError(403, "volatilerses is forbidden"), "ADMIN must act: install the operator"),
        (ApiError(404, "the server could not find the requested resource"), "ADMIN must act: install the operator"),
        (ApiError(400, 'strict decoding error: unknown field "spec.onBehalfOf"'), "none older than what the hub has"),
        (ApiError(500, "etcd is away"), "etcd is away"),
        (OSError("refused"), "The API server does not answer (refused). ADMIN must act"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_no_outage_of_ours_fails_a_spawn(failure: Exception, said: str) -> None:
    api, told = FakeApi(), Told()
    api.failure = failure
    assert begun(api, told) is None
    assert said in told.lines[-1][1]
    assert told.lines[-1][1].startswith("The server starts without data.")


def test_an_api_server_that_hangs_fails_no_spawn_either() -> None:
    api, told = FakeApi(), Told()
    api.hanging = True
    assert begun(api, told) is None
    assert "has not answered" in told.lines[-1][1]


def test_an_outage_while_it_waits_is_told_and_waited_out() -> None:
    api, told = FakeApi(), Told()

    def on_read(_: dict[str, Any]) -> None:
        api.on_read = lambda body: body.update(status={"conditions": USABLE})
        raise ApiError(503, "later")

    api.on_read = on_read
    assert begun(api, told, wait=60) is not None
    assert [line for _, line in told.lines if "later" in line]
    assert "The data are there" in told.lines[-1][1]


def test_what_the_api_server_refuses_is_the_users_to_mend() -> None:
    api = FakeApi()
    api.failure = ApiError(422, "spec.capacity is no number of bytes")
    with pytest.raises(RefusedError, match=r"spec\.capacity is no number of bytes"):
        asyncio.run(Cluster(api).create({"metadata": {"namespace": "hub"}}))


def test_an_older_session_that_cannot_be_ended_refuses_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    api, told = FakeApi(), Told()
    assert begun(api, told) is not None

    async def refuses(**_: Any) -> None:
        raise ApiError(422, "spec.inputs is not what this version of the kind takes")

    monkeypatch.setattr(api, "patch_namespaced_custom_object", refuses)
    assert begun(api, told) is None
    assert "The server starts without data." in told.lines[-1][1]


def test_a_receipt_that_the_hub_may_no_longer_change_is_in_no_new_ones_way(monkeypatch: pytest.MonkeyPatch) -> None:
    api, told = FakeApi(), Told()
    assert begun(api, told) is not None
    (first,) = api.bodies.values()
    first["status"] = {"conditions": [{"type": "Usable", "status": "False", "reason": "SessionEnded"}]}

    async def refuses(**_: Any) -> None:
        raise ApiError(403, "hub may not use hubusers")

    monkeypatch.setattr(api, "patch_namespaced_custom_object", refuses)
    assert begun(api, told) is not None


def test_inputs_that_a_user_can_mend_are_refused_and_others_fail_nothing() -> None:
    api, told = FakeApi(), Told()
    becomes(api, [{"type": "Stalled", "status": "True", "message": "No such DID. USER must act: Correct it."}])
    with pytest.raises(RefusedError, match=r"USER must act: Correct it\. Or start without data"):
        begun(api, told)
    becomes(api, [{"type": "Stalled", "status": "True", "message": "No connection. ADMIN must act: Create it."}])
    assert begun(api, told) is not None
    assert told.lines[-1][1] == "No connection. ADMIN must act: Create it. The server starts without data."


def test_a_slow_making_is_part_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    api, told = FakeApi(), Told()
    make = api.create_namespaced_custom_object

    async def slowly(**arguments: Any) -> dict[str, Any]:
        await asyncio.sleep(0.03)
        return await make(**arguments)

    # It is slow to the wait, and not to the hub: on a busy machine, too.
    monkeypatch.setattr(cluster, "_PATIENCE", 5)
    monkeypatch.setattr(api, "create_namespaced_custom_object", slowly)
    becomes(api, USABLE)
    assert begun(api, told, wait=0.02) is not None
    assert "staging goes on" in told.lines[-1][1], "no time is left to look"


def test_one_that_somebody_deleted_is_waited_for_no_more() -> None:
    api, told = FakeApi(), Told()
    api.on_read = lambda _: api.bodies.clear()
    assert begun(api, told, wait=60) is not None
    assert "was deleted by somebody" in told.lines[-1][1]


@pytest.mark.parametrize("status", [None, 3, [], {"conditions": 3}, {"conditions": [3, {"type": []}], "inputs": {}}])
def test_a_status_of_any_form_is_waited_out(status: Any) -> None:
    api, told = FakeApi(), Told()
    api.on_read = lambda body: body.update(status=status)
    assert begun(api, told) is not None


def test_ends_as_often_as_it_is_said_and_only_those_of_the_server() -> None:
    api = FakeApi()
    asyncio.run(begin(Cluster(api), Server("hub", "p", "bob", ""), CHOICE, Settings(), Told(), wait=0))
    begun(api, Told())
    begun(api, Told())
    bobs, first, second = api.bodies
    assert api.patches == [first], "one that was forgotten does not live on beside the new one"
    assert asyncio.run(end(Cluster(api), SERVER)) == [second]
    assert asyncio.run(end(Cluster(api), SERVER)) == []
    assert not api.bodies[bobs]["spec"].get("endRequested")


def test_an_end_that_cannot_be_said_is_told() -> None:
    api = FakeApi()
    api.failure = OSError("away")
    with pytest.raises(UnavailableError):
        asyncio.run(end(Cluster(api), SERVER))


def test_where_the_kind_is_not_known_there_is_nothing_to_end() -> None:
    api = FakeApi()
    api.failure = ApiError(404, "the server could not find the requested resource")
    assert asyncio.run(end(Cluster(api), SERVER)) == []
