"""What the reconciler relies on of a buffer's agent, shown on the fake and on one that stands beside a real XRootD."""

from __future__ import annotations

import hashlib
import re
import ssl
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
import requests
from pydantic import SecretStr

from testbed import grid
from tests.e2e import buffer_containers as containers
from tests.e2e.buffer_containers import CLAIM, LEASES, OUTBOX, PUBLISH, RECORD
from tests.e2e.flows import docker, headers
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.api.agent import (
    DATA,
    PROBE,
    Copies,
    CopyOrder,
    CopyState,
    CopyTarget,
    Failure,
    FenceRequest,
    GateState,
    InputFile,
    InputState,
    LeaseTotals,
    Manifest,
    OutputRule,
    OutputState,
    SealRequest,
    SessionWords,
    SiteTokens,
    ToldOutput,
    status_path,
)
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import RefusedError

_LATER = datetime.now(UTC) + timedelta(hours=1)
SCOPE, SITE, HOST = "user.alice", "SITE-A", "localhost"
PLOTS = OutputRule(claim=CLAIM, name="plots", patterns=["plots/**/*.root"], scope=SCOPE, dataset="user.alice.plots")
REST = OutputRule(claim=CLAIM, name="rest", patterns=["*.txt", "note*"], scope=SCOPE, dataset="user.alice.rest")
NO_FAILURE = Failure(what="", error="")
SEAL = SealRequest(generation=1, record_id=RECORD, outputs=[PLOTS, REST])


class Around(Protocol):
    """A buffer, its session and a site."""

    buffer: Buffer
    door: Endpoints
    token: str
    """Of its session."""

    @property
    def port(self) -> int: ...
    @property
    def root(self) -> int: ...
    def minted(self, rights: str, issuer: str = containers.ISSUER) -> str: ...
    def credentials(self) -> tuple[dict[str, SiteTokens], str | None]: ...
    def url(self, name: str) -> str: ...
    def put(self, url: str, data: bytes) -> None: ...
    def has(self, url: str) -> tuple[int, str] | None: ...
    def write(self, path: str, data: bytes) -> None: ...
    def begin(self, path: str) -> None: ...
    def publish(self, path: str, data: bytes) -> None: ...
    def lease(self, name: str, content: bytes) -> None: ...
    def release(self, name: str) -> None: ...
    def is_refused(self, path: str) -> bool: ...
    def spoil(self, file: InputFile) -> None: ...
    def mend(self, file: InputFile, data: bytes) -> None: ...
    def block(self, rule: OutputRule, path: str) -> Callable[[], None]: ...
    def shut(self, url: str) -> Callable[[], None]: ...
    def restart(self) -> None: ...
    def lose_volume(self) -> None: ...
    def settle(self, holds: Callable[[], object]) -> None: ...


