"""Inputs that do not come: a session begins with what it can do with, or says what keeps it."""

from __future__ import annotations

import hashlib
import uuid
import zlib

import pytest
import requests

from testbed import grid
from testbed.sessions import Session, wait_for
from tests.e2e.flows import assert_nothing_left
from volatile_rse.api.names import hash_path

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

SCOPE = "user.alice"
SIZE = 400_000


@pytest.fixture(scope="module")
def dataset() -> str:
    """Make a dataset of four files; Rucio says that all are at SITE-A, and the last one is not."""
    client, facts, name = grid.client("root"), grid.grid(), f"in.{uuid.uuid4().hex[:10]}"
    files = []
    for number in range(4):
        file, data = f"{name}.{number}", f"{name}{number}".encode() * 20_000
        files.append(
            {"scope": SCOPE, "name": file, "bytes": len(data[:SIZE]), "adler32": f"{zlib.adler32(data[:SIZE]):08x}"}
        )
        if number < 3:
            url = f"{facts.davs_outside['SITE-A']}/store/{hash_path(SCOPE, file)}"
            token = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
            requests.put(url, data=data[:SIZE], headers=token, verify=facts.bundle, timeout=60).raise_for_status()
    client.add_dataset(SCOPE, name, lifetime=86400)
    client.add_replicas("SITE-A", files)
    client.attach_dids(SCOPE, name, files)
    return name


def end(session: Session) -> None:
    session.delete()
    assert_nothing_left(session.wait_closed())


@pytest.mark.long
def test_most_of_the_files_are_enough_if_the_user_says_so(session: Session, dataset: str) -> None:
    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{dataset}", "minimumPercent": 75}])
    wait_for("Usable", lambda: session.is_true("Usable"))
    (told,) = session.status()["inputs"]
    assert (told["files"], told["staged"]) == (4, 3)
    wait_for("the missing one is named", lambda: f"{dataset}.3" in str(session.status()["conditions"]), 60)
    end(session)


@pytest.mark.long
def test_what_has_not_come_within_its_deadline_is_told(session: Session, dataset: str) -> None:
    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{dataset}", "deadline": "12s"}])
    said = "within their deadline: in (12s)"
    wait_for("it is told", lambda: said in str(session.status().get("conditions")), 90)
    assert "StagingStalled" in str(session.status()["conditions"])
    assert not session.is_true("Usable")
    end(session)


def test_what_does_not_come_is_told_and_so_is_what_cannot_fit(session: Session, dataset: str) -> None:
    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{dataset}"}])
    wait_for("it is told", lambda: session.condition("InputsStaged").get("reason") == "StagingFailed", 90)
    message = session.condition("InputsStaged")["message"]
    assert message.startswith("1 of 4 files cannot be staged: ")
    assert f"{dataset}.3: " in message
    assert not session.is_true("Usable")
    end(session)
    wait_for("it is gone", lambda: session.body() is None, 60)

    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{dataset}"}], capacity="1Mi")
    wait_for("it is told", lambda: "InputsTooLarge" in str(session.status().get("conditions")), 60)
    record = session.record()
    assert record["status"].get("volume") is None, "a byte moved"
    end(session)


def test_one_file_without_a_checksum_is_missed_and_one_with_md5_alone_is_not(session: Session) -> None:
    """Three ways in which a file is registered: with adler32, with md5, with neither; and one md5 that is wrong."""
    client, facts, name = grid.client("root"), grid.grid(), f"odd.{uuid.uuid4().hex[:10]}"
    contents = {kind: f"{name}{kind}".encode() * 10_000 for kind in ("adler32", "md5", "none", "wrong")}
    sums = {
        "adler32": {"adler32": f"{zlib.adler32(contents['adler32']):08x}"},
        "md5": {"md5": hashlib.md5(contents["md5"], usedforsecurity=False).hexdigest()},
        "none": {},
        "wrong": {"md5": "0" * 32},
    }
    files = []
    for kind, data in contents.items():
        file = f"{name}.{kind}"
        files.append({"scope": SCOPE, "name": file, "bytes": len(data), **sums[kind]})
        url = f"{facts.davs_outside['SITE-A']}/store/{hash_path(SCOPE, file)}"
        token = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
        requests.put(url, data=data, headers=token, verify=facts.bundle, timeout=60).raise_for_status()
    client.add_dataset(SCOPE, name, lifetime=86400)
    client.add_replicas("SITE-A", files)
    client.attach_dids(SCOPE, name, files)

    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{name}", "minimumPercent": 100}])
    wait_for("it is refused", lambda: session.condition("Stalled").get("reason") == "InputUnusable", 90)
    said = session.condition("Stalled")["message"]
    assert f"{SCOPE}:{name}.none has neither an adler32 nor an md5 checksum" in said
    session.delete()
    wait_for("it is gone", lambda: session.body() is None, 60)

    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{name}", "minimumPercent": 50}])
    wait_for("Usable", lambda: session.is_true("Usable"))
    (told,) = session.status()["inputs"]
    assert (told["files"], told["staged"]) == (4, 2)
    wait_for("the wrong one is named", lambda: f"{name}.wrong" in session.condition("InputsStaged")["message"], 90)
    said = session.condition("InputsStaged")["message"]
    assert f"has md5 {hashlib.md5(contents['wrong'], usedforsecurity=False).hexdigest()}, not {'0' * 32}" in said
    assert f"{name}.none has neither an adler32 nor an md5 checksum" in said
    record = session.record()
    assert record["status"]["inputs"][0]["unusable"] == 1
    rse = record["spec"]["rseName"]
    wait_for("both are registered", lambda: _names_at(rse, name) == {f"{name}.adler32", f"{name}.md5"}, 60)
    end(session)


def _names_at(rse: str, dataset: str) -> set[str]:
    found = grid.client("root").list_replicas([{"scope": SCOPE, "name": dataset}], all_states=True)
    return {entry["name"] for entry in found if rse in entry["states"]}
