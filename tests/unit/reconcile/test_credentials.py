"""Secrets that hold what can be no credential: it is named, and it stands in nobody else's way."""

from __future__ import annotations

import base64

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.builders.objects import session_name
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.service import Service

TOKENS = Ref("Secret", "ops", "site-tokens")
LOGIN = Ref("Secret", "ops", "login")
BINARY, MARKED, TWO = b"\xff\xfe\x00", b"\xef\xbb\xbftoken", b"one two"


def put(small: Small, ref: Ref, **values: bytes) -> None:
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    small.cluster.merge(ref, {"data": data})


@pytest.mark.parametrize("value", [BINARY, MARKED, TWO], ids=["binary", "byte order mark", "two words"])
def test_a_value_that_is_no_token_is_named_and_can_be_mended(value: bytes) -> None:
    small = Small()
    put(small, TOKENS, **{"site-b.example.org": value})
    small.request()
    small.until(lambda: "site-b.example.org" in small.condition("CredentialsValid").get("message", ""))
    said = small.condition("CredentialsValid")
    assert (said["status"], said["reason"]) == ("False", "CredentialInvalid")
    assert "Secret ops/site-tokens: the value of site-b.example.org is no token" in said["message"]
    assert "ADMIN must act" in said["message"]
    put(small, TOKENS, **{"site-b.example.org": b"token"})
    small.until(small.has_session)


def test_a_value_that_is_no_token_keeps_back_nobody_who_does_not_need_it() -> None:
    small = Small()
    put(small, TOKENS, **{"another.example.org": BINARY})
    small.request()
    small.until(small.has_session)
    assert "another.example.org is no token" in small.condition("CredentialsValid")["message"]


def test_a_request_may_go_whatever_is_in_the_secrets() -> None:
    small = Small()
    put(small, TOKENS, **{"site-a.example.org": BINARY})
    put(small, LOGIN, password=BINARY)
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialInvalid")
    small.delete()
    small.until(lambda: small.is_gone)


@pytest.mark.parametrize("value", [BINARY, "\N{BLACK STAR}".encode(), b"a\nb"], ids=["binary", "no header", "lines"])
def test_a_login_that_is_none_is_told_at_its_connection_and_stops_no_sweep(value: bytes) -> None:
    small = Small(inputs=0)
    put(small, LOGIN, password=value)
    other = {"metadata": {"namespace": "ops", "name": "good"}, "stringData": {"username": "a", "password": "b"}}
    small.cluster.create({"apiVersion": "v1", "kind": "Secret", **other})
    first = small.cluster.get(Ref("RucioConnection", None, "rucio")) or {}
    spec = first["spec"] | {"userpass": {"secretName": "good"}}
    small.cluster.create({**first, "metadata": {"name": "zz"}, "spec": spec})
    small.request()
    Service(small.world(), threads=0).sweep()
    status = {body["metadata"]["name"]: body["status"] for body in small.cluster.list("RucioConnection")}
    assert status["rucio"]["reachable"] is False
    assert status["rucio"]["conditions"][0]["reason"] == "CredentialInvalid"
    assert "password" in status["rucio"]["message"]
    assert status["zz"]["reachable"] is True


def test_what_a_user_writes_into_the_sessions_secret_stops_nothing() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    put(small, Ref("Secret", "alice", session_name(REQUEST.name)), token=BINARY, more=BINARY)
    small.until(lambda: small.condition("Usable")["status"] == "True")
    small.delete()
    small.until(small.is_closed)


def test_a_login_that_is_gone_does_not_keep_a_session_from_its_end() -> None:
    small = Small()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    login = small.cluster.get(LOGIN) or {}
    small.cluster.delete(LOGIN, login["metadata"]["uid"])
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    small.until(lambda: "Secret ops/login with keys username and password is missing" in small.message)
    small.cluster.create(login)
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
