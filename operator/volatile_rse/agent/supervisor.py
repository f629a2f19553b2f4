"""PID 1 of the XRootD container: runs XRootD as the gate says, and says what the gate is."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Literal

from volatile_rse.agent import ballast, links, logs
from volatile_rse.agent.front import Front
from volatile_rse.agent.gate import Gate
from volatile_rse.agent.outbox import tear
from volatile_rse.agent.places import AREAS, Places
from volatile_rse.agent.watch import Watch, count_restart
from volatile_rse.agent.xrootd import Server, copy_tls, seed_keys, stamp
from volatile_rse.api.agent import GateState

__all__ = ["Supervisor", "main", "wait_for_end"]

_log = logging.getLogger(__name__)
_TICK = 0.1
"""Seconds between two looks at the gate."""
_AFTER_FAILURE = 1.0
_SILENT = 1
"""Exit code after XRootD had to be ended."""
_SIGNALS = {signal.SIGTERM, signal.SIGINT}
Mode = Literal["open", "fenced", "down"]


class Supervisor:
    """Makes the gate's actual state its desired one."""

    def __init__(self, places: Places, server: Server) -> None:
        self._places = places
        self._gate = Gate(places)
        self._server = server
        self._mode: Mode = "down"
        """Of XRootD."""
        self._told: GateState | None = None
        self._untold: GateState | None = None

    def begin(self) -> None:
        """Prepare the volume and start XRootD as the gate says."""
        self._places.make()
        self._tell(GateState(mode="down", generation=0))
        self.follow()

    def follow(self) -> None:
        """Restart XRootD if the gate is to be moved."""
        desired = self._gate.desired()
        if desired.mode == self._mode:
            self._tell(desired)
            return
        # Said before anything is done: nobody may take a server that ends for one that is fenced.
        self._tell(GateState(mode="down", generation=desired.generation))
        if desired.mode == "fenced" and not self._tear():
            return
        self._server.stop()
        self._mode = "down"
        if desired.mode == "fenced":
            # Now, and not before: there is nobody left who could fill it.
            ballast.drop(self._places)
        else:
            # Not before the fence: nothing may make that wait, and no session's token reads then.
            links.remove_all(self._places)
        self._server.start(f"{desired.mode}.cfg", forget_uploads=desired.mode == "fenced")
        self._mode = desired.mode
        self._tell(desired)

    def _tear(self) -> bool:
        """Mark what is being written as torn, before XRootD ends and nobody can tell any more; tell whether it is done.

        XRootD itself marks what it creates, until that is whole, and not what was whole before.
        """
        self._server.hold()
        try:
            marked = tear(self._server.written([self._places.area(name, "") for name in AREAS]))
        except OSError:
            _log.exception("what is being written cannot be marked: XRootD goes on, and the fence waits")
            self._server.release()
            time.sleep(_AFTER_FAILURE)
            return False
        if marked:
            _log.info("%d files were being changed: they are torn", marked)
        return True

    def end(self) -> None:
        """Stop XRootD."""
        self._server.stop()
        self._tell(GateState(mode="down", generation=self._told.generation if self._told else 0))

    def _tell(self, state: GateState) -> None:
        """Say what the gate is; what cannot be said now is said at the next look.

        What was said before stands meanwhile. That is never a fence that is none: a fenced buffer stays fenced.
        """
        if state == self._told:
            return
        try:
            self._gate.reached(state)
        except OSError as error:
            if self._untold != state:
                _log.warning(
                    "the gate is %s, generation %d: it cannot be said: %s", state.mode, state.generation, error
                )
            self._untold = state
        else:
            self._told = state
            _log.info("the gate is %s, generation %d", state.mode, state.generation)


def wait_for_end(places: Places, server: Server, front: Front, watch: Watch, tick: Callable[[], None]) -> int:
    """Tick until this process is asked to end, or one of its own ends or answers nobody; give the exit code.

    Replaced certificates and keys of issuers are handed to XRootD, which reads them without a restart.
    """
    mounted = (places.tls / "tls.crt", places.tls / "ca.crt"), (places.config / "keycache.json",)
    seen = [stamp(*paths) for paths in mounted]
    watch.start()
    while signal.sigtimedwait(_SIGNALS, _TICK) is None:
        code = server.reap()
        if code is not None:
            _log.error("XRootD ended by itself with %d: this container ends, to be started again", code)
            return code or 1
        if front.has_ended():
            _log.error("HAProxy ended by itself: this container ends, to be started again")
            server.stop()
            return 1
        if watch.is_lost:
            _log.error("XRootD answers nobody any more: it is ended, and this container with it, to be started again")
            count_restart(places)
            server.stop()
            return _SILENT
        for index, (paths, renew) in enumerate(zip(mounted, (copy_tls, seed_keys), strict=True)):
            if seen[index] != (now := stamp(*paths)):
                renew(places)
                seen[index] = now
        tick()
    return 0


def main() -> int:
    """Run until asked to end."""
    logs.configure()
    # As PID 1 this process gets no default handlers; blocked signals are taken one by one.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    places = Places.of()
    os.chdir(places.run)
    copy_tls(places)
    seed_keys(places)
    server = Server(places)
    supervisor = Supervisor(places, server)
    supervisor.begin()
    front = Front(places.run)
    front.start()
    code = wait_for_end(places, server, front, Watch(), supervisor.follow)
    supervisor.end()
    return code


if __name__ == "__main__":
    sys.exit(main())
