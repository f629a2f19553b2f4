"""An API server with VolatileRSEs alone, as the hub's client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any


class ApiError(Exception):
    """As that of the real client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"({status})")
        self.status, self.body = status, json.dumps({"kind": "Status", "message": message})


class FakeApi:
    """Answers from a dictionary; ``failure`` is raised instead, ``hanging`` never answers."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.failure: Exception | None = None
        self.hanging = False
        self.on_read: Callable[[dict[str, Any]], None] = lambda _: None
        self.patches: list[str] = []

    async def _begin(self) -> None:
        await asyncio.sleep(3600 if self.hanging else 0)
        if self.failure is not None:
            raise self.failure

    async def create_namespaced_custom_object(self, **arguments: Any) -> dict[str, Any]:
        assert arguments["field_validation"] == "Strict"
        await self._begin()
        body = deepcopy(arguments["body"])
        self.bodies[body["metadata"]["name"]] = body
        return {**body}

    async def get_namespaced_custom_object(self, **arguments: Any) -> dict[str, Any]:
        await self._begin()
        if (body := self.bodies.get(arguments["name"])) is None:
            raise ApiError(404, "not found")
        self.on_read(body)
        return deepcopy(body)

    async def list_namespaced_custom_object(self, **arguments: Any) -> dict[str, Any]:
        await self._begin()
        key, _, value = arguments["label_selector"].partition("=")
        return {"items": [body for body in self.bodies.values() if body["metadata"]["labels"].get(key) == value]}

    async def patch_namespaced_custom_object(self, **arguments: Any) -> dict[str, Any]:
        assert arguments["_content_type"] == "application/merge-patch+json"
        await self._begin()
        body = self.bodies[arguments["name"]]
        body["spec"] |= arguments["body"]["spec"]
        self.patches.append(arguments["name"])
        return body
