"""A cluster that answers from what lists and watches have told, and asks the API server where that is not enough.

An own write is seen at once. Who needs to know how it is now, before something that cannot be taken back, asks
``live``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from volatile_rse.adapters.view import View, is_kept, number_of, slim
from volatile_rse.ports.cluster import Cluster, Object, Ref, Scope, Source
from volatile_rse.ports.errors import PortError

__all__ = ["CachedCluster", "Reflector"]

T = TypeVar("T")
_OLD = 150.0
"""Seconds without a word of a watch, which has one to say each minute, after which its view is not believed."""
_BROKEN = 10.0
"""Seconds after which the view of a watch that broke is not believed any more."""
_BRIEF = 1.0
"""Seconds: a watch that ends sooner, and without a word, is no watch."""
_FIRST, _LAST = 0.5, 30.0
"""Seconds until a watch that broke is begun again; doubled each time."""
_ABSENT = 10.0
"""Seconds for which it is remembered that something is not there; an own write shows it sooner."""
_PASSED_ON = {"admitted", "identity", "select", "create", "apply", "merge", "delete", "event"}
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
        remembered for some seconds at most.
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
        self._remembered: dict[Ref, tuple[float, Object | None]] = {}
        """Object -> until when it counts, and how it was; None: it was not there."""
        self._changed: list[Callable[[str, Object], None]] = []
        self._doubted: set[Ref] = set()
        """Objects of which an own write has failed: whether it happened, and upon what, nobody knows."""
        self.reflectors = [Reflector(source, View(scope, clock), self.told, clock) for scope in scopes]
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
        """Wait until every scope is listed and watched; name those that were not within these seconds, and why."""
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
            reflector.saw(body, gone=gone)

    # The port.

    def identity(self) -> str:
        """Give the UID of the namespace ``kube-system``."""
        return self._source.identity()

    def get(self, ref: Ref) -> Object | None:
        """Read one object, from a view if it must be in one."""
        reflector = self._holding(ref)
        if ref in self._doubted:
            return self.live.get(ref)
        if reflector is None:
            return self._recall(ref)
        found = reflector.view.get(ref) if reflector.is_believed() else None
        is_all = reflector.view.scope.label is None and reflector.is_believed()
        return found if found is not None or is_all else self._source.get(ref)

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects, from a view if all of them are in one."""
        self._clear_up(kind)
        for reflector in self.reflectors:
            if reflector.view.covers(kind, namespace, labels or {}) and reflector.is_believed():
                return reflector.view.list(namespace, labels or {})
        return self._source.list(kind, namespace, labels)

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object of a kind, once for each version of it if they are in a view."""
        self._clear_up(kind)
        for reflector in self.reflectors:
            if reflector.view.covers(kind, None, {}) and reflector.is_believed():
                return reflector.view.select(read)
        return self._source.select(kind, read)

    def create(self, body: Object) -> Object | None:
        """Create an object, and give it; None if one of that name exists."""
        ref = _ref(body)
        with self._doubtful(ref):
            made = self._source.create(body)
        if made is not None:
            self._wrote(made)
        else:
            # Nobody has told of it yet.
            self.live.get(ref)
        return made

    def admitted(self, body: Object) -> Object:
        """Give an object as it would be if it were created now."""
        return self._source.admitted(body)

    def apply(self, body: Object) -> Object:
        """Server-side apply, taking over fields that others set."""
        with self._doubtful(_ref(body)):
            return self._wrote(self._source.apply(body))

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> Object:
        """JSON merge patch."""
        with self._doubtful(ref):
            return self._wrote(self._source.merge(ref, patch, subresource=subresource))

    def delete(self, ref: Ref, uid: str) -> Object | None:
        """Delete this very object; fine if it is gone or another bears its name."""
        with self._doubtful(ref):
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

    def seen(self, ref: Ref, body: Object | None, version: int = 0) -> None:
        """Take what the API server has just answered for an object.

        Parameters
        ----------
        version
            Of it in its view before it was asked for.
        """
        reflector = self._holding(ref)
        self._doubted.discard(ref)
        if reflector is None:
            self._remember(ref, body, self._lasts(ref) if body is not None else min(self._lasts(ref), _ABSENT))
        elif body is None:
            if (known := reflector.view.get(ref)) is not None and reflector.view.miss(ref, version):
                self.told(reflector.view.scope, (known,))
        elif reflector.view.take(body):
            # Its watch will have no news of it any more.
            self.told(reflector.view.scope, (body,))

    def version(self, ref: Ref) -> int:
        """Give the version in which an object is known; 0: in none."""
        reflector = self._holding(ref)
        return 0 if reflector is None else reflector.view.version(ref)

    @contextmanager
    def _doubtful(self, ref: Ref) -> Iterator[None]:
        """Have an object asked for anew that could not be written."""
        try:
            yield
        except PortError:
            self.forget(ref)
            if self._holding(ref) is not None:
                self._doubted.add(ref)
            raise

    def _clear_up(self, kind: str) -> None:
        for ref in [ref for ref in tuple(self._doubted) if ref.kind == kind]:
            self.live.get(ref)

    def _holding(self, ref: Ref) -> Reflector | None:
        return next((reflector for reflector in self.reflectors if reflector.view.holds(ref)), None)

    def _recall(self, ref: Ref) -> Object | None:
        with self._lock:
            until, body = self._remembered.get(ref, (0.0, None))
        return body if self._clock() < until else self.live.get(ref)

    def _wrote(self, body: Object) -> Object:
        """Have an own write seen at once, and what is deleted by it not any more."""
        ref, metadata = _ref(body), body["metadata"]
        if "deletionTimestamp" in metadata and not is_kept(body):
            self._removed(ref, metadata["uid"])
            return body
        reflector = self._holding(ref)
        if reflector is None:
            self._remember(ref, body, self._lasts(ref))
            return body
        self._doubted.discard(ref)
        known = reflector.view.get(ref)
        if reflector.view.take(body) and known is not None and _by_others(known) != _by_others(body):
            # Somebody else's change came between, of which the watch will have no news any more.
            self.told(reflector.view.scope, (body,))
        return body

    def _remember(self, ref: Ref, body: Object | None, seconds: float) -> None:
        now = self._clock()
        with self._lock:
            if seconds > 0:
                self._remembered[ref] = now + seconds, body
            if len(self._remembered) > _REMEMBERED:
                self._remembered = {key: known for key, known in self._remembered.items() if known[0] > now}

    def _removed(self, ref: Ref, uid: str) -> None:
        self.forget(ref)
        if (reflector := self._holding(ref)) is not None:
            reflector.view.remove(ref, uid)


def _ref(body: Object) -> Ref:
    metadata = body["metadata"]
    return Ref(body["kind"], metadata.get("namespace"), metadata["name"])


def _by_others(body: Object) -> tuple[object, ...]:
    """Give what an own write of a status leaves as it is."""
    metadata = body["metadata"]
    told = (metadata.get(field) for field in ("generation", "deletionTimestamp", "labels"))
    return *told, slim(body)["metadata"].get("annotations")


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
        version = self._cached.version(ref)
        found = self._source.get(ref)
        self._cached.seen(ref, found, version)
        return found

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        found = self._source.list(kind, namespace, labels)
        for body in found:
            self._cached.seen(_ref(body), body)
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
        """The scope was listed, and a watch of it was accepted."""
        self._source = source
        self._told = told
        self._clock = clock
        self.trouble = "no answer yet"
        """What went wrong last."""
        self._heard = clock()
        self._broken: float | None = None
        """Since when there is no watch that works."""
        self._version = ""
        """From which to watch; empty: it has to be listed."""
        self._newest = 0
        self._stopping = threading.Event()

    def silence(self) -> float:
        """Give the seconds since anything was heard of the scope."""
        return self._clock() - self._heard

    def is_believed(self) -> bool:
        """Tell whether the view may stand for the scope."""
        broken = self._broken
        lasts = broken is None or self._clock() - broken < _BROKEN
        return self.synced.is_set() and self.silence() < _OLD and lasts

    def stop(self) -> None:
        """Have ``run`` end with its next event."""
        self._stopping.set()

    def run(self) -> None:
        """List and watch until told to stop; what fails is begun again."""
        wait = _FIRST
        while not self._stopping.is_set():
            began = self._clock()
            try:
                is_well = self.follow() or self._clock() - began > _BRIEF
                self.trouble = self.trouble if is_well else "its watch ends at once"
            except PortError as error:
                is_well, self.trouble = False, error.what
            except Exception as error:  # noqa: BLE001 (logged with its traceback; without this thread nothing is seen)
                is_well, self.trouble, self._version = False, type(error).__name__, ""
                _log.exception("watch of %s: a fault of the operator", self.view.scope)
            if is_well:
                wait, self._broken = _FIRST, None
                continue
            self._broken = self._clock() if self._broken is None else self._broken
            _log.warning("watch of %s: %s", self.view.scope, self.trouble)
            wait = _FIRST if self._clock() - began > _LAST else min(2 * wait, _LAST)
            self._stopping.wait(wait)

    def follow(self) -> bool:
        """List if that is needed, and take what one watch brings.

        Returns
        -------
        bool
            It had something to say.

        Raises
        ------
        PortError
            The API server did not answer, or the watch cannot go on: the next call lists.
        """
        if not self._version:
            self._list()
        version, self._version = self._version, ""
        events, was_heard = self._source.watch(self.view.scope, version), False
        # From here on whatever happens is heard of.
        self._heard, self._broken = self._clock(), None
        self.synced.set()
        for event in events:
            self._heard, was_heard = self._clock(), True
            version = event.body["metadata"]["resourceVersion"]
            self._newest = max(self._newest, number_of(version))
            if event.type != "BOOKMARK":
                self.saw(event.body, gone=event.type == "DELETED")
            if self._stopping.is_set():
                break
        self._version = version
        return was_heard

    def _list(self) -> None:
        listing = self._source.listing(self.view.scope)
        if number_of(listing.version) < self._newest:
            # The API server's database was restored from before.
            self.view.clear()
        self._newest = number_of(listing.version)
        self._version = listing.version
        self._tell(self.view.replace(listing.objects, listing.version))

    def saw(self, body: Object, *, gone: bool) -> None:
        """Take what a watch has brought of one object, and tell of it if it is news."""
        metadata = body["metadata"]
        ref = Ref(self.view.scope.kind, metadata.get("namespace"), metadata["name"])
        leaves = self.view.remove(ref, metadata["uid"], metadata["resourceVersion"]) if gone else False
        if leaves or (not gone and self.view.take(body)):
            self._tell((body,))

    def _tell(self, bodies: Sequence[Object]) -> None:
        self._told(self.view.scope, bodies)
