"""The operator's own certificate authority, kept in its namespace."""

from __future__ import annotations

import logging
from collections.abc import Callable

from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import MANAGED, new_object
from volatile_rse.domain.settings import AUTHORITY, Settings
from volatile_rse.ports.cluster import Cluster, Ref
from volatile_rse.ports.errors import RefusedError
from volatile_rse.reconcile.reading import data_of, secret_of

__all__ = ["stored_authority"]

_log = logging.getLogger(__name__)
_ANOTHER = (
    "%s holds another authority than before: certificates, keys of tokens and what sessions have in their namespaces "
    "are made anew within minutes; an administrator must give its certificate to Rucio's daemons and clients outside"
)


def stored_authority(cluster: Cluster, settings: Settings, create: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Read certificate and key (PEM); make them first where there are none.

    Raises
    ------
    RefusedError
        FOREIGN_OBJECT: the Secret is not what we made.
    """
    ref, public = (Ref(kind, settings.namespace, AUTHORITY) for kind in ("Secret", "ConfigMap"))
    before = cluster.get(public)
    if cluster.get(ref) is None:
        certificate, key = create()
        data = {"type": "Opaque", "stringData": {"tls.crt": certificate, "tls.key": key}}
        cluster.create(new_object("Secret", settings.namespace, AUTHORITY, MANAGED, data))
    # Read back: of two processes that start at once, one has made it.
    stored = cluster.get(ref)
    found = {} if stored is None else secret_of(stored)
    if "tls.crt" not in found or "tls.key" not in found:
        raise RefusedError(
            Reason.FOREIGN_OBJECT, f"{ref} has no tls.crt and tls.key: delete it to have a new one made."
        )
    told = None if before is None else data_of(before).get("ca.crt")
    if told == found["tls.crt"]:
        return found["tls.crt"], found["tls.key"]
    if before is not None:
        _log.warning(_ANOTHER, ref)
    bundle = new_object("ConfigMap", settings.namespace, AUTHORITY, MANAGED, {"data": {"ca.crt": found["tls.crt"]}})
    cluster.apply(bundle)
    return found["tls.crt"], found["tls.key"]
