"""A buffer whose pod has no IPv4 address but on its loopback: containers in one network namespace, and clients."""

from __future__ import annotations

import secrets
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from testbed import buffer, clients
from tests.e2e.buffer_containers import (
    CLAIM,
    OUTBOX,
    RECORD,
    RIGHTS,
    configuration_of,
    folder,
    minted,
    run,
    tls_of,
    until,
)
from tests.e2e.flows import docker
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.authority import LocalAuthority, hashed_name
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.api.agent import (
    AGENT_PORT,
    CONFIG,
    DATA,
    DAVS_PORT,
    ROOT_PORT,
    TLS,
    FenceRequest,
    OutputRule,
    SealRequest,
)
from volatile_rse.builders.xrootd import drain_files
from volatile_rse.ports.errors import PortError

pytestmark = pytest.mark.grid

HOST = "vrse-ipv6"
"""XRootD's client finds an address of the sixth version in no certificate: it needs a name."""
_WITHOUT_IPV4 = """
import fcntl, pathlib, socket, struct
hosts = pathlib.Path("/etc/hosts")
kept = [line for line in hosts.read_text().splitlines() if ":" in line.split()[0] or line.startswith("127.")]
hosts.write_text("".join(f"{line}\\n" for line in kept))
address = struct.pack("HH4s8x", socket.AF_INET, 0, bytes(4))
fcntl.ioctl(socket.socket(), 0x8916, struct.pack("16s16s", b"eth0", address))
"""
"""Takes the IPv4 address from the interface (SIOCSIFADDR), and from what the host's name means."""


@dataclass(frozen=True)
class Pod:
    """What the containers of a pod share."""

    name: str
    address: str
    network: str

    def start(self, program: str, mounts: dict[str, str]) -> None:
        kind = program.rpartition(".")[2]
        run(f"{self.name}-{kind}", program, mounts, network=f"container:{self.name}")


@pytest.fixture
def pod() -> Iterator[Pod]:
    """Give a network namespace with an IPv6 address that others reach, and no IPv4 address but the loopback's."""
    name = f"vrse-test-ipv6-{uuid.uuid4().hex[:8]}"
    subnet = f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}:{secrets.token_hex(2)}::"
    docker("network", "create", "--ipv6", "--subnet", f"{subnet}/64", name)
    try:
        docker("run", "--detach", "--name", name, "--network", name, buffer.image(), "sleep", "600")
        docker("exec", "--user", "0", "--privileged", name, "python3", "-c", _WITHOUT_IPV4)
        form = f'{{{{(index .NetworkSettings.Networks "{name}").GlobalIPv6Address}}}}'
        address = docker("inspect", "--format", form, name)
        assert "eth0" not in docker("exec", name, "cat", "/proc/net/route"), "it has an IPv4 address"
        yield Pod(name, address, name)
    finally:
        for program in ("-supervisor", "-drain", "-agent", ""):
            if program:
                subprocess.run(["docker", "logs", f"{name}{program}"], check=False)
            subprocess.run(["docker", "rm", "--force", f"{name}{program}"], check=False, capture_output=True)
        subprocess.run(["docker", "volume", "rm", name], check=False, capture_output=True)
        subprocess.run(["docker", "network", "rm", name], check=False, capture_output=True)


def test_a_buffer_without_ipv4_takes_outputs_is_looked_at_fenced_and_sealed(pod: Pod, tmp_path: Path) -> None:
    authority, hour = LocalAuthority(*LocalAuthority.create()), timedelta(hours=1)
    mounts = {DATA: pod.name, TLS: folder(tmp_path / "tls", tls_of(authority, "localhost", HOST, pod.address))}
    pod.start(
        "volatile_rse.agent.supervisor", {**mounts, CONFIG: folder(tmp_path / "cfg", configuration_of(authority))}
    )
    pod.start("volatile_rse.agent", mounts)
    agent = AgentClient((pod.address, AGENT_PORT), "localhost", authority.bundle(), authority.client("operator", hour))
    until(lambda: answers(agent))

    token = minted(authority, RIGHTS)
    by_https, bundle = f"https://[{pod.address}]:{DAVS_PORT}", str(tmp_path / "tls" / "ca.crt")
    path = f"{OUTBOX}/kept/by-https"
    bearer = {"Authorization": f"Bearer {token}"}
    put = requests.put(f"{by_https}{path}", data=b"content", headers=bearer, verify=bundle, timeout=20)
    assert put.status_code == 201
    by_root(pod, authority, token, f"{OUTBOX}/kept/by-root")

    # As the operator looks at it.
    doors = XrootdEndpoints(authority.bundle())
    assert doors.can_read(pod.address, DAVS_PORT, path, token) is None
    assert doors.can_read_by_root(pod.address, ROOT_PORT, [path, f"{OUTBOX}/kept/by-root"], token) is None
    assert doors.can_write(pod.address, DAVS_PORT, f"{OUTBOX}/", token)

    agent.fence(FenceRequest(generation=1))
    until(lambda: agent.report().actual.mode == "fenced")
    assert not doors.can_write(pod.address, DAVS_PORT, f"{OUTBOX}/", token)
    rule = OutputRule(claim=CLAIM, name="kept", patterns=["kept/**"], scope="user.alice", dataset="out")
    agent.seal(SealRequest(generation=1, record_id=RECORD, outputs=[rule]))
    until(lambda: (seal := agent.report().seal) is not None and seal.state == "done")
    assert [state.state for state in agent.outputs().items] == ["sealed", "sealed"]


def test_the_empty_server_answers_without_ipv4(pod: Pod, tmp_path: Path) -> None:
    authority = LocalAuthority(*LocalAuthority.create())
    mounts = {DATA: pod.name, TLS: folder(tmp_path / "tls", tls_of(authority, pod.address))}
    pod.start("volatile_rse.agent.drain", {**mounts, CONFIG: folder(tmp_path / "cfg", drain_files("drain"))})
    url, bundle = f"https://[{pod.address}]:{DAVS_PORT}/store/gone", str(tmp_path / "tls" / "ca.crt")
    until(lambda: is_not_found(url, bundle))


def answers(agent: AgentClient) -> bool:
    try:
        return agent.report().actual.mode == "open"
    except PortError:
        return False


def is_not_found(url: str, bundle: str) -> bool:
    try:
        return requests.delete(url, verify=bundle, timeout=5).status_code == 404
    except requests.ConnectionError:
        return False


def by_root(pod: Pod, authority: LocalAuthority, token: str, path: str) -> None:
    """Write a file with XRootD's own client, from another container of that network."""
    script = f"""
install -d -m 755 /tmp/ca && printf %s "$CA" > /tmp/ca/{hashed_name(authority.bundle())} && chmod 644 /tmp/ca/*
echo content > /tmp/file
X509_CERT_DIR=/tmp/ca BEARER_TOKEN=$TOKEN xrdcp --silent /tmp/file root://{HOST}:{ROOT_PORT}/{path}
"""
    sent = ("--env", f"CA={authority.bundle()}", "--env", f"TOKEN={token}", "--add-host", f"{HOST}:{pod.address}")
    docker("run", "--rm", "--network", pod.network, *sent, clients.image(), "bash", "-euc", script)