class FakeAround(Around):
    def __init__(self) -> None:
        self.buffer: FakeBuffer = FakeBuffer()
        self.door = FakeEndpoints({HOST: self.buffer})
        self._authority = LocalAuthority(*LocalAuthority.create())
        self.token = self.minted(containers.RIGHTS)
        self.buffer.issuers = {containers.ISSUER, containers.OPERATOR}

    def minted(self, rights: str, issuer: str = containers.ISSUER) -> str:
        return containers.minted(self._authority, rights, issuer)

    @property
    def port(self) -> int:
        return 1

    @property
    def root(self) -> int:
        return 2

    def credentials(self) -> tuple[dict[str, SiteTokens], str | None]:
        token = SecretStr("token")
        return {"site-a": SiteTokens(read=token, write=token)}, None

    def url(self, name: str) -> str:
        return f"davs://site-a/{name}"

    def put(self, url: str, data: bytes) -> None:
        pass

    def has(self, url: str) -> tuple[int, str] | None:
        return self.buffer.sites.get(url)

    def write(self, path: str, data: bytes) -> None:
        self.buffer.write(CLAIM, path, data)

    def begin(self, path: str) -> None:
        self.buffer.write(CLAIM, path, b"half", torn=True)

    def publish(self, path: str, data: bytes) -> None:
        self.buffer.publish(CLAIM, path, data)

    def lease(self, name: str, content: bytes) -> None:
        self.buffer.now = lambda: datetime.now(UTC)
        self.buffer.lease(CLAIM, name, content)

    def release(self, name: str) -> None:
        self.buffer.release(CLAIM, name)

    def is_refused(self, path: str) -> bool:
        try:
            self.buffer.write(CLAIM, path, b"late")
        except PermissionError:
            return True
        return False

    def _break(self, place: str, error: str) -> Callable[[], None]:
        self.buffer.broken[place] = error

        def mended() -> None:
            del self.buffer.broken[place]

        return mended

    def spoil(self, file: InputFile) -> None:
        self._break(file.path, f"{file.sources[0]}: adler32 is not {file.adler32}")

    def mend(self, file: InputFile, data: bytes) -> None:
        del self.buffer.broken[file.path], data

    def block(self, rule: OutputRule, path: str) -> Callable[[], None]:
        return self._break(path, f"{rule.named(RECORD, path.encode())[1]} is another file already")

    def shut(self, url: str) -> Callable[[], None]:
        return self._break(url, f"PUT {url}: refused")

    def restart(self) -> None:
        self.buffer.restart()

    def lose_volume(self) -> None:
        self.buffer.lose_volume()

    def settle(self, holds: Callable[[], object]) -> None:
        for _ in range(3):
            self.buffer.advance()
        assert holds()


class RealAround(Around):
    def __init__(self, live: containers.Buffer) -> None:
        self._live = live
        self.buffer = live.client
        self.door = XrootdEndpoints(live.bundle.read_text())
        self.token = live.token
        self._facts = grid.grid()
        self._folder = f"/store/user/alice/contract-{uuid.uuid4().hex}"
        self._uploads: list[ssl.SSLSocket] = []

    def minted(self, rights: str, issuer: str = containers.ISSUER) -> str:
        return self._live.mint(rights, issuer)

    @property
    def port(self) -> int:
        return self._live.davs

    @property
    def root(self) -> int:
        return self._live.root

    def credentials(self) -> tuple[dict[str, SiteTokens], str | None]:
        host = self._facts.davs[SITE].removeprefix("https://").partition(":")[0]
        token = SecretStr(self._facts.tokens[grid.ALICE])
        return {host: SiteTokens(read=token, write=token)}, Path(self._facts.bundle).read_text()

    def url(self, name: str) -> str:
        return f"{self._facts.davs[SITE].replace('https', 'davs')}{self._folder}/{name}"

    def _call(self, method: str, url: str, data: bytes = b"") -> requests.Response:
        address = url.replace(self._facts.davs[SITE].replace("https", "davs"), self._facts.davs_outside[SITE])
        sent = headers(method, self._facts.tokens[grid.ALICE])
        return requests.request(method, address, headers=sent, data=data, verify=self._facts.bundle, timeout=30)

    def put(self, url: str, data: bytes) -> None:
        assert self._call("PUT", url, data).status_code == 201

    def has(self, url: str) -> tuple[int, str] | None:
        answer = self._call("HEAD", url)
        if answer.status_code == 404:
            return None
        return int(answer.headers["Content-Length"]), answer.headers["Digest"].removeprefix("adler32=")

    def write(self, path: str, data: bytes) -> None:
        assert self._live.call("PUT", f"{OUTBOX}/{path}", data=data).status_code == 201

    def begin(self, path: str) -> None:
        self._uploads.append(self._live.upload_begun(f"{OUTBOX}/{path}", 4_000_000))
        containers.until(lambda: self._live.mode(f"{OUTBOX}/{path}").startswith("1"))

    def publish(self, path: str, data: bytes) -> None:
        self.write(path, data)
        door = f"https://localhost:{self._live.davs}"
        sent = headers("MOVE", self._live.token) | {"Destination": f"{door}{PUBLISH}/{path}"}
        answer = requests.request(
            "MOVE", f"{door}{OUTBOX}/{path}", headers=sent, verify=str(self._live.bundle), timeout=20
        )
        assert answer.status_code in {201, 204}, answer.text

    def lease(self, name: str, content: bytes) -> None:
        answer = self._live.call("PUT", f"{LEASES}/{name}", data=content)
        if answer.status_code == 403:
            raise PermissionError(answer.text)
        assert answer.status_code in {200, 201, 204}, answer.text

    def release(self, name: str) -> None:
        assert self._live.call("DELETE", f"{LEASES}/{name}").status_code in {200, 204}

    def is_refused(self, path: str) -> bool:
        return self._live.call("PUT", f"{OUTBOX}/{path}", data=b"late").status_code == 403

    def spoil(self, file: InputFile) -> None:
        self.put(file.sources[0], b"!" * file.bytes)

    def mend(self, file: InputFile, data: bytes) -> None:
        self.put(file.sources[0], data)

    def block(self, rule: OutputRule, path: str) -> Callable[[], None]:
        place = f"{DATA}/ns{rule.named(RECORD, path.encode())[1]}"
        self._live.on_disk(f"mkdir -p $(dirname {place}) && echo other > {place}")

        def cleared() -> None:
            self._live.on_disk(f"rm {place}")

        return cleared

    def shut(self, url: str) -> Callable[[], None]:
        # A file where its folder should be.
        folder = url.rpartition("/")[0]
        self.put(folder, b"no folder")

        def opened() -> None:
            assert self._call("DELETE", folder).status_code in {200, 204}

        return opened

    def restart(self) -> None:
        docker("kill", f"{self._live.name}-agent")
        self._live.start_agent()

    def lose_volume(self) -> None:
        docker("kill", f"{self._live.name}-agent")
        self._live.on_disk(f"rm -rf {DATA}/* {DATA}/.[!.]*")
        docker("restart", "-t", "1", f"{self._live.name}-xrootd")
        self._live.start_agent()

    def settle(self, holds: Callable[[], object]) -> None:
        containers.until(lambda: bool(holds()), 60)

    def close(self) -> None:
        for upload in self._uploads:
            upload.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.grid)])
