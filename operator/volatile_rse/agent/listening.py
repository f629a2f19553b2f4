"""Who may speak to the agent: whoever shows the operator's certificate, and soon.

A connection costs memory before it has said who it is. HAProxy hands on what begins as TLS does, whatever comes of it:
so many are let in that have not said who they are, and none of them for long.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web

__all__ = ["listening", "until_the_end"]

_log = logging.getLogger(__name__)
_HANDSHAKE = 5.0
"""Seconds in which a connection has to show its certificate."""
_STRANGERS = 128
"""Connections that have shown none yet."""
_AFTER_FAILURE = 0.5
_SHUTDOWN = 2.0
"""Seconds for what is being answered at the end."""


@asynccontextmanager
async def listening(made: web.Application, context: ssl.SSLContext, line: socket.socket) -> AsyncIterator[None]:
    """Serve within what comes by a socket that listens."""
    runner = web.AppRunner(made, access_log=None, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    line.setblocking(False)
    door = asyncio.create_task(_Door(_server_of(runner), context).open(line))
    try:
        yield
    finally:
        door.cancel()
        with suppress(asyncio.CancelledError):
            await door
        await runner.cleanup()


async def until_the_end(made: web.Application, context: ssl.SSLContext, line: socket.socket, signals: set[int]) -> None:
    """Serve what comes by a socket that listens until one of these signals comes."""
    over = asyncio.Event()
    for number in signals:
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with listening(made, context, line):
        await over.wait()


def _server_of(runner: web.AppRunner) -> Callable[[], asyncio.Protocol]:
    if runner.server is None:
        message = "the runner has not been set up"
        raise RuntimeError(message)
    return runner.server


class _Door:
    def __init__(self, server: Callable[[], asyncio.Protocol], context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._strangers: set[asyncio.Task[None]] = set()

    async def open(self, line: socket.socket) -> None:
        """Take connections for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(line)
            except OSError as error:
                _log.warning("no connection can be taken now: %s", error)
                await asyncio.sleep(_AFTER_FAILURE)
                continue
            if len(self._strangers) >= _STRANGERS:
                connection.close()
                continue
            task = asyncio.create_task(self._let_in(connection))
            self._strangers.add(task)
            task.add_done_callback(self._strangers.discard)

    async def _let_in(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server, connection, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE
            )
        except OSError as error:
            connection.close()
            _log.debug("a connection has not said in time who it is: %s", error)
