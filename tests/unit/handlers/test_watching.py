"""kopf itself, in front of an API server that is a small fake."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kopf
import pytest
import requests
from aiohttp import web

from tests.unit.reconcile.small_world import Small
from volatile_rse.handlers import watching
from volatile_rse.reconcile.lease import SILENCE, Lease

KINDS = {
    "": ["Pod", "Namespace", "Event"],
    "apiextensions.k8s.io": ["CustomResourceDefinition"],
    "coordination.k8s.io": ["Lease"],
    "volatilerse.io": ["VolatileRSE", "RSERecord", "VolatileRSEClass", "RucioConnection"],
}
PLURALS = {"VolatileRSEClass": "volatilerseclasses"}
LEASES = "/apis/coordination.k8s.io/v1/leases"


def until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class ApiServer:
    """Tells of its kinds, lists nothing, and streams what it is given."""

    def __init__(self) -> None:
        self.watches: dict[str, dict[str, str]] = {}
        """Path -> what the open watch asked for."""
        self.cut = False
        """Streams stay open, and nothing comes by them."""
        self._streams: list[web.StreamResponse] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/api":
            return web.json_response({"versions": ["v1"]})
        if path == "/apis":
            return web.json_response({"groups": [self._group(group) for group in KINDS if group]})
        if path.rpartition("/")[2].startswith("v1"):
            group = path.split("/")[2] if path.startswith("/apis/") else ""
            return web.json_response({"resources": [self._kind(kind) for kind in KINDS[group]]})
        if "watch" not in request.query:
            return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})
        stream = web.StreamResponse()
        await stream.prepare(request)
        self.watches[path] = dict(request.query)
        if path == LEASES:
            self._streams.append(stream)
        await asyncio.Event().wait()
        return stream

    async def tell(self, body: dict[str, Any]) -> None:
        for stream in self._streams:
            if not self.cut:
                await stream.write(json.dumps({"type": "MODIFIED", "object": body}).encode() + b"\n")

    def _group(self, group: str) -> dict[str, Any]:
        version = {"version": "v1alpha1" if group == "volatilerse.io" else "v1"}
        return {"name": group, "versions": [version], "preferredVersion": version}

    def _kind(self, kind: str) -> dict[str, Any]:
        plural = PLURALS.get(kind, f"{kind.lower()}s")
        return {"name": plural, "kind": kind, "singularName": kind.lower(), "namespaced": False,
                "verbs": ["get", "list", "watch", "patch"]}  # fmt: skip


class Running:
    """kopf, its API server, and the Lease of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self._small = Small(inputs=0)
        settings = self._small.settings
        self.lease = Lease(self._small.cluster, settings, "us", lambda: None, lambda: self.seconds)
        assert self.lease.acquire()
        self.server = ApiServer()
        # kopf waits at its end for every other task of its loop.
        self._loops = asyncio.new_event_loop(), asyncio.new_event_loop()
        self._threads = [threading.Thread(target=loop.run_forever, daemon=True) for loop in self._loops]
        for thread in self._threads:
            thread.start()
        url = asyncio.run_coroutine_threadsafe(self._serve(), self._loops[0]).result(5)
        monkeypatch.setattr(watching, "as_service_account", lambda **_: kopf.ConnectionInfo(server=url))
        self._stop = asyncio.Event()
        self.port = asyncio.run_coroutine_threadsafe(self._free_port(), self._loops[0]).result(5)
        self._watching = asyncio.run_coroutine_threadsafe(self._watch(), self._loops[1])
        until(lambda: LEASES in self.server.watches)

    async def _serve(self) -> str:
        made = web.Application()
        made.router.add_route("*", "/{path:.*}", self.server.answer)
        self._runner = web.AppRunner(made, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _watch(self) -> None:
        settings = watching.settings_of(self.lease.ref)
        settings.queueing.idle_timeout = settings.queueing.exit_timeout = 0.1
        await kopf.operator(
            registry=watching.registry_of(
                lambda _kind, _body, _gone: None, self.lease.saw, {"the watches are dead": self.lease.is_watched}
            ),
            settings=settings,
            clusterwide=True,
            standalone=True,
            liveness_endpoint=f"http://127.0.0.1:{self.port}/healthz",
            stop_flag=self._stop,
        )

    @staticmethod
    async def _free_port() -> int:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return port

    def renew(self, after: float) -> None:
        """Renew, and let the API server tell of it."""
        self.seconds += after
        self.lease.renew()
        body = dict(self._small.cluster.get(self.lease.ref) or {})
        asyncio.run_coroutine_threadsafe(self.server.tell(body), self._loops[0]).result(5)

    def probe(self) -> int:
        return requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status_code

    def close(self) -> None:
        self._loops[1].call_soon_threadsafe(self._stop.set)
        self._watching.result(10)
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loops[0]).result(10)
        for loop, thread in zip(self._loops, self._threads, strict=True):
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    made = Running(monkeypatch)
    yield made
    made.close()


def test_renewals_that_come_back_keep_the_process_alive(running: Running) -> None:
    ref = running.lease.ref
    asked = running.server.watches[LEASES]["fieldSelector"]
    assert asked == f"metadata.namespace={ref.namespace},metadata.name={ref.name}"
    running.renew(after=SILENCE + 1)
    until(lambda: running.lease.unseen() == 0)
    assert running.probe() == 200


def test_a_watch_that_is_cut_ends_the_process(running: Running) -> None:
    running.renew(after=4)
    until(lambda: running.lease.unseen() == 0)
    running.server.cut = True
    running.renew(after=SILENCE - 1)
    assert running.lease.is_watched()
    running.renew(after=1)
    assert running.lease.unseen() == SILENCE
    assert running.probe() == 500