def around(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Around]:
    if request.param == "fake":
        yield FakeAround()
        return
    with containers.live_buffer(tmp_path) as live:
        made = RealAround(live)
        yield made
        made.close()


def adler32(data: bytes) -> str:
    return f"{zlib.adler32(data):08x}"


def input_file(around: Around, name: str, data: bytes) -> InputFile:
    url = around.url(name)
    around.put(url, data)
    return InputFile(
        scope=SCOPE, name=name, entries=["in"], path=f"/store/user/alice/{name}", bytes=len(data),
        adler32=adler32(data), sources=[url],
    )  # fmt: skip


def manifest(around: Around, *files: InputFile, digest: str = "1" * 64, continuous: bool = False) -> Manifest:
    credentials, trust = around.credentials()
    made = Manifest(digest=digest, claims=[CLAIM], inputs=list(files), credentials=credentials, trust=trust)
    rules = {"outputs": [PLOTS, REST], "continuous": ["plots"], "record_id": RECORD}
    return made.model_copy(update=rules) if continuous else made


def fenced(around: Around) -> None:
    around.buffer.fence(FenceRequest(generation=1))
    around.settle(lambda: around.buffer.report().actual == GateState(mode="fenced", generation=1))


def sealed(around: Around) -> dict[str, OutputState]:
    around.buffer.seal(SEAL)
    around.settle(lambda: is_sealed(around))
    return {state.path: state for state in around.buffer.outputs().items}


def is_sealed(around: Around) -> bool:
    seal = around.buffer.report().seal
    return seal is not None and (seal.state, seal.error, seal.idle) == ("done", None, None)


