"""Hook functions for a site with a spawner of its own; any that derives from KubeSpawner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from volatile_rse.jupyterhub.choices import choice_of
from volatile_rse.jupyterhub.cluster import Cluster, UnavailableError
from volatile_rse.jupyterhub.lab import lab_files
from volatile_rse.jupyterhub.manifests import extend
from volatile_rse.jupyterhub.pods import additions
from volatile_rse.jupyterhub.refusals import RefusedError
from volatile_rse.jupyterhub.sessions import Begun, Told, begin, end
from volatile_rse.jupyterhub.settings import Settings
from volatile_rse.jupyterhub.volatilerses import Server

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hooks", "server_of"]

_FAILED = 80
"""Per cent, where the pod begins."""
_WITHOUT = "The server starts without data: making the session failed. ADMIN must act: see the hub's log."
_ATTRIBUTE = "_vrse_begun"
"""Of a spawner: the session of this spawn."""


class Hooks:
    """``pre_spawn_hook``, ``modify_pod_hook`` and ``post_stop_hook``.

    Parameters
    ----------
    settings
        Of all sessions.
    account
        Gives a user's Rucio account for a spawner; absent: as the settings say.
    """

    def __init__(self, settings: Settings, account: Callable[[Any], str] | None = None) -> None:
        self._settings, self._account = settings, account

    async def pre_spawn(self, spawner: Any, tell: Callable[[int, str], None] | None = None) -> None:  # noqa: ANN401
        """Make the session, and wait for its data; the spawner has no time limit here, so this keeps to its own."""
        setattr(spawner, _ATTRIBUTE, None)
        tell = tell or Told()
        try:
            setattr(spawner, _ATTRIBUTE, await self._begun(spawner, tell))
        except RefusedError:
            raise
        except Exception:
            # Whatever is wrong here keeps nobody from a server.
            spawner.log.exception("no session for %s", spawner.pod_name)
            tell(_FAILED, _WITHOUT)

    async def _begun(self, spawner: Any, tell: Callable[[int, str], None]) -> Begun | None:  # noqa: ANN401
        settings = self._settings
        if self._account is not None:
            settings = replace(settings, account=str(self._account(spawner)))
        choice = choice_of(spawner.user_options, spawner.user.name, settings)
        if choice is None:
            return None
        return await begin(_cluster(spawner), server_of(spawner), choice, settings, tell, wait=settings.wait)

    def modify_pod(self, spawner: Any, pod: Any) -> Any:  # noqa: ANN401
        """Give the pod its label and the session's objects; what it has already stays."""
        begun = getattr(spawner, _ATTRIBUTE, None)
        if begun is not None:
            extend(pod, additions(begun.name, self._configured(spawner, begun)))
        return pod

    def _configured(self, spawner: Any, begun: Begun) -> dict[str, str]:  # noqa: ANN401
        try:
            return lab_files(self._settings.rucio, begun.status, begun.name)
        except (TypeError, ValueError):
            # What is no JSON keeps nobody from a server.
            spawner.log.exception("vrse_rucio is not to be written: %s starts without it", spawner.pod_name)
            return {}

    async def post_stop(self, spawner: Any) -> None:  # noqa: ANN401
        """End the session, and have what was written kept; also after a spawn that failed or was cancelled."""
        setattr(spawner, _ATTRIBUTE, None)
        try:
            ended = await end(_cluster(spawner), server_of(spawner))
        except UnavailableError as error:
            spawner.log.warning("sessions of %s end by themselves, not now: %s", spawner.pod_name, error)
        except Exception:
            # A hub's own clean-up goes on.
            spawner.log.exception("sessions of %s end by themselves, not now", spawner.pod_name)
        else:
            spawner.log.info("ended: %s", ", ".join(ended) or "no session")


def server_of(spawner: Any) -> Server:  # noqa: ANN401
    """Name a spawner's server."""
    return Server(spawner.namespace, spawner.pod_name, spawner.user.name, spawner.name or "")


def _cluster(spawner: Any) -> Cluster:  # noqa: ANN401
    # What every hub with a KubeSpawner has.
    from kubernetes_asyncio.client import CustomObjectsApi  # noqa: PLC0415

    return Cluster(CustomObjectsApi(spawner.api.api_client))
