"""The agent beside a real XRootD: two containers of the buffer's image on one volume, led by the operator's client."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import ssl
import subprocess
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from testbed import buffer, grid, layout, session
from tests.e2e import crowd
from tests.e2e.buffer_containers import CLAIM, OUTBOX, RECORD, RIGHTS, Buffer, live_buffer, until
from tests.e2e.flows import docker
from volatile_rse.adapters.authority import hashed_name
from volatile_rse.api.agent import (
    AGENT_PORT,
    DATA,
    DAVS_PORT,
    ROOT_PORT,
    Copies,
    CopyOrder,
    CopyTarget,
    GateState,
    InputFile,
    Manifest,
    OutputRule,
    SiteTokens,
)
from volatile_rse.builders.session import LONGEST_RIGHTS

pytestmark = pytest.mark.grid

CONTENT = os.urandom(2_000_000)


@pytest.fixture
def live(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Buffer]:
    """Give a buffer, on a volume of so many MiB as its test may want."""
    with live_buffer(tmp_path, getattr(request, "param", None)) as made:
        yield made


def test_a_buffer_from_its_inputs_to_copies_of_its_outputs(live: Buffer) -> None:
    facts, unique = grid.grid(), uuid.uuid4().hex
    site = f"{facts.davs['SITE-A'].replace('https', 'davs')}/store/user/alice/agent-{unique}"
    outside = f"{facts.davs_outside['SITE-A']}/store/user/alice/agent-{unique}"
    alice = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
    put = requests.put(f"{outside}/in.root", data=CONTENT, headers=alice, verify=facts.bundle, timeout=30)
    assert put.status_code == 201
    host = facts.davs["SITE-A"].removeprefix("https://").partition(":")[0]
    file = InputFile(
        scope="user.alice", name="in.root", entries=["data"], path="/store/user/alice/in.root", bytes=len(CONTENT),
        adler32=f"{zlib.adler32(CONTENT):08x}", sources=[f"{site}/in.root"],
    )  # fmt: skip
    token = SecretStr(facts.tokens[grid.ALICE])
    manifest = Manifest(
        digest="1" * 64, claims=[CLAIM], inputs=[file], credentials={host: SiteTokens(read=token, write=token)},
        trust=Path(facts.bundle).read_text(),
    )  # fmt: skip
    live.client.send_manifest(manifest)
    until(lambda: live.client.report().inputs[0].staged)
    answer = live.call("GET", file.path)
    assert answer.content == CONTENT
    assert live.call("HEAD", file.path).headers["Digest"] == f"adler32={file.adler32}"
    # The longest token that is ever issued opens both doors.
    others = (f"storage.read:/store/{'s' * 22}{number:03}" for number in range((LONGEST_RIGHTS - len(RIGHTS)) // 46))
    longest = dataclasses.replace(live, token=live.mint(f"{' '.join(others)} {RIGHTS}"))
    assert longest.call("GET", file.path).content == CONTENT
    assert longest.call("PUT", f"{OUTBOX}/longest.txt", data=b"by https").status_code == 201
    assert read_by_root(longest, f"{OUTBOX}/longest.txt") == "by https"
    assert longest.call("DELETE", f"{OUTBOX}/longest.txt").status_code in {200, 204}
    # The session: one file whole, one that no output names, one whose upload is still going on at the fence.
    assert live.call("PUT", f"{OUTBOX}/plots/h.root", data=CONTENT[:1000]).status_code == 201
    assert live.call("PUT", f"{OUTBOX}/notes.txt", data=b"notes").status_code == 201
    upload = live.upload_begun(f"{OUTBOX}/torn.root", 4_000_000)
    until(lambda: live.mode(f"{OUTBOX}/torn.root").startswith("1"))
    live.fence(1)
    upload.close()
    assert live.call("PUT", f"{OUTBOX}/late.root", data=b"late").status_code == 403
    rule = OutputRule(
        claim=CLAIM, name="out", patterns=["**/*.root"], scope="user.alice", dataset=f"user.alice.{unique}"
    )
    outputs = live.seal(1, rule)
    assert {path: state.state for path, state in outputs.items()} == {
        "plots/h.root": "sealed",
        "notes.txt": "unmatched",
        "torn.root": "torn",
    }
    sealed = outputs["plots/h.root"]
    assert live.call("GET", sealed.store_path or "").content == CONTENT[:1000]
    assert live.call("HEAD", sealed.store_path or "").headers["Digest"] == f"adler32={sealed.adler32}"
    # The agent dies with copies wanted, and goes on as soon as it has credentials again.
    docker("kill", f"{live.name}-agent")
    live.start_agent()
    assert live.client.report().manifest is None
    target = CopyTarget(rse="SITE-A", pfn=f"{site}/out/{sealed.name}")
    copies = [CopyOrder(scope="user.alice", name=sealed.name or "", destinations=[target])]
    live.client.copy(Copies(copies=copies))
    assert live.client.report().copies.verified == 0
    live.client.send_manifest(manifest.model_copy(update={"inputs": []}))
    until(lambda: live.client.report().copies.verified == 1)
    got = requests.get(f"{outside}/out/{sealed.name}", headers=alice, verify=facts.bundle, timeout=30)
    assert got.content == CONTENT[:1000]
    assert live.client.report().inputs[0].staged == 1


def read_by_root(live: Buffer, path: str) -> str:
    """Read a file by XRootD's client, in the stock client's container."""
    trust = f"/tmp/{live.name}"  # noqa: S108 (of the client's container)
    docker("exec", layout.CLIENT, "mkdir", trust)
    docker("cp", live.bundle, f"{layout.CLIENT}:{trust}/{hashed_name(live.bundle.read_text())}")
    known = ["--env", f"BEARER_TOKEN={live.token}", "--env", f"X509_CERT_DIR={trust}"]
    text = docker("exec", *known, layout.CLIENT, "xrdcp", "-s", f"root://{live.name}-xrootd/{path}", "-")
    docker("exec", "--user", "root", layout.CLIENT, "rm", "-r", trust)
    return text


def test_forty_digests_are_told_at_once(live: Buffer) -> None:
    folder = f"{DATA}/ns{OUTBOX}"
    live.on_disk(f"mkdir {folder}; cd {folder}; for n in $(seq 40); do yes $n | head -c 9999 >$n; done")
    context = ssl.create_default_context(cafile=str(live.bundle))
    with ExitStack() as open_ones:
        lines = []
        for _ in range(40):
            plain = open_ones.enter_context(socket.create_connection(("localhost", live.davs), timeout=60))
            lines.append(open_ones.enter_context(context.wrap_socket(plain, server_hostname="localhost")))
        began = time.monotonic()
        for number, line in enumerate(lines, 1):
            head = f"HEAD {OUTBOX}/{number} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {live.token}\r\n"
            line.sendall(f"{head}Want-Digest: adler32\r\n\r\n".encode())
        answers = [line.recv(4096).decode() for line in lines]
        seconds = time.monotonic() - began
    contents = [(f"{number}\n" * 9999)[:9999].encode() for number in range(1, 41)]
    digests = [re.search(r"\nDigest: adler32=(\w+)", answer) for answer in answers]
    assert [found and found[1] for found in digests] == [f"{zlib.adler32(content):08x}" for content in contents]
    # By default who asks beside three others waits 30 s.
    assert seconds < 20
    assert docker("inspect", "--format", "{{.RestartCount}} {{.State.Running}}", f"{live.name}-xrootd") == "0 true"


@pytest.mark.parametrize("live", [64], indirect=True)
def test_what_fills_the_volume_can_be_deleted_after_any_restart_and_fenced(live: Buffer) -> None:
    fill = f"cd {DATA}/ns{OUTBOX} && dd if=/dev/zero bs=64K of=greedy.bin; dd if=/dev/zero bs=1 of=crumbs.bin"
    live.client.send_manifest(Manifest(digest="1" * 64, claims=[CLAIM]))
    assert live.call("PUT", f"{OUTBOX}/h.root", data=CONTENT).status_code == 201
    live.on_disk(f"({fill}) 2>/dev/null")
    assert live.client.report().space.bytes_free == 0
    docker("restart", f"{live.name}-xrootd")
    until(live.answers)
    docker("kill", f"{live.name}-agent")
    live.start_agent()
    live.on_disk(f"({fill}) 2>/dev/null")
    assert live.call("GET", f"{OUTBOX}/h.root").content == CONTENT
    assert live.call("DELETE", f"{OUTBOX}/crumbs.bin").status_code in {200, 204}
    assert live.call("DELETE", f"{OUTBOX}/greedy.bin").status_code in {200, 204}
    assert live.call("PUT", f"{OUTBOX}/deep/i.root", data=CONTENT).status_code == 201
    until(lambda: int(live.on_disk(f"stat -c %s {DATA}/control/ballast") or 0) > 500_000)
    live.on_disk(f"({fill}) 2>/dev/null")
    live.fence(1)
    rule = OutputRule(claim=CLAIM, name="out", patterns=["**/*.root"], scope="user.alice", dataset="user.alice.full")
    states = {path: state.state for path, state in live.seal(1, rule).items()}
    assert {states[path] for path in ("h.root", "deep/i.root")} == {"sealed"}


WRITE = """
import ROOT
for name in ("updated.root", "again.root"):
    file = ROOT.TFile.Open(f"{base}/{name}", "NEW")
    ROOT.TH1F("first", "pt", 10, 0., 100.).Write()
    file.Close()