def order(state: OutputState, url: str) -> Copies:
    target = CopyTarget(rse=SITE, pfn=url)
    return Copies(copies=[CopyOrder(scope=state.scope or "", name=state.name or "", destinations=[target])])


def test_a_buffer_that_was_told_nothing(around: Around) -> None:
    report = around.buffer.report()
    assert (report.manifest, report.seal, report.inputs, report.outputs, report.failures) == (None, None, [], [], [])
    assert (report.desired, report.actual) == (GateState(mode="open", generation=0),) * 2
    assert (report.copies.files, report.partial_files, report.partial_bytes, report.xrootd_restarts) == (0, 0, 0, 0)
    assert 0 < report.space.bytes_free <= report.space.bytes
    assert 0 < report.space.inodes_free <= report.space.inodes
    assert set(report.knows) == {
        "outputs",
        "continuous",
        "sourceless",
        "listing",
        "md5",
        "plainRedirects",
        "barred",
        "leases",
        "status",
    }
    assert report.leases is None
    assert report.told is None
    for page in (around.buffer.inputs(), around.buffer.outputs(), around.buffer.copies()):
        assert (page.items, page.next) == ([], None)


def test_leases_are_told_until_they_are_released_and_none_is_taken_after_the_fence(around: Around) -> None:
    def told() -> LeaseTotals:
        [found] = around.buffer.report().leases or []
        return found

    def is_until(hours: int) -> bool:
        found, clock = told(), around.buffer.report().clock
        return found.until is not None and clock is not None and 0 <= clock + hours * 3600 - found.until < 60

    around.buffer.send_manifest(manifest(around))
    assert told() == LeaseTotals(claim=CLAIM)
    around.lease("job-1", b"2h")
    assert (told().held, told().odd) == (1, [])
    assert is_until(2)
    around.lease("job-2", b"")
    around.lease("job-1", b"3h\n")
    assert told().held == 2
    assert is_until(3)
    around.release("job-1")
    assert (told().held, told().taken) == (1, True)
    assert is_until(1)
    around.lease("job-3", b"till tomorrow")
    assert told().held == 2
    [odd] = told().odd
    assert "job-3: what is in it is no duration" in odd
    fenced(around)
    with pytest.raises(PermissionError):
        around.lease("late", b"7d")
    assert told().held == 2


def test_the_session_reads_how_it_stands_with_its_own_token_also_behind_a_fence(around: Around) -> None:
    path = status_path(CLAIM)
    words = SessionWords(digest="5" * 64, claim=CLAIM, rse="VRSE-X", outputs=[ToldOutput(name="plots", safe=1)])
    around.buffer.tell_session(words)
    assert around.buffer.report().told == "5" * 64
    token = around.minted(f"storage.read:{path.rpartition('/')[0]}")
    around.settle(lambda: around.door.can_read(HOST, around.port, path, token) is None)
    assert around.door.is_refused(HOST, around.port, path, around.minted("storage.read:/store/user"))
    assert not around.door.can_write(HOST, around.port, path, token)
    around.buffer.fence(FenceRequest(generation=1))
    around.settle(lambda: around.buffer.report().actual.mode == "fenced")
    around.settle(lambda: around.door.can_read(HOST, around.port, path, token) is None)
    around.restart()
    assert around.buffer.report().told is None, "it is told again"


