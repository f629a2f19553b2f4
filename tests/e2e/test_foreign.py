"""What other admins of Rucio do to our RSE: without harm to the outputs, and told where it keeps the RSE."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from rucio.common.exception import AccessDenied, InsufficientAccountLimit, RSEWriteBlocked

from testbed import asking, grid
from testbed.layout import CLIENT
from testbed.sessions import Session, wait_for
from tests.e2e.flows import finish, let_go, running

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


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


def test_what_people_without_rights_try_is_refused_or_harmless(session: Session) -> None:
    """A rule, an upload and a download, as people do it: with stock clients; alice even owns the buffer."""
    dataset = running(session)
    rse, bob = session.record()["spec"]["rseName"], grid.client(grid.BOB)
    (one, *_) = _on(rse)
    for options in ({}, {"ignore_availability": True}):
        with pytest.raises((RSEWriteBlocked, InsufficientAccountLimit)):
            bob.add_replication_rule([one], 1, rse, **options)
    with pytest.raises(AccessDenied):
        bob.update_replicas_states(rse, [{**one, "state": "B"}])
    with pytest.raises(AccessDenied):
        bob.update_rse(rse, {"availability_write": True})
    with pytest.raises(AccessDenied):
        bob.delete_rse(rse)
    name = f"{dataset}.upload"
    in_client(f"echo none of this buffer > /tmp/{name}")
    uploaded = in_client(f"rucio upload --rse {rse} --scope user.alice /tmp/{name}")
    assert "not available for writing" in uploaded or "Rse not available" in uploaded, uploaded
    in_client(f"rucio download --dir /tmp/{name}.down --rse {rse} {one['scope']}:{one['name']}")
    assert _on(rse), "a download took a replica away"
    let_go(session)
    finish(session, dataset)


def in_client(command: str) -> str:
    """Run stock clients as alice; give all that they say."""
    done = subprocess.run(
        ["docker", "exec", CLIENT, "bash", "-c", command], capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


def _message(session: Session) -> str:
    return str((session.record().get("status") or {}).get("message", ""))
