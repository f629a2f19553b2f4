"""A site that is not like XRootD: Apache makes no directories, knows no checksums, tells no length, and redirects."""

from __future__ import annotations

import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from testbed import asking, grid, installation, pki, sites
from testbed.layout import DAV_SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import assert_nothing_left, new_dataset, output
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places
from volatile_rse.api.agent import (
    Copies,
    CopyOrder,
    CopyState,
    CopyTarget,
    GateState,
    InputFile,
    InputState,
    Manifest,
    OutputRule,
    OutputState,
    SealRequest,
    SiteTokens,
)
from volatile_rse.api.names import hash_path

pytestmark = pytest.mark.grid

RSE, HOST = next(iter(DAV_SITES.items()))
SCOPE = "user.alice"
READ, WRITE = "storage.read:/store", "storage.read:/store storage.create:/store storage.modify:/store"
DATA = os.urandom(300_000)
LARGE = 20 << 20
"""More than is read back anyway."""
POOL = "for-the-pool-alone"
"""Stands in the queries of its redirections."""


def call(method: str, path: str, token: str | None, **arguments: Any) -> requests.Response:
    sent = {} if token is None else {"Authorization": f"Bearer {token}"}
    url = f"https://localhost:{sites.davs_port(HOST)}{path}"
    sent |= arguments.pop("headers", {})
    return requests.request(
        method, url, headers=sent, verify=str(pki.CA), timeout=30, allow_redirects=False, **arguments
    )


def until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def folder() -> str:
    return f"/store/user/alice/{uuid.uuid4().hex}"


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    folders = [tmp_path / name for name in ("data", "run", "config", "tls")]
    made = Buffer(Places(*folders), first=0.1)
    made.start()
    yield made
    made.stop()


def manifest(*files: InputFile, plain: bool = False) -> Manifest:
    given = SecretStr(pki.token("alice", HOST, WRITE))
    credentials = {"localhost": SiteTokens(read=given, write=given, plain_redirects=plain)}
    trust = pki.CA.read_text()
    return Manifest(digest="1" * 64, claims=["claim-1"], inputs=list(files), credentials=credentials, trust=trust)


def davs(path: str) -> str:
    return f"davs://localhost:{sites.davs_port(HOST)}{path}"


def put(path: str, data: bytes) -> None:
    """Write a file, and the directories above it."""
    token, parts = pki.token("alice", HOST, WRITE), path.split("/")
    for end in range(3, len(parts)):
        assert call("MKCOL", "/".join(parts[:end]) + "/", token).status_code in {201, 405}
    assert call("PUT", path, token, data=data).status_code in {201, 204}


def input_file(path: str) -> InputFile:
    return InputFile(
        scope=SCOPE, name="f.root", entries=["data"], path="/store/user/alice/f.root", bytes=len(DATA),
        adler32=f"{zlib.adler32(DATA):08x}", sources=[davs(path)],
    )  # fmt: skip


def staged(buffer: Buffer) -> InputState:
    until(lambda: [state.state for state in buffer.ledger.every(InputState).values()] not in ([], ["wanted"]))
    [state] = buffer.ledger.every(InputState).values()
    return state


def copied(buffer: Buffer, size: int, path: str) -> CopyState:
    """Seal a file of a size, copy it, and give what came of it."""
    outbox = buffer.places.namespace / "outbox/claim-1"
    outbox.mkdir(parents=True, exist_ok=True)
    (outbox / "out.root").write_bytes(os.urandom(size))
    buffer.gate.fence(1)
    buffer.gate.reached(GateState(mode="fenced", generation=1))
    rule = OutputRule(claim="claim-1", name="out", patterns=["**"], scope=SCOPE, dataset="user.alice.out")
    buffer.sealing.order(SealRequest(generation=1, record_id="abcdefgh23", outputs=[rule]))
    buffer.sealing.join()
    [sealed] = buffer.ledger.every(OutputState).values()
    buffer.take(manifest())
    target = CopyTarget(rse=RSE, pfn=davs(path))
    buffer.copying.order(Copies(copies=[CopyOrder(scope=SCOPE, name=sealed.name or "", destinations=[target])]))
    until(lambda: [copy.state for copy in buffer.ledger.every(CopyState).values()] not in ([], ["wanted"]))
    [copy] = buffer.ledger.every(CopyState).values()
    return copy


def there(path: str) -> str:
    """Give the checksum of what the site has."""
    answer = call("GET", path, pki.token("alice", HOST, READ))
    assert answer.status_code == 200
    return f"{zlib.adler32(answer.content):08x}"


def adler32_of(buffer: Buffer) -> str | None:
    [sealed] = buffer.ledger.every(OutputState).values()
    return sealed.adler32


def test_the_site_obeys_tokens(folder: str) -> None:
    writer, reader = pki.token("alice", HOST, WRITE), pki.token("alice", HOST, READ)
    put(f"{folder}/f", DATA)
    wrong = (None, "garbage", pki.token("alice", "vrse-site-a", WRITE), f"{writer[:-8]}AAAAAAAA")
    for token in wrong:
        assert call("GET", f"{folder}/f", token).status_code == 401
        assert call("PUT", f"{folder}/f", token, data=b"x").status_code == 401
    for method in ("PUT", "DELETE", "MKCOL"):
        assert call(method, f"{folder}/f", reader, data=b"x").status_code == 401
    assert call("GET", f"{folder}/f", reader).content == DATA
    assert call("DELETE", f"{folder}/f", writer).status_code == 204


