"""Who is given which token of a site: the least that a buffer needs, where the admin says what it is for."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta

import pytest
from pydantic import SecretStr

from tests.unit.reconcile.small_world import Small
from volatile_rse.api.agent import Manifest, SiteTokens
from volatile_rse.builders.manifest import SiteAccess
from volatile_rse.domain.catalogue import Did, File
from volatile_rse.ports.cluster import Ref
from volatile_rse.reconcile.sites import tokens_of

TOKENS = Ref("Secret", "ops", "site-tokens")
CLASS = Ref("VolatileRSEClass", None, "standard")
A, B, C = (f"site-{letter}.example.org" for letter in "abc")
Sent = dict[str, tuple[str | None, str | None, list[str] | None]]


def give(small: Small, values: Mapping[str, str | None], *, type_: str = "volatilerse.io/site-tokens") -> None:
    """Have the class's Secret hold this, and nothing else; the type of one that is there cannot be changed."""
    there = small.cluster.get(TOKENS)
    if there is not None:
        small.cluster.delete(TOKENS, there["metadata"]["uid"])
    metadata = {"namespace": "ops", "name": "site-tokens"}
    body = {"apiVersion": "v1", "kind": "Secret", "type": type_, "metadata": metadata, "stringData": values}
    small.cluster.create(body)


def shown(sites: Mapping[str, SiteTokens]) -> Sent:
    """Show tokens: host -> read, write, folders."""
    return {host: (_text(tokens.read), _text(tokens.write), tokens.paths) for host, tokens in sites.items()}


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def sent(small: Small) -> Sent:
    """Give what the agent was sent."""
    manifest: Manifest | None = small.buffer._manifest
    return {} if manifest is None else shown(manifest.credentials)


def all_sent(small: Small) -> list[Sent]:
    """Go the whole way of a session, and give all that the agent was ever sent."""
    told: list[Sent] = []

    def look() -> bool:
        if small.buffer._manifest is not None and (now := sent(small)) not in told:
            told.append(now)
        return bool(small.is_closed()) if small.record else False

    small.request()
    small.until(lambda: look() or small.has_session())
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(look)
    assert small.is_kept("kept/a")
    return told


def test_an_agent_is_given_tokens_of_its_sites_alone_and_to_write_where_outputs_go() -> None:
    small = Small()
    give(small, {A: "a", B: "b", C: "c"})
    assert all_sent(small) == [{A: ("a", None, None)}, {B: ("b", "b", None)}]


def test_tokens_that_are_given_apart_are_sent_apart() -> None:
    small = Small()
    give(small, {f"{A}_read": "ar", f"{A}_write": "aw", f"{B}_read": "br", f"{B}_write": "bw", f"{B}_paths": "/store"})
    assert all_sent(small) == [{A: ("ar", None, None)}, {B: ("br", "bw", ["/store"])}]


def test_where_there_is_a_token_to_write_alone_it_reads_back_what_was_written() -> None:
    small = Small()
    give(small, {f"{A}_read": "ar", f"{B}_write": "bw"})
    assert all_sent(small) == [{A: ("ar", None, None)}, {B: ("bw", "bw", None)}]


def test_a_token_to_write_reads_no_source() -> None:
    small = Small()
    give(small, {f"{A}_write": "aw", B: "b"})
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMissing")
    assert f"has no token to read at {A}" in small.condition("Stalled")["message"]


def test_a_token_to_read_writes_no_output() -> None:
    small = Small()
    give(small, {A: "a", f"{B}_read": "br"})
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMissing")
    assert f"has no token to write at {B}" in small.condition("Stalled")["message"]


def test_what_is_published_while_a_session_runs_has_its_token_from_the_begin() -> None:
    small = Small()
    give(small, {A: "a", B: "b", C: "c"})
    output = {"name": "kept", "path": "kept/**", "scope": "user.alice", "dataset": "out", "register": "Continuous"}
    small.request(outputs=[output | {"destination": {"rseExpression": "SITE-B"}}])
    small.until(small.has_session)
    assert sent(small) == {A: ("a", None, None), B: ("b", "b", None)}


