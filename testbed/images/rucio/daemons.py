"""Keeps the catalogue's daemons running, in loops short enough for tests."""

import signal
import subprocess
import sys
import threading
import time

from rucio.db.sqla import models
from rucio.db.sqla.session import get_session
from sqlalchemy import delete  # type: ignore[import-not-found,unused-ignore]  # of the image

DAEMONS = {
    "judge-evaluator": ["--sleep-time", "1"],
    "judge-cleaner": ["--sleep-time", "1"],
    "reaper": ["--delay-seconds", "1", "--sleep-time", "2"],
    "abacus-rse": ["--sleep-time", "1"],
    "abacus-account": ["--sleep-time", "2"],
    "undertaker": ["--sleep-time", "2"],
}


def forget_the_dead() -> None:
    """Remove the heartbeats of daemons that were killed: for ten minutes they would own a share of the work."""
    session = get_session()()
    session.execute(delete(models.Heartbeat))
    session.commit()
    session.close()


def main() -> int:
    """Run every daemon until asked to end; start again what ends by itself."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    forget_the_dead()
    running: dict[str, subprocess.Popen[bytes]] = {}
    while not ending.wait(1):
        for name, options in DAEMONS.items():
            daemon = running.get(name)
            if daemon is None or daemon.poll() is not None:
                if daemon is not None:
                    print(f"{name} ended with {daemon.returncode}, starting it again", file=sys.stderr, flush=True)
                running[name] = subprocess.Popen([f"/opt/server/bin/rucio-{name}", *options])
    for daemon in running.values():
        daemon.terminate()
    until = time.monotonic() + 8
    for name, daemon in running.items():
        try:
            daemon.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{name} does not end, killing it", file=sys.stderr, flush=True)
            daemon.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
