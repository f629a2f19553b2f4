"""An analyst does what docs/first-session.md says, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from testbed import demo, installation, session
from testbed.layout import CHECKOUT, CLIENT
from testbed.sessions import Session
from tests import pages

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]

NAMES = {
    "vrse": f"env PYTHONPATH={CHECKOUT / 'operator'} {sys.executable} -m volatile_rse.cli",
    "rucio": f"docker exec {CLIENT} /opt/client/bin/rucio",
}
REQUEST = yaml.safe_load((CHECKOUT / "examples" / "dimuon" / "volatilerse.yaml").read_text())
SAID = ("dimuon is usable.", "pairs near the Z boson", "dimuon is safe.", "z_pairs.root", "SITE-B")


def test_an_analyst_reads_writes_and_finds_the_output_in_rucio(tmp_path: Path) -> None:
    installation.up()
    session.image()
    demo._namespace()
    demo._clear(Session(demo.NAMESPACE, demo.NAME, installation.CLASS))
    demo.forget(REQUEST["spec"])
    said = pages.run(pages.script("first-session.md"), tmp_path, NAMES, 500)
    for expected in SAID:
        assert expected in said
