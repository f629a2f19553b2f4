"""Whoever answers a byte now and then, or without an end, holds nobody longer than the call may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from kubernetes.client import ApiClient, Configuration

from tests.unit.adapters.slow_server import AUTHORITY, MANNERS, slow_server
from volatile_rse.adapters import agent_client, endpoints, https, kubernetes
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.adapters.rucio import server as rucio_server
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.api.agent import Manifest
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import PortError, UnreachableError

SHORT, SLACK = 0.3, 2.0
FEW = 1 << 20


def agent(port: int, folder: Path) -> None:
    pair = AUTHORITY.client("operator", timedelta(days=1))
    client = AgentClient(("127.0.0.1", port), "localhost", AUTHORITY.bundle(), pair)
    del folder
    client.send_manifest(Manifest(digest="a" * 64, claims=[], trust="x" * 1_000_000))


def report(port: int, folder: Path) -> None:
    del folder
    pair = AUTHORITY.client("operator", timedelta(days=1))
    AgentClient(("127.0.0.1", port), "localhost", AUTHORITY.bundle(), pair).report()


def door(port: int, folder: Path) -> None:
    del folder
    XrootdEndpoints(AUTHORITY.bundle()).can_write("localhost", port, "/outbox/x/", "token")


def site(port: int, folder: Path) -> None:
    del folder
    XrootdEndpoints(AUTHORITY.bundle()).size(f"davs://localhost:{port}/f", "token", AUTHORITY.bundle())


def rucio(port: int, folder: Path) -> None:
    url = f"https://localhost:{port}"
    spec = RucioConnectionSpec.model_validate(
        {"server": url, "account": "ops", "userpass": {"secretName": "login"}, "ledgerScope": "vrse"}
    ).model_copy(update={"budget": Budget(timeout=1, calls_per_second=1000)})
    RucioServer(spec, ("ops", "secret"), AUTHORITY.bundle(), folder).call("the server", "ping")


def cluster(port: int, folder: Path) -> None:
    bundle = folder / "ca.pem"
    bundle.write_text(AUTHORITY.bundle())
    configuration = Configuration(host=f"https://localhost:{port}")
    configuration.ssl_ca_cert = str(bundle)
    configuration.retries = 0
    KubernetesCluster(ApiClient(configuration)).get(Ref("Namespace", None, "x"))


CALLS: dict[str, Callable[[int, Path], None]] = {
    "an agent": agent, "an agent's report": report, "a door": door, "a site": site, "Rucio": rucio,
    "the cluster": cluster,
}  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in {
        agent_client: ("_DEADLINE", "_ORDER_DEADLINE"), endpoints: ("_DEADLINE",), kubernetes: ("_DEADLINE",),
    }.items():  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, SHORT)
    for module in (agent_client, endpoints, kubernetes, rucio_server):
        monkeypatch.setattr(module, "_MOST", FEW)
    monkeypatch.setattr("rucio.client.baseclient.BaseClient._back_off", lambda *_: None)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("whom", CALLS)
def test_nobody_is_waited_for_longer_than_the_call_may_take(tmp_path: Path, whom: str, manner: str) -> None:
    with slow_server(tmp_path, manner) as slow:
        began = time.monotonic()
        # The header of a site's answer is enough.
        is_told = whom == "a site" and manner == "sends a byte of the body now and then"
        with nullcontext() if is_told else pytest.raises(UnreachableError):
            CALLS[whom](slow.port, tmp_path)
        assert time.monotonic() - began < 1 + SLACK


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("whom", ["an agent", "an agent's report", "Rucio", "the cluster"])
def test_nobody_reads_more_than_it_may(tmp_path: Path, whom: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (agent_client, kubernetes):
        monkeypatch.setattr(module, "_DEADLINE", 30)
    monkeypatch.setattr(agent_client, "_ORDER_DEADLINE", 30)
    with slow_server(tmp_path, "sends more than anybody wants") as slow:
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            CALLS[whom](slow.port, tmp_path)
        assert time.monotonic() - began < 5
        # What the kernels have taken in between comes on top.
        assert slow.sent < FEW + (16 << 20)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("whom", ["an agent's report", "Rucio"])
def test_nobody_unpacks_what_could_become_any_size(tmp_path: Path, whom: str) -> None:
    with (
        slow_server(tmp_path, "says that it is packed") as slow,
        pytest.raises(UnreachableError, match=r"packed|answer"),
    ):
        CALLS[whom](slow.port, tmp_path)


def test_what_has_no_bound_keeps_its_own_time() -> None:
    assert https.left() > 0
    with https.bounded(5, 1):
        assert 4 < https.left() <= 5
        with https.bounded(0, 1), pytest.raises(TimeoutError, match="longer than 0 s"):
            https.left()
        assert https.left() > 4


@pytest.mark.parametrize("token", ["same", "another each time"])
def test_a_list_of_the_cluster_that_does_not_end_is_no_answer(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setattr(kubernetes, "_PAGES", 20)
    pages = 0

    def call(*_: object, **__: object) -> object:
        nonlocal pages
        pages += 1
        following = token if token == "same" else f"{token} {pages}"
        return kubernetes._Answer(200, "", "", {"metadata": {"continue": following}, "items": []})

    made = KubernetesCluster(ApiClient(Configuration(host="https://localhost:1")))
    monkeypatch.setattr(made, "_call", call)
    with pytest.raises(PortError, match="no end"):
        made.list("Pod")
    assert pages == (2 if token == "same" else 20)
