"""What a benchmark puts in the place of Rucio, agents and doors: the adapters' fakes, in a process of their own.

They live beside the operator's process, as the real ones do: what they need of processor and memory is not counted as
its own, and they outlive it. It asks them through a socket; each of its threads has a connection.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, Literal, cast

from volatile_rse.adapters.fake_buffer import FakeBuffer, FakeEndpoints
from volatile_rse.adapters.fake_catalogue import FakeCatalogue
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import agent_host
from volatile_rse.ports.buffer import Buffer, Endpoints
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["Far", "Server", "World"]

_log = logging.getLogger(__name__)

_DAEMONS = 1.0
"""Seconds between two rounds of Rucio's daemons."""
_ERRORS: Mapping[str, type[PortError]] = {kind.__name__: kind for kind in (RefusedError, UnreachableError)}
Port = Literal["catalogue", "buffer", "door"]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Asked:
    port: Port
    whom: tuple[str, ...]
    """Of a catalogue the server's URL, of a buffer the pod's address and the agent's name."""
    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(slots=True)
class _Session:
    """One buffer, behind a lock of its own."""

    buffer: FakeBuffer
    address: str = ""
    """Of the pod that runs; empty: none does."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Doors(FakeEndpoints):
    """Each address leads to the buffer whose Service has it."""

    def __init__(self, find: Callable[[Address], FakeBuffer | None]) -> None:
        super().__init__({})
        self._find = find

    def _open(self, host: str, port: int) -> FakeBuffer:
        buffer = self._find((host, port))
        if buffer is None or buffer.gate.mode == "down":
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, f"https://{host}:{port} got no answer: nobody listens")
        return buffer


class World:
    """All of the fakes, for any number of threads.

    Parameters
    ----------
    delay
        Seconds that each answer takes; others are answered meanwhile.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay
        self._lock = threading.Lock()
        self._catalogues: dict[str, tuple[threading.Lock, FakeCatalogue]] = {}
        """By the server's URL."""
        self._sessions: defaultdict[str, _Session] = defaultdict(self._new_session)
        """By the agent's name in its certificate."""
        self._addresses: dict[Address, str] = {}
        """Where a door is -> the agent's name."""
        self._at: dict[str, tuple[Address, ...]] = {}
        """The same the other way round."""
        self._doors = _Doors(self._behind)

    def ran(self, record: str, address: str) -> None:
        """Take the address of a storage pod that runs; an empty one: it has ended, with all that it had in memory."""
        session = self._session(agent_host(record))
        with session.lock:
            if not address:
                session.buffer.lose_volume()
            session.address = address

    def opened(self, record: str, addresses: tuple[Address, ...]) -> None:
        """Take the addresses at which a buffer's Service answers now, in the place of all that it had."""
        agent = agent_host(record)
        with self._lock:
            for address in self._at.pop(agent, ()):
                self._addresses.pop(address, None)
            self._addresses |= dict.fromkeys(addresses, agent)
            self._at[agent] = addresses

    def answer(self, asked: _Asked) -> Any:  # noqa: ANN401 (what the fake answers)
        """Do what was asked for.

        Raises
        ------
        PortError
            As the port documents it.
        """
        if self._delay:
            time.sleep(self._delay)
        match asked.port:
            case "catalogue":
                lock, catalogue = self._catalogue(asked.whom[0])
                with lock:
                    return getattr(catalogue, asked.method)(*asked.args, **asked.kwargs)
            case "buffer":
                address, agent = asked.whom
                session = self._session(agent)
                with session.lock:
                    if not address or session.address != address:
                        what = f"The buffer at {address} did not answer {asked.method}: nobody listens there"
                        raise UnreachableError(Reason.BUFFER_UNREACHABLE, what)
                    if asked.method == "report":
                        # What was ordered before is done by then, and never in the same moment.
                        session.buffer.advance()
                    return getattr(session.buffer, asked.method)(*asked.args, **asked.kwargs)
            case _:
                return getattr(self._doors, asked.method)(*asked.args, **asked.kwargs)

    def work(self) -> None:
        """Have Rucio's daemons work once."""
        with self._lock:
            catalogues = list(self._catalogues.values())
        for lock, catalogue in catalogues:
            with lock:
                catalogue.run_daemons()

    def forget(self) -> None:
        """Begin anew: what unfinished sessions have left is no orphan of those that follow."""
        with self._lock:
            self._catalogues.clear()
            self._sessions.clear()

    def left(self) -> int:
        """Count the datasets and RSEs that buffers have left in the catalogues."""
        with self._lock:
            catalogues = list(self._catalogues.values())
        return sum(len(catalogue._rses) + len(catalogue._collections) for _, catalogue in catalogues)  # noqa: SLF001

    def _catalogue(self, server: str) -> tuple[threading.Lock, FakeCatalogue]:
        with self._lock:
            return self._catalogues.setdefault(server, (threading.Lock(), FakeCatalogue()))

    def _session(self, agent: str) -> _Session:
        with self._lock:
            return self._sessions[agent]

    def _new_session(self) -> _Session:
        buffer = FakeBuffer()
        buffer.now = lambda: datetime.now(UTC)
        return _Session(buffer)

    def _behind(self, address: Address) -> FakeBuffer | None:
        with self._lock:
            agent = self._addresses.get(address)
            session = None if agent is None else self._sessions[agent]
        return None if session is None or not session.address else session.buffer


