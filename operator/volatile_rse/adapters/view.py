"""What is known of the objects of one scope: the newest version of each that anybody has told of."""

from __future__ import annotations

import marshal
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from volatile_rse.ports.cluster import ANY, Object, Ref, Scope, bears

__all__ = ["View", "is_kept", "number_of", "slim"]

T = TypeVar("T")
_Key = tuple[str, str]
"""Namespace, empty where there is none, and name."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_REMEMBERED = 600.0
"""Seconds for which a deletion is remembered: no answer that is older than it comes later."""


class _Entry(NamedTuple):
    version: int
    uid: str
    packed: bytes
    """Of thousands of objects nothing is kept but their bytes; each reader gets an object of its own."""
    label: str
    """Value of the scope's label."""


class View:
    """The objects of a scope.

    A list, a watch and the answers to own writes all tell of them, in any order: of each object the newer version
    wins, and one that was deleted comes back by no older word.
    """

    def __init__(self, scope: Scope, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.scope = scope
        self._lock = threading.Lock()
        self._entries: dict[_Key, _Entry] = {}
        self._labelled: defaultdict[_Key, set[_Key]] = defaultdict(set)
        """Namespace and value of the scope's label -> objects."""
        self._deleted: dict[str, tuple[float, float]] = {}
        """UID -> version in which it had left the scope, and when that was heard."""
        self._derived: dict[Callable[[Object], object], dict[_Key, tuple[int, str, object]]] = {}

    # What is told.

    def replace(self, objects: Iterable[Object], version: str) -> tuple[Object, ...]:
        """Take a whole list; give what has changed or vanished, the latter as it was last.

        Parameters
        ----------
        version
            Of the list: what is newer than that and not in it, was made since.
        """
        at, news, listed = number_of(version), list[Object](), set[_Key]()
        for body in objects:
            listed.add(_key_of(body))
            if self.take(body):
                news.append(body)
        with self._lock:
            for key in [key for key, entry in self._entries.items() if key not in listed and entry.version <= at]:
                entry = self._entries[key]
                news.append(_unpacked(entry))
                self._drop(key)
                self._bury(entry.uid, at)
        return tuple(news)

    def clear(self) -> None:
        """Forget everything, as after a restore of the API server's database: versions begin anew."""
        with self._lock:
            for key in list(self._entries):
                self._drop(key)
            self._deleted.clear()

    def take(self, body: Object) -> bool:
        """Take an object as it is now; tell whether that is news."""
        metadata = body["metadata"]
        key, uid, version = _key_of(body), metadata["uid"], number_of(metadata["resourceVersion"])
        label = (metadata.get("labels") or {}).get(self.scope.label) if self.scope.label else ""
        with self._lock:
            known = self._entries.get(key)
            left, _ = self._deleted.get(uid, (-1.0, 0.0))
            if version <= left or (known is not None and known.version >= version):
                return False
            if label is None:
                # It has lost the label by which it was known.
                self._drop(key)
                return known is not None
            self._drop(key)
            self._entries[key] = _Entry(version, uid, _packed(self.scope.prune(body)), label)
            self._labelled[key[0], label].add(key)
        return True

    def remove(self, ref: Ref, uid: str, version: str = "") -> bool:
        """Take note that an object has left the scope; tell whether that is news.

        Parameters
        ----------
        version
            In which it had; empty: it was deleted, and no version of it comes after that.
        """
        key = ref.namespace or "", ref.name
        with self._lock:
            self._bury(uid, number_of(version) if version else math.inf)
            known = self._entries.get(key)
            if known is None or known.uid != uid:
                return False
            self._drop(key)
        return True

    def miss(self, ref: Ref, version: int) -> bool:
        """Take note that an object was not there when it was asked for; tell whether that is news.

        Parameters
        ----------
        version
            Of it in this view before it was asked for: of what has come since, nothing was said.
        """
        key = ref.namespace or "", ref.name
        with self._lock:
            known = self._entries.get(key)
            if known is None or known.version != version:
                return False
            self._drop(key)
            self._bury(known.uid, known.version)
        return True

    def _bury(self, uid: str, version: float) -> None:
        now = self._clock()
        before, _ = self._deleted.pop(uid, (-1.0, 0.0))
        self._deleted[uid] = max(before, version), now
        # They are in the order in which they were heard of.
        while now - next(iter(self._deleted.values()))[1] > _REMEMBERED:
            del self._deleted[next(iter(self._deleted))]

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        labelled = self._labelled[key[0], entry.label]
        labelled.discard(key)
        if not labelled:
            del self._labelled[key[0], entry.label]
        for derived in self._derived.values():
            derived.pop(key, None)

    # What is asked.

    def covers(self, kind: str, namespace: str | None, labels: Mapping[str, str]) -> bool:
        """Tell whether all objects of a namespace (None: of all) with these labels are in the scope."""
        scope = self.scope
        is_inside = scope.namespace is None or scope.namespace == namespace
        return kind == scope.kind and is_inside and scope.name is None and (not scope.label or scope.label in labels)

    def holds(self, ref: Ref) -> bool:
        """Tell whether an object may be in the scope."""
        scope = self.scope
        is_inside = scope.namespace in {None, ref.namespace} and scope.name in {None, ref.name}
        return ref.kind == scope.kind and is_inside

    def get(self, ref: Ref) -> Object | None:
        """Give an object; None if the view has none."""
        with self._lock:
            entry = self._entries.get((ref.namespace or "", ref.name))
        return None if entry is None else _unpacked(entry)

    def version(self, ref: Ref) -> int:
        """Give the version of an object; 0 if the view has none."""
        entry = self._entries.get((ref.namespace or "", ref.name))
        return 0 if entry is None else entry.version

    def list(self, namespace: str | None, labels: Mapping[str, str]) -> tuple[Object, ...]:
        """Give the objects of a namespace (None: of all) with these labels, by namespace and name."""
        with self._lock:
            value = labels.get(self.scope.label, ANY) if self.scope.label else ANY
            if namespace is not None and value != ANY:
                keys = self._labelled.get((namespace, value), set())
                found = [(key, self._entries[key]) for key in keys]
            else:
                found = [(key, entry) for key, entry in self._entries.items() if namespace in {None, key[0]}]
        bodies = (_unpacked(entry) for _, entry in sorted(found))
        return tuple(body for body in bodies if bears(labels, body))

    def select(self, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object, once for each version of it."""
        return tuple(self._selected(read))

    def _selected(self, read: Callable[[Object], T]) -> Iterator[T]:
        with self._lock:
            entries = sorted(self._entries.items())
            known: Any = dict(self._derived.setdefault(read, {}))
        for key, entry in entries:
            version, uid, value = known.get(key, (0, "", None))
            if (version, uid) != (entry.version, entry.uid):
                value = read(_unpacked(entry))
                with self._lock:
                    if self._entries.get(key) == entry:
                        self._derived[read][key] = entry.version, entry.uid, value
            yield value


def is_kept(deleted: Object) -> bool:
    """Tell whether something still keeps an object that is being deleted: a finalizer, what is in it, or a kubelet."""
    metadata = deleted.get("metadata") or {}
    inside = (deleted.get("spec") or {}).get("finalizers") if deleted.get("kind") == "Namespace" else None
    is_ending = deleted.get("kind") == "Pod" and metadata.get("deletionGracePeriodSeconds") != 0
    return "deletionTimestamp" in metadata and bool(metadata.get("finalizers") or inside or is_ending)


def _key_of(body: Object) -> _Key:
    metadata = body["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def number_of(version: str) -> int:
    """Compare versions by their numbers, as Kubernetes promises since 1.35 and etcd has always made them."""
    return int(version) if version.isdecimal() else 0


def slim(body: Object) -> dict[str, Any]:
    """Leave out what is nobody's to read of any object."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != _LAST_APPLIED}
    return {**body, "metadata": metadata}


def _packed(body: Object) -> bytes:
    return marshal.dumps(slim(body))


def _unpacked(entry: _Entry) -> Object:
    body: Object = marshal.loads(entry.packed)  # noqa: S302 (its own bytes)
    return body
