"""Secrets that hold what can be no credential: it is named, and it stands in nobody else's way."""

from __future__ import annotations

import base64

import pytest

from tests.unit.reconcile import small_world
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.builders.objects import session_name
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
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
    other = {"metadata": {"namespace": "ops", "name": "good"}, "stringData": small_world.LOGIN}
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


@pytest.mark.parametrize(
    "change",
    [
        {"server": "https://evil.example.org"},
        {"server": "https://rucio.example.org:8443"},
        {"server": "https://rucio.example.org/evil"},
        {"authServer": "https://evil.example.org"},
        {"server": "https://evil.example.org", "authServer": "https://rucio.example.org"},
    ],
    ids=["server", "port", "path", "auth server", "server and auth server"],
)
def test_a_connection_to_another_server_is_sent_no_login_and_says_so(change: dict[str, str]) -> None:
    small = Small(inputs=0)
    small.request()
    first = small.cluster.get(Ref("RucioConnection", None, "rucio")) or {}
    small.cluster.create({**first, "metadata": {"name": "other"}, "spec": first["spec"] | change})
    service = Service(small.world(), threads=0)
    service.sweep()
    service.search()
    status = {body["metadata"]["name"]: body["status"] for body in small.cluster.list("RucioConnection")}
    assert status["rucio"]["reachable"] is True
    assert status["other"]["reachable"] is False
    said = next(entry for entry in status["other"]["conditions"] if entry["type"] == "Reachable")
    assert said["reason"] == "CredentialMismatch"
    stranger = next(url for url in change.values() if url != first["spec"]["server"])
    for told in ("Secret ops/login", "RucioConnection other", "is for https://rucio.example.org", stranger):
        assert told in said["message"]
    assert {login.connection.server for login in small.logins} == {"https://rucio.example.org"}
    assert {login.connection.auth_server for login in small.logins} == {None}


@pytest.mark.parametrize(
    "told", ["", "rucio.example.org", "postgres://user:hidden@rucio"], ids=["nothing", "host", "more"]
)
def test_a_login_that_names_no_server_is_sent_nowhere_and_not_shown(told: str) -> None:
    small = Small()
    put(small, LOGIN, server=told.encode())
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMismatch")
    said = small.condition("Stalled")
    assert said["status"] == "True"
    assert "Secret ops/login does not tell by its key server" in said["message"]
    assert "RucioConnection rucio names https://rucio.example.org" in said["message"]
    assert "ADMIN must act" in said["message"]
    assert "hidden" not in said["message"]
    assert small.logins == []
    put(small, LOGIN, server=b"https://rucio.example.org")
    small.until(small.has_session)


def test_a_login_may_be_for_several_servers_and_their_urls_be_written_otherwise() -> None:
    small = Small()
    connection = Ref("RucioConnection", None, "rucio")
    small.cluster.merge(connection, {"spec": {"authServer": "https://auth.example.org:443"}})
    put(small, LOGIN, server=b"https://auth.example.org\n  https://Rucio.example.org/\n")
    small.request()
    small.until(small.has_session)


def test_a_connection_that_is_led_elsewhere_takes_no_login_along_and_stops_no_end() -> None:
    small = Small()
    small.begin()
    connection = Ref("RucioConnection", None, "rucio")
    small.forget()
    small.cluster.merge(connection, {"spec": {"server": "https://evil.example.org"}})
    Service(small.world(), threads=0).sweep()
    small.delete()
    small.until(small.is_closed)
    assert {login.connection.server for login in small.logins} == {"https://rucio.example.org"}


def test_an_adoption_by_another_server_is_sent_no_login() -> None:
    small = Small()
    small.begin()
    lost = small.lose_cluster()
    small.cluster.merge(Ref("RucioConnection", None, "rucio"), {"spec": {"server": "https://evil.example.org"}})
    small.logins.clear()
    with pytest.raises(RefusedError, match="is for https://rucio"):
        small.adopt(lost)
    assert small.logins == []


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
