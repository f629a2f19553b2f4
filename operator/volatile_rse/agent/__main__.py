"""Entry point of the agent: ``python -m volatile_rse.agent``."""

from __future__ import annotations

import logging
import os
import sys

from aiohttp import web

from volatile_rse.agent.buffer import Buffer
from volatile_rse.agent.places import Places
from volatile_rse.agent.service import application, tls_context
from volatile_rse.api.agent import AGENT_PORT

__all__ = ["main"]


def main() -> int:
    """Serve until asked to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    # Sealed files and the gate are read by XRootD under the same user, and by nobody else.
    os.umask(0o022)
    places = Places.of()
    context = tls_context(places)
    buffer = Buffer(places)
    buffer.start()
    # SIGTERM and SIGINT end it in good order, also as PID 1.
    port = int(os.environ.get("VOLATILE_RSE_AGENT_PORT", AGENT_PORT))
    made = application(buffer, context)
    web.run_app(made, port=port, ssl_context=context, print=None, access_log=None, shutdown_timeout=2)
    buffer.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
