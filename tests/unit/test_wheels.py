"""The library of a session is installed by pip as docs/user.md says, with what uproot reads by."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import wheels
from testbed.layout import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.people]
"""It installs from a package registry."""


@pytest.mark.timeout(600)
def test_the_library_of_a_session_comes_with_what_uproot_reads_by(tmp_path: Path) -> None:
    (install,) = re.findall(r"`(pip install '[^']*\[fsspec\]')`", (CHECKOUT / "docs" / "user.md").read_text())
    install = install.replace("volatile_rse_session-….whl", str(wheels.session(tmp_path)))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    asked = "import aiohttp, fsspec, volatile_rse.session; print(fsspec.get_filesystem_class('https'))"
    inside = {**os.environ, "PATH": f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    argv = ["bash", "-euc", f'{install}\npython -c "{asked}"']
    done = subprocess.run(argv, env=inside, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "volatile_rse.session.fsspec.BufferFileSystem" in done.stdout
