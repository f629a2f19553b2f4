"""Entry point of the agent: ``python -m volatile_rse.agent``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from volatile_rse.agent import logs
from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.front import INTERNAL, Front
from volatile_rse.agent.listening import until_the_end
from volatile_rse.agent.places import Places
from volatile_rse.agent.service import application, tls_context
from volatile_rse.agent.worker import worker
from volatile_rse.agent.xrootd import inner_socket
from volatile_rse.api.agent import AGENT_PORT

__all__ = ["main"]


def main() -> int:
    """Serve until asked to end."""
    logs.configure()
    # Sealed files and the gate are read by XRootD under the same user, and by nobody else.
    os.umask(0o022)
    places = Places.of()
    context = tls_context(places)
    buffer = Buffer(places)
    buffer.start()
    # SIGTERM and SIGINT end it in good order, also as PID 1.
    made = application(buffer, context)
    with inner_socket(AGENT_PORT) as own, tempfile.TemporaryDirectory() as folder:
        front = Front(Path(folder), INTERNAL)
        front.start()
        worker("front-watch", front.outlive).start()
        asyncio.run(until_the_end(made, context, own, {signal.SIGTERM, signal.SIGINT}))
        front.stop()
    buffer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
