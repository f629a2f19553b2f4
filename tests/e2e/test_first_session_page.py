"""An analyst does what docs/first-session.md says, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from testbed import demo, grid, installation, session
from testbed.layout import CHECKOUT, CLIENT
from testbed.sessions import Session
from tests import pages

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]

NAMES = {
    "vrse": f"env PYTHONPATH={CHECKOUT / 'operator'} {sys.executable} -m volatile_rse.cli",
    "rucio": f"docker exec {CLIENT} /opt/client/bin/rucio",
}
SAID = ("dimuon is usable.", "pairs near the Z boson", "dimuon is safe.", "z_pairs.root", "SITE-B")


def forget_the_run_before() -> None:
    """Empty the dataset: it keeps one version of each path, and that of a session before is another one."""
    alice, (scope, name) = grid.client(grid.ALICE), ("user.alice", "dimuon_histograms")
    if name in alice.list_dids(scope, [{"name": name}], did_type="dataset"):
        held = [{"scope": entry["scope"], "name": entry["name"]} for entry in alice.list_content(scope, name)]
        if held:
            alice.detach_dids(scope, name, held)


def test_an_analyst_reads_writes_and_finds_the_output_in_rucio(tmp_path: Path) -> None:
    installation.up()
    session.image()
    demo._namespace()
    demo._clear(Session(demo.NAMESPACE, demo.NAME, installation.CLASS))
    forget_the_run_before()
    said = pages.run(pages.script("first-session.md"), tmp_path, NAMES, 500)
    for expected in SAID:
        assert expected in said
