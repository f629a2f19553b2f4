"""What other admins of Rucio do to our RSE: without harm to the outputs, and told where it keeps the RSE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from testbed import asking, grid, installation
from testbed.sessions import Session, wait_for
from tests.e2e.flows import finish, let_go, new_session, running

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _operator() -> None:
    installation.up()


@pytest.fixture
def session(namespace: str) -> Iterator[Session]:
    yield from new_session(namespace)


def _on(rse: str) -> list[dict[str, Any]]:
    nano = [{"scope": "user.alice", "name": "nano_dimuon"}]
    entries = list(grid.client("root").list_replicas(nano, all_states=True))
    return [{"scope": entry["scope"], "name": entry["name"]} for entry in entries if rse in entry["states"]]


def test_what_an_admin_declares_of_inputs_keeps_nothing_back(session: Session) -> None:
    dataset = running(session)
    rse, root = session.record()["spec"]["rseName"], grid.client("root")
    one, *others = _on(rse)
    root.declare_bad_file_replicas([{**one, "rse": rse}], "a test")
    root.set_tombstone([{**file, "rse": rse} for file in others])
    let_go(session)
    record = finish(session, dataset)
    assert asking.on_rse(rse, ["user.alice:nano_dimuon"]) == []
    assert record["status"]["safeAt"]


def test_a_replica_that_another_admin_registered_is_not_ours_to_delete(session: Session) -> None:
    dataset = running(session)
    rse, root = session.record()["spec"]["rseName"], grid.client("root")
    stray = {"scope": "user.bob", "name": f"{dataset}.stray"}
    root.add_replicas(rse, [{**stray, "bytes": 7, "adler32": "00010001"}])
    let_go(session)
    wait_for("the drain says why", lambda: "still counts 7 bytes" in _message(session), 180)
    assert [entry["states"] for entry in root.list_replicas([stray], all_states=True)] == [{rse: "AVAILABLE"}]
    root.set_tombstone([{**stray, "rse": rse}])
    finish(session, dataset)


def _message(session: Session) -> str:
    return str((session.record().get("status") or {}).get("message", ""))
