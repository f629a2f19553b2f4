"""The session of one spawn: made, waited for, ended. No outage of the storage fails a spawn."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from volatile_rse.jupyterhub.choices import Choice
from volatile_rse.jupyterhub.cluster import Cluster, UnavailableError
from volatile_rse.jupyterhub.progress import State, progress_of
from volatile_rse.jupyterhub.refusals import RefusedError
from volatile_rse.jupyterhub.settings import Settings
from volatile_rse.jupyterhub.volatilerses import Server, body_of

__all__ = ["Begun", "Told", "begin", "end"]

_PERIOD = 2.0
"""Seconds between two looks at one VolatileRSE."""
_WITHOUT = "The server starts without data."
_LATER = (
    "The data are not there yet. The server starts, and staging goes on: `%load_ext volatile_rse.session` and `%vrse` "
    "in a notebook show it, a minute or two after the data are there."
)


@dataclass
class Told:
    """What the spawn page shows: a list that every listener reads from its begin, however late it comes."""

    lines: list[tuple[int, str]] = field(default_factory=list)

    def __call__(self, percent: int, line: str) -> None:
        """Add a line, unless it was the last one already."""
        if not self.lines or self.lines[-1][1] != line:
            self.lines.append((percent, line))


@dataclass(frozen=True)
class Begun:
    """A session that the server is to have."""

    name: str
    """Of the VolatileRSE."""
    status: Mapping[str, Any]
    """Of it, as far as it has come."""


async def begin(  # noqa: PLR0913
    cluster: Cluster,
    server: Server,
    choice: Choice,
    settings: Settings,
    tell: Callable[[int, str], None],
    *,
    wait: float,
) -> Begun | None:
    """Make the session of a server, and wait for its data for a while; None: it starts without.

    Parameters
    ----------
    tell
        Hears what the user is shown.
    wait
        Seconds for all of it.

    Raises
    ------
    RefusedError
        The user has to ask for something else.
    """
    until = asyncio.get_running_loop().time() + wait
    body = body_of(server, choice, settings, uuid.uuid4().hex[:8])
    name = body["metadata"]["name"]
    tell(1, f"A buffer for your session is made: VolatileRSE {name}.")
    try:
        # One that was forgotten by a hub that was killed would live on beside the new one.
        await cluster.end(server)
        await cluster.create(body)
    except UnavailableError as error:
        tell(80, f"{_WITHOUT} {error}")
        return None
    return Begun(name, await _await(cluster, server.namespace, name, tell, until))


async def end(cluster: Cluster, server: Server) -> list[str]:
    """End whatever sessions a server has; said once or often, it does the same.

    Raises
    ------
    UnavailableError
        It cannot be said whether all have ended; each then does, ``endGrace`` after its pod has gone.
    """
    return await cluster.end(server)


async def _await(
    cluster: Cluster, namespace: str, name: str, tell: Callable[[int, str], None], until: float
) -> Mapping[str, Any]:
    """Wait until the data are there, or time is up; give the last status."""
    clock = asyncio.get_running_loop().time
    percent = 1
    status: Mapping[str, Any] = {}
    while clock() < until:
        try:
            body = await asyncio.wait_for(cluster.read(namespace, name), until - clock())
        except TimeoutError:
            break
        except UnavailableError as error:
            tell(percent, str(error))
        else:
            if body is None:
                tell(percent, f"VolatileRSE {name} was deleted by somebody. {_WITHOUT}")
                return status
            status = found if isinstance(found := body.get("status"), dict) else {}
            progress = progress_of(body, datetime.now(UTC))
            percent = progress.percent
            if progress.state is State.REFUSED:
                message = f"{progress.line} Or start without data."
                raise RefusedError(message)
            tell(percent, progress.line if progress.state is not State.HELPLESS else f"{progress.line} {_WITHOUT}")
            if progress.state is not State.WAITING:
                return status
        await asyncio.sleep(max(0.0, min(_PERIOD, until - clock())))
    tell(percent, _LATER)
    return status