file = ROOT.TFile.Open(f"{base}/again.root", "UPDATE")
ROOT.TH1F("second", "pt", 10, 0., 100.).Write()
file.Close()
held = ROOT.TFile.Open(f"{base}/updated.root", "UPDATE")
ROOT.TH1F("half", "pt", 10, 0., 100.).Write()
held.Flush()
print("root holds", flush=True)
time.sleep(600)
"""
PATCH = """
from XRootD import client
from XRootD.client.flags import OpenFlags
server, outbox = base.split("//outbox")[0], "/outbox" + base.split("//outbox")[1]
def done(answer):
    assert answer[0].ok, answer
    return answer[1]
def opened(path, flags):
    file = client.File()
    done(file.open(f"{server}/{path}", flags))
    return file
held = []
for name in ("whole", "read", "closed", "patched", "moved", "taken"):
    file = opened(f"{outbox}/{name}.bin", OpenFlags.NEW | OpenFlags.MAKEPATH)
    done(file.write(b"a" * 1000))
    done(file.close())
    if name != "whole":
        file = opened(f"{outbox}/{name}.bin", OpenFlags.READ if name == "read" else OpenFlags.UPDATE)
        if name != "read":
            done(file.write(b"b" * 500))
        if name == "closed":
            done(file.close())
        else:
            held.append(file)
