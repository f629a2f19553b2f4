"""The objects in a user's namespace: compared, put back, and never used; what proves a fence is the operator's own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tests.unit.reconcile.scenarios import FILES
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.api.agent import SiteTokens
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.credentials import KeyPair
from volatile_rse.reconcile.reading import read_connection
from volatile_rse.reconcile.world import Login, World

SECRET, CONFIG = Ref("Secret", "alice", "run-vrse"), Ref("ConfigMap", "alice", "run-vrse")
TOKENS = {
    "non-ASCII": "τoken-of-alice".encode(),
    "line break": b"first-line-of-alice\nsecond",
    "garbage": b"garbage-of-alice",
    "no text": b"\xff\xfe-of-alice",
    "escape sequence": b"\x1b[31mred-of-alice",
    "empty": b"",
}


def running() -> Small:
    """Have a session whose pod has written."""
    small = Small()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(*FILES)
    return small


def put(small: Small, token: bytes) -> None:
    small.cluster.merge(SECRET, {"data": {"token": base64.b64encode(token).decode()}})


def body(small: Small, ref: Ref) -> dict[str, Any]:
    return dict(small.cluster.get(ref) or {})


def told(small: Small) -> str:
    """Give whatever people and programs may read of the session."""
    status = body(small, REQUEST).get("status")
    return json.dumps([status, small.truth, [repr(event) for event in small.cluster.events]], ensure_ascii=False)


@pytest.mark.parametrize("case", TOKENS)
def test_whatever_stands_in_the_users_secret_the_end_comes_and_the_fence_is_proven(case: str) -> None:
    small = running()
    put(small, TOKENS[case])
    small.patch(REQUEST, endRequested=True)
    small.until(lambda: small.truth["session"].get("endedAt"), steps=3)
    small.until(small.is_closed)
    assert small.is_kept(*FILES)
    assert "of-alice" not in told(small)
    assert "OperatorFault" not in told(small)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (set(), "read /store/"),
        ({"https://{}.operator.invalid/"}, "read /store/"),
        ({"https://{}.sessions.invalid/"}, "write /probe/control"),
    ],
)
def test_a_door_that_refuses_everybody_proves_no_fence(known: set[str], why: str) -> None:
    """As of a wrong clock, of keys that have not come, or of another audience."""
    small = running()
    small.buffer.issuers = {issuer.format(small.record_id) for issuer in known}
    small.end_pod()
    for _ in range(12):
        small.step()
    assert small.truth["phase"] == "Fencing"
    assert small.condition("OutputsSafe")["reason"] == "FenceUnproven"
    assert why in small.message
    small.buffer.issuers = None
    small.until(small.is_closed)
    assert small.is_kept(*FILES)


def test_a_directory_that_its_session_has_closed_is_no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode without write refuses a write as a fence does."""
    small = running()
    refused: Callable[..., bool] = type(small.world().endpoints).is_refused
    with monkeypatch.context() as patch:

        def shown(endpoints: object, host: str, port: int, path: str, token: str) -> bool:
            return False if path.startswith("/outbox/") else refused(endpoints, host, port, path, token)

        patch.setattr(type(small.world().endpoints), "is_refused", shown)
        small.end_pod()
        for _ in range(12):
            small.step()
        assert small.truth["phase"] == "Fencing"
        assert "that is no fence" in small.message
    small.until(small.is_closed)


CHANGES: dict[str, tuple[Ref, dict[str, Any]]] = {
    "token": (SECRET, {"data": {"token": "Z2FyYmFnZQ=="}}),
    "token gone": (SECRET, {"data": None}),
    "key beside the token": (SECRET, {"data": {"other": "Z2FyYmFnZQ=="}}),
    "owner of the Secret": (SECRET, {"metadata": {"ownerReferences": []}}),
    "digest": (SECRET, {"metadata": {"annotations": {"volatilerse.io/digest": "τ"}}}),
    "address": (CONFIG, {"data": {"VRSE_ROOT_URL": "root://evil.example.org"}}),
    "authority": (CONFIG, {"data": {"ca.crt": "mine"}}),
    "list of inputs": (CONFIG, {"data": {"inputs.jsonl": ""}}),
    "bytes beside the texts": (CONFIG, {"binaryData": {"x": "AAAA"}}),
}


def touch(small: Small) -> None:
    """Have what the session was given looked at: otherwise that takes half an hour."""
    small.cluster.merge(REQUEST, {"metadata": {"annotations": {"looked-at": str(small.clock.now())}}})


@pytest.mark.parametrize("case", CHANGES)
def test_what_others_change_is_told_and_made_anew_but_not_fought_over(case: str) -> None:
    small = running()
    ref, patch = CHANGES[case]
    made = body(small, ref)
    written = [{"manager": "volatile-rse"}, {"manager": "kubectl-edit\N{RIGHT-TO-LEFT OVERRIDE}"}]
    small.cluster.merge(ref, {**patch, "metadata": {**patch.get("metadata", {}), "managedFields": written}})
    changed = body(small, ref)
    touch(small)
    small.step()
    assert body(small, ref) == changed, "it is younger than a minute"
    assert small.condition("Ready")["reason"] == "SessionObjectChanged"
    assert f"{ref} was changed by kubectl-edit\\u202e. USER must act" in small.condition("Ready")["message"]
    small.until(lambda: small.condition("Ready").get("status") == "True", steps=65)
    again = body(small, ref)
    assert again["metadata"]["uid"] != made["metadata"]["uid"]
    assert set(again["data"]) == set(made["data"])
    assert {key: text for key, text in again["data"].items() if key != "token"} == {
        key: text for key, text in made["data"].items() if key != "token"
    }
    assert body(small, CONFIG)["metadata"]["ownerReferences"][0]["uid"] == body(small, SECRET)["metadata"]["uid"]
    assert [event for event in small.cluster.events if event.reason == "SessionObjectChanged"]


