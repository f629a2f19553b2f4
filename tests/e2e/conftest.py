from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import cluster, grid, installation
from testbed.layout import SITES
from testbed.sessions import Session
from tests.e2e.flows import fresh_namespace, new_session
from tests.e2e.recording import recorded

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


@pytest.fixture
def session(namespace: str) -> Iterator[Session]:
    """Give a session on a cluster that has the operator of this checkout."""
    installation.up()
    yield from new_session(namespace)


@pytest.fixture
def refused(session: Session) -> Iterator[None]:
    """Leave the session's class without a good token for SITE-B."""
    good = grid.grid().tokens[grid.OPERATOR]
    tokens = {SITES["SITE-A"]: good, SITES["SITE-B"]: "no-token"}
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    credentials = {"secretName": session.namespace, "caConfigMap": "grid-ca"}
    body = installation.site_tokens(session.namespace, tokens)
    installation.apply([body, installation.class_of(session.namespace, grants, siteCredentials=credentials)])
    yield
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", session.namespace)


@pytest.fixture(scope="session", autouse=True)
def _statuses() -> Iterator[None]:
    """Keep what statuses there are, if somebody wants to have them (CONTRIBUTING.md)."""
    folder = os.environ.get("VRSE_STATUSES")
    if folder is None:
        yield
        return
    with recorded(Path(folder)):
        yield
