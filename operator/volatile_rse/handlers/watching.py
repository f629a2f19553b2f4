"""kopf's registry: ``event`` handlers only, since its others write annotations and finalizers of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from volatile_rse.ports.cluster import Ref

__all__ = ["Logon", "as_service_account", "registry_of", "settings_of"]

Saw = Callable[[str, Mapping[str, Any], bool], None]

_log = logging.getLogger(__name__)

Logon = Callable[..., kopf.ConnectionInfo | None]
"""Takes kopf's own arguments, and says where the API server is, and as whom it is asked."""
_LEASES = ("coordination.k8s.io", "v1", "leases")
_GROUP, _VERSION = "volatilerse.io", "v1alpha1"
_KINDS = {
    "volatilerses": "VolatileRSE",
    "volatilerseclasses": "VolatileRSEClass",
    "rucioconnections": "RucioConnection",
}


def registry_of(
    saw: Saw,
    renewed: Callable[[Mapping[str, Any]], None],
    checks: Mapping[str, Callable[[], bool]],
    logon: Logon | None = None,
) -> kopf.OperatorRegistry:
    """Watch what people write, and the Lease.

    Parameters
    ----------
    saw
        Takes the kind and the object of an event, and whether that is gone; returns at once.
    renewed
        Takes the Lease, at each of its renewals; returns at once.
    checks
        Asked by the liveness endpoint: what is wrong when one of them says no.
    logon
        By default with the pod's service account.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(logon or as_service_account)
    for plural, kind in _KINDS.items():
        kopf.on.event(_GROUP, _VERSION, plural, registry=registry)(_handler(saw, kind))
    # By the same way as all others, so that it shows whether they work; it costs no write beyond the renewals.
    kopf.on.event(*_LEASES, registry=registry)(_handler(lambda _kind, body, _gone: renewed(body), "Lease"))

    def living(**_: object) -> str:
        for wrong, well in checks.items():
            if not well():
                _log.critical("%s: this process has to be restarted", wrong)
                raise kopf.PermanentError(wrong)
        return "running"

    kopf.on.probe(id="living", registry=registry)(living)
    return registry


def settings_of(lease: Ref) -> kopf.OperatorSettings:
    """Keep kopf to watching, and of all Leases to ours."""
    settings = kopf.OperatorSettings()
    # A watch that a broken connection has frozen ends by itself; the sweep covers the time until then.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    # The API server sends bookmarks each minute where nothing happens.
    settings.watching.inactivity_timeout = 70
    group, _, plural = _LEASES
    only = f"metadata.namespace={lease.namespace},metadata.name={lease.name}"
    settings.watching.field_selectors[group, plural] = only
    settings.networking.request_timeout = 30
    settings.posting.enabled = False
    return settings


def as_service_account(**kwargs: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 (kopf's own arguments)
    """Use the account of the operator's pod."""
    return kopf.login_with_service_account(**kwargs)


def _handler(saw: Saw, kind: str) -> Callable[..., Any]:
    async def handle(event: kopf.RawEvent, **_: object) -> None:
        saw(kind, event["object"], event["type"] == "DELETED")

    return handle
