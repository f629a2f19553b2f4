"""The root protocol, as far as it takes to prove that files can be read by it.

It is no client for anybody's data. XRootD's own library brings threads of its own, and bounds neither a call nor an
answer; here both are bounded, whatever the other side is.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from volatile_rse.adapters import https
from volatile_rse.api.agent import HANDSHAKE
from volatile_rse.api.conditions import Reason
from volatile_rse.ports.deadline import OverError
from volatile_rse.ports.errors import UnreachableError

__all__ = ["unreadable"]

_SECONDS = 10.0
"""For all of it: also a server that sends a byte now and then is waited for no longer."""
_MOST = 64 << 10
"""Bytes of all answers."""
_WORDS = 200
_STREAM = b"\x00\x01"
_ANSWER = struct.Struct(">2sHi")
_TAIL = 16
"""Bytes of a request between its number and the length of what follows."""
_AUTH, _CLOSE, _PROTOCOL, _LOGIN, _OPEN, _READ, _STAT = 3000, 3003, 3006, 3007, 3010, 3013, 3017
_OK, _SO_FAR, _MORE, _ERROR, _REDIRECT, _WAIT = 0, 4000, 4002, 4003, 4004, 4005
_VERSION, _WANT_TLS, _EXPECT_LOGIN = 0x511, 0x02 | 0x04, 0x03
_GOTO_TLS = 0x40000000
_USER, _CAPABLE = b"vrse", 5
_FOR_READING = 0x0010
_DIRECTORY = 2
"""Flag of what is a directory."""
_SESSION = 16
"""Bytes that name the session, before what the server wants to see."""


class _RefusedError(Exception):
    """The server has said no, or something else than was asked."""


def unreadable(where: tuple[str, int], paths: Sequence[str], token: str, bundle: str) -> str | None:
    """Read the first byte of files, and look at directories (``/`` at their end), over one connection.

    Parameters
    ----------
    where
        Host, which the server's certificate must name, and port.
    bundle
        Certificates of the authorities to trust, PEM.

    Returns
    -------
    str or None
        Which call failed, and what the server said; None: all of it can be read.

    Raises
    ------
    RefusedError
        CREDENTIAL_INVALID: what is given as a token can be none.
    UnreachableError
        BUFFER_UNREACHABLE: the time of the visit was over, which tells nothing of the files.
    """
    https.bearer(token)
    doing = _Doing(f"root://{https.netloc(*where)}")
    try:
        with https.bounded(_SECONDS, _MOST), _Line(where) as line:
            _enter(line, doing, where[0], token, bundle)
            for path in paths:
                _look(line, doing, path)
    except _RefusedError as refusal:
        return f"{doing} gave {https.told(refusal, token)}".rstrip()
    except OverError as error:
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, f"{doing} got no answer: {error}") from error
    except (OSError, ValueError, struct.error) as error:
        # What cannot be sent fails as a ValueError, as does what the other side may not send.
        return f"{doing} got no answer: {https.told(error, token) or type(error).__name__}"
    return None


@dataclass(slots=True)
class _Doing:
    """What is being asked now."""

    door: str
    call: str = "connect"
    path: str = ""

    def __str__(self) -> str:
        return f"{self.call} {self.door}{self.path and '/'}{self.path}"


class _Line:
    """A connection whose whole life is bounded, and all that comes from it."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._room = _MOST
        self._socket = socket.create_connection(where, timeout=https.left())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Go over to TLS; OpenSSL compares the host with the certificate."""
        self._hurry()
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        left = memoryview(data)
        while left:
            self._hurry()
            left = left[self._socket.send(left) :]

    def ask(self, number: int, tail: bytes = b"", data: bytes = b"") -> bytes:
        """Send a request, and give the body of its answer."""
        self.send(_STREAM + struct.pack(">H", number) + tail.ljust(_TAIL, b"\0") + struct.pack(">i", len(data)) + data)
        return self.answer(_STREAM)

    def answer(self, stream: bytes) -> bytes:
        """Give the body of an answer.

        Raises
        ------
        _RefusedError
            It is none that means yes.
        """
        got, status, length = _ANSWER.unpack(self._receive(_ANSWER.size))
        body = self._receive(length)
        if got != stream:
            message = "an answer to what was not asked: it does not speak the root protocol"
            raise _RefusedError(message)
        if status not in {_OK, _SO_FAR}:
            raise _RefusedError(_said(status, body))
        return body

    def _receive(self, size: int) -> bytes:
        if not 0 <= size <= self._room:
            message = f"it announces {size} bytes, more than anybody asked for"
            raise ValueError(message)
        self._room -= size
        found = b""
        while len(found) < size:
            self._hurry()
            part = self._socket.recv(size - len(found))
            if not part:
                message = "it closed the connection"
                raise ConnectionError(message)
            found += part
        return found

    def _hurry(self) -> None:
        """Give the next step the time that is left."""
        self._socket.settimeout(https.left())


def _enter(line: _Line, doing: _Doing, host: str, token: str, bundle: str) -> None:
    """Greet, go over to TLS, and log in; the token is shown to nobody whose certificate was not verified."""
    protocol = struct.pack(">iBB", _VERSION, _WANT_TLS, _EXPECT_LOGIN)
    # In one piece: what stands before XRootD looks at the beginning.
    line.send(HANDSHAKE)
    doing.call = "greeting"
    greeting = _STREAM + struct.pack(">H", _PROTOCOL) + protocol.ljust(_TAIL, b"\0") + bytes(4)
    line.send(greeting)
    line.answer(b"\0\0")
    _, flags = struct.unpack(">iI", line.answer(_STREAM)[:8])
    if not flags & _GOTO_TLS:
        message = "no TLS, so that no token was shown"
        raise _RefusedError(message)
    doing.call = "TLS of"
    line.secure(https.tls_context(bundle), host)
    doing.call = "login at"
    wanted = line.ask(_LOGIN, struct.pack(">i8sBBB", 0, _USER, 0, 0, _CAPABLE))[_SESSION:]
    if not wanted:
        return
    if b"&P=ztn" not in wanted:
        message = f"no way to show a token, it wants {_text(wanted)}"
        raise _RefusedError(message)
    doing.call = "token at"
    shown = token.encode() + b"\0"
    line.ask(_AUTH, b"".ljust(12, b"\0") + b"ztn\0", b"ztn\0" + b"\0T\0\0" + struct.pack(">H", len(shown)) + shown)


def _look(line: _Line, doing: _Doing, path: str) -> None:
    doing.path, name = path, path.encode(errors="surrogatepass")
    if path.endswith("/"):
        doing.call = "stat"
        flags = line.ask(_STAT, data=name).split()[2:3]
        if not flags or not int(flags[0]) & _DIRECTORY:
            message = "something that is no directory"
            raise _RefusedError(message)
        return
    doing.call = "open"
    handle = line.ask(_OPEN, struct.pack(">HH", 0, _FOR_READING), name)[:4]
    doing.call = "read"
    # An empty file has no first byte.
    line.ask(_READ, struct.pack(">4sqi", handle, 0, 1))
    doing.call = "close"
    line.ask(_CLOSE, handle)


def _said(status: int, body: bytes) -> str:
    """Put a refusal into words."""
    if status == _ERROR:
        return f"{int.from_bytes(body[:4], 'big')} {_text(body[4:])}"
    if status == _REDIRECT:
        return f"a redirection to {_text(body[4:])}"
    if status == _WAIT:
        return f"an order to wait {int.from_bytes(body[:4], 'big')} s: {_text(body[4:])}"
    return f"another question: {_text(body)}" if status == _MORE else f"status {status}"


def _text(said: bytes) -> str:
    return said[:_WORDS].split(b"\0", 1)[0].decode(errors="replace").strip()
