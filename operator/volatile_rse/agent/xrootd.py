"""What XRootD needs around it: a private copy of its key, its issuers' keys, ports, a clean start, and an end."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from volatile_rse.agent.places import Places
from volatile_rse.api.agent import DAVS_PORT, HANDSHAKE, ROOT_PORT

__all__ = ["INNER", "Server", "copy_tls", "inner_socket", "seed_keys"]

INNER = "127.0.0.2"
"""Where XRootD and the agent listen, on their own ports: XRootD's answers name them. HAProxy has all other addresses of
the pod."""
_log = logging.getLogger(__name__)
_FIRST = 3
"""Number of the first socket that a program is given."""
_QUEUE = 1024
"""Connections that may wait while XRootD starts."""
_PATIENCE = 5.0
"""Seconds that XRootD has to end when asked."""
_START = 15.0
"""Seconds that it has to answer when started: there may be a queue."""


def copy_tls(places: Places) -> None:
    """Copy certificate, key and authorities into memory, where the key belongs to the server alone.

    XRootD refuses a key that its group may read, and a Secret under ``fsGroup`` is readable by the group.
    """
    folder = places.run / "tls"
    folder.mkdir(exist_ok=True)
    for name in ("ca.crt", "tls.crt", "tls.key"):
        temporary = folder / f".{name}"
        temporary.unlink(missing_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_bytes((places.tls / name).read_bytes())
        temporary.chmod(0o400)
        temporary.replace(folder / name)


def seed_keys(places: Places) -> None:
    """Put the keys of ``keycache.json`` where the token library caches them, so that no issuer need answer."""
    source = places.config / "keycache.json"
    if not source.exists():
        return
    folder = places.run / "scitokens"
    folder.mkdir(exist_ok=True)
    rows: dict[str, str] = json.loads(source.read_text())
    cache = sqlite3.connect(folder / "scitokens_cpp.sqllite")
    with cache:
        cache.execute(
            "CREATE TABLE IF NOT EXISTS keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)"
        )
        cache.executemany("REPLACE INTO keycache VALUES (?, ?)", rows.items())
    cache.close()


class Server:
    """One XRootD process at a time, a child of this process, which as PID 1 also buries orphans."""

    def __init__(self, places: Places, ports: Sequence[int] = (ROOT_PORT, DAVS_PORT)) -> None:
        self._places = places
        self._ports = ports
        self._sockets: list[socket.socket] = []
        self._pid: int | None = None
        self._held = False

    def start(self, configuration: str, *, forget_uploads: bool) -> None:
        """Start with a file of the configuration directory and wait until it listens.

        Parameters
        ----------
        forget_uploads
            Drop the log of open uploads. XRootD would remove torn files when it finds them there, and never starts
            when it may not.

        Raises
        ------
        RuntimeError
            It ended or does not listen; its own words are in the container's log.
        """
        if forget_uploads:
            shutil.rmtree(self._places.run / ".ofs", ignore_errors=True)
        # The shell is replaced by XRootD, and says whose the sockets are.
        argv = ["sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"', "xrootd", "-c", str(self._places.config / configuration)]
        environment = os.environ | {"XDG_CACHE_HOME": str(self._places.run), "LISTEN_FDS": str(len(self._ports))}
        # They outlive XRootD, as systemd's would: who comes while it starts anew waits for it, and nobody else answers.
        self._sockets = self._sockets or [inner_socket(port) for port in self._ports]
        given = [(os.POSIX_SPAWN_DUP2, each.fileno(), _FIRST + index) for index, each in enumerate(self._sockets)]
        # This process blocks its signals; XRootD must not inherit that.
        self._pid = os.posix_spawnp(argv[0], argv, environment, file_actions=given, setsigmask=[])
        began = time.monotonic()
        while not self._answers():
            if self.reap() is not None or time.monotonic() > began + _START:
                message = (
                    f"XRootD does not listen with {configuration}: an administrator must read this container's log"
                )
                raise RuntimeError(message)
            time.sleep(0.02)
        _log.info("XRootD listens with %s after %.2f s", configuration, time.monotonic() - began)

    def hold(self) -> None:
        """Let the process do nothing more: what it has open stays open, and nobody writes a byte."""
        if self._pid is None:
            return
        os.kill(self._pid, signal.SIGSTOP)
        self._held = True
        until = time.monotonic() + _PATIENCE
        while not _has_stopped(self._pid) and time.monotonic() < until:
            time.sleep(0.005)

    def release(self) -> None:
        """Let a held process go on."""
        if self._pid is not None and self._held:
            os.kill(self._pid, signal.SIGCONT)
        self._held = False

    def written(self, folders: Sequence[Path]) -> list[Path]:
        """Give what the process has open to write below these folders: by its handles, which outlive every name."""
        if self._pid is None:
            return []
        prefixes = tuple(f"{folder.resolve()}/" for folder in folders)
        handles = Path(f"/proc/{self._pid}/fd").iterdir()
        return [handle for handle in handles if _is_below(handle, prefixes) and _is_written(handle)]

    def stop(self) -> None:
        """End the process; handles and cached authorisations die with it."""
        if self._pid is None:
            return
        # One that is held must not do a thing in between.
        os.kill(self._pid, signal.SIGKILL if self._held else signal.SIGTERM)
        self._held = False
        until = time.monotonic() + _PATIENCE
        while self.reap() is None:
            if time.monotonic() > until:
                os.kill(self._pid, signal.SIGKILL)
                until = float("inf")
            time.sleep(0.01)

    def reap(self) -> int | None:
        """Bury every dead child; give XRootD's exit code if it is among them."""
        code = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if pid == 0:
                return code
            if pid == self._pid:
                code, self._pid = os.waitstatus_to_exitcode(status), None

    def _answers(self) -> bool:
        """Tell whether it greets; all its ports are served then."""
        try:
            with socket.create_connection((INNER, self._ports[0]), timeout=1) as line:
                line.sendall(HANDSHAKE)
                return bool(line.recv(1))
        except OSError:
            return False


def inner_socket(port: int) -> socket.socket:
    """Make a socket that listens to this pod alone; HAProxy listens to the same port elsewhere."""
    with socket.socket() as made:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind((INNER, port))
        made.listen(_QUEUE)
        # Away from the numbers under which XRootD gets them.
        return socket.socket(fileno=fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, _FIRST + 64))


def _has_stopped(pid: int) -> bool:
    """Tell whether all threads of a process have stopped, or it has ended; it stays to be buried."""
    seen = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return seen is not None


def _is_below(handle: Path, prefixes: tuple[str, ...]) -> bool:
    try:
        return str(handle.readlink()).startswith(prefixes)
    except FileNotFoundError:
        return False
    except OSError as error:
        # Only what sessions have moved deeper than the kernel can tell has such a name: the fence must not wait for it.
        return error.errno == errno.ENAMETOOLONG


def _is_written(handle: Path) -> bool:
    try:
        lines = (handle.parents[1] / "fdinfo" / handle.name).read_text().splitlines()
    except FileNotFoundError:
        return False
    [flags] = [int(line.split()[1], 8) for line in lines if line.startswith("flags:")]
    return flags & os.O_ACCMODE != os.O_RDONLY


def stamp(*paths: Path) -> tuple[int, ...]:
    """Give what changes when a mounted file is replaced; while that happens, it may not be there."""
    return tuple(moment for path in paths if (moment := _changed(path)) is not None)


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
