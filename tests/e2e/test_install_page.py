"""An admin does what docs/install.md says, on a cluster whose operator was removed, and nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import buffer, cluster, golang, grid, helm, installation, pki, sidecar
from testbed.layout import NODE, SITES
from tests import pages

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]


@pytest.fixture(name="removed")
def _removed() -> Iterator[None]:
    """Give a cluster without operator; have that of the testbed there afterwards, with its configuration."""
    installation.up()
    helm.install()
    helm.helm("uninstall", helm.RELEASE)
    # What an uninstall leaves to its admin, and what the testbed has from before.
    own = ("-n", installation.NAMESPACE, "delete", "--ignore-not-found")
    cluster.kubectl(*own, "secret/rucio-login", "secret/site-tokens", "configmap/grid-ca")
    cluster.kubectl("delete", "rucioconnections,volatilerseclasses", "--all")
    yield
    helm.forget()
    cluster.kubectl(*own, "secret/site-tokens")
    installation.up()
    installation.apply(installation._configuration())


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("removed")
def test_an_admin_installs_it_and_sees_one_buffer_come_and_go(tmp_path: Path) -> None:
    facts, token = grid.grid(), tmp_path / "token"
    token.write_text(facts.tokens[grid.OPERATOR])
    commands = pages.script(
        "install.md",
        OPERATOR_IMAGE=installation.image(),
        BUFFER_IMAGE=buffer.image(),
        SIDECAR_IMAGE=sidecar.image(),
        RUCIO=facts.inside,
        ACCOUNT=grid.OPERATOR,
        USERNAME=grid.OPERATOR,
        PASSWORD=facts.passwords[grid.OPERATOR],
        SITE=SITES["SITE-A"],
        TOKEN=str(token),
        AUTHORITIES=str(pki.CA),
        PUBLIC_HOST=NODE,
        LEDGER_SCOPE=grid.LEDGER_SCOPE,
    )
    said = pages.run(f"{commands}\nrm volatile-rse-ca.pem", tmp_path, {"helm": shlex.quote(helm_program())}, 600)
    assert "volatilerseclass.volatilerse.io/standard condition met" in said
    assert "volatilerse.volatilerse.io/hello condition met" in said
    assert said.count("condition met") == 3, "the buffer's record is not closed"


def helm_program() -> str:
    return str(golang.installed(*helm._HELM))