def test_inputs_are_staged_and_what_failed_is_tried_again_when_it_is_wanted_again(around: Around) -> None:
    buffer, contents = around.buffer, {"x": b"first", "y": b"second", "z": b""}
    files = [input_file(around, name, data) for name, data in contents.items()]
    around.spoil(files[1])
    buffer.send_manifest(manifest(around, *files))
    assert buffer.report().manifest == "1" * 64
    around.settle(lambda: buffer.report().inputs[0].failed == 1)
    around.settle(lambda: buffer.report().inputs[0].staged == 2)
    (total,) = buffer.report().inputs
    assert (total.name, total.files, total.bytes, total.staged_bytes) == ("in", 3, 11, 5)
    states = {state.name: state for state in buffer.inputs().items}
    assert {name: state.state for name, state in states.items()} == {"x": "staged", "y": "failed", "z": "staged"}
    assert "adler32" in (states["y"].error or "")
    assert [failure.error for failure in buffer.report().failures] == [states["y"].error]
    told = [InputState.model_validate(states[file.name]) for file in files]
    assert [(state.path, state.bytes, state.adler32) for state in told] == [
        (file.path, file.bytes, file.adler32) for file in files
    ]
    before = buffer.report().version
    around.mend(files[1], contents["y"])
    buffer.send_manifest(manifest(around, *files, digest="2" * 64))
    around.settle(lambda: buffer.report().inputs[0].staged == 3)
    assert buffer.report().manifest == "2" * 64
    assert buffer.report().failures == []
    changed = buffer.inputs(max(state.version for state in states.values())).items
    assert {(state.name, state.state) for state in changed} == {("y", "staged")}, "only what has changed since"
    assert buffer.report().version > before


def test_an_input_with_md5_alone_is_told_with_the_adler32_that_it_was_found_to_have(around: Around) -> None:
    buffer, data = around.buffer, b"data"
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    files = [input_file(around, name, data) for name in ("x", "y")]
    files = [InputFile.model_validate(file.model_dump() | {"adler32": None, "md5": md5}) for file in files]
    around.spoil(files[1])
    buffer.send_manifest(manifest(around, *files))
    around.settle(lambda: buffer.report().inputs[0].failed == 1)
    around.settle(lambda: buffer.report().inputs[0].staged == 1)
    found, spoilt = sorted(buffer.inputs().items, key=lambda state: state.name)
    assert (found.state, found.md5, spoilt.state, spoilt.adler32) == ("staged", md5, "failed", None)
    assert re.fullmatch(r"[0-9a-f]{8}", found.adler32 or "")


def test_an_agent_that_restarts_has_forgotten_its_manifest_and_nothing_else(around: Around) -> None:
    buffer, file = around.buffer, input_file(around, "x", b"data")
    buffer.send_manifest(manifest(around, file))
    around.settle(lambda: buffer.report().inputs[0].staged == 1)
    around.write("notes", b"notes")
    fenced(around)
    before, outputs = buffer.report(), sealed(around)
    around.restart()
    report = buffer.report()
    assert (report.manifest, report.volume) == (None, before.volume)
    assert (report.desired, report.actual) == (before.desired, before.actual)
    assert is_sealed(around)
    assert {state.path: state for state in buffer.outputs().items} == outputs
    assert [state.state for state in buffer.inputs().items] == ["staged"]


def test_an_input_that_is_wanted_no_more_is_still_told_of_and_counted(around: Around) -> None:
    buffer = around.buffer
    first, second = input_file(around, "x", b"data"), input_file(around, "y", b"other data")
    buffer.send_manifest(manifest(around, first))
    around.settle(lambda: buffer.report().inputs[0].staged == 1)
    buffer.send_manifest(manifest(around, second, digest="2" * 64))
    around.settle(lambda: buffer.report().inputs[0].staged == 2)
    assert buffer.report().inputs[0].files == 2
    assert {state.name for state in buffer.inputs().items} == {"x", "y"}


def test_another_volume_is_told_and_has_nothing(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around, input_file(around, "x", b"data")))
    around.settle(lambda: buffer.report().inputs[0].staged == 1)
    around.write("notes", b"notes")
    fenced(around)
    before = buffer.report().volume
    around.lose_volume()
    report = buffer.report()
    assert report.volume != before
    assert (report.manifest, report.seal, report.inputs, report.outputs) == (None, None, [], [])
    assert report.desired.mode == "open"
    assert buffer.inputs().items == []