def test_a_change_that_comes_again_and_again_is_undone_at_most_once_a_minute() -> None:
    small = running()
    small.clock.turn(timedelta(hours=1))
    made = set()
    for _ in range(180):
        if body(small, SECRET)["data"]["token"] != "Z2FyYmFnZQ==":
            put(small, b"garbage")
            touch(small)
        small.step()
        made.add(body(small, SECRET)["metadata"]["uid"])
    assert 3 <= len(made) <= 5
    assert len([event for event in small.cluster.events if event.reason == "SessionObjectChanged"]) <= 2 * len(made)


def test_what_programs_add_beside_is_left_alone() -> None:
    small = running()
    made = [body(small, ref)["metadata"]["uid"] for ref in (SECRET, CONFIG)]
    small.clock.turn(timedelta(minutes=2))
    for ref in (SECRET, CONFIG):
        small.cluster.merge(ref, {"metadata": {"labels": {"backup": "yes"}, "annotations": {"tool": "x"}}})
    for _ in range(3):
        small.step()
    assert [body(small, ref)["metadata"]["uid"] for ref in (SECRET, CONFIG)] == made
    assert small.condition("Ready")["status"] == "True"


def test_a_copy_of_another_session_does_not_pass() -> None:
    """Its digest is good, for another one."""
    small = running()
    old = body(small, SECRET)
    small.delete()
    small.until(small.is_closed)
    small.renew()
    small.request(outputs=[])
    small.until(small.has_session)
    labels = body(small, SECRET)["metadata"]["labels"]
    small.cluster.delete(SECRET, body(small, SECRET)["metadata"]["uid"])
    metadata = {**old["metadata"], "labels": labels}
    small.cluster.create({**old, "metadata": metadata})
    touch(small)
    small.visit()
    assert small.condition("Ready")["reason"] == "SessionObjectChanged"


def test_a_finalizer_of_the_users_own_on_the_secret_keeps_no_end_back() -> None:
    small = running()
    small.cluster.merge(SECRET, {"metadata": {"finalizers": ["alice.example.org/mine"]}})
    small.delete()
    small.until(lambda: small.is_closed() and small.is_gone)
    assert small.is_kept(*FILES)


def test_an_owner_that_somebody_has_added_keeps_no_secret_beyond_the_end() -> None:
    small = running()
    owner = {"apiVersion": "v1", "kind": "Secret", "name": "mine", "uid": "mine"}
    for ref in (SECRET, CONFIG):
        owners = body(small, ref)["metadata"]["ownerReferences"]
        small.cluster.merge(ref, {"metadata": {"ownerReferences": [*owners, owner]}})
    small.patch(REQUEST, endRequested=True)
    small.until(lambda: small.truth["session"].get("endedAt"))
    small.step()
    assert small.cluster.get(SECRET) is None
    assert small.cluster.get(CONFIG) is None


def test_no_key_of_tokens_is_stored_anywhere() -> None:
    small = running()
    secrets, maps = small.cluster.list("Secret"), small.cluster.list("ConfigMap")
    texts = [base64.b64decode(text).decode() for each in secrets for text in each["data"].values()]
    texts = [text.replace("\\", "") for text in texts] + [str(each.get("data")) for each in maps]
    assert [text for text in texts if '"kty"' in text], "public keys are stored"
    assert not [text for text in texts if '"d"' in text]


def test_what_is_secret_is_no_part_of_how_an_object_is_written_out() -> None:
    """Tracebacks and logs write objects out."""
    small = Small()
    spec = read_connection(body(small, Ref("RucioConnection", None, "rucio")))
    held = [
        SiteAccess({"host": SiteTokens(read=SecretStr("secret-word"))}, None),
        Login(spec, "ops", "secret-word", None),
        KeyPair("c", "secret-word"),
    ]
    assert [one for one in held if "secret-word" in repr(one)] == []


def test_another_authority_of_the_operator_reaches_a_running_session() -> None:
    """Its Secret was lost, or replaced: certificates, keys of tokens and what the session has are made anew."""
    small = running()
    small.clock.turn(timedelta(minutes=2))
    before = {ref: body(small, ref)["data"] for ref in (SECRET, CONFIG)}
    keys = Ref("Secret", "bufs", f"vrse-{small.record_id}-keys")
    mounted = body(small, keys)["data"]
    for ref in (SECRET, CONFIG):
        small.cluster.merge(ref, {"metadata": {"managedFields": [{"manager": "volatile-rse"}]}})
    world, other = small.world, LocalAuthority(*LocalAuthority.create())

    def another() -> World:
        made = world()
        object.__setattr__(made, "authority", other)
        return made

    small.world = another  # type: ignore[method-assign]
    small.forget()
    for _ in range(3):
        small.step()
    now = body(small, keys)["data"]
    assert base64.b64decode(now["ca.crt"]).decode() == other.bundle()
    certificates = {f"{role}.tls.{part}" for role in ("server", "agent") for part in ("crt", "key")}
    assert {key for key in now if now[key] != mounted[key]} == {"ca.crt", "xrootd.keycache.json", *certificates}
    assert body(small, CONFIG)["data"]["ca.crt"] == other.bundle() != before[CONFIG]["ca.crt"]
    assert body(small, SECRET)["data"] != before[SECRET]
    assert not [event for event in small.cluster.events if event.reason == "SessionObjectChanged"], "nobody else did it"
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept(*FILES)
