"""What the client of the API server makes of its answers; the contract suite shows a real one."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError

TOKEN = "eyJhbGciOiJFUzI1NiJ9.token"


def refusing(message: str) -> KubernetesCluster:
    client = ApiClient(Configuration())
    said = json.dumps({"kind": "Status", "reason": "Forbidden", "message": message}).encode()

    def call_api(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(status=403, read=lambda: said, getheader=lambda _: str(len(said)))

    setattr(client, "call_api", call_api)  # noqa: B010 (a method, as mypy sees it)
    return KubernetesCluster(client)


@pytest.mark.parametrize("form", ["data", "stringData"])
def test_a_webhook_that_repeats_a_secret_is_not_repeated(form: str) -> None:
    encoded = base64.b64encode(TOKEN.encode()).decode()
    cluster = refusing(f"denied: {TOKEN} {encoded} \x1b[0m")
    values = {"token": encoded if form == "data" else TOKEN}
    body = {"kind": "Secret", "metadata": {"namespace": "n", "name": "s"}, form: values}
    for call in (
        lambda: cluster.create({"apiVersion": "v1", **body}),
        lambda: cluster.merge(Ref("Secret", "n", "s"), {form: values}),
    ):
        with pytest.raises(RefusedError) as caught:
            call()
        assert str(caught.value).endswith("denied: (secret) (secret) \\x1b[0m")
