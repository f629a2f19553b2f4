"""Whose certificates the programs of a session believe: the operator's own, and those of the class's sites."""

from __future__ import annotations

import logging
import re

from volatile_rse.api.volatilerseclass import VolatileRSEClassSpec
from volatile_rse.ports.errors import PortError
from volatile_rse.reconcile.connections import authorities_of
from volatile_rse.reconcile.world import World

__all__ = ["session_authorities"]

_log = logging.getLogger(__name__)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\r?\n.+?\n-----END CERTIFICATE-----\r?\n?", re.DOTALL)
_ROOM = 256 * 1024
"""Bytes of them all: the ConfigMap has 1 MiB, of which the list of inputs takes half."""


def session_authorities(world: World, class_: VolatileRSEClassSpec) -> dict[str, str]:
    """Give the authorities as files: ``ca.crt`` is the buffer's, and each one has its name of a hashed directory.

    A session begins without those of sites where they cannot be read: it needs them for files that are not here alone.
    """
    own = world.authority.bundle()
    found = {"ca.crt": own, world.hashed_name(own): own}
    name, room = class_.site_credentials.ca_config_map, _ROOM
    for certificate in _of_sites(world, name) if name is not None else ():
        try:
            file = world.hashed_name(certificate)
        except ValueError as error:
            _log.warning("ConfigMap %s has a certificate that cannot be read: %s", name, error)
            continue
        stem, number = file.rpartition(".")[0], 0
        # Those of one hash are numbered without a gap.
        while found.get(f"{stem}.{number}", certificate) != certificate:
            number += 1
        room -= len(certificate)
        if room < 0:
            _log.warning("ConfigMap %s has more than %d bytes of authorities: sessions get the first", name, _ROOM)
            break
        found[f"{stem}.{number}"] = certificate
    return found


def _of_sites(world: World, name: str) -> list[str]:
    try:
        return _CERTIFICATE.findall(authorities_of(world, name))
    except PortError as error:
        _log.warning("sessions get no authorities of sites: %s", error.what)
        return []
