"""A cluster that answers from what lists and watches have told, and asks the API server where that is not enough.

An own write is seen at once. Who needs to know how it is now, before something that cannot be taken back, asks
``live``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from volatile_rse.adapters.view import View, is_kept
from volatile_rse.ports.cluster import Cluster, Object, Ref, Scope, Source
from volatile_rse.ports.errors import PortError

__all__ = ["CachedCluster", "Reflector"]

T = TypeVar("T")
_OLD = 150.0
"""Seconds without a word of a watch, which has one to say each minute, after which its view is not believed."""
_FIRST, _LAST = 0.5, 30.0
"""Seconds until a watch that broke is begun again; doubled each time."""
_PASSED_ON = {"identity", "select", "create", "apply", "merge", "delete", "event"}
_REMEMBERED = 10_000
"""Objects that are remembered outside of all scopes, beyond which those that are over are forgotten."""

_log = logging.getLogger(__name__)


class CachedCluster(Cluster):
    """A cluster with views of some scopes.

    Parameters
    ----------
    source
        Is watched, and asked for everything else.
    scopes
        What is watched; of two that an object may be in, the first counts.
    lasts
        For how many seconds an object that is in no scope may be remembered; 0: not at all. That it is not there is
        never remembered.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        source: Source,
        scopes: Sequence[Scope],
        lasts: Callable[[Ref], float] = lambda _: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._lasts = lasts
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: dict[Ref, tuple[float, Object]] = {}
        """Object -> until when it counts, and how it was."""
        self._changed: list[Callable[[str, Object], None]] = []
        self.reflectors = [Reflector(source, View(scope), self.told, clock) for scope in scopes]
        self.live = cast("Cluster", _Live(self, source))
        """The same cluster, asked anew by each call."""

    def start(self) -> None:
        """Begin to list and to watch, each scope in a thread of its own."""
        for reflector in self.reflectors:
            threading.Thread(target=reflector.run, name=f"watch {reflector.view.scope}", daemon=True).start()

    def stop(self) -> None:
        """Have the threads end with their next event."""
        for reflector in self.reflectors:
            reflector.stop()

    def unsynced(self, seconds: float) -> tuple[str, ...]:
        """Wait until every scope was listed once; name those that were not within these seconds, and why."""
        until = self._clock() + seconds
        waited = [(reflector, reflector.synced.wait(max(until - self._clock(), 0))) for reflector in self.reflectors]
        return tuple(f"{reflector.view.scope}: {reflector.trouble}" for reflector, is_synced in waited if not is_synced)

    def unheard(self) -> float:
        """Give the seconds since the watch that has been silent for longest had anything to say."""
        return max((reflector.silence() for reflector in self.reflectors), default=0.0)

    def on_change(self, call: Callable[[str, Object], None]) -> None:
        """Have a function called, which returns at once, with the kind and the object of each change that is news."""
        self._changed.append(call)

    def told(self, scope: Scope, bodies: Iterable[Object]) -> None:
        """Tell of what has changed, after it can be seen."""
        for body in bodies:
            for ref in scope.concerns(body):
                self.forget(ref)
            for call in self._changed:
                call(scope.kind, body)

    def saw(self, kind: str, body: Object, gone: bool) -> None:  # noqa: FBT001 (called by whoever watches)
        """Take what another watch has brought."""
        reflector = self._holding(Ref(kind, body["metadata"].get("namespace"), body["metadata"]["name"]))
        if reflector is not None:
            # Its own watch may still have older things to tell.
            reflector.saw(body, gone=gone, last=False)

    # The port.

    def identity(self) -> str:
        """Give the UID of the namespace ``kube-system``."""
        return self._source.identity()

    def get(self, ref: Ref) -> Object | None:
        """Read one object, from a view if it must be in one."""
        reflector = self._holding(ref)
        if reflector is None:
            return self._recall(ref)
        found = reflector.view.get(ref) if reflector.is_believed() else None
        is_all = reflector.view.scope.label is None and reflector.is_believed()
        return found if found is not None or is_all else self._source.get(ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects, from a view if all of them are in one."""
        for reflector in self.reflectors:
            if reflector.view.covers(kind, namespace, labels or {}) and reflector.is_believed():
                return reflector.view.list(namespace, labels or {})
        return self._source.list(kind, namespace, labels)

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object of a kind, once for each version of it if they are in a view."""
        for reflector in self.reflectors:
            if reflector.view.covers(kind, None, {}) and reflector.is_believed():
                return reflector.view.select(read)
        return self._source.select(kind, read)

    def create(self, body: Object) -> Object | None:
        """Create an object, and give it; None if one of that name exists."""
        made = self._source.create(body)
        if made is not None:
            self._wrote(made)
        else:
            # Nobody has told of it yet.
            self.live.get(Ref(body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"]))
        return made

    def apply(self, body: Object) -> Object:
        """Server-side apply, taking over fields that others set."""
        return self._wrote(self._source.apply(body))

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> Object:
        """JSON merge patch."""
        try:
            return self._wrote(self._source.merge(ref, patch, subresource=subresource))
        except PortError:
            # Whether it happened, and upon what, is seen anew.
            self.forget(ref)
            raise

    def delete(self, ref: Ref, uid: str) -> Object | None:
        """Delete this very object; fine if it is gone or another bears its name."""
        left = self._source.delete(ref, uid)
        if left is not None:
            return self._wrote(left)
        self._removed(ref, uid)
        return None

    def event(self, about: Object, *, type_: str, reason: str, message: str) -> None:
        """Write a Kubernetes Event about an object."""
        self._source.event(about, type_=type_, reason=reason, message=message)

    # What is known.

    def forget(self, ref: Ref) -> None:
        """Have an object read again that is in no scope."""
        with self._lock:
            self._remembered.pop(ref, None)

    def seen(self, ref: Ref, body: Object | None) -> None:
        """Take what the API server has just answered for an object."""
        if body is not None:
            self._wrote(body)
        else:
            self.forget(ref)

    def _holding(self, ref: Ref) -> Reflector | None:
        return next((reflector for reflector in self.reflectors if reflector.view.holds(ref)), None)

    def _recall(self, ref: Ref) -> Object | None:
        with self._lock:
            until, body = self._remembered.get(ref, (0.0, {}))
        return body if self._clock() < until else self.live.get(ref)

    def _wrote(self, body: Object) -> Object:
        """Have an own write seen at once, and what is deleted by it not any more."""
        metadata = body["metadata"]
        ref = Ref(body["kind"], metadata.get("namespace"), metadata["name"])
        if "deletionTimestamp" in metadata and not is_kept(body):
            self._removed(ref, metadata["uid"])
            return body
        for reflector in self.reflectors:
            if reflector.view.holds(ref):
                reflector.view.take(body)
        lasts = self._lasts(ref) if self._holding(ref) is None else 0.0
        with self._lock:
            if lasts > 0:
                self._remembered[ref] = self._clock() + lasts, body
            if len(self._remembered) > _REMEMBERED:
                now = self._clock()
                self._remembered = {key: known for key, known in self._remembered.items() if known[0] > now}
        return body

    def _removed(self, ref: Ref, uid: str) -> None:
        self.forget(ref)
        for reflector in self.reflectors:
            if reflector.view.holds(ref):
                reflector.view.remove(ref, uid, told=False)


class _Live:
    """Asks the API server, and lets the views know what it said; writes as the other does."""

    def __init__(self, cached: CachedCluster, source: Source) -> None:
        self._cached = cached
        self._source = source

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method not in _PASSED_ON:
            raise AttributeError(method)
        return cast("Callable[..., Any]", getattr(self._cached, method))

    def get(self, ref: Ref) -> Object | None:
        found = self._source.get(ref)
        self._cached.seen(ref, found)
        return found

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        found = self._source.list(kind, namespace, labels)
        for body in found:
            self._cached.seen(Ref(kind, body["metadata"].get("namespace"), body["metadata"]["name"]), body)
        return found


class Reflector:
    """Keeps the view of one scope: lists it, watches it, and lists it again when the watch has lost its way.

    Parameters
    ----------
    told
        Takes the scope and the objects of each change that is news.
    """

    def __init__(
        self,
        source: Source,
        view: View,
        told: Callable[[Scope, Iterable[Object]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.view = view
        self.synced = threading.Event()
        """The scope was listed once."""
        self._source = source
        self._told = told
        self._clock = clock
        self.trouble = "no answer yet"
        """What went wrong last."""
        self._heard = clock()
        self._version = ""
        """From which to watch; empty: it has to be listed."""
        self._stopping = threading.Event()

    def silence(self) -> float:
        """Give the seconds since anything was heard of the scope."""
        return self._clock() - self._heard

    def is_believed(self) -> bool:
        """Tell whether the view may stand for the scope."""
        return self.synced.is_set() and self.silence() < _OLD

    def stop(self) -> None:
        """Have ``run`` end with its next event."""
        self._stopping.set()

    def run(self) -> None:
        """List and watch until told to stop; what fails is begun again."""
        wait = _FIRST
        while not self._stopping.is_set():
            began = self._clock()
            try:
                self.follow()
            except PortError as error:
                self.trouble = error.what
                _log.warning("watch of %s: %s", self.view.scope, error.what)
            except Exception as error:  # noqa: BLE001 (logged with its traceback; without this thread nothing is seen)
                self.trouble = type(error).__name__
                _log.exception("watch of %s: a fault of the operator", self.view.scope)
                self._version = ""
            else:
                wait = _FIRST
                continue
            wait = _FIRST if self._clock() - began > _LAST else min(2 * wait, _LAST)
            self._stopping.wait(wait)

    def follow(self) -> None:
        """List if that is needed, and take what one watch brings.

        Raises
        ------
        PortError
            The API server did not answer, or the watch cannot go on: the next call lists.
        """
        if not self._version:
            listing = self._source.listing(self.view.scope)
            self._version, self._heard = listing.version, self._clock()
            news = self.view.replace(listing.objects, listing.version)
            self.synced.set()
            self._tell(news)
        version, self._version = self._version, ""
        for event in self._source.watch(self.view.scope, version):
            self._heard = self._clock()
            version = event.body["metadata"]["resourceVersion"]
            if event.type != "BOOKMARK":
                self.saw(event.body, gone=event.type == "DELETED")
            if self._stopping.is_set():
                return
        self._version = version

    def saw(self, body: Object, *, gone: bool, last: bool = True) -> None:
        """Take what a watch has brought of one object, and tell of it if it is news.

        Parameters
        ----------
        last
            Nothing older comes after it.
        """
        metadata = body["metadata"]
        ref = Ref(self.view.scope.kind, metadata.get("namespace"), metadata["name"])
        news = self.view.remove(ref, metadata["uid"], told=last) if gone else self.view.take(body)
        if news:
            self._tell((body,))

    def _tell(self, bodies: Sequence[Object]) -> None:
        self._told(self.view.scope, bodies)