def test_the_site_is_as_unkind_as_it_has_to_be(folder: str) -> None:
    token = pki.token("alice", HOST, WRITE)
    assert call("PUT", f"{folder}/a/b/f", token, data=DATA).status_code == 409
    assert call("MKCOL", f"{folder}/a/b/", token).status_code == 409
    put(f"{folder}/f", DATA)
    answer = call("HEAD", f"{folder}/f", token, headers={"Want-Digest": "adler32", "Accept-Encoding": "identity"})
    assert answer.status_code == 200
    assert answer.headers.get("Content-Length") != str(len(DATA))
    assert "Digest" not in answer.headers
    assert call("GET", f"{folder}/f", token, headers={"Range": "bytes=0-0"}).content == DATA[:1]


@pytest.mark.parametrize("size", [0, 5, 3_000_000, LARGE])
def test_copies_arrive_in_directories_that_were_not_there(buffer: Buffer, folder: str, size: int) -> None:
    copy = copied(buffer, size, f"{folder}/ab/cd/out.root")
    assert (copy.state, copy.attempts) == ("verified", 1), copy.error
    assert there(f"{folder}/ab/cd/out.root") == adler32_of(buffer)


@pytest.mark.parametrize("size", [3_000_000, LARGE])
def test_a_wrong_file_is_replaced_and_a_right_one_left(buffer: Buffer, folder: str, size: int) -> None:
    path = f"{folder}/out.root"
    put(path, os.urandom(size))
    copy = copied(buffer, size, path)
    assert copy.state == "verified", copy.error
    token, adler32 = pki.token("alice", HOST, READ), adler32_of(buffer)
    assert there(path) == adler32
    before = call("GET", path, token, headers={"Range": "bytes=0-0"}).headers["Last-Modified"]
    time.sleep(1.1)  # its clock counts in seconds
    buffer.copying.order(
        Copies(
            copies=[CopyOrder(scope=copy.scope, name=copy.name, destinations=[CopyTarget(rse="AGAIN", pfn=davs(path))])]
        )
    )
    until(lambda: buffer.report().copies.verified == 2)
    assert call("GET", path, token, headers={"Range": "bytes=0-0"}).headers["Last-Modified"] == before


@pytest.mark.parametrize("size", [5, LARGE])
def test_an_upload_is_sent_where_the_door_redirects_it_to(buffer: Buffer, folder: str, size: int) -> None:
    put(f"{folder}/there", b"")
    copy = copied(buffer, size, f"{folder}/moved.out.root")
    assert (copy.state, copy.attempts) == ("verified", 1), copy.error
    assert there(f"{folder}/pool.out.root") == adler32_of(buffer)


def test_an_input_is_read_over_tls_alone(buffer: Buffer, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    put(f"{folder}/plain.root", DATA)
    buffer.take(manifest(input_file(f"{folder}/plain.root")))
    state = staged(buffer)
    assert state.state == "failed"
    assert "is redirected to plain http at" in (state.error or "")
    assert "plainRedirects for localhost in spec.sites of the VolatileRSEClass" in (state.error or "")
    assert POOL not in caplog.text + (state.error or "")


def test_an_input_is_read_without_tls_where_that_is_allowed(buffer: Buffer, folder: str) -> None:
    put(f"{folder}/plain.root", DATA)
    buffer.take(manifest(input_file(f"{folder}/plain.root"), plain=True))
    state = staged(buffer)
    assert state.state == "staged", state.error
    assert buffer.places.on_disk(state.path).read_bytes() == DATA


@pytest.fixture
def dataset() -> str:
    """Make a dataset of two files at the site, of which one is given out by plain http."""
    client, name, files = grid.client("root"), f"in.{uuid.uuid4().hex[:10]}", []
    for file in (f"{name}.0", f"plain.{name}.1"):
        data = os.urandom(100_000)
        put(f"/store/{hash_path(SCOPE, file)}", data)
        files.append({"scope": SCOPE, "name": file, "bytes": len(data), "adler32": f"{zlib.adler32(data):08x}"})
    client.add_dataset(SCOPE, name, lifetime=86400)
    client.add_replicas(RSE, files)
    client.attach_dids(SCOPE, name, files)
    return name


@pytest.mark.cluster
@pytest.mark.slow
def test_a_session_reads_from_such_a_site_and_keeps_its_outputs_there(session: Session, dataset: str) -> None:
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": [SCOPE]}]
    allowed = [{"host": HOST, "plainRedirects": True}]
    installation.apply([installation.class_of(session.namespace, grants, sites=allowed)])
    kept = new_dataset()
    # Rucio remembers for minutes what another expression meant: the site may have been made since.
    wanted = {"name": "in", "did": f"{SCOPE}:{dataset}", "sourceRSEExpression": RSE}
    session.request(inputs=[wanted], outputs=[output(kept, rseExpression=RSE)])
    session.job(
        "head -c 3000 /dev/urandom > /tmp/small.bin; head -c 20971520 /dev/urandom > /tmp/large.bin\n"
        "for name in small large; do\n"
        "xrdcp -s /tmp/$name.bin $ROOT_URL/$OUTBOX/kept/$name.bin; xrdadler32 /tmp/$name.bin\n"
        "done\n"
    )
    wait_for("the Job has written", session.succeeded, 180)
    said = [line.split()[0] for line in session.log().splitlines() if line.endswith(".bin")]
    record = session.wait_closed(240)
    files = asking.kept(SCOPE, kept, RSE)
    assert sorted(file.bytes for file in files) == [3000, LARGE]
    assert sorted(file.site_adler32 for file in files) == sorted(file.adler32 for file in files) == sorted(said)
    assert all(file.states == {RSE: "AVAILABLE"} for file in files)
    assert [(rule["state"], rule["rse_expression"]) for rule in asking.rules(SCOPE, kept)] == [("OK", RSE)]
    assert record["status"]["outcome"]["files"] == 2
    assert_nothing_left(record)
