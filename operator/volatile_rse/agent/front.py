"""What stands before XRootD and the agent: who sends nothing, or makes too many connections, does not reach them.

XRootD keeps a thread for each connection that has not said yet what it wants, and has only so many of them; the agent
keeps 90 KiB. HAProxy takes the connections to their ports, and hands on what begins with a TLS hello (davs, agent) or
with XRootD's handshake (root). It sees no further: TLS ends behind it.
"""

from __future__ import annotations

import csv
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from volatile_rse.agent.worker import worker
from volatile_rse.agent.xrootd import INNER
from volatile_rse.api.agent import AGENT_PORT, CONNECTIONS, DAVS_PORT, HANDSHAKE, ROOT_PORT

__all__ = ["INTERNAL", "PUBLIC", "Front", "Port", "Refused", "configuration", "refusals", "told"]

_log = logging.getLogger(__name__)
_PATIENCE = 5.0
"""Seconds that HAProxy has to listen when started, and to say how it is."""
_INTERVAL = 60.0
"""Seconds between two words about what was refused."""
_PROBES = 60
"""Connections to one port in that time that are opened and closed again by who asks whether it listens."""
_FIRST_BYTES = 5
"""Seconds that a client has to begin."""
_SHARES = ((0.0, 1 / 2), (1 / 2, 1 / 16), (3 / 4, 1 / 128))
"""How full a port is -> which part of it one address may have: the fuller, the smaller, so that others still get in."""
_PER_SECOND = 10
"""Seconds over which new connections are counted, so that all workers of a cluster may begin at once."""
_OF_LOOPBACK = 2**24 - 512
"""Addresses from 127.0.1.0 on."""


@dataclass(frozen=True, slots=True)
class Port:
    """One port that is stood before."""

    name: str
    number: int
    begins: str
    """What HAProxy has to see first."""
    what: str
    """The same, in words."""
    connections: int
    """At a time."""
    rate: int
    """New connections a second from one address, on average."""


_HELLO = "req.ssl_hello_type 1", "a TLS hello"
_GREETING = f"req.payload(0,{len(HANDSHAKE)}),hex -m str {HANDSHAKE.hex().upper()}", "XRootD's handshake"
PUBLIC = (
    Port("root", ROOT_PORT, *_GREETING, CONNECTIONS, 200),
    Port("davs", DAVS_PORT, *_HELLO, CONNECTIONS, 500),
)
"""Of XRootD."""
INTERNAL = (Port("agent", AGENT_PORT, *_HELLO, 512, 50),)
"""Of the agent, which the operator alone has to do with."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Connections to one port that came to nothing, since HAProxy was started."""

    too_many: int = 0
    """Their address had too many."""
    unknown: int = 0
    """They did not begin as they have to, or not in time."""

    def since(self, before: Refused) -> Refused:
        """Leave out those of before."""
        return Refused(self.too_many - before.too_many, self.unknown - before.unknown)


def configuration(ports: Sequence[Port], control: Path, *, ipv6: bool) -> str:
    """Give the configuration of HAProxy.

    Parameters
    ----------
    control
        Socket by which it is asked how it is.
    ipv6
        The pod has such addresses.
    """
    connections = sum(port.connections for port in ports)
    return "".join([_general(control, connections), *(_of(port, ipv6=ipv6) for port in ports)])


def _general(control: Path, connections: int) -> str:
    return f"""\
global
  log stderr format raw local0
  stats socket {control} mode 600 level user
  maxconn {connections + 64}
  maxpipes 512
  nbthread 2
  no strict-limits
defaults
  mode tcp
  log global
  log-format "%f: %[var(sess.client)]:%[src_port] (behind: %ci), %U bytes in, %B out, %Tt ms, %ts"
  option dontlognull
  option splice-auto
  option clitcpka
  clitcpka-idle 5m
  clitcpka-intvl 30s
  clitcpka-cnt 4
  timeout connect 5s
  timeout client 24h
  timeout server 24h
  timeout client-fin 30s
  timeout server-fin 30s
backend numbers
  stick-table type integer size 1 expire 24h store gpc0
"""


