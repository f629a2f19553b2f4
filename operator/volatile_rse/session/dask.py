"""The session on each worker of a Dask cluster: ``client.register_plugin(SessionPlugin())``."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from volatile_rse.session.carried import pack, unpack
from volatile_rse.session.mounted import mounted
from volatile_rse.session.sessions import current

__all__ = ["SessionPlugin"]


class SessionPlugin(WorkerPlugin):
    """Prepares token, authorities and variables on each worker, also on those that come later.

    A worker that has the session mounted uses that. The others get it from the client: the plug-in holds the token,
    and with it the scheduler and all workers do. A plug-in that is registered again replaces the one before.
    """

    name = "volatile-rse-session"

    def __init__(self) -> None:
        current()
        self._carried = pack(mounted())

    def setup(self, worker: Any) -> None:  # noqa: ANN401, ARG002 - Dask's
        """Prepare a worker, before its first task."""
        unpack(self._carried)
        current()
