"""Clients of the Rucio servers that RucioConnections name, made anew when a credential changes."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from volatile_rse.api.addresses import server_url
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rserecord import RSERecordSpec
from volatile_rse.api.rucioconnection import RucioConnectionSpec
from volatile_rse.domain.facts import Judged
from volatile_rse.ports.catalogue import Catalogue
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.datasets import Datasets
from volatile_rse.reconcile.memory import remembering
from volatile_rse.reconcile.reading import data_of, secret_of
from volatile_rse.reconcile.world import Login, World

__all__ = ["Connections", "authorities_of"]

_LATIN_1 = 0xFF
_SOON, _AT_LAST = timedelta(minutes=1), timedelta(hours=1)
"""Between two questions for the sources of what does not arrive: at first, and at most."""
_REFUSED = timedelta(seconds=30)
"""For which an entry that was refused is not judged again."""


class Connections:
    """One client for each connection and credential."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._used: set[RucioConnectionSpec] = set()
        self._used_before: set[RucioConnectionSpec] = set()
        """Connections that were asked for since the last forgetting, and between the two before."""
        self._lock = threading.Lock()
        self.datasets = Datasets(world.clock.now)
        self._clients: dict[RucioConnectionSpec, tuple[Login, Catalogue]] = {}
        self._memories: dict[str, tuple[Catalogue, Catalogue]] = {}
        self._compared: dict[str, str] = {}
        self._refused: dict[str, tuple[datetime, int, Mapping[tuple[str, str], Judged]]] = {}
        self._asked: dict[str, tuple[datetime, timedelta]] = {}
        """Record -> when sources are asked for again, and how long that was after the last time."""

    def remembering(self, spec: RSERecordSpec) -> Catalogue:
        """Give the client with the memory of one buffer: for looks that destroy nothing, and for all deeds.

        Raises
        ------
        RefusedError
            As ``of``.
        """
        client = self.of(spec.connection_snapshot, spec.connection_name)
        known = self._memories.get(spec.record_id)
        if known is None or known[0] is not client:
            known = self._memories[spec.record_id] = (client, remembering(client, self._world.clock.now))
        return known[1]

    def keep(self, alive: set[str]) -> None:
        """Forget what was remembered of all other buffers, and clients that nobody has asked for in two rounds."""
        memories: tuple[dict[str, Any], ...] = (self._memories, self._compared, self._asked, self._refused)
        for memory in memories:
            for record_id in set(memory) - alive:
                memory.pop(record_id, None)
        with self._lock:
            for key in set(self._clients) - self._used - self._used_before:
                del self._clients[key]
            self._used, self._used_before = set(), self._used

    def forget(self, record_id: str) -> None:
        """Drop the memory of a buffer."""
        self._memories.pop(record_id, None)
        self._asked.pop(record_id, None)
        self.datasets.forget(record_id)

    def is_time_again(self, record_id: str) -> bool:
        """Tell whether to ask again for what a buffer could not get: each time twice as long after the last."""
        now = self._world.clock.now()
        due, wait = self._asked.get(record_id, (now + _SOON, _SOON))
        again = now >= due
        if again:
            wait = min(2 * wait, _AT_LAST)
            due = now + wait
        self._asked[record_id] = due, wait
        return again

    def refused(self, record_id: str, generation: int) -> Mapping[tuple[str, str], Judged]:
        """Give the entries of this generation of a request that were refused a moment ago: nobody is asked again."""
        until, known, found = self._refused.get(record_id, (self._world.clock.now(), generation, {}))
        return found if known == generation and self._world.clock.now() < until else {}

    def refuse(self, record_id: str, generation: int, refused: Mapping[tuple[str, str], Judged]) -> None:
        """Keep for a while which entries were refused."""
        self._refused[record_id] = self._world.clock.now() + _REFUSED, generation, refused

    def compared(self, record_id: str, version: str, compare: Callable[[], bool]) -> bool:
        """Compare what a buffer reads again and again with its digest: once for each version of it that is right."""
        if self._compared.get(record_id) == version:
            return True
        right = compare()
        if right:
            self._compared[record_id] = version
        return right

    def of(self, connection: RucioConnectionSpec, name: str) -> Catalogue:
        """Give the client.

        Parameters
        ----------
        name
            Of the RucioConnection.

        Raises
        ------
        RefusedError
            CREDENTIAL_MISSING: the Secret or the ConfigMap that the connection names is missing or incomplete.
            CREDENTIAL_INVALID: what is in the Secret can be no login. CREDENTIAL_MISMATCH: it is for another server.
        """
        login = self._login(connection, name)
        # Records keep the connection as it was when they began: the same server may be named in several ways.
        with self._lock:
            self._used.add(connection)
            known = self._clients.get(connection)
            if known is None or known[0] != login:
                known = (login, self._world.connect(login))
                self._clients[connection] = known
            return known[1]

    def _login(self, connection: RucioConnectionSpec, name: str) -> Login:
        namespace = self._world.settings.namespace
        secret = self._world.cluster.get(Ref("Secret", namespace, connection.userpass.secret_name))
        data = {} if secret is None else secret_of(secret)
        if not data.get("username") or not data.get("password"):
            what = (
                f"Secret {namespace}/{connection.userpass.secret_name} with keys username and password is missing, "
                f"and Rucio at {connection.server} wants them."
            )
            raise RefusedError(Reason.CREDENTIAL_MISSING, what)
        if for_ := _mismatch(connection, data.get("server", "")):
            what = (
                f"Secret {namespace}/{connection.userpass.secret_name} {for_[0]}, and RucioConnection {name} {for_[1]}."
            )
            raise RefusedError(Reason.CREDENTIAL_MISMATCH, what)
        login = {key: data[key].strip() for key in ("username", "password")}
        if wrong := [key for key, text in login.items() if not _is_plain(text)]:
            what = f"Secret {namespace}/{connection.userpass.secret_name}: {', '.join(wrong)} cannot stand in a header."
            raise RefusedError(Reason.CREDENTIAL_INVALID, what)
        authorities = None
        if connection.ca_config_map is not None:
            authorities = authorities_of(self._world, connection.ca_config_map)
        return Login(connection, login["username"], login["password"], authorities)


