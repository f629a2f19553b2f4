"""The agent's protocol over HTTPS with mutual TLS; the operator's side is ``adapters/agent_client.py``.

It listens on ``AGENT_PORT``, with ``tls.crt`` and ``tls.key``, and serves only who shows a client's certificate of
``ca.crt``; replaced files count for new connections. Bodies are the JSON of the models in ``api/agent.py``.

=====================  ===============  ============================  ==================================================
call                   body             answer                        meaning
=====================  ===============  ============================  ==================================================
GET /v1/report         none             200 ``Report``                the state now; with ``after=V&wait=S`` as soon as
                                                                      the version is another than V, at the latest after
                                                                      S seconds, and after 60 whatever S is
PUT /v1/manifest       ``Manifest``     204                           replaces the one before; inputs that are no longer
                                                                      named are not fetched, and what is there stays
POST /v1/fence         ``FenceRequest`` 200 ``GateState``, desired    for good; it stands when the report's ``actual``
                                                                      says so; 409: a later fence was asked for before
POST /v1/seal          ``SealRequest``  202                           the report's ``seal`` tells the end; 409: that
                                                                      fence does not stand, or another order runs
PUT /v1/session        ``SessionWords`` 204                           replaces what the session's status file says of
                                                                      what the agent does not know itself
POST /v1/copies        ``Copies``       202                           failed copies begin anew; 409: one of the outputs
                                                                      is not sealed, and none of the order was taken
GET /v1/inputs         none             200 ``InputPage``             what changed after version ``after`` (0), at most
GET /v1/outputs        none             200 ``OutputPage``            ``limit`` items (1000, at most 10000), oldest
GET /v1/copies         none             200 ``CopyPage``              change first; ``next`` is the following ``after``
=====================  ===============  ============================  ==================================================

Each call may be repeated. Copies may be ordered before a manifest brings credentials, and wait for them: the agent
keeps these in memory only, and after a restart its report names no manifest until one is sent anew.

Errors are ``{"what", "object", "actor", "remedy"}``: what happened, to which object, who must act, and how. 400: the
request is no protocol v1; 408: its body did not come in time; 409: not in this state; 413: longer than 512 MiB; 500:
the volume or a defect, see the log.
Whether it serves is probed by TCP: there is no call for that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from pydantic import ValidationError

from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.errors import AgentError
from volatile_rse.agent.gate import GateError
from volatile_rse.agent.places import Places
from volatile_rse.agent.xrootd import stamp
from volatile_rse.api.agent import (
    Copies,
    CopyPage,
    CopyState,
    FenceRequest,
    InputPage,
    InputState,
    Manifest,
    OutputPage,
    OutputState,
    SealRequest,
    SessionWords,
)
from volatile_rse.api.schema import ApiModel

__all__ = ["application", "tls_context"]

_log = logging.getLogger(__name__)
_BODY = 512 << 20
"""Bytes of the longest manifest."""
_SLOWEST = 100.0
"""Seconds until a body is there."""
_WAIT = 60.0
_TICK = 0.1
_PAGE = 1000
_LONGEST_PAGE = 10_000
_WORDS = 512
_DIGITS = 15
_Model = TypeVar("_Model", bound=ApiModel)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def tls_context(places: Places) -> ssl.SSLContext:
    """Make the server's context: nobody speaks to the agent without a client certificate of its own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    _load(context, places)
    return context


def application(buffer: Buffer, context: ssl.SSLContext | None = None) -> web.Application:
    """Make the server of a buffer.

    Parameters
    ----------
    context
        Gets replaced certificates while the server runs.
    """
    service = _Service(buffer)
    made = web.Application(client_max_size=_BODY, middlewares=[_answering])
    made.add_routes(
        [
            web.get("/v1/report", service.report),
            web.put("/v1/manifest", service.manifest),
            web.put("/v1/session", service.session),
            web.post("/v1/fence", service.fence),
            web.post("/v1/seal", service.seal),
            web.post("/v1/copies", service.order_copies),
            web.get("/v1/inputs", service.inputs),
            web.get("/v1/outputs", service.outputs),
            web.get("/v1/copies", service.copies),
        ]
    )
    if context is not None:
        made.cleanup_ctx.append(_renewing(buffer.places, context))
    return made


