"""An admin installs it from nothing as docs/install.md says, and an analyst then does what docs/first-session.md says.

Of the testbed they have what people have before they begin: a cluster, a Rucio with its admin, sites with tokens,
alice's data, an image with ROOT. There is no registry: what is pushed is given to the node.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testbed import cluster, containers, demo, golang, grid, helm, installation, pki, rucio, session, trust
from testbed.layout import CHECKOUT, CLIENT, NODE, SITES
from testbed.progress import StepError
from tests import pages
from tests.e2e import test_first_session_page as analyst

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]

NAMESPACES = (installation.NAMESPACE, installation.BUFFERS, "alice")
WEBHOOK = "deployment,service,secret,poddisruptionbudget", "volatile-rse-webhook"
PAGE_S_AUTHORITY = "volatile-rse-ca"
"""The file of the page, where Rucio's daemons look for authorities."""
AUTHORITY_FILE = CHECKOUT / f"{PAGE_S_AUTHORITY}.pem"
"""The same, where the page's commands write it first."""


@pytest.fixture(name="nothing")
def _nothing() -> Iterator[None]:
    """Give a cluster and a Rucio that know nothing of an operator; have that of the testbed there afterwards."""
    installation.up()
    helm.install()
    helm.helm("uninstall", helm.RELEASE)
    # What an uninstall leaves to its admin.
    cluster.kubectl("delete", "-f", str(CHECKOUT / "crds"))
    cluster.kubectl("delete", "namespace", *NAMESPACES, "--ignore-not-found")
    rucio.remove_authority("operator")
    yield
    AUTHORITY_FILE.unlink(missing_ok=True)
    with suppress(StepError):
        helm.helm("uninstall", helm.RELEASE)
    helm.forget()
    cluster.kubectl("delete", "mutatingwebhookconfiguration", "volatile-rse-session", "--ignore-not-found")
    cluster.kubectl("-n", installation.NAMESPACE, "delete", *WEBHOOK, "--ignore-not-found")
    cluster.kubectl("delete", "rucioconnections,volatilerseclasses", "--all", "--wait=false")
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", "site-tokens", "--ignore-not-found")
    rucio.remove_authority(PAGE_S_AUTHORITY)
    installation.up()


def programs(folder: Path) -> dict[str, str]:
    """Give what the pages call, besides kubectl, on the machines on which they call it."""
    docker, python = shutil.which("docker") or "docker", shlex.quote(sys.executable)
    push = f"{python} -c 'import sys; from testbed import cluster; cluster.load(sys.argv[1])'"
    build = f'shift; exec {docker} build --network host "$@"'
    cases = f'build) {build} ;;\npush) exec {push} "$2" ;;\n*) exec {docker} "$@" ;;\n'
    (folder / "docker.sh").write_text(f"case $1 in\n{cases}esac\n")
    believed = f"-v {shlex.quote(str(trust.CERTIFICATES))}:/etc/grid-security/certificates"
    carried = f"-v {AUTHORITY_FILE}:/volatile-rse-ca.pem:ro -w /"
    daemons = containers.build("rucio", CHECKOUT / "testbed" / "images" / "rucio")
    login = f"--account root --auth-strategy userpass --user root --password {grid.grid().passwords['root']}"
    return {
        **analyst.NAMES,
        "helm": shlex.quote(str(golang.installed(*helm._HELM))),
        "docker": f"bash {shlex.quote(str(folder / 'docker.sh'))}",
        "rucio": f"docker exec {CLIENT} /opt/client/bin/rucio {login}",
        "elsewhere": f"docker run --rm -i --user {os.getuid()}:{os.getgid()} {believed} {carried} {daemons} bash -euxs",
    }


@pytest.mark.timeout(2400)
@pytest.mark.usefixtures("nothing")
def test_an_admin_installs_it_from_nothing_and_an_analyst_gets_her_output(tmp_path: Path) -> None:
    facts, (token_a, token_b) = grid.grid(), (tmp_path / "token-a", tmp_path / "token-b")
    for token in (token_a, token_b):
        token.write_text(facts.tokens[grid.OPERATOR])
    account = f"operator-{uuid.uuid4().hex[:6]}"
    commands = pages.script(
        "install.md",
        RUCIO=facts.inside,
        ACCOUNT=account,
        USERNAME=account,
        LEDGER_SCOPE=account,
        SITE_A=SITES["SITE-A"],
        TOKEN_A=str(token_a),
        SITE_B=SITES["SITE-B"],
        TOKEN_B=str(token_b),
        AUTHORITIES=str(pki.CA),
        PUBLIC_HOST=NODE,
    )
    said = pages.run(commands, tmp_path, programs(tmp_path), 1800)
    assert "Phase:          Succeeded" in said
    assert "volatilerseclass.volatilerse.io/standard condition met" in said
    assert "volatilerse.volatilerse.io/hello condition met" in said
    assert said.count("condition met") == 3, "the buffer's record is not closed"

    session.image()
    demo.forget(analyst.REQUEST["spec"])
    said = pages.run(pages.script("first-session.md"), tmp_path, programs(tmp_path), 600)
    for expected in analyst.SAID:
        assert expected in said