def _mismatch(connection: RucioConnectionSpec, told: str) -> tuple[str, str] | None:
    """Say what a login is for, as its Secret tells, and which other servers a connection names; None: no others."""
    # Nothing of the Secret is repeated but what is a URL: another program's may hold more in its key of this name.
    meant = {url for text in re.split(r"[\s,]+", told) if (url := server_url(text))}
    named = {url for url in (connection.server, connection.auth_server) if url is not None}
    strangers = sorted(url for url in named if server_url(url) not in meant)
    if not strangers:
        return None
    for_ = (
        f"is for {' and '.join(sorted(meant))}" if meant else "does not tell by its key server which server it is for"
    )
    return for_, f"names {' and '.join(strangers)}: nothing was sent there"


def _is_plain(text: str) -> bool:
    """Tell whether HTTP can carry a text in a header."""
    return text.isprintable() and all(ord(character) <= _LATIN_1 for character in text)


def authorities_of(world: World, name: str) -> str:
    """Read ``ca.crt`` of a ConfigMap in the operator's namespace.

    Raises
    ------
    RefusedError
        CREDENTIAL_MISSING: it is not there.
    """
    body = world.cluster.get(Ref("ConfigMap", world.settings.namespace, name))
    text = None if body is None else data_of(body).get("ca.crt")
    if not text:
        what = f"ConfigMap {world.settings.namespace}/{name} with the key ca.crt does not exist."
        raise RefusedError(Reason.CREDENTIAL_MISSING, what)
    return text
