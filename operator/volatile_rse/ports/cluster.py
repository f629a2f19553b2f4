"""The Kubernetes cluster, as a store of objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

__all__ = ["ANY", "Cluster", "Listing", "Ref", "Scope", "Source", "WatchEvent", "bears", "nothing"]

Object = Mapping[str, Any]
T = TypeVar("T")

ANY = "*"
"""In the place of a label's value, which it cannot be: whatever it is."""


def bears(labels: Mapping[str, str], body: Object) -> bool:
    """Tell whether an object has all of these labels."""
    own = body["metadata"].get("labels") or {}
    return all(key in own and value in (ANY, own[key]) for key, value in labels.items())


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object."""

    kind: str
    """``Pod``, ``Secret``, ``VolatileRSE``…: the kinds that the operator uses, each in one API version."""
    namespace: str | None
    """None for kinds of the whole cluster."""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.namespace is None else f"{self.kind} {self.namespace}/{self.name}"


class Cluster(Protocol):
    """Every call raises UnreachableError (CLUSTER_UNREACHABLE) or RefusedError (CLUSTER_REFUSED unless documented)."""

    def identity(self) -> str:
        """Give the cluster's own id: the UID of its namespace ``kube-system``."""

    def get(self, ref: Ref) -> Object | None:
        """Read one object; None if there is none."""

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects of one namespace or of all, with all of these labels; ``ANY`` stands for every value of one."""

    def select(self, kind: str, read: Callable[[Object], T]) -> tuple[T, ...]:
        """Read something off every object of a kind.

        Parameters
        ----------
        read
            Pure, and the same function each time: what it gave may be remembered as long as the object is the same.
        """

    def create(self, body: Object) -> Object | None:
        """Create an object, and give it; None if one of that name exists, which is left as it is.

        Raises
        ------
        RefusedError
            NODE_PORTS_EXHAUSTED: the cluster has none left for a Service.
        """

    def admitted(self, body: Object) -> Object:
        """Give an object as it would be if it were created now, with what admission makes of it; nothing is created."""

    def apply(self, body: Object) -> Object:
        """Server-side apply as the operator's field manager, taking over fields that others set; give the object."""

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> Object:
        """JSON merge patch; a ``metadata.resourceVersion`` in it makes it fail on a changed object. Give the object.

        Raises
        ------
        RefusedError
            CHANGED_MEANWHILE: the object is another by now, or gone; read it again.
        """

    def delete(self, ref: Ref, uid: str) -> Object | None:
        """Delete this very object; fine if it is gone or another bears its name.

        Returns
        -------
        Object | None
            The object, if something still keeps it; None: it is gone.
        """

    def event(self, about: Object, *, type_: str, reason: str, message: str) -> None:
        """Write a Kubernetes Event about an object (``Normal`` or ``Warning``); a failure is only logged."""


def whole(body: Object) -> Object:
    """Keep an object as it is."""
    return body


def nothing(_: Object) -> Iterable[Ref]:
    """Concern no other object."""
    return ()


@dataclass(frozen=True, slots=True)
class Scope:
    """Objects that are listed once and watched from then on."""

    kind: str
    namespace: str | None = None
    """None: of all namespaces, or of the whole cluster."""
    label: str | None = None
    """Only those that bear this label, whatever its value."""
    name: str | None = None
    """Only the one of this name."""
    prune: Callable[[Object], Object] = field(default=whole, compare=False)
    """Leaves out what nobody reads of an object."""
    concerns: Callable[[Object], Iterable[Ref]] = field(default=nothing, compare=False)
    """What is read again when an object has changed: objects that cannot be watched, and that it has to do with."""

    def __str__(self) -> str:
        where = "all namespaces" if self.namespace is None else f"namespace {self.namespace}"
        which = self.name or (f"with the label {self.label}" if self.label else "")
        return " ".join(part for part in (self.kind, which, "of", where) if part)


class Listing(NamedTuple):
    """All objects of a scope at one moment."""

    objects: tuple[Object, ...]
    version: str
    """From which a watch goes on."""


class WatchEvent(NamedTuple):
    """What a watch brings."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    """A bookmark brings nothing but the version of now."""
    body: Object


class Source(Cluster, Protocol):
    """A cluster that can be watched."""

    def listing(self, scope: Scope) -> Listing:
        """List the objects of a scope, with the version from which to watch."""

    def watch(self, scope: Scope, version: str) -> Iterator[WatchEvent]:
        """Give what changes in a scope from a version on; it ends after some minutes, and is to be asked for again.

        Raises
        ------
        UnreachableError
            It broke, or the version is too old: list again.
        """
