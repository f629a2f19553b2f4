"""The Lease that makes this process the only one that works for its instance, also after it was stopped for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import MANAGED
from volatile_rse.domain import effects as do
from volatile_rse.domain.facts import Facts
from volatile_rse.domain.settings import Settings
from volatile_rse.ports.cluster import Cluster, Object, Ref
from volatile_rse.ports.errors import PortError, RefusedError
from volatile_rse.reconcile.connections import Connections
from volatile_rse.reconcile.world import World

__all__ = ["DURATION", "INTERVAL", "SILENCE", "Lease", "LeaseLostError", "guarded", "is_destructive"]

_log = logging.getLogger(__name__)

DURATION = 15
"""Seconds after which a Lease that nobody renewed may be taken."""
INTERVAL = 4.0
"""Seconds between two renewals."""
SILENCE = 180.0
"""Seconds of renewals that no watch brought back, after which the watches are taken for dead."""
_DESTRUCTIVE = (
    do.DropPiece,
    do.DropLeftover,
    do.FreePod,
    do.FreezeInputs,
    do.RestoreSession,
    do.RevokeSession,
    do.Fence,
    do.Seal,
    do.WriteOff,
    do.SwapService,
    do.Hide,
    do.AllowDeletion,
    do.DeleteRse,
    do.ExpireLedger,
    do.ExpireRule,
    do.DeleteRequest,
    do.ReleaseRequest,
    do.ReleaseRecord,
)

Apply = Callable[[World, Connections, Facts, do.Effect], None]


class LeaseLostError(Exception):
    """Another process works now, or may; this one must end."""


def is_destructive(effect: do.Effect) -> bool:
    """Tell whether nobody can take the effect back."""
    return isinstance(effect, _DESTRUCTIVE) or (isinstance(effect, do.RetainVolume) and not effect.retain)


def guarded(apply: Apply, check: Callable[[], None], awake: Callable[[], None] = lambda: None) -> Apply:
    """Ask before each destructive effect; what was decided before a pause must not be done after it.

    Parameters
    ----------
    awake
        Called before every other effect: what is made for a record that another process has closed meanwhile, nobody
        would take away again.
    """

    def applied(world: World, connections: Connections, facts: Facts, effect: do.Effect) -> None:
        if is_destructive(effect):
            check()
        else:
            awake()
        apply(world, connections, facts, effect)

    return applied


def _since_boot() -> float:
    """Count also the seconds in which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """A Lease of the operator's namespace, with the operator's name.

    Parameters
    ----------
    holder
        Name of the pod: its next container may go on at once, since Kubernetes has ended the one before.
    lost
        Ends the process.
    seconds
        A clock that never goes back.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        holder: str,
        lost: Callable[[], None],
        seconds: Callable[[], float] = _since_boot,
    ) -> None:
        self._cluster = cluster
        self.ref = Ref("Lease", settings.namespace, settings.name)
        self._holder = holder
        self._lost = lost
        self._seconds = seconds
        self._renewed = float("-inf")
        self._echoed = seconds()
        self._seen: tuple[str, float] = ("", seconds())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def acquire(self) -> bool:
        """Take or renew the Lease; False while another holds it."""
        began = self._seconds()
        body = self._cluster.get(self.ref)
        if body is None:
            taken = self._cluster.create(self._body()) is not None
        elif self._is_free(body):
            taken = self._patch(body, self._spec())
        else:
            taken = False
        if taken:
            # From before the request: the server's own time of it is later.
            self._renewed = began
        return taken

    def seize(self) -> None:
        """Take the Lease from whoever has it: that process ends before it destroys anything more."""
        body = self._cluster.get(self.ref)
        if body is not None:
            self._cluster.merge(self.ref, {"spec": self._spec()})
        self.wait()

    def wait(self) -> None:
        """Return once the Lease is ours; it is renewed from then on."""
        while True:
            try:
                if self.acquire():
                    break
                _log.info("%s is held by another process; waiting", self.ref)
            except PortError as error:
                _log.warning("%s cannot be taken: %s", self.ref, error.what)
            time.sleep(1)
        self._echoed = self._seconds()
        self._thread.start()

    def saw(self, body: Object) -> None:
        """Take what a watch brings of the Lease: our own renewals are what shows that watches work."""
        if _holder_of(body) == self._holder:
            self._echoed = self._seconds()

    def unseen(self) -> float:
        """Tell for how many seconds we have renewed and no watch has told so; what was not renewed is not missed."""
        return max(self._renewed - self._echoed, 0.0)

    def is_watched(self) -> bool:
        """Tell whether watches bring what happens."""
        return self.unseen() < SILENCE

    def check(self) -> None:
        """See that the Lease is ours, fresh from the API server.

        Raises
        ------
        LeaseLostError
            It is not, or may be not; the process is ending.
        PortError
            The API server did not answer.
        """
        body = self._cluster.get(self.ref)
        if body is None or _holder_of(body) != self._holder:
            self._lose("another process has taken it")
        # After the question: the process may have stood still while it waited for the answer.
        self.awake()

    def awake(self) -> None:
        """See by the own clock that nobody else can have the Lease; costs nothing.

        Raises
        ------
        LeaseLostError
            It was not renewed for too long; the process is ending.
        """
        if self._seconds() - self._renewed >= DURATION:
            self._lose(f"it was not renewed for {DURATION} seconds")

    def release(self) -> None:
        """Let the next process begin at once; only when nothing works any more."""
        self._stopping.set()
        self._thread.join()
        try:
            body = self._cluster.get(self.ref)
            if body is not None and _holder_of(body) == self._holder:
                self._patch(body, {"holderIdentity": None})
        except PortError as error:
            _log.warning("%s was not given back, the next process waits %s s: %s", self.ref, DURATION, error.what)

    def renew(self) -> None:
        """Renew once; a server that does not answer is borne until the Lease is over, and so is any fault of ours."""
        try:
            if not self.acquire():
                self._lose("another process has taken it")
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 (who renews no more and does not end would never be told)
            _log.warning("%s was not renewed: %s", self.ref, error, exc_info=not isinstance(error, PortError))
            if self._seconds() - self._renewed >= DURATION:
                self._lose(f"it was not renewed for {DURATION} seconds")

    def _keep(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self.renew()

    def _lose(self, why: str) -> None:
        _log.critical("%s is lost: %s; the process ends", self.ref, why)
        self._lost()
        raise LeaseLostError(why)

    def _is_free(self, body: Object) -> bool:
        """Judge by our own clock how long the Lease has not changed: clocks of nodes may differ."""
        version = str(body["metadata"]["resourceVersion"])
        if version != self._seen[0]:
            self._seen = (version, self._seconds())
        silent = self._seconds() - self._seen[1]
        return (_holder_of(body) or self._holder) == self._holder or silent > DURATION

    def _patch(self, body: Object, spec: Object) -> bool:
        version = {"resourceVersion": body["metadata"]["resourceVersion"]}
        try:
            self._cluster.merge(self.ref, {"metadata": version, "spec": spec})
        except RefusedError as error:
            if error.reason is not Reason.CHANGED_MEANWHILE:
                raise
            return False
        return True

    def _spec(self) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"holderIdentity": self._holder, "leaseDurationSeconds": DURATION, "renewTime": now}

    def _body(self) -> Object:
        metadata = {"namespace": self.ref.namespace, "name": self.ref.name, "labels": dict(MANAGED)}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec()}


def _holder_of(body: Object) -> str | None:
    """Name who holds a Lease; somebody may have left one without anything in it."""
    holder: str | None = (body.get("spec") or {}).get("holderIdentity")
    return holder
