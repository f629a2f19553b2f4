"""How this operator is set up, as far as decisions and objects depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from volatile_rse.domain.node_ports import DEFAULT_RANGE

__all__ = ["AUTHORITY", "Settings"]

AUTHORITY = "volatile-rse-ca"
"""Secret with certificate and key, and ConfigMap with the certificate: what Rucio's daemons and clients must trust."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One operator instance."""

    name: str
    """Configured name; with the cluster's id it is the instance."""
    instance: str
    namespace: str
    """Of the operator: its CA, the credentials of connections and classes."""
    buffers: str
    """Namespace of storage pods, volumes and Services; tenants have no rights in it."""
    buffer_image: str
    node_ports: int = DEFAULT_RANGE
    """That Services of the cluster can have: nobody but an admin can tell."""
    injected: bool = True
    """Pods shall get by their label what their session has; False: an admin does without."""
