from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import cluster
from tests.e2e.flows import fresh_namespace

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
    with fresh_namespace() as name:
        yield name
