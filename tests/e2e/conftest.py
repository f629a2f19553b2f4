from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import cluster

CRDS = Path(__file__).resolve().parents[2] / "crds"


@pytest.fixture(scope="session")
def crds() -> list[str]:
    """Install the CustomResourceDefinitions on the testbed's cluster, and on no other."""
    cluster.guard()
    cluster.kubectl("apply", "--server-side", "-f", str(CRDS))
    names = [json.loads(path.read_text())["metadata"]["name"] for path in sorted(CRDS.glob("*.json"))]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in names))
    return names


@pytest.fixture
def namespace() -> Iterator[str]:
    cluster.guard()
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