def test_a_fence_is_for_good(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around))
    around.write("notes", b"notes")
    assert buffer.fence(FenceRequest(generation=2)) == GateState(mode="fenced", generation=2)
    assert buffer.report().desired == GateState(mode="fenced", generation=2)
    around.settle(lambda: buffer.report().actual == GateState(mode="fenced", generation=2))
    assert around.is_refused("late")
    with pytest.raises(RefusedError, match="older"):
        buffer.fence(FenceRequest(generation=1))
    assert buffer.fence(FenceRequest(generation=2)) == GateState(mode="fenced", generation=2)
    assert buffer.report().actual == GateState(mode="fenced", generation=2)


def test_outputs_are_sealed_once_nobody_can_write(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around))
    contents = {"plots/a.root": b"a", "plots/deep/b.root": b"", "notes": b"notes", "other/c": b"c"}
    for path, data in contents.items():
        around.write(path, data)
    around.begin("plots/torn.root")
    with pytest.raises(RefusedError, match=r"fence first|open"):
        buffer.seal(SEAL)
    fenced(around)
    states = sealed(around)
    assert {path: (state.state, state.output) for path, state in states.items()} == {
        "plots/a.root": ("sealed", "plots"), "plots/deep/b.root": ("sealed", "plots"), "notes": ("sealed", "rest"),
        "other/c": ("unmatched", None), "plots/torn.root": ("torn", "plots"),
    }  # fmt: skip
    for rule, path in ((PLOTS, "plots/a.root"), (PLOTS, "plots/deep/b.root"), (REST, "notes")):
        state = states[path]
        assert (state.name, state.store_path) == rule.named(RECORD, path.encode())
        assert (state.claim, state.scope) == (CLAIM, SCOPE)
        assert (state.bytes, state.adler32) == (len(contents[path]), adler32(contents[path]))
    assert [states[path].name for path in ("other/c", "plots/torn.root")] == [None, None]
    totals = {total.name: (total.files, total.sealed, total.torn, total.failed) for total in buffer.report().outputs}
    assert totals == {"plots": (3, 2, 1, 0), "rest": (1, 1, 0, 0), None: (1, 0, 0, 0)}
    assert buffer.report().unmatched == ["other/c"]
    version = buffer.report().version
    buffer.seal(SEAL)
    assert is_sealed(around)
    assert buffer.report().version == version, "what is done is not done again"


def test_an_odd_name_is_sealed_by_its_bytes_and_told_as_people_may_read_it(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around))
    odd, long = "a\x1b[31mb\u202etoor.txt", f"plots/{'d' * 120}/{'e' * 120}/f.root"
    for path in (odd, long):
        around.write(path, path.encode())
    fenced(around)
    states = sealed(around)
    told = {r"a\x1b[31mb\u202etoor.txt": (REST, odd), long: (PLOTS, long)}
    assert {path: (state.state, state.name) for path, state in states.items()} == {
        path: ("sealed", rule.named(RECORD, raw.encode())[0]) for path, (rule, raw) in told.items()
    }


def test_a_file_that_cannot_be_sealed_keeps_no_other_back_and_is_tried_again(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around))
    for path in ("plots/a.root", "plots/b.root"):
        around.write(path, path.encode())
    fenced(around)
    mended = around.block(PLOTS, "plots/a.root")
    states = sealed(around)
    assert {path: state.state for path, state in states.items()} == {"plots/a.root": "failed", "plots/b.root": "sealed"}
    assert "is another file already" in (states["plots/a.root"].error or "")
    assert states["plots/a.root"].adler32 is None
    assert [total.failed for total in buffer.report().outputs] == [1]
    mended()
    again = sealed(around)
    assert {state.state for state in again.values()} == {"sealed"}
    assert again["plots/b.root"] == states["plots/b.root"]
    assert again["plots/a.root"].error is None


