"""Who may say for which user a VolatileRSE is: asked of a real API server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testbed import cluster, hub, installation
from testbed.progress import StepError
from tests.e2e.flows import patch

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def request(name: str, **spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "volatilerse.io/v1alpha1",
        "kind": "VolatileRSE",
        "metadata": {"name": name},
        "spec": {"className": "none-of-these", "account": "alice", "capacity": "1Gi", **spec},
    }


@pytest.mark.usefixtures("crds")
def test_only_who_may_use_hubusers_says_whose_it_is(namespace: str) -> None:
    installation.admission()
    where = ("-n", namespace)
    for name in ("hub", "other"):
        cluster.kubectl(*where, "create", "serviceaccount", name)
    cluster.kubectl(*where, "apply", "-f", str(hub.RIGHTS))
    cluster.kubectl(
        *where, "create", "rolebinding", "other", "--clusterrole=edit", f"--serviceaccount={namespace}:other"
    )

    def create(who: str, *argv: str, **spec: object) -> None:
        body = json.dumps(request("run", **spec))
        identity = f"--as=system:serviceaccount:{namespace}:{who}"
        cluster.kubectl(*where, identity, "create", "-f", "-", *argv, stdin=body)

    create("other", "--dry-run=server")
    with pytest.raises(StepError, match="may not use hubusers in namespace"):
        create("other", "--dry-run=server", onBehalfOf="alice@cern.ch")
    create("hub", onBehalfOf="alice@cern.ch")
    for wrong in ("bob@cern.ch", None):
        with pytest.raises(StepError, match="onBehalfOf is immutable"):
            patch([*where, "vrse", "run"], {"onBehalfOf": wrong})
    patch([*where, "vrse", "run"], {"endRequested": True})
    cluster.kubectl(*where, "delete", "vrse", "run", "--wait=false")