class Server:
    """Answers through a socket, a thread for each connection."""

    def __init__(self, world: World, path: Path) -> None:
        self._world = world
        self._closed = threading.Event()
        self._listener = Listener(str(path), "AF_UNIX", backlog=128)
        for work in (self._accept, self._play_daemons):
            threading.Thread(target=work, name=f"fakes{work.__name__}", daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those that there are end with whoever asks."""
        self._closed.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection = self._listener.accept()
            except OSError:
                # Who asked was gone before it was heard, or nobody shall be heard any more.
                continue
            threading.Thread(target=self._serve, args=[connection], name="fakes", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            while True:
                try:
                    asked = connection.recv()
                except (EOFError, OSError):
                    return
                connection.send(self._said(asked))

    def _said(self, asked: _Asked) -> tuple[str, Any]:
        try:
            return "", self._world.answer(asked)
        except PortError as error:
            return type(error).__name__, (error.reason, error.what)
        except Exception as error:  # noqa: BLE001 (it fails the call of who asked, and no other)
            _log.exception("%s", asked.method)
            return "fault", repr(error)

    def _play_daemons(self) -> None:
        while not self._closed.wait(_DAEMONS):
            self._world.work()


class Far:
    """The ports as the operator has them: each call goes through the socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def catalogue(self, server: str) -> Catalogue:
        """Give the catalogue of a server."""
        return cast("Catalogue", _Proxy(self, "catalogue", (server,)))

    def buffer(self, address: str, agent: str) -> Buffer:
        """Give the agent at an address, if its name is this one."""
        return cast("Buffer", _Proxy(self, "buffer", (address, agent)))

    def doors(self) -> Endpoints:
        """Give the doors of all buffers."""
        return cast("Endpoints", _Proxy(self, "door", ()))

    def ask(self, asked: _Asked) -> Any:  # noqa: ANN401 (what the fake answers)
        """Send it and wait.

        Raises
        ------
        RuntimeError
            A fault of the fakes.
        PortError
            As the port documents it.
        """
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = Client(str(self._path), "AF_UNIX")
        connection.send(asked)
        failed, said = connection.recv()
        if failed in _ERRORS:
            raise _ERRORS[failed](*said)
        if failed:
            message = f"{asked.port}.{asked.method}: {said}"
            raise RuntimeError(message)
        return said


class _Proxy:
    """Any port: what it is asked is what the fake answers."""

    def __init__(self, far: Far, port: Port, whom: tuple[str, ...]) -> None:
        self._far = far
        self._port = port
        self._whom = whom

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (a port's own arguments)
            return self._far.ask(_Asked(self._port, self._whom, method, args, kwargs))

        return call