def test_only_tokens_that_an_agent_has_are_sent_anew() -> None:
    small = Small()
    give(small, {A: "a", B: "b", C: "c"})
    small.begin()
    before = small.buffer.journal.count("manifest")
    give(small, {A: "a", B: "other", C: "other"})
    for _ in range(5):
        small.step()
    assert small.buffer.journal.count("manifest") == before
    give(small, {A: "other", B: "other", C: "other"})
    small.until(lambda: small.buffer.journal.count("manifest") == before + 1)
    assert sent(small) == {A: ("other", None, None)}
    for _ in range(5):
        small.step()
    assert small.buffer.journal.count("manifest") == before + 1


@pytest.mark.parametrize("values", [{"username": "u", "password": "p"}, {A: "a", B: "b"}], ids=["login", "hosts"])
def test_a_secret_that_is_not_for_sites_is_sent_to_no_agent(values: Mapping[str, str]) -> None:
    small = Small()
    give(small, values, type_="Opaque")
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMismatch")
    for condition in ("Stalled", "CredentialsValid"):
        said = small.condition(condition)["message"]
        assert "Secret ops/site-tokens has type Opaque" in said
        assert "VolatileRSEClass standard" in said
        assert "volatilerse.io/site-tokens" in said
        assert "ADMIN must act" in said
    assert sent(small) == {}
    give(small, {A: "a", B: "b"})
    small.until(small.has_session)


def test_a_secret_that_is_replaced_by_another_kind_is_sent_to_no_agent_that_runs() -> None:
    small = Small()
    small.begin()
    before = sent(small)
    give(small, {A: "stolen", B: "stolen"}, type_="kubernetes.io/basic-auth")
    # For some seconds the operator remembers what it has read.
    small.clock.turn(timedelta(seconds=11))
    small.write("kept/a")
    small.end_pod()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMismatch")
    assert sent(small) == before
    give(small, {A: "a", B: "b"})
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


@pytest.mark.parametrize(("host", "place"), [(A, "source"), (B, "destination")], ids=["source", "destination"])
def test_a_place_that_a_token_is_not_for_is_told(host: str, place: str) -> None:
    del place
    small = Small()
    give(small, {A: "a", B: "b", f"{host}_paths": "/elsewhere :1094/store"})
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMismatch")
    assert f"davs://{host}:8443/store/" in small.condition("Stalled")["message"]
    give(small, {A: "a", B: "b", f"{host}_paths": "/elsewhere :8443/store"})
    small.until(small.has_session)


def test_a_site_without_a_token_blocks_nothing_that_another_site_has() -> None:
    small = Small()
    small.catalogue.add_permanent("SITE-0", "site-0.example.org", {})
    dataset = Did("user.alice", "in")
    files = [File(Did("user.alice", f"in.{number}"), 100 + number, f"{number:08}") for number in range(2)]
    small.catalogue.add_files(dataset, "SITE-0", files)
    give(small, {A: "a", B: "b"})
    small.request()
    small.until(small.has_session)
    assert sent(small) == {A: ("a", None, None), "site-0.example.org": (None, None, None)}
    manifest = small.buffer._manifest
    assert manifest is not None
    assert [[url.split("/")[2] for url in file.sources] for file in manifest.inputs] == [
        [f"{A}:8443", "site-0.example.org:8443"]
    ] * 2


CLASS = Ref("VolatileRSEClass", None, "standard")


def test_a_site_that_is_said_to_be_anonymous_is_read_without_a_token() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"sites": [{"host": A, "anonymous": True}]}})
    small.buffer.anonymous.add(A)
    give(small, {B: "b"})
    assert all_sent(small) == [{A: (None, None, None)}, {B: ("b", "b", None)}]
    assert small.is_kept("kept/a")


