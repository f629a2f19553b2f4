"""kopf's registry: ``event`` handlers only, since its others write annotations and finalizers of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import kopf

__all__ = ["registry_of", "settings_of"]

_GROUP, _VERSION = "volatilerse.io", "v1alpha1"
_KINDS = {
    "volatilerses": "VolatileRSE",
    "rserecords": "RSERecord",
    "volatilerseclasses": "VolatileRSEClass",
    "rucioconnections": "RucioConnection",
}


def registry_of(saw: Callable[[str, Mapping[str, Any]], None], healthy: Callable[[], bool]) -> kopf.OperatorRegistry:
    """Watch our kinds and pods.

    Parameters
    ----------
    saw
        Takes the kind and the object of an event; returns at once.
    healthy
        Asked by the liveness endpoint.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for plural, kind in _KINDS.items():
        kopf.on.event(_GROUP, _VERSION, plural, registry=registry)(_handler(saw, kind))
    kopf.on.event("", "v1", "pods", registry=registry)(_handler(saw, "Pod"))

    def sweeping(**_: object) -> str:
        if not healthy():
            message = "the sweep has not run for too long"
            raise RuntimeError(message)
        return "running"

    kopf.on.probe(id="sweep", registry=registry)(sweeping)
    return registry


def settings_of() -> kopf.OperatorSettings:
    """Keep kopf to watching."""
    settings = kopf.OperatorSettings()
    # A watch that a broken connection has frozen ends by itself; the sweep covers the time until then.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.networking.request_timeout = 30
    settings.posting.enabled = False
    return settings


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 (kopf's own arguments)
    return kopf.login_with_service_account(**kwargs)


def _handler(saw: Callable[[str, Mapping[str, Any]], None], kind: str) -> Callable[..., Any]:
    async def handle(body: kopf.Body, **_: object) -> None:
        saw(kind, body)

    return handle