files = client.FileSystem(server)
done(files.mv(f"{outbox}/moved.bin", f"{outbox}/sub.bin"))
done(files.mv(f"{outbox}/taken.bin", outbox.replace("outbox", "publish") + "/taken.bin"))
print("client holds", flush=True)
time.sleep(600)
"""
TORN = {"updated.root", "patched.bin", "sub.bin", "taken.bin"}
WHOLE = {"again.root", "whole.bin", "read.bin", "closed.bin"}


@pytest.fixture
def holding(live: Buffer) -> Iterator[str]:
    """Give the container of a session whose programs hold files open."""
    name, home = f"{live.name}-session", live.folder / "home"
    home.mkdir()
    (home / "token").write_text(live.token)
    (home / "token").chmod(0o600)
    (home / hashed_name(live.bundle.read_text())).write_text(live.bundle.read_text())
    base = f"root://{live.name}-xrootd/{OUTBOX}"
    for program, script in (("root", WRITE), ("patch", PATCH)):
        (home / f"{program}.py").write_text(f"import time\nbase = {base!r}\n{script}")
    both = f"{session.ROOT_PYTHON} root.py & {session.UPROOT_PYTHON} patch.py & wait"
    options = ["--user", f"{os.getuid()}:{os.getgid()}", "--network", layout.NETWORK, "--volume", f"{home}:/home/s"]
    options += ["--workdir", "/home/s", "--env", "X509_CERT_DIR=/home/s", "--env", "BEARER_TOKEN_FILE=/home/s/token"]
    docker("run", "--detach", "--name", name, "--env", "HOME=/home/s", *options, session.image(), "sh", "-c", both)
    yield name
    subprocess.run(["docker", "logs", name], check=False)
    subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


def test_what_is_open_to_write_at_the_fence_is_torn_also_if_it_was_whole_before(live: Buffer, holding: str) -> None:
    rule = OutputRule(claim=CLAIM, name="out", patterns=["**"], scope="user.alice", dataset="user.alice.torn")
    manifest = Manifest(digest="1" * 64, claims=[CLAIM], outputs=[rule], continuous=["out"], record_id=RECORD)
    live.client.send_manifest(manifest)
    until(lambda: {"root holds", "client holds"} <= set(docker("logs", holding).splitlines()))
    until(lambda: "taken.bin" in live.on_disk(f"ls {DATA}/control/taken/{CLAIM}"))
    live.fence(1)
    live.fence(2)
    docker("restart", f"{live.name}-xrootd")
    until(lambda: live.client.report().actual == GateState(mode="fenced", generation=2))
    states = {path: state.state for path, state in live.seal(2, rule).items()}
    assert states == dict.fromkeys(TORN, "torn") | dict.fromkeys(WHOLE, "sealed")


CROWDS = (
    ("nothing", "xrootd", DAVS_PORT), ("hello", "xrootd", DAVS_PORT), ("greeting", "xrootd", ROOT_PORT),
    ("nothing", "agent", AGENT_PORT),
)  # fmt: skip
IN_POD = f"""
import socket
from pathlib import Path
lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
for port in {ROOT_PORT, DAVS_PORT}:
    print(sum(line[1].endswith(f":{{port:04X}}") and line[3] == "01" for line in lines))