def test_copies_are_verified_and_failed_ones_get_new_attempts(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around))
    around.write("notes", b"notes")
    around.write("more.txt", b"more")
    fenced(around)
    states = sealed(around)
    unknown = states["notes"].model_copy(update={"name": "unknown"})
    with pytest.raises(RefusedError, match="no sealed output"):
        buffer.copy(order(unknown, around.url("unknown")))
    assert buffer.copies().items == []
    good, bad = around.url("copies/notes"), around.url("shut/more")
    opened = around.shut(bad)
    buffer.copy(order(states["notes"], good))
    buffer.copy(order(states["more.txt"], bad))
    around.settle(lambda: buffer.report().copies.verified == 1)
    around.settle(lambda: buffer.report().copies.failed == 1)
    assert around.has(good) == (5, states["notes"].adler32)
    copies = {copy.pfn: copy for copy in buffer.copies().items}
    assert copies[bad].attempts >= 1
    assert copies[bad].error
    assert copies[good] == CopyState(
        version=copies[good].version, scope=SCOPE, name=states["notes"].name, rse=SITE, pfn=good, state="verified",
        attempts=1,
    )  # fmt: skip
    total = buffer.report().copies
    assert (total.files, total.bytes, total.verified_bytes) == (2, 9, 5)
    opened()
    buffer.copy(order(states["notes"], good))
    buffer.copy(order(states["more.txt"], bad))
    around.settle(lambda: buffer.report().copies.verified == 2)
    assert around.has(bad) == (4, states["more.txt"].adler32)
    assert next(copy for copy in buffer.copies().items if copy.pfn == good) == copies[good], "it was copied once"


def test_a_site_is_shown_what_is_for_it_and_nothing_else(around: Around) -> None:
    buffer, file = around.buffer, input_file(around, "read", b"read")
    whole = manifest(around, file)
    [(host, tokens)] = whole.credentials.items()

    def send(digest: str, credentials: dict[str, SiteTokens]) -> None:
        buffer.send_manifest(whole.model_copy(update={"digest": digest * 64, "credentials": credentials}))
        assert buffer.report().sites == sorted(credentials)

    send("2", {"another.example.org": tokens})
    around.settle(lambda: buffer.report().inputs[0].failed == 1)
    assert "none of the sites that the operator has named" in buffer.report().failures[0].error
    send("3", {host: tokens.model_copy(update={"paths": ["/elsewhere"]})})
    around.settle(lambda: "no folder that the token" in (buffer.report().failures or [NO_FAILURE])[0].error)
    send("4", {host: tokens.model_copy(update={"write": None})})
    around.settle(lambda: buffer.report().inputs[0].staged == 1)
    around.write("notes", b"notes")
    fenced(around)
    notes, target = sealed(around)["notes"], around.url("notes")
    buffer.copy(order(notes, target))
    around.settle(lambda: buffer.report().copies.failed == 1)
    assert "403" in (buffer.copies().items[0].error or "")
    send("5", whole.credentials)
    buffer.copy(order(notes, target))
    around.settle(lambda: buffer.report().copies.verified == 1)


def test_what_is_published_is_sealed_while_the_session_writes_on(around: Around) -> None:
    buffer = around.buffer
    buffer.send_manifest(manifest(around, continuous=True))
    around.write("plots/a.root", b"a")
    around.publish("plots/b.root", b"b")
    around.settle(lambda: sum(total.sealed for total in buffer.report().outputs) == 1)
    report = buffer.report()
    assert (report.actual.mode, report.seal) == ("open", None)
    taken = {state.path: state for state in buffer.outputs().items if state.state == "sealed"}
    assert list(taken) == ["plots/b.root"]
    assert (taken["plots/b.root"].name, taken["plots/b.root"].adler32) == (
        PLOTS.named(RECORD, b"plots/b.root")[0],
        adler32(b"b"),
    )
    around.settle(lambda: sum(total.files for total in buffer.report().outputs) == 2)
    fenced(around)
    states = sealed(around)
    assert {path: state.state for path, state in states.items()} == {"plots/a.root": "sealed", "plots/b.root": "sealed"}
    assert states["plots/b.root"] == taken["plots/b.root"]


