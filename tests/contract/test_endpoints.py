"""What the doors of a real XRootD tell about a token."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests

from testbed import pki, sites
from testbed.layout import DAV_SITES, SITES
from tests.e2e.buffer_containers import AUDIENCE, ISSUER, OUTBOX, RIGHTS, Buffer, live_buffer
from tests.e2e.flows import docker
from volatile_rse.adapters import xroot
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import UnreachableError

pytestmark = pytest.mark.grid

HOST, APACHE = SITES["SITE-A"], DAV_SITES["SITE-C"]
READ, WRITE = "storage.read:/store", "storage.read:/store storage.modify:/store"


@pytest.fixture(scope="module")
def door() -> XrootdEndpoints:
    return XrootdEndpoints(pki.CA.read_text())


@pytest.fixture(scope="module")
def folder() -> str:
    """Make a directory with a file and an empty one."""
    path, token = f"/store/user/alice/{uuid.uuid4().hex}", pki.token("alice", HOST, WRITE)
    for name, data in (("a file", b"x" * 1000), ("empty", b"")):
        url = f"https://localhost:{sites.davs_port(HOST)}{path}/{name}"
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.put(url, data=data, headers=headers, verify=str(pki.CA), timeout=30).status_code == 201
    return path


@pytest.mark.parametrize("name", ["a file", "empty", ""])
def test_what_is_there_can_be_read(door: XrootdEndpoints, folder: str, name: str) -> None:
    port = sites.davs_port(HOST)
    assert door.can_read("localhost", port, f"{folder}/{name}", pki.token("alice", HOST, READ)) is None
    why = door.can_read("localhost", port, f"{folder}/{name}", "garbage")
    assert why is not None
    assert "gave 403" in why


@pytest.mark.parametrize("name", ["absent", "absent/"])
def test_what_is_not_there_cannot(door: XrootdEndpoints, folder: str, name: str) -> None:
    token = pki.token("alice", HOST, READ)
    why = door.can_read("localhost", sites.davs_port(HOST), f"{folder}/{name}", token)
    assert why is not None
    assert "gave 404" in why


def test_a_probe_tells_writers_from_readers_and_leaves_nothing(door: XrootdEndpoints, folder: str) -> None:
    port, writer = sites.davs_port(HOST), pki.token("alice", HOST, WRITE)
    for token, may in ((writer, True), (pki.token("alice", HOST, READ), False), ("garbage", False)):
        assert door.can_write("localhost", port, f"{folder}/", token) == may
    headers = {"Authorization": f"Bearer {writer}", "Depth": "1"}
    url = f"https://localhost:{port}{folder}/"
    listing = requests.request("PROPFIND", url, headers=headers, verify=str(pki.CA), timeout=30)
    assert "empty" in listing.text
    assert "probe" not in listing.text


def test_the_size_of_a_file_is_what_the_site_says(door: XrootdEndpoints, folder: str) -> None:
    token, trust = pki.token("alice", HOST, READ), pki.CA.read_text()
    site = f"davs://localhost:{sites.davs_port(HOST)}{folder}"
    assert door.size(f"{site}/a file", token, trust) == 1000
    assert door.size(f"{site}/empty", token, trust) == 0
    assert door.size(f"{site}/absent", token, trust) is None
    for wrong in ({"token": "garbage", "trust": trust}, {"token": token, "trust": None}):
        with pytest.raises(UnreachableError):
            door.size(f"{site}/a file", **wrong)


def test_the_size_of_a_file_is_learned_of_a_site_that_tells_none_in_a_head(door: XrootdEndpoints) -> None:
    token, trust = pki.token("alice", APACHE, WRITE), pki.CA.read_text()
    site = f"localhost:{sites.davs_port(APACHE)}/store/size-{uuid.uuid4().hex}"
    for name, size in (("a%20file", 1000), ("empty", 0)):
        headers = {"Authorization": f"Bearer {token}"}
        url = f"https://{site}-{name}"
        assert requests.put(url, data=bytes(size), headers=headers, verify=str(pki.CA), timeout=30).status_code == 201
        told = requests.head(url, headers=headers, verify=str(pki.CA), timeout=30).headers.get("Content-Length")
        assert told != str(size)
    assert door.size(f"davs://{site}-a file", token, trust) == 1000
    assert door.size(f"davs://{site}-empty", token, trust) == 0
    assert door.size(f"davs://{site}-absent", token, trust) is None
    for wrong in ({"token": "garbage", "trust": trust}, {"token": token, "trust": None}):
        with pytest.raises(UnreachableError):
            door.size(f"davs://{site}-a file", **wrong)


@pytest.mark.parametrize("host", [HOST, APACHE])
def test_a_site_tells_whether_it_takes_a_token(door: XrootdEndpoints, host: str) -> None:
    trust, site = pki.CA.read_text(), f"davs://localhost:{sites.davs_port(host)}/store"
    # As that of a class: one that may read and write.
    assert door.is_taken(f"{site}/absent", pki.token("alice", host, WRITE), trust)
    assert not door.is_taken(f"{site}/absent", "garbage", trust)
    with pytest.raises(UnreachableError) as caught:
        door.is_taken(f"{site}/absent", pki.token("alice", host, READ), None)
    assert caught.value.reason is Reason.SITE_UNREACHABLE
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.what


@pytest.mark.parametrize("host", [HOST, APACHE])
def test_a_site_tells_who_may_write_and_nothing_is_written(door: XrootdEndpoints, host: str) -> None:
    trust, site = pki.CA.read_text(), f"davs://localhost:{sites.davs_port(host)}/store/"
    writer = pki.token("alice", host, WRITE)
    may = {
        writer: True,
        pki.token("alice", host, "storage.create:/store"): True,
        pki.token("alice", host, READ): False,
        pki.token("alice", host, "storage.create:/elsewhere"): False,
        "garbage": False,
    }
    assert {token: door.is_taken_to_write(site, token, trust) for token in may} == may
    with pytest.raises(UnreachableError) as caught:
        door.is_taken_to_write(site, writer, None)
    assert caught.value.reason is Reason.SITE_UNREACHABLE


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buffer]:
    """Give a buffer with a file, as its pod has it: HAProxy before XRootD."""
    with live_buffer(tmp_path_factory.mktemp("live")) as made:
        assert made.call("PUT", f"{OUTBOX}/a file", data=b"x" * 1000).status_code == 201
        assert made.call("PUT", f"{OUTBOX}/empty", data=b"").status_code == 201
        yield made


def by_root(live: Buffer, *paths: str, token: str = "", bundle: str = "", host: str = "localhost") -> str:
    doors = XrootdEndpoints(bundle or live.bundle.read_text())
    return doors.can_read_by_root(host, live.root, paths or (f"{OUTBOX}/a file",), token or live.token) or ""


def test_files_and_directories_are_read_by_root(live: Buffer) -> None:
    assert by_root(live, f"{OUTBOX}/a file", f"{OUTBOX}/empty", f"{OUTBOX}/") == ""
    assert "absent gave 3011" in by_root(live, f"{OUTBOX}/absent")
    assert "absent/ gave 3011" in by_root(live, f"{OUTBOX}/absent/")
    assert f"open root://localhost:{live.root}/{OUTBOX} gave 3016" in by_root(live, OUTBOX)


def test_wrong_tokens_are_refused_by_root(live: Buffer) -> None:
    for token in ("garbage", f"{live.token[:-8]}AAAAAAAA", LocalAuthority(*LocalAuthority.create()).token(_claims())):
        why = by_root(live, token=token)
        assert why.startswith(f"token at root://localhost:{live.root} gave 3030 "), why
        assert token[-40:] not in why
    for rights in ("storage.read:/store", f"storage.modify:{OUTBOX}"):
        assert f"{OUTBOX}/a file gave 3010" in by_root(live, token=live.mint(rights))


def test_no_token_is_shown_by_root_to_who_is_not_the_buffer(live: Buffer) -> None:
    why = by_root(live, bundle=LocalAuthority.create()[0])
    assert why.startswith(f"TLS of root://localhost:{live.root} got no answer")
    assert "CERTIFICATE_VERIFY_FAILED" in why
    assert "CERTIFICATE_VERIFY_FAILED" in by_root(live, host="127.0.0.1")


def test_a_buffer_that_stands_still_is_not_waited_for_by_root(live: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xroot, "_SECONDS", 1.0)
    docker("pause", f"{live.name}-xrootd")
    begin = time.monotonic()
    try:
        why = by_root(live)
    finally:
        docker("unpause", f"{live.name}-xrootd")
    assert time.monotonic() - begin < 5
    assert "got no answer" in why
    monkeypatch.setattr(xroot, "_SECONDS", 10.0)
    assert by_root(live) == ""


def _claims() -> TokenClaims:
    return TokenClaims(ISSUER, "alice", AUDIENCE, RIGHTS, datetime.now(UTC) + timedelta(hours=1))