line = socket.create_connection((socket.gethostname(), {ROOT_PORT}), timeout=5)
line.sendall({crowd.GREETING!r})
print(len(line.recv(16)))
"""


@pytest.fixture
def crowds(live: Buffer) -> Iterator[None]:
    """Let containers have 2,600 connections each to the buffer or its agent, and do nothing with them."""
    names = []
    for what, program, port in CROWDS:
        names.append(f"{live.name}-{program}-{what}")
        options = ["--network", layout.NETWORK, "--volume", f"{crowd.__file__}:/crowd.py"]
        argv = ["python3", "/crowd.py", f"{live.name}-{program}", str(port), what, "2600"]
        docker("run", "--detach", "--name", names[-1], *options, buffer.image(), *argv)
    yield
    for name in names:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)


@pytest.mark.usefixtures("crowds")
def test_thousands_who_say_nothing_keep_nobody_out_and_end_no_xrootd(live: Buffer) -> None:
    def in_pod() -> list[int]:
        """Tell how many connections each port has, and how many bytes XRootD greets with."""
        return [int(line) for line in docker("exec", f"{live.name}-xrootd", "python3", "-c", IN_POD).splitlines()]

    def words() -> str:
        return subprocess.run(
            ["docker", "logs", f"{live.name}-xrootd"], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        ).stdout  # fmt: skip

    def started() -> str:
        return docker("inspect", "--format", "{{.State.StartedAt}} {{.State.Pid}}", f"{live.name}-xrootd")

    before, slowest = started(), 0.0
    # Half of a port is for one address; of the other half each gets a little.
    until(lambda: min(in_pod()[:2]) > 1000)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        slowest = max(slowest, live.call("PUT", f"{OUTBOX}/among.root", data=CONTENT).elapsed.total_seconds())
        assert live.call("GET", f"{OUTBOX}/among.root").content == CONTENT
        assert in_pod()[2] == 16
        assert live.answers()
    assert slowest < 5
    kibibytes = docker("exec", f"{live.name}-agent", "grep", "VmHWM", "/proc/1/status").split()[1]
    assert int(kibibytes) < 200_000, "2,600 silent connections cost the agent 90 KiB each"
    assert "did not answer" not in words()
    # Who came stands in the log, with the address that XRootD knows it by.
    assert re.search(r"davs: [0-9.]+:\d+ \(behind: 127\.[0-9.]+\), ", words())
    live.fence(1)
    assert live.call("PUT", f"{OUTBOX}/late.root", data=b"late").status_code == 403
    assert started() == before


def test_plain_http_is_refused_on_both_ports_also_with_a_good_token(live: Buffer) -> None:
    path = f"{OUTBOX}/h.root"
    assert live.call("PUT", path, data=CONTENT).status_code == 201
    script = f"""
import http.client, socket
for port in ({DAVS_PORT}, {ROOT_PORT}):
    line = http.client.HTTPConnection(socket.gethostname(), port, timeout=10)
    line.request("GET", {path!r}, headers={{"Authorization": "Bearer {live.token}"}})
    try:
        print(line.getresponse().status)
    except ConnectionError:
        print("refused")
"""
    assert docker("exec", f"{live.name}-xrootd", "python3", "-c", script).split() == ["refused", "refused"]