def test_a_token_that_an_anonymous_site_does_not_need_is_not_sent() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"sites": [{"host": A, "anonymous": True}]}})
    small.buffer.anonymous.add(A)
    give(small, {A: "a", f"{A}_paths": "/elsewhere", B: "b"})
    assert all_sent(small)[0] == {A: (None, None, ["/elsewhere"])}


def test_nothing_is_written_without_a_token_also_where_everybody_may_read() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"sites": [{"host": B, "anonymous": True}]}})
    give(small, {A: "a"})
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMissing")
    assert f"to write at {B}" in small.condition("Stalled")["message"]
    assert "spec.sites[].anonymous" in small.condition("Stalled")["message"]


def test_what_was_written_to_an_anonymous_site_is_read_back_with_its_token() -> None:
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"sites": [{"host": B, "anonymous": True}]}})
    give(small, {A: "a", f"{B}_read": "br", f"{B}_write": "bw"})
    assert all_sent(small)[-1] == {B: (None, "bw", None)}
    assert {token for _, token in small.shown} == {"bw"}


def test_an_anonymous_site_is_read_without_a_token_also_where_outputs_go() -> None:
    tokens = SiteTokens(write=SecretStr("w"), paths=["/store/out"])
    access = SiteAccess({A: tokens}, None, anonymous=frozenset({A}))
    needed = access.needed({A}, {A})
    assert needed.tokens[A].read is None
    assert needed.fault(f"davs://{A}/store/in/file", writes=False) is None
    assert needed.opening(f"davs://{A}/store/out/file") == "w"
    assert needed.opening(f"davs://{A}/store/in/file") is None


def test_hosts_are_the_same_in_whatever_letters() -> None:
    small = Small()
    for rse in ("SITE-A", "SITE-B"):
        small.catalogue.alter(rse, host=f"{rse.title()}.Example.ORG.")
    give(small, {A.upper(): "a", f"{B}.": "b"})
    told = all_sent(small)
    assert told == [{A: ("a", None, None)}, {B: ("b", "b", None)}]
    assert small.is_kept("kept/a")


def test_a_destination_without_a_token_blocks_nothing_that_another_one_takes() -> None:
    small = Small()
    small.catalogue.add_permanent("SITE-AA", "site-aa.example.org", {})
    give(small, {A: "a", B: "b"})
    output = {"name": "kept", "path": "kept/**", "scope": "user.alice", "dataset": "out"}
    small.request(outputs=[output | {"destination": {"rseExpression": "SITE-AA|SITE-B"}}])
    small.until(small.has_session)
    assert [entry["rses"] for entry in small.truth["destinations"]] == [["SITE-B"]]


def test_a_file_that_only_a_shut_site_has_is_missed_if_too_few_others_are_there() -> None:
    small = Small()
    small.catalogue.add_permanent("SITE-0", "site-0.example.org", {})
    more = [File(Did("user.alice", "in.more"), 7, "0" * 8)]
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-0", more)
    give(small, {A: "a", B: "b"})
    small.request()
    small.until(lambda: small.condition("Stalled").get("reason") == "CredentialMissing")
    assert "to read at site-0.example.org" in small.condition("Stalled")["message"]
    assert A not in small.condition("Stalled")["message"]


def test_a_token_that_comes_later_fetches_what_waited_for_it() -> None:
    small = Small()
    small.catalogue.add_permanent("SITE-0", "site-0.example.org", {})
    more = [File(Did("user.alice", "in.more"), 7, "0" * 8)]
    small.catalogue.add_files(Did("user.alice", "in"), "SITE-0", more)
    give(small, {A: "a", B: "b"})
    small.request(inputs=[{"name": "in", "did": "user.alice:in", "minimumPercent": 50}])
    small.until(small.has_session)
    small.until(lambda: small.buffer.report().inputs[0].failed == 1)
    give(small, {A: "a", B: "b", "site-0.example.org": "0"})
    small.until(lambda: small.buffer.report().inputs[0].staged == 3)