def _of(port: Port, *, ipv6: bool) -> str:
    listens = [f"0.0.0.0:{port.number}", *([f":::{port.number} v6only"] if ipv6 else [])]
    refuses = [
        f"{{ fe_conn gt {int(full * port.connections)} }} {{ sc0_conn_cur gt {int(share * port.connections)} }}"
        for full, share in _SHARES
    ]
    refuses.append(f"{{ sc0_conn_rate gt {port.rate * _PER_SECOND} }}")
    lines = [
        f"frontend {port.name}",
        *(f"  bind {address}" for address in listens),
        f"  maxconn {port.connections}",
        f"  stick-table type ipv6 size 16k expire 10m store conn_cur,conn_rate({_PER_SECOND}s)",
        # What is meant for them, and finds nobody, must not come here.
        f"  tcp-request connection reject if {{ dst {INNER} }}",
        "  tcp-request connection set-var(sess.client) src",
        # Who has one address of the sixth version has 2^64 of them.
        "  tcp-request connection track-sc0 src,ipmask(32,64)",
        *(f"  tcp-request connection reject if {case}" for case in refuses),
        # XRootD lets a connection join the session of another one from the same address, without a token. It sees
        # each come from an address of its own.
        "  tcp-request connection track-sc1 int(1) table numbers",
        f"  tcp-request connection set-src sc_inc_gpc0(1),mod({_OF_LOOPBACK}),add({0x7F000100})",
        f"  tcp-request inspect-delay {_FIRST_BYTES}s",
        f"  tcp-request content accept if {{ {port.begins} }}",
        "  tcp-request content reject",
        f"  default_backend behind-{port.name}",
        f"backend behind-{port.name}",
        f"  source {INNER} usesrc clientip",
        f"  server {port.name} {INNER}:{port.number}",
    ]
    return "".join(f"{line}\n" for line in lines)


def refusals(statistics: str) -> dict[str, Refused]:
    """Read what HAProxy answers to ``show stat``."""
    rows = csv.DictReader(statistics.removeprefix("# ").splitlines())
    return {
        row["pxname"]: Refused(int(row["dcon"] or 0), int(row["dreq"] or 0))
        for row in rows
        if row["svname"] == "FRONTEND"
    }


def told(ports: Sequence[Port], before: Mapping[str, Refused], now: Mapping[str, Refused]) -> list[str]:
    """Say what was refused meanwhile, a line for each port and reason."""
    lines, none = [], Refused()
    for port in ports:
        new = now.get(port.name, none).since(before.get(port.name, none))
        if new.too_many > 0:
            lines.append(f"{port.name}: {new.too_many} connections refused, since their addresses had too many")
        if new.unknown > _PROBES:
            late = f"within {_FIRST_BYTES} s"
            lines.append(f"{port.name}: {new.unknown} connections ended that did not begin with {port.what} {late}")
    return lines


class Front:
    """One HAProxy process, a child of this one."""

    def __init__(self, folder: Path, ports: Sequence[Port] = PUBLIC) -> None:
        self._ports = ports
        self._configuration = folder / "front.cfg"
        self._control = folder / "front.sock"
        self._pid: int | None = None

    def start(self) -> None:
        """Start, once there are sockets behind it, and wait until this listens, too.

        Raises
        ------
        RuntimeError
            It does not; its own words are in the container's log.
        """
        self._configuration.write_text(configuration(self._ports, self._control, ipv6=_has_ipv6()))
        argv = ["haproxy", "-db", "-f", str(self._configuration)]
        self._pid = os.posix_spawnp(argv[0], argv, os.environ, setsigmask=[])
        until = time.monotonic() + _PATIENCE
        while not self.refused():
            if self.has_ended() or time.monotonic() > until:
                message = "HAProxy does not listen: an administrator must read this container's log"
                raise RuntimeError(message)
            time.sleep(0.02)
        worker("front", self._tell).start()

    def has_ended(self) -> bool:
        """Tell whether it ended by itself; who buries the dead of this process may have done so already."""
        if self._pid is None:
            return False
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def outlive(self) -> None:
        """Wait until it ends by itself.

        Raises
        ------
        RuntimeError
            It has ended.
        """
        while not self.has_ended():
            time.sleep(1)
        message = "HAProxy ended by itself"
        raise RuntimeError(message)

    def stop(self) -> None:
        """End it, and every connection with it."""
        ended, pid, self._pid = self.has_ended(), self._pid, None
        if pid is not None and not ended:
            os.kill(pid, signal.SIGKILL)

    def refused(self) -> dict[str, Refused]:
        """Ask what was refused at each port; nothing, if it does not answer."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_PATIENCE)
                line.connect(str(self._control))
                line.sendall(b"show stat\n")
                return refusals(b"".join(iter(lambda: line.recv(65536), b"")).decode())
        except OSError:
            return {}

    def _tell(self) -> None:
        before = self.refused()
        while True:
            time.sleep(_INTERVAL)
            now = self.refused()
            for line in told(self._ports, before, now):
                _log.warning("%s", line)
            before = now or before


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as own:
            own.bind(("::", 0))
    except OSError:
        return False
    return True
