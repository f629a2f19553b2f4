"""A buffer outside of Kubernetes: two containers of its image on one volume, the agent and a real XRootD."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from testbed import buffer, layout
from tests.e2e.flows import docker, headers
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.authority import LocalAuthority
from volatile_rse.api.agent import (
    AGENT_PORT,
    CONFIG,
    DATA,
    DAVS_PORT,
    PROBE,
    ROOT_PORT,
    RUN,
    TLS,
    UID,
    FenceRequest,
    GateState,
    OutputRule,
    OutputState,
    SealRequest,
)
from volatile_rse.builders.xrootd import Issuer, ServerSettings, buffer_files
from volatile_rse.ports.credentials import TokenClaims
from volatile_rse.ports.errors import PortError

CLAIM, RECORD = "5f0c2f3e-claim", "abcdefgh23"
OUTBOX = f"/outbox/{CLAIM}"
PUBLISH = f"/publish/{CLAIM}"
LEASES = f"/lease/{CLAIM}"
RIGHTS = " ".join(
    [
        "storage.read:/store",
        *(f"storage.{right}:{area}" for area in (OUTBOX, PUBLISH, LEASES) for right in ("read", "create", "modify")),
    ]
)
ISSUER, AUDIENCE = "https://agent.sessions.invalid/", "https://agent.buffers.invalid"
OPERATOR = "https://agent.operator.invalid/"


def until(true: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


@dataclass(frozen=True)
class Buffer:
    name: str
    client: AgentClient
    folder: Path
    token: str
    authority: LocalAuthority

    def mint(self, rights: str, issuer: str = ISSUER) -> str:
        """Sign a token of one of its issuers."""
        return minted(self.authority, rights, issuer)

    @property
    def davs(self) -> int:
        """Another one after a restart."""
        return published(f"{self.name}-xrootd", DAVS_PORT)

    @property
    def root(self) -> int:
        """Another one after a restart."""
        return published(f"{self.name}-xrootd", ROOT_PORT)

    @property
    def bundle(self) -> Path:
        return self.folder / "tls" / "ca.crt"

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url, sent = f"https://localhost:{self.davs}{path}", headers(method, self.token)
        return requests.request(method, url, headers=sent, verify=str(self.bundle), timeout=20, **arguments)

    def upload_begun(self, path: str, size: int) -> ssl.SSLSocket:
        """Send half of a file, and stay connected."""
        context = ssl.create_default_context(cafile=str(self.bundle))
        line = context.wrap_socket(socket.create_connection(("localhost", self.davs)), server_hostname="localhost")
        head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
        line.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + b"x" * (size // 2))
        return line

    def on_disk(self, script: str) -> str:
        return docker("exec", f"{self.name}-xrootd", "sh", "-c", f"{script} || true")

    def mode(self, path: str) -> str:
        return self.on_disk(f"stat -c %a {DATA}/ns{path}")

    def answers(self, *modes: str) -> bool:
        try:
            return self.client.report().actual.mode in (modes or {"open"})
        except PortError:
            return False

    def start_agent(self) -> None:
        docker("start", f"{self.name}-agent")
        port = published(f"{self.name}-agent", AGENT_PORT)
        self.client._where = f"localhost:{port}"
        until(lambda: self.answers("open", "fenced"))

    def fence(self, generation: int) -> None:
        self.client.fence(FenceRequest(generation=generation))
        until(lambda: self.client.report().actual == GateState(mode="fenced", generation=generation))

    def seal(self, generation: int, rule: OutputRule) -> dict[str, OutputState]:
        self.client.seal(SealRequest(generation=generation, record_id=RECORD, outputs=[rule]))
        until(lambda: (seal := self.client.report().seal) and seal.state == "done")
        return {state.path: state for state in self.client.outputs().items}


def minted(authority: LocalAuthority, rights: str, issuer: str = ISSUER) -> str:
    claims = TokenClaims(issuer, "alice/agent", AUDIENCE, rights, datetime.now(UTC) + timedelta(hours=1))
    return authority.token(claims)


def folder(path: Path, files: dict[str, str]) -> str:
    path.mkdir()
    path.chmod(0o755)
    for name, text in files.items():
        (path / name).write_text(text)
        (path / name).chmod(0o644)
    return str(path)


def run(name: str, program: str, mounts: dict[str, str], *ports: int, network: str = layout.NETWORK) -> None:
    """Start a container as restricted as the pod's."""
    options = ["--user", f"{UID}:{UID}", "--read-only", "--cap-drop", "ALL", "--network", network]
    options += [part for path in ("/tmp", RUN) for part in ("--tmpfs", f"{path}:uid={UID},mode=700")]  # noqa: S108
    options += [part for path, source in mounts.items() for part in ("--volume", f"{source}:{path}")]
    options += [part for port in ports for part in ("--publish", f"127.0.0.1::{port}")]
    docker("run", "--detach", "--name", name, *options, buffer.image(), "python3", "-m", program)


def published(name: str, port: int) -> int:
    return int(docker("port", name, port).splitlines()[0].rpartition(":")[2])


def tls_of(authority: LocalAuthority, *hosts: str) -> dict[str, str]:
    """Give certificate and key for these hosts, and who signed them."""
    pair = authority.server(hosts, timedelta(hours=1))
    return {"ca.crt": authority.bundle(), "tls.crt": pair.certificate, "tls.key": pair.key}


def configuration_of(authority: LocalAuthority) -> dict[str, str]:
    """Give the files of XRootD that takes the tokens of this authority."""
    probe = (PROBE.rpartition("/")[0],)
    issuers = [
        Issuer(name="session", url=ISSUER, jwks=authority.jwks(ISSUER)),
        Issuer(name="operator", url=OPERATOR, jwks=authority.jwks(OPERATOR), paths=probe, fenced_paths=probe),
    ]
    return buffer_files(ServerSettings(site="VRSE-TEST", audience=AUDIENCE, issuers=issuers))


@contextmanager
def live_buffer(tmp: Path, size: int | None = None) -> Iterator[Buffer]:
    """Give a buffer, on a volume of so many MiB."""
    name = f"vrse-test-agent-{uuid.uuid4().hex[:8]}"
    authority, hour = LocalAuthority(*LocalAuthority.create()), timedelta(hours=1)
    mounts = {DATA: name, TLS: folder(tmp / "tls", tls_of(authority, "localhost", f"{name}-xrootd"))}
    if size is not None:
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={size}m,uid={UID}"}
        docker("volume", "create", name, *(part for pair in options.items() for part in ("--opt", "=".join(pair))))
    try:
        config = {CONFIG: folder(tmp / "config", configuration_of(authority))}
        run(f"{name}-xrootd", "volatile_rse.agent.supervisor", {**mounts, **config}, DAVS_PORT, ROOT_PORT)
        run(f"{name}-agent", "volatile_rse.agent", mounts, AGENT_PORT)
        agent = published(f"{name}-agent", AGENT_PORT)
        client = AgentClient(("127.0.0.1", agent), "localhost", authority.bundle(), authority.client("operator", hour))
        made = Buffer(name, client, tmp, minted(authority, RIGHTS), authority)
        until(made.answers)
        yield made
    finally:
        for program in ("agent", "xrootd"):
            subprocess.run(["docker", "logs", f"{name}-{program}"], check=False)
            subprocess.run(["docker", "rm", "--force", f"{name}-{program}"], check=False, capture_output=True)
        subprocess.run(["docker", "volume", "rm", name], check=False, capture_output=True)
