"""Whoever answers a byte now and then, or without an end, holds nobody longer than the call may take."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from kubernetes.client import ApiClient, Configuration

from tests.unit.adapters.slow_server import AUTHORITY, MANNERS, slow_server
from volatile_rse.adapters import agent_client, endpoints, https, kubernetes
from volatile_rse.adapters.agent_client import AgentClient
from volatile_rse.adapters.endpoints import XrootdEndpoints
from volatile_rse.adapters.gate import Gate
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.adapters.rucio import server as rucio_server
from volatile_rse.adapters.rucio.server import RucioServer
from volatile_rse.api.agent import Manifest
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec
from volatile_rse.ports import deadline
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


def asked(port: int, folder: Path) -> KubernetesCluster:
    bundle = folder / "ca.pem"
    bundle.write_text(AUTHORITY.bundle())
    configuration = Configuration(host=f"https://localhost:{port}")
    configuration.ssl_ca_cert = str(bundle)
    configuration.retries = 0
    return KubernetesCluster(ApiClient(configuration))


def cluster(port: int, folder: Path) -> None:
    asked(port, folder).get(Ref("Namespace", None, "x"))


CALLS: dict[str, Callable[[int, Path], None]] = {
    "an agent": agent, "an agent's report": report, "a door": door, "a site": site, "Rucio": rucio,
    "the cluster": cluster,
}  # fmt: skip


def listing(port: int, folder: Path) -> None:
    asked(port, folder).list("Pod")


def sight(port: int, folder: Path) -> None:
    del folder
    XrootdEndpoints(AUTHORITY.bundle()).can_read("localhost", port, "/store/x", "token")


def sight_by_root(port: int, folder: Path) -> None:
    del folder
    XrootdEndpoints(AUTHORITY.bundle()).can_read_by_root("localhost", port, ["/store/x"], "token")


IN_TIME = {**CALLS, "a list": listing, "a file": sight, "a file by root": sight_by_root}
"""What a visit asks; it is not told by the answer what can be read where none came because its time was over."""


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
        with deadline.within(60), https.bounded(0, 1), pytest.raises(TimeoutError, match="longer than 0 s"):
            https.left()
        assert https.left() > 4


@pytest.mark.parametrize(
    ("whom", "manner"),
    [
        *((whom, "says nothing before TLS") for whom in IN_TIME),
        # The root protocol does not begin with TLS: there such a server lets go at once.
        *((whom, "sends a byte of the header now and then") for whom in IN_TIME if whom != "a file by root"),
    ],
)
def test_nobody_is_waited_for_beyond_the_time_of_the_visit(tmp_path: Path, whom: str, manner: str) -> None:
    with slow_server(tmp_path, manner) as slow:
        began = time.monotonic()
        with deadline.within(SHORT) as visit, pytest.raises(UnreachableError, match="time of this visit was over"):
            IN_TIME[whom](slow.port, tmp_path)
        assert SHORT / 2 < time.monotonic() - began < SHORT + SLACK
        assert visit.missed


@pytest.mark.parametrize("whom", IN_TIME)
def test_who_has_no_time_left_asks_nobody(tmp_path: Path, whom: str) -> None:
    with slow_server(tmp_path, "says nothing before TLS") as slow:
        with deadline.within(0) as visit, pytest.raises(UnreachableError, match="time of this visit was over"):
            IN_TIME[whom](slow.port, tmp_path)
        assert slow.taken == 0
        assert visit.missed


def test_the_pages_of_a_list_share_the_time_of_the_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pages = 0.0, 0
    monkeypatch.setattr(deadline, "monotonic", lambda: now)

    class Page:
        status = 200

        def getheader(self, _name: str) -> None:
            return None

        def read(self) -> bytes:
            return b'{"metadata": {"continue": "%d"}, "items": []}' % pages

    def call_api(*_: object, **__: object) -> Page:
        nonlocal now, pages
        now, pages = now + 10, pages + 1
        return Page()

    made = KubernetesCluster(ApiClient(Configuration(host="https://localhost:1")))
    monkeypatch.setattr(made._client, "call_api", call_api)
    with deadline.within(45), pytest.raises(UnreachableError, match="time of this visit was over"):
        made.list("Pod")
    assert pages == 5


def test_a_server_is_not_left_alone_because_a_visit_had_no_time_for_it(tmp_path: Path) -> None:
    spec = RucioConnectionSpec.model_validate(
        {"server": "https://localhost:1", "account": "ops", "userpass": {"secretName": "x"}, "ledgerScope": "vrse"}
    )
    gate = Gate("https://localhost:1", Budget())
    server = RucioServer(spec, ("ops", "secret"), AUTHORITY.bundle(), tmp_path, gate)
    with deadline.within(0), pytest.raises(UnreachableError, match="time of this visit"):
        server.call("the server", "ping")
    with gate.call():
        pass
    with pytest.raises(UnreachableError, match="does not answer"):
        server.call("the server", "ping")
    with pytest.raises(UnreachableError, match="left alone"), gate.call():
        pass


@pytest.mark.parametrize(
    ("waited", "asked_for", "is_silent"), [(20, 9.9, False), (0, 9.9, False), (0, 10, True), (20, 10, True)]
)
def test_to_wait_for_a_turn_is_no_silence_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: float, asked_for: float, *, is_silent: bool
) -> None:
    spec = RucioConnectionSpec.model_validate(
        {"server": "https://localhost:1", "account": "ops", "userpass": {"secretName": "x"}, "ledgerScope": "vrse"}
    )
    gate, now, failed = Gate("https://localhost:1", Budget()), 0.0, []
    server = RucioServer(spec, ("ops", "secret"), AUTHORITY.bundle(), tmp_path, gate)
    monkeypatch.setattr(rucio_server, "time", SimpleNamespace(monotonic=lambda: now))

    @contextmanager
    def turn() -> Iterator[None]:
        nonlocal now
        now += waited
        yield

    @contextmanager
    def log_in() -> Iterator[None]:
        nonlocal now
        now += asked_for
        raise deadline.missed()
        yield

    monkeypatch.setattr(gate, "call", turn)
    monkeypatch.setattr(gate, "failed", lambda: failed.append(now))
    monkeypatch.setattr(server, "_lent", log_in)
    with pytest.raises(UnreachableError, match="time of this visit") as caught:
        server.call("the server", "ping")
    assert deadline.is_over(caught.value)
    assert bool(failed) is is_silent


def test_a_connection_that_does_not_come_about_ends_with_the_visit(tmp_path: Path) -> None:
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            other = waiting.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        began = time.monotonic()
        made = asked(full.getsockname()[1], tmp_path)
        with deadline.within(SHORT), pytest.raises(UnreachableError, match="time of this visit was over"):
            made.get(Ref("Namespace", None, "x"))
        assert time.monotonic() - began < SHORT + SLACK


def test_a_probe_is_removed_again_also_where_the_visit_ends_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked_for = 0.0, []
    monkeypatch.setattr(deadline, "monotonic", lambda: now)

    def call(method: str, *_: object) -> endpoints._Answer:
        nonlocal now
        asked_for.append((method, deadline.left()))
        now += 60
        return endpoints._Answer(method, 201, "")

    made = XrootdEndpoints(AUTHORITY.bundle())
    monkeypatch.setattr(made, "_call", call)
    with deadline.within(60):
        assert made.can_write("localhost", 1, "/outbox/x/", "token")
    assert asked_for == [("PUT", 60), ("DELETE", endpoints._TIMEOUT)]


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
