from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.ports.cluster import Ref
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
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
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
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"]) == ("Reachable", "False")
    assert (condition["reason"], condition["lastTransitionTime"]) == ("CatalogueUnreachable", status["since"])


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
