"""The catalogue of a process that dies with one of its writes to Rucio, for tests of what is left then."""

from __future__ import annotations

from typing import Any

from volatile_rse.adapters.rucio import RucioCatalogue, RucioServer

__all__ = ["Death", "Mortal"]


class Death(BaseException):
    """The process is gone: nothing may catch this."""


class Mortal(RucioCatalogue):
    """The real adapter; what it writes is counted where it calls Rucio's client."""

    writes_left = 0
    """Until its death; none by itself."""

    def __init__(self, server: RucioServer) -> None:
        super().__init__(server)
        living = server._client
        server._client = lambda: _DyingClient(living(), self)  # type: ignore[method-assign]


class _DyingClient:
    def __init__(self, client: Any, process: Mortal) -> None:
        self._of_rucio = client
        self._process = process

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._of_rucio, method)
        return call if method.startswith(("get_", "list_")) else lambda *args, **named: self._last(call(*args, **named))

    def _last(self, answer: object) -> object:
        self._process.writes_left -= 1
        if self._process.writes_left == 0:
            raise Death
        return answer
