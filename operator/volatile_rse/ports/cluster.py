"""The Kubernetes cluster, as a store of objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Cluster", "Ref"]

Object = Mapping[str, Any]


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
        """Read one object, fresh; None if there is none."""

    def list(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> tuple[Object, ...]:
        """List objects of one namespace or of all, with all of these labels."""

    def create(self, body: Object) -> bool:
        """Create an object; False if one of that name exists, which is left as it is."""

    def apply(self, body: Object) -> None:
        """Server-side apply as the operator's field manager, taking over fields that others set."""

    def merge(self, ref: Ref, patch: Object, *, subresource: str | None = None) -> None:
        """JSON merge patch; a ``metadata.resourceVersion`` in it makes it fail on a changed object.

        Raises
        ------
        RefusedError
            CHANGED_MEANWHILE: the object is another by now, or gone; read it again.
        """

    def delete(self, ref: Ref, uid: str) -> None:
        """Delete this very object; fine if it is gone or another bears its name."""

    def event(self, about: Object, *, type_: str, reason: str, message: str) -> None:
        """Write a Kubernetes Event about an object (``Normal`` or ``Warning``); a failure is only logged."""