def test_the_door_tells_what_a_session_may(around: Around) -> None:
    buffer, file = around.buffer, input_file(around, "x", b"data")

    def unreadable(path: str, token: str) -> str:
        return around.door.can_read(HOST, around.port, path, token) or ""

    def writable(path: str, token: str) -> bool:
        return around.door.can_write(HOST, around.port, path, token)

    def unreadable_by_root(token: str, *paths: str) -> str:
        return around.door.can_read_by_root(HOST, around.root, paths, token) or ""

    buffer.send_manifest(manifest(around, file))
    around.settle(lambda: buffer.report().inputs[0].staged == 1)
    assert unreadable(file.path, around.token) == ""
    assert unreadable("/store/", around.token) == ""
    assert "gave 404" in unreadable("/store/user/alice/absent", around.token)
    assert unreadable_by_root(around.token, file.path, "/store/", f"{OUTBOX}/") == ""
    absent = unreadable_by_root(around.token, file.path, "/store/user/alice/absent")
    assert absent.startswith(f"open root://{HOST}:{around.root}//store/user/alice/absent gave 3011"), absent
    assert "gave 3010" in unreadable_by_root(around.token, "/outbox/another/x")
    assert writable(f"{OUTBOX}/", around.token)
    assert not writable("/store/user/alice/", around.token)
    assert not writable("/outbox/another/", around.token)
    assert "gave 403" in unreadable("/outbox/another/x", around.token)
    fenced(around)
    assert not writable(f"{OUTBOX}/", around.token)
    assert unreadable(file.path, around.token) == ""
    assert unreadable_by_root(around.token, file.path) == ""
    assert "gave 3010" in unreadable_by_root(around.token, f"{OUTBOX}/")
    # What can be no token is refused unseen: HTTP libraries raise what they like for it, and repeat it.
    for token in ("", "two words", "to\nken", "\N{GREEK SMALL LETTER TAU}oken", "t\x00", "\u202etoken"):
        calls: list[Callable[[], object]] = [
            lambda token=token: unreadable("/store/", token),  # type: ignore[misc]
            lambda token=token: around.door.is_refused(HOST, around.port, "/store/", token),  # type: ignore[misc]
            lambda token=token: unreadable_by_root(token, file.path),  # type: ignore[misc]
            lambda token=token: writable(f"{OUTBOX}/", token),  # type: ignore[misc]
            lambda token=token: around.door.size(around.url("x"), token, None),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(RefusedError) as caught:
                call()
            assert caught.value.reason is Reason.CREDENTIAL_INVALID
            assert not token or token not in str(caught.value)


def test_a_fence_is_told_from_a_door_that_knows_nobody(around: Around) -> None:
    """All that is refused looks alike: only what is taken in the same moment tells why."""
    buffer, door = around.buffer, around.door
    buffer.send_manifest(manifest(around))
    reads = around.minted("storage.read:/store")
    control = around.minted(f"storage.modify:{PROBE.rpartition('/')[0]}", containers.OPERATOR)
    strangers = [
        "garbage",
        LocalAuthority(*LocalAuthority.create()).token(
            TokenClaims("https://nobody.invalid/", "x", containers.AUDIENCE, containers.RIGHTS, _LATER)
        ),
    ]

    def refused(path: str, token: str) -> bool:
        return door.is_refused(HOST, around.port, path, token)

    def writable(path: str, token: str) -> bool:
        return door.can_write(HOST, around.port, path, token)

    for is_fenced in (False, True):
        if is_fenced:
            fenced(around)
        assert writable(f"{OUTBOX}/", around.token) is not is_fenced
        assert refused(f"{OUTBOX}/", around.token) is is_fenced
        assert not refused("/store/", reads)
        assert writable(PROBE, control)
        assert not writable(f"{OUTBOX}/", control), "the operator's issuer counts at its probe alone"
        assert not writable(PROBE, around.token)
        for token in strangers:
            assert refused("/store/", token)
            assert not writable(f"{OUTBOX}/", token)
            assert not writable(PROBE, token)
