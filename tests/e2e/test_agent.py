"""The buffer's agent and real sites: what XRootD says of ranges, checksums, uploads and refusals."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from testbed import containers, grid, pki
from testbed import sites as testbed_sites
from tests.e2e.flows import docker, headers
from volatile_rse.agent import copying
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

pytestmark = pytest.mark.grid

CLAIM = "claim-1"
DATA = os.urandom(3_000_000)


def until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def adler32(data: bytes) -> str:
    return f"{zlib.adler32(data):08x}"


class Sites:
    def __init__(self) -> None:
        self.facts = grid.grid()
        self.folder = f"/store/user/alice/agent-{uuid.uuid4().hex}"

    def url(self, rse: str, name: str) -> str:
        return f"davs{self.facts.davs_outside[rse].removeprefix('https')}{self.folder}/{name}"

    def call(self, method: str, url: str, **arguments: Any) -> requests.Response:
        address, sent = "https" + url.removeprefix("davs"), headers(method, self.facts.tokens[grid.ALICE])
        return requests.request(method, address, headers=sent, verify=self.facts.bundle, timeout=30, **arguments)

    def manifest(self, *files: InputFile, token: str | None = None) -> Manifest:
        given = SecretStr(token or self.facts.tokens[grid.ALICE])
        credentials = {"localhost": SiteTokens(read=given, write=given)}
        trust = Path(self.facts.bundle).read_text()
        return Manifest(digest="1" * 64, claims=[CLAIM], inputs=list(files), credentials=credentials, trust=trust)

    def put(self, rse: str, name: str, data: bytes) -> str:
        url = self.url(rse, name)
        assert self.call("PUT", url, data=data).status_code == 201
        return url


def input_file(name: str, data: bytes, *sources: str) -> InputFile:
    return InputFile(
        scope="user.alice", name=name, entries=["data"], path=f"/store/user/alice/{name}", bytes=len(data),
        adler32=adler32(data), sources=list(sources),
    )  # fmt: skip


@pytest.fixture(scope="module")
def sites() -> Sites:
    return Sites()


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    folders = [tmp_path / name for name in ("data", "run", "config", "tls")]
    made = Buffer(Places(*folders), first=0.1)
    made.start()
    yield made
    made.stop()


def test_inputs_arrive_from_the_site_that_has_them(buffer: Buffer, sites: Sites) -> None:
    there = sites.put("SITE-B", "there.root", DATA)
    buffer.take(sites.manifest(input_file("there.root", DATA, sites.url("SITE-A", "absent.root"), there)))
    until(lambda: buffer.report().inputs[0].staged == 1)
    assert (buffer.places.namespace / "store/user/alice/there.root").read_bytes() == DATA


def test_a_partial_file_is_resumed_by_a_range(buffer: Buffer, sites: Sites) -> None:
    file = input_file("f.root", DATA, sites.put("SITE-A", "f.root", DATA))
    partial = buffer.places.partial / hashlib.sha256(file.path.encode()).hexdigest()
    partial.write_bytes(DATA[:1_000_000])
    inode = partial.stat().st_ino
    buffer.take(sites.manifest(file))
    until(lambda: buffer.report().inputs[0].staged == 1)
    path = buffer.places.on_disk(file.path)
    assert (path.read_bytes(), path.stat().st_ino) == (DATA, inode)


def test_hundreds_of_small_files_arrive(buffer: Buffer, sites: Sites) -> None:
    url = sites.put("SITE-A", "small.root", DATA[:10_000])
    files = [input_file(f"small.{number}.root", DATA[:10_000], url) for number in range(300)]
    buffer.take(sites.manifest(*files))
    until(lambda: buffer.report().inputs[0].staged == len(files))


def test_a_refused_token_is_an_error_that_names_the_file(buffer: Buffer, sites: Sites) -> None:
    url = sites.put("SITE-A", "secret.root", DATA)
    buffer.take(sites.manifest(input_file("secret.root", DATA, url), token="no-token"))
    until(lambda: buffer.ledger.get(InputState, b"/store/user/alice/secret.root").state == "failed")  # type: ignore[union-attr]
    [failure] = buffer.report().failures
    assert "403" in failure.error
    assert url in failure.error


def sealed(buffer: Buffer, *, size: int = len(DATA)) -> OutputState:
    [output] = all_sealed(buffer, {"out.root": DATA[:size]})
    return output


def all_sealed(buffer: Buffer, files: Mapping[str, bytes]) -> list[OutputState]:
    outbox = buffer.places.namespace / "outbox" / CLAIM
    outbox.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (outbox / name).write_bytes(data)
    buffer.gate.fence(1)
    buffer.gate.reached(GateState(mode="fenced", generation=1))
    rule = OutputRule(claim=CLAIM, name="out", patterns=["**"], scope="user.alice", dataset="user.alice.out")
    buffer.sealing.order(SealRequest(generation=1, record_id="abcdefgh23", outputs=[rule]))
    buffer.sealing.join()
    outputs = list(buffer.ledger.every(OutputState).values())
    assert {output.state for output in outputs} == {"sealed"}
    assert len(outputs) == len(files)
    return outputs


def order(output: OutputState, *targets: CopyTarget) -> Copies:
    return Copies(copies=[CopyOrder(scope=output.scope or "", name=output.name or "", destinations=list(targets))])


@pytest.mark.parametrize("size", [0, 5, len(DATA)])
def test_copies_are_verified_by_the_sites_own_checksum(buffer: Buffer, sites: Sites, size: int) -> None:
    output = sealed(buffer, size=size)
    buffer.take(sites.manifest())
    targets = [CopyTarget(rse=rse, pfn=sites.url(rse, f"new/{size}/out.root")) for rse in ("SITE-A", "SITE-B")]
    buffer.copying.order(order(output, *targets))
    until(lambda: buffer.report().copies.verified == 2)
    for target in targets:
        answer = sites.call("GET", target.pfn)
        assert answer.content == DATA[:size]
        assert sites.call("HEAD", target.pfn).headers["Digest"] == f"adler32={output.adler32}"


def test_a_wrong_file_at_the_destination_is_overwritten(buffer: Buffer, sites: Sites) -> None:
    output = sealed(buffer)
    wrong = sites.put("SITE-A", "wrong.root", DATA[1:] + b"!")
    buffer.take(sites.manifest())
    buffer.copying.order(order(output, CopyTarget(rse="SITE-A", pfn=wrong)))
    until(lambda: buffer.report().copies.verified == 1)
    assert sites.call("GET", wrong).content == DATA


def test_a_destination_that_refuses_fails_after_three_attempts(buffer: Buffer, sites: Sites) -> None:
    output = sealed(buffer)
    buffer.take(sites.manifest(token="no-token"))
    buffer.copying.order(order(output, CopyTarget(rse="SITE-A", pfn=sites.url("SITE-A", "refused.root"))))
    until(lambda: buffer.report().copies.failed == 1)
    [copy] = buffer.ledger.every(CopyState).values()
    assert copy.attempts == 3
    assert "403" in (copy.error or "")


def copied(buffer: Buffer, outputs: Sequence[OutputState], url: Callable[[str], str]) -> None:
    """Copy all of them, each at its first attempt."""
    orders = [order(output, CopyTarget(rse="SITE", pfn=url(output.path))) for output in outputs]
    buffer.copying.order(Copies(copies=[copy for each in orders for copy in each.copies]))
    until(lambda: buffer.report().copies.verified == len(outputs), 120)
    assert {copy.attempts for copy in buffer.ledger.every(CopyState).values()} == {1}


@pytest.mark.parametrize("longest_read_back", [0, 1 << 20])
def test_hundreds_of_copies_are_verified(
    buffer: Buffer, sites: Sites, monkeypatch: pytest.MonkeyPatch, longest_read_back: int
) -> None:
    monkeypatch.setattr(copying, "_READ_BACK", longest_read_back)
    outputs = all_sealed(buffer, {f"{number}.root": DATA[number : number + 20_000] for number in range(200)})
    buffer.take(sites.manifest())
    copied(buffer, outputs, lambda name: sites.url("SITE-B", f"many/{longest_read_back}/{name}"))


@pytest.fixture
def old_site() -> Iterator[str]:
    """Give a site that runs Debian's XRootD: it does not come through questions for digests at once."""
    name = f"vrse-test-old-{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["docker", "logs", "--tail", "100", name], check=False)
    containers.remove(name, volumes=[name])
    for file in pki.CA.parent.glob(f"{name}.*"):
        file.unlink()


@pytest.mark.slow
def test_an_older_xrootd_at_a_destination_comes_through(buffer: Buffer, sites: Sites, old_site: str) -> None:
    testbed_sites.start("an older one", old_site, testbed_sites.image("debian"))
    large = os.urandom(17 << 20)
    files = {f"{number}.root": DATA[number : number + 20_000] for number in range(200)}
    outputs = all_sealed(buffer, files | {f"large.{number}.root": large[number:] for number in range(3)})
    token = pki.token("alice", old_site, "storage.read:/store storage.create:/store storage.modify:/store")
    buffer.take(sites.manifest(token=token))
    began = docker("inspect", "--format", "{{.State.StartedAt}}", old_site)
    address = f"davs://localhost:{testbed_sites.davs_port(old_site)}{sites.folder}"
    copied(buffer, outputs, lambda name: f"{address}/{name}")
    # Nothing starts it again.
    assert docker("inspect", "--format", "{{.State.StartedAt}} {{.State.Running}}", old_site) == f"{began} true"
