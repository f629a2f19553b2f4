"""What the door of a real XRootD tells about a token."""

from __future__ import annotations

import uuid

import pytest
import requests

from testbed import pki, sites
from testbed.layout import SITES
from volatile_rse.adapters.endpoints import HttpsEndpoints
from volatile_rse.ports.errors import UnreachableError

pytestmark = pytest.mark.grid

HOST = SITES["SITE-A"]
READ, WRITE = "storage.read:/store", "storage.read:/store storage.modify:/store"


@pytest.fixture(scope="module")
def door() -> HttpsEndpoints:
    return HttpsEndpoints(pki.CA.read_text())


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
def test_what_is_there_can_be_read(door: HttpsEndpoints, folder: str, name: str) -> None:
    port = sites.davs_port(HOST)
    assert door.can_read("localhost", port, f"{folder}/{name}", pki.token("alice", HOST, READ)) is None
    why = door.can_read("localhost", port, f"{folder}/{name}", "garbage")
    assert why is not None
    assert "gave 403" in why


@pytest.mark.parametrize("name", ["absent", "absent/"])
def test_what_is_not_there_cannot(door: HttpsEndpoints, folder: str, name: str) -> None:
    token = pki.token("alice", HOST, READ)
    why = door.can_read("localhost", sites.davs_port(HOST), f"{folder}/{name}", token)
    assert why is not None
    assert "gave 404" in why


def test_a_probe_tells_writers_from_readers_and_leaves_nothing(door: HttpsEndpoints, folder: str) -> None:
    port, writer = sites.davs_port(HOST), pki.token("alice", HOST, WRITE)
    for token, may in ((writer, True), (pki.token("alice", HOST, READ), False), ("garbage", False)):
        assert door.can_write("localhost", port, f"{folder}/", token) == may
    headers = {"Authorization": f"Bearer {writer}", "Depth": "1"}
    url = f"https://localhost:{port}{folder}/"
    listing = requests.request("PROPFIND", url, headers=headers, verify=str(pki.CA), timeout=30)
    assert "empty" in listing.text
    assert "probe" not in listing.text


def test_the_size_of_a_file_is_what_the_site_says(door: HttpsEndpoints, folder: str) -> None:
    token, trust = pki.token("alice", HOST, READ), pki.CA.read_text()
    site = f"davs://localhost:{sites.davs_port(HOST)}{folder}"
    assert door.size(f"{site}/a file", token, trust) == 1000
    assert door.size(f"{site}/empty", token, trust) == 0
    assert door.size(f"{site}/absent", token, trust) is None
    for wrong in ({"token": "garbage", "trust": trust}, {"token": token, "trust": None}):
        with pytest.raises(UnreachableError):
            door.size(f"{site}/a file", **wrong)
