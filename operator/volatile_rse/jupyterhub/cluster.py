"""VolatileRSEs at the API server, with the hub's own rights; a short time for each call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from volatile_rse.jupyterhub.progress import is_over
from volatile_rse.jupyterhub.refusals import RefusedError
from volatile_rse.jupyterhub.volatilerses import END, GROUP, KIND, VERSION, Server, selector_of

__all__ = ["Api", "Cluster", "UnavailableError"]

_PATIENCE = 10.0
"""Seconds of a call."""
_NOT_FOUND, _INVALID = 404, 422
_MERGE = "application/merge-patch+json"
_PLACE = {"group": GROUP, "version": VERSION, "plural": KIND}

_T = TypeVar("_T")


class Api(Protocol):
    """What is used of ``kubernetes_asyncio.client.CustomObjectsApi``."""

    @property
    def create_namespaced_custom_object(self) -> Callable[..., Awaitable[Any]]:
        """Create an object."""

    @property
    def get_namespaced_custom_object(self) -> Callable[..., Awaitable[Any]]:
        """Read an object."""

    @property
    def list_namespaced_custom_object(self) -> Callable[..., Awaitable[Any]]:
        """List objects."""

    @property
    def patch_namespaced_custom_object(self) -> Callable[..., Awaitable[Any]]:
        """Change an object."""


class UnavailableError(Exception):
    """The API server does not answer, or does not let the hub do it; the words say who must act."""


class Cluster:
    """The VolatileRSEs of all servers."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(self, body: Mapping[str, Any]) -> None:
        """Create a VolatileRSE.

        Raises
        ------
        RefusedError
            It is wrong, in the words of the API server.
        UnavailableError
            It cannot be said that there is one.
        """
        namespace = body["metadata"]["namespace"]
        arguments = {**_PLACE, "namespace": namespace, "body": body, "field_validation": "Strict"}
        try:
            await _answer("create VolatileRSEs", namespace, self._api.create_namespaced_custom_object(**arguments))
        except UnavailableError as error:
            # Of what is there already, and of fields that an older kind lacks (400), no user can mend anything.
            if getattr(error.__cause__, "status", None) != _INVALID:
                raise
            message = f"The session was refused: {_message(error.__cause__)}"
            raise RefusedError(message) from error

    async def read(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Read a VolatileRSE; None: there is none.

        Raises
        ------
        UnavailableError
            It cannot be said.
        """
        call = self._api.get_namespaced_custom_object(**_PLACE, namespace=namespace, name=name)
        found = await _answer("read VolatileRSEs", namespace, call, missing=None)
        return found if isinstance(found, Mapping) else None

    async def end(self, server: Server) -> list[str]:
        """End all sessions of a server, and name those that had not been ended before.

        Raises
        ------
        UnavailableError
            It cannot be said whether all are.
        """
        where = {**_PLACE, "namespace": server.namespace}
        listed = self._api.list_namespaced_custom_object(**where, label_selector=selector_of(server))
        found = await _answer("list VolatileRSEs", server.namespace, listed, missing={"items": []})
        # What is over needs no end, and a receipt that the hub may no longer change is in nobody's way.
        living = [body for body in found["items"] if not body["spec"].get("endRequested") and not is_over(body)]
        names = [str(body["metadata"]["name"]) for body in living]
        for name in names:
            call = self._api.patch_namespaced_custom_object(**where, name=name, body=END, _content_type=_MERGE)
            await _answer("change VolatileRSEs", server.namespace, call, missing=None)
        return names


async def _answer(what: str, namespace: str, call: Awaitable[_T], **otherwise: Any) -> Any:  # noqa: ANN401
    try:
        return await asyncio.wait_for(call, _PATIENCE)
    except TimeoutError:
        message = f"The API server has not answered within {_PATIENCE:.0f} s. ADMIN must act: see what keeps it."
        raise UnavailableError(message) from None
    except Exception as error:
        status = getattr(error, "status", None)
        if status == _NOT_FOUND and otherwise:
            return otherwise["missing"]
        said = _message(error)
        if isinstance(status, int):
            message = (
                f"The hub may not {what} in namespace {namespace}, or they are not known there (HTTP {status}): {said} "
                "ADMIN must act: install the operator, none older than what the hub has of it, and give the hub's "
                "ServiceAccount its Role (docs/jupyterhub.md)."
            )
        else:
            message = f"The API server does not answer ({said}). ADMIN must act: see that it runs and is reached."
        raise UnavailableError(message) from error


def _message(error: BaseException | None) -> str:
    """Give the words of the API server, which come as an object in the answer's body."""
    try:
        said = json.loads(getattr(error, "body", "") or "")["message"]
    except (ValueError, TypeError, KeyError):
        said = str(error or "") or type(error).__name__
    return str(said)[:600]