class _Service:
    """The calls; what touches the disk runs in threads, so that none waits for another."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    async def report(self, request: web.Request) -> web.Response:
        after, wait = _number(request, "after", -1), min(_seconds(request, "wait"), _WAIT)
        until = time.monotonic() + wait
        report = await asyncio.to_thread(self._buffer.report)
        while report.version == after and time.monotonic() < until:
            await asyncio.sleep(_TICK)
            if self._buffer.changed(after):
                report = await asyncio.to_thread(self._buffer.report)
        return _json(report)

    async def manifest(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self._buffer.take, await _body(request, Manifest))
        return web.Response(status=204)

    async def session(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self._buffer.tell, await _body(request, SessionWords))
        return web.Response(status=204)

    async def fence(self, request: web.Request) -> web.Response:
        order = await _body(request, FenceRequest)
        return _json(await asyncio.to_thread(self._buffer.fence, order.generation))

    async def seal(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self._buffer.sealing.order, await _body(request, SealRequest))
        return web.Response(status=202)

    async def order_copies(self, request: web.Request) -> web.Response:
        await asyncio.to_thread(self._buffer.copying.order, await _body(request, Copies))
        return web.Response(status=202)

    async def inputs(self, request: web.Request) -> web.Response:
        after, limit = _range(request)
        items, following = await asyncio.to_thread(self._buffer.ledger.page, InputState, after, limit)
        return _json(InputPage(items=items, next=following))

    async def outputs(self, request: web.Request) -> web.Response:
        after, limit = _range(request)
        items, following = await asyncio.to_thread(self._buffer.ledger.page, OutputState, after, limit)
        return _json(OutputPage(items=items, next=following))

    async def copies(self, request: web.Request) -> web.Response:
        after, limit = _range(request)
        items, following = await asyncio.to_thread(self._buffer.ledger.page, CopyState, after, limit)
        return _json(CopyPage(items=items, next=following))


@web.middleware
async def _answering(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Turn every error into words for who must act."""
    try:
        return await handler(request)
    except AgentError as error:
        return _refusal(error)
    except GateError as error:
        remedy = "read the record again; if it is right, an administrator must look at the gate's files"
        return _refusal(AgentError(409, str(error), "gate", "operator", remedy))
    except web.HTTPException as error:
        remedy = "speak protocol v1"
        return _refusal(AgentError(error.status, error.reason, request.path, "operator", remedy))
    except Exception as error:  # noqa: BLE001 (the cause stands in the log, never in the answer)
        _log.exception("%s %s failed", request.method, request.path)
        what = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__
        remedy = "read the log of the agent's container, and look at its volume"
        return _refusal(AgentError(500, what[:_WORDS], request.path, "administrator", remedy))


def _refusal(error: AgentError) -> web.Response:
    return web.json_response(error.body(), status=error.status)


def _json(model: ApiModel) -> web.Response:
    return web.Response(text=model.model_dump_json(by_alias=True, exclude_none=True), content_type="application/json")


async def _body(request: web.Request, model: type[_Model]) -> _Model:
    try:
        async with asyncio.timeout(_SLOWEST):
            raw = await request.read()
    except TimeoutError:
        what, remedy = f"its body was not there within {_SLOWEST:g} s", "send it again"
        raise AgentError(408, what, request.path, "operator", remedy) from None
    try:
        return await asyncio.to_thread(model.model_validate_json, raw)
    except ValidationError as error:
        # Without the values: they may be secrets.
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = f"it is no {model.__name__} of protocol v1: {where}: {first['msg']}"
        raise AgentError(400, what[:_WORDS], request.path, "operator", "send what the protocol describes") from None


def _range(request: web.Request) -> tuple[int, int]:
    limit = _number(request, "limit", _PAGE)
    return _number(request, "after", 0), max(1, min(limit, _LONGEST_PAGE))


def _number(request: web.Request, name: str, absent: int) -> int:
    return int(_parsed(request, name, float(absent)))


def _seconds(request: web.Request, name: str) -> float:
    return _parsed(request, name, 0.0)


def _parsed(request: web.Request, name: str, absent: float) -> float:
    text = request.query.get(name)
    if text is None:
        return absent
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        remedy = f"give a whole number of at most {_DIGITS} digits"
        raise AgentError(400, f"{name} is no number", request.path, "operator", remedy)
    return float(text)


def _load(context: ssl.SSLContext, places: Places) -> None:
    context.load_cert_chain(places.tls / "tls.crt", places.tls / "tls.key")
    context.load_verify_locations(places.tls / "ca.crt")


def _renewing(places: Places, context: ssl.SSLContext) -> Callable[[web.Application], AsyncIterator[None]]:
    """Load replaced certificates for the connections to come."""

    async def watch() -> None:
        files = (places.tls / "tls.crt", places.tls / "tls.key", places.tls / "ca.crt")
        seen = stamp(*files)
        while True:
            await asyncio.sleep(float(os.environ.get("VOLATILE_RSE_TLS_SECONDS", "5")))
            now = stamp(*files)
            if now != seen:
                try:
                    _load(context, places)
                except (OSError, ssl.SSLError):
                    _log.exception("the replaced certificate cannot be loaded; the old one stays")
                seen = now

    async def during(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(watch())
        yield
        task.cancel()

    return during
