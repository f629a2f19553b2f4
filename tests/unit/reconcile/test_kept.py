"""Outputs that are not safe are opened to their owner, when they are asked for."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.agent import DAVS_PORT
from volatile_rse.builders import session
from volatile_rse.domain.naming import kept_name
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.service import Service

KEPT = Ref("Secret", "alice", kept_name("run"))
BINDING = {"teardown": {"fetch": True}}


def unsafe(*, asked: bool = True) -> Small:
    """Have a session that is over, and whose outputs no site takes."""
    small = Small()
    leave_unsafe(small, "kept/a", "kept/deep/b", asked=asked)
    return small


def leave_unsafe(small: Small, *paths: str, asked: bool = True, **spec: object) -> None:
    small.request(**(BINDING if asked else {}), **spec)
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write(*paths)
    small.fail_copies(10_000)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    for _ in range(5):
        small.step()


def texts(small: Small) -> dict[str, str]:
    body = small.cluster.get(KEPT) or {}
    return {key: base64.b64decode(value).decode() for key, value in (body.get("data") or {}).items()}


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def test_what_is_not_safe_can_be_read_and_nothing_else_done() -> None:
    small = unsafe()
    Service(small.world(), threads=0).give_kept()
    told = texts(small)
    files = [json.loads(line) for line in told["files.jsonl"].splitlines()]
    assert [file["path"] for file in files] == ["kept/a", "kept/deep/b"]
    for file in files:
        assert file["bytes"] == len(file["path"])
        assert file["adler32"] == f"{zlib.adler32(file['path'].encode()):08x}"
    scope = claims(told["token"])["scope"]
    assert scope == "storage.read:/store/user/alice"
    endpoints = small.world().endpoints
    for file in files:
        assert endpoints.can_read("buffers.example.org", DAVS_PORT, file["at"], told["token"]) is None
    assert not endpoints.can_write("buffers.example.org", DAVS_PORT, f"/outbox/{small.uid}/", told["token"])
    assert told["url"].startswith("https://buffers.example.org:")
    assert told["more"] == "0"
    owner = (small.cluster.get(KEPT) or {})["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"]) == ("VolatileRSE", small.uid)


SCOPES = [
    # Of another one below it the session's may be none.
    ("user.alice.paper", ["kept/a"], "storage.read:/store/user/alice/paper"),
    # Its files lie in folders by their digests: a token that named each of them would be longer than any server takes.
    ("cms", [f"kept/{number}" for number in range(99)], "storage.read:/store/cms"),
]


@pytest.mark.parametrize(("scope", "paths", "rights"), SCOPES, ids=[scope for scope, _, _ in SCOPES])
def test_it_opens_the_scopes_of_the_outputs(scope: str, paths: list[str], rights: str) -> None:
    small = Small()
    grant = {"namespaces": ["alice"], "accounts": ["alice"], "scopes": [scope, "user.alice"]}
    small.patch(Ref("VolatileRSEClass", None, "standard"), tenancy={"grants": [grant]})
    output = {"name": "kept", "path": "kept/**", "scope": scope, "dataset": "out"}
    empty = {**output, "name": "empty", "path": "empty/**", "scope": "user.alice"}
    where = {"destination": {"rseExpression": "SITE-B"}}
    leave_unsafe(small, *paths, outputs=[output | where, empty | where])
    Service(small.world(), threads=0).give_kept()
    assert claims(texts(small)["token"])["scope"] == rights


def test_what_has_no_copy_is_listed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Small()
    small.publish_and_keep("kept/published", **BINDING)
    small.fail_copies(10_000)
    small.write("kept/late")
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    monkeypatch.setattr(session, "_LIST_LIMIT", 200)
    Service(small.world(), threads=0).give_kept()
    listed = [json.loads(line)["path"] for line in texts(small)["files.jsonl"].splitlines()]
    assert (listed, texts(small)["more"]) == (["kept/late"], "1")


@pytest.mark.parametrize("asked", [False, True])
def test_it_is_made_for_who_asks_at_any_time(asked: bool) -> None:  # noqa: FBT001 (a case)
    small = unsafe(asked=asked)
    service = Service(small.world(), threads=0)
    service.give_kept()
    assert (small.cluster.get(KEPT) is not None) == asked
    small.patch(REQUEST, teardown={"fetch": True})
    service.give_kept()
    assert small.cluster.get(KEPT) is not None


def test_a_session_that_runs_or_is_safe_gives_none() -> None:
    small = Small()
    small.request(**BINDING)
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    service = Service(small.world(), threads=0)
    service.give_kept()
    assert small.cluster.get(KEPT) is None
    small.end_pod()
    small.until(small.is_closed)
    service.give_kept()
    assert small.cluster.get(KEPT) is None


def test_what_has_not_been_taken_in_yet_is_not_given() -> None:
    small = Small()
    small.request(**BINDING)
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Fencing")
    Service(small.world(), threads=0).give_kept()
    assert small.cluster.get(KEPT) is None


def test_it_is_made_anew_before_its_token_ends() -> None:
    small = unsafe()
    service = Service(small.world(), threads=0, interval=0.0)
    service.give_kept()
    first = texts(small)["token"]
    small.clock.turn(timedelta(hours=11))
    service.give_kept()
    assert texts(small)["token"] == first
    small.clock.turn(timedelta(hours=2))
    service.give_kept()
    assert claims(texts(small)["token"])["exp"] > claims(first)["exp"]


def test_it_stays_while_nobody_can_make_it_anew() -> None:
    small = unsafe()
    service = Service(small.world(), threads=0, interval=0.0)
    service.give_kept()
    first = texts(small)
    small.clock.turn(timedelta(hours=13))
    small.buffer.down = True
    service.give_kept()
    assert texts(small) == first
    small.buffer.down = False
    service.give_kept()
    assert texts(small)["token"] != first["token"]


def test_whoever_deletes_it_has_it_again_and_not_more_often_than_once_a_minute() -> None:
    small = unsafe()
    service = Service(small.world(), threads=0)
    service.give_kept()
    small.cluster.delete(KEPT, (small.cluster.get(KEPT) or {})["metadata"]["uid"])
    service.give_kept()
    assert small.cluster.get(KEPT) is None
    Service(small.world(), threads=0).give_kept()
    assert small.cluster.get(KEPT) is not None


def test_a_secret_of_somebody_else_is_left_alone() -> None:
    small = unsafe()
    metadata = {"namespace": "alice", "name": KEPT.name}
    small.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"mine": "x"}})
    Service(small.world(), threads=0).give_kept()
    assert texts(small) == {"mine": "x"}


def test_an_agent_that_is_silent_is_not_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    small = unsafe()
    small.buffer.down = True
    service, asked, outputs = Service(small.world(), threads=0), list[int](), small.buffer.outputs

    def counted(after: int = 0) -> Any:
        asked.append(after)
        return outputs(after)

    monkeypatch.setattr(small.buffer, "outputs", counted)
    for _ in range(3):
        service.give_kept()
    assert len(asked) == 1


def test_what_fails_of_one_keeps_no_buffer_from_its_end() -> None:
    small = unsafe()
    small.buffer.down = True
    Service(small.world(), threads=0).give_kept()
    assert small.cluster.get(KEPT) is None
    small.buffer.down = False
    small.fail_copies(0)
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
