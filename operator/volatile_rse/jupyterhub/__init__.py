"""What a JupyterHub imports: a session with a volatile RSE for each server (docs/jupyterhub.md).

Of the sites' own spawners :class:`Hooks` are hooks; :class:`volatile_rse.jupyterhub.spawner.VolatileRSESpawner` is a
KubeSpawner that has all of it, progress too.
"""

from __future__ import annotations

from volatile_rse.jupyterhub.hooks import Hooks
from volatile_rse.jupyterhub.refusals import RefusedError
from volatile_rse.jupyterhub.settings import Settings

__all__ = ["Hooks", "RefusedError", "Settings"]
