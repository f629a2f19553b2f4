"""The empty server that takes over a buffer's address while Rucio drains its replicas.

Anonymous and read-only: whatever a daemon asks for or deletes is not found.
"""

from __future__ import annotations

import os
import signal
import sys

from volatile_rse.agent import logs
from volatile_rse.agent.front import Front
from volatile_rse.agent.places import Places
from volatile_rse.agent.supervisor import wait_for_end
from volatile_rse.agent.watch import Watch
from volatile_rse.agent.xrootd import Server, copy_tls

__all__ = ["main"]


def main() -> int:
    """Run until asked to end."""
    logs.configure()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    places = Places.of()
    os.chdir(places.run)
    copy_tls(places)
    (places.namespace / "store").mkdir(parents=True, exist_ok=True)
    server = Server(places)
    server.start("drain.cfg", forget_uploads=True)
    front = Front(places.run)
    front.start()
    code = wait_for_end(places, server, front, Watch(), lambda: None)
    server.stop()
    return code


if __name__ == "__main__":
    sys.exit(main())