def test_a_spot_check_shows_a_site_its_own_token_alone() -> None:
    small = Small()
    give(small, {A: "a", f"{B}_read": "br", f"{B}_write": "bw", C: "c"})
    all_sent(small)
    assert {token for _, token in small.shown} == {"br"}
    assert {url.split("/")[2] for url, _ in small.shown} == {f"{B}:8443"}


@pytest.mark.parametrize(
    ("values", "found", "faults"),
    [
        ({"a.org": b" t\n"}, {"a.org": ("t", "t", None)}, ()),
        ({"A.org": b"t"}, {"a.org": ("t", "t", None)}, ()),
        ({"a.org_read": b"r"}, {"a.org": ("r", None, None)}, ()),
        ({"a.org_WRITE": b"w"}, {"a.org": (None, "w", None)}, ()),
        ({"a.org": b"t", "a.org_read": b"r"}, {"a.org": ("r", "t", None)}, ()),
        ({"a.org": b"t", "a.org_read": b"no token"}, {"a.org": (None, "t", None)}, ("a.org_read is no token",)),
        ({"a.org": b"t", "a.org_paths": b"/a  :1094/b\n"}, {"a.org": ("t", "t", ["/a", ":1094/b"])}, ()),
        ({"a.org": b"t", "a.org_paths": b""}, {}, ("a.org_paths is no list of folders",)),
        ({"a.org": b"t", "a.org_paths": b"hidden"}, {}, ("a.org_paths is no list of folders",)),
        ({"a.org": b"t", "a.org_paths": b"\xff"}, {}, ("a.org_paths is no list of folders",)),
        ({"a.org": b"t", "A.org": b"u"}, {}, ("A.org and a.org are the same key",)),
        ({"a.org": b"t", "b.org_wirte": b"hidden"}, {"a.org": ("t", "t", None)}, ("b.org_wirte is none of the keys",)),
        ({"_read": b"t", "-x": b"t", ".": b"t"}, {}, ("-x is none", ". is none", "_read is none")),
        ({"a.org": b"\xff"}, {"a.org": (None, None, None)}, ("a.org is no token",)),
        ({"a.org_paths": b"/a"}, {"a.org": (None, None, ["/a"])}, ()),
        ({}, {}, ()),
    ],
)
def test_what_a_secret_says_of_its_values(values: Mapping[str, bytes], found: Sent, faults: tuple[str, ...]) -> None:
    body = {"data": {key: base64.b64encode(value).decode() for key, value in values.items()}}
    tokens, told = tokens_of(body)
    assert shown(tokens) == found
    assert len(told) == len(faults)
    assert all(fault in said for fault, said in zip(faults, told, strict=True))
    assert "hidden" not in str(told)


def plain(small: Small) -> dict[str, bool]:
    """Tell of what the agent was sent at which site it follows to plain http."""
    manifest: Manifest | None = small.buffer._manifest
    return {} if manifest is None else {host: site.plain_redirects for host, site in manifest.credentials.items()}


@pytest.mark.parametrize(
    ("sites", "followed"),
    [
        ([], False),
        ([{"host": A}], False),
        ([{"host": A, "plainRedirects": False}], False),
        ([{"host": B, "plainRedirects": True}], False),
        ([{"host": B}, {"host": A, "plainRedirects": True}], True),
    ],
)
def test_an_agent_follows_to_plain_http_where_its_class_says_so(sites: list[dict[str, object]], followed: bool) -> None:  # noqa: FBT001
    small = Small()
    small.cluster.merge(CLASS, {"spec": {"sites": sites}})
    small.request()
    small.until(small.has_session)
    assert plain(small) == {A: followed}
    before = small.buffer.journal.count("manifest")
    for _ in range(5):
        small.step()
    assert small.buffer.journal.count("manifest") == before


def test_an_older_agent_is_not_told_of_plain_http() -> None:
    small = Small()
    small.buffer.knows = [known for known in small.buffer.knows if known != "plainRedirects"]
    small.cluster.merge(CLASS, {"spec": {"sites": [{"host": A, "plainRedirects": True}]}})
    small.request()
    small.until(small.has_session)
    assert plain(small) == {A: False}
