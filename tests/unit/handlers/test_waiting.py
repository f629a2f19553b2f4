from __future__ import annotations

import asyncio
import signal
import socket

import kopf
import pytest
import requests
from kopf._cogs.structs.ephemera import AnyMemo
from kopf._core.engines.probing import health_reporter
from prometheus_client import CollectorRegistry, start_http_server

from volatile_rse.adapters.https import netloc
from volatile_rse.handlers.waiting import every_address, waiting


def test_who_waits_for_the_lease_is_alive_and_gives_the_port_back() -> None:
    with waiting(0, "127.0.0.1") as port:
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    with waiting(port, "127.0.0.1") as again:
        assert again == port
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5)


def test_who_waits_for_the_lease_ends_when_told() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), waiting(0, "127.0.0.1"):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


PODS = [
    pytest.param("10.244.0.7", "127.0.0.1", id="IPv4"),
    pytest.param("", "127.0.0.1", id="installed without the variable"),
    pytest.param("fd00:10:244::7", "::1", id="IPv6"),
]
"""Own address of the pod -> where its node asks, on the loopback."""


@pytest.mark.parametrize(("own", "asked"), PODS)
def test_who_waits_for_the_lease_answers_at_the_address_of_its_pod(own: str, asked: str) -> None:
    with waiting(0, every_address(own)) as port:
        assert requests.get(f"http://{netloc(asked, port)}/healthz", timeout=5).status_code == 200


@pytest.mark.parametrize(("own", "asked"), PODS)
def test_metrics_are_told_at_the_address_of_the_pod(own: str, asked: str) -> None:
    server, thread = start_http_server(0, every_address(own), registry=CollectorRegistry())
    assert requests.get(f"http://{netloc(asked, server.server_port)}/metrics", timeout=5).status_code == 200
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("own", "asked"), PODS)
def test_kopf_tells_of_the_operators_health_at_the_address_of_the_pod(own: str, asked: str) -> None:
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    with socket.socket(family) as free:
        free.bind((asked, 0))
        port = free.getsockname()[1]

    async def told() -> int:
        ready = asyncio.Event()
        reporter = asyncio.create_task(
            health_reporter(
                f"http://{netloc(every_address(own), port)}/healthz",
                memo=AnyMemo(kopf.Memo()),
                indices={},
                registry=kopf.OperatorRegistry(),
                settings=kopf.OperatorSettings(),
                ready_flag=ready,
            )
        )
        await ready.wait()
        url = f"http://{netloc(asked, port)}/healthz"
        answer = await asyncio.to_thread(requests.get, url, timeout=5)
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)
        return int(answer.status_code)

    assert asyncio.run(told()) == 200
