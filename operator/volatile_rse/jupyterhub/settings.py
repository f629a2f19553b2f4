"""What the hub's admin decides: defaults that users see in the form, and bounds of what they may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How sessions of this hub are made."""

    class_name: str = "standard"
    """VolatileRSEClass of the sessions."""
    account: str = "{username}"
    """Rucio account of a user; ``{username}`` is the name at the hub."""
    scope: str = "user.{account}"
    """Scope of the outputs."""
    dataset: str = "jupyter.{account}"
    """Name of the dataset that the form proposes for the outputs."""
    capacities: tuple[str, ...] = ("10Gi", "50Gi", "200Gi")
    """Sizes of the buffer that a user may choose from; the first is the default."""
    destinations: tuple[str, ...] = ()
    """RSE expressions of where outputs may be kept; the first is the default. None: nobody keeps outputs."""
    lifetime: str | None = "90d"
    """Of the outputs at their destination; None: for ever."""
    publish: bool = False
    """Whether programs may have an output kept while the server runs, too: ``publish()`` of volatile_rse.session."""
    wait: float = 120
    """Seconds that a server waits for its data before it starts without them."""
    ttl: str = "12h"
    """Of a session, at most."""
    end_grace: str = "5m"
    """How long a session goes on without its pod, where nobody could tell its end."""
    start_timeout: str = "15m"
    """How long a usable buffer waits for the pod: a hub that was killed in between makes none."""
    input_deadline: str = "12h"
    """How long nothing may arrive before a session that never began is given up."""
    ttl_after_finished: str = "7d"
    """How long a VolatileRSE stays as a receipt after all is over."""
    on_behalf_of: bool = False
    """Whether sessions say whose they are: ``spec.onBehalfOf``, which a class may grant by."""
    rucio: Mapping[str, Any] | None = None
    """Entry of ``RucioConfig.instances`` of rucio-jupyterlab, such as ``rucio_base_url``; what is the session's is
    added. None: the extension is not configured."""
