"""The Python distributions of this repository, as `make wheels` builds them."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from testbed.layout import CHECKOUT

__all__ = ["session"]


def session(folder: Path) -> Path:
    """Build the wheel that a session imports, into a folder."""
    hatchling = Path(sysconfig.get_path("scripts")) / "hatchling"
    project = CHECKOUT / "distributions" / "session"
    subprocess.run([hatchling, "build", "-t", "wheel", "-d", folder], check=True, cwd=project, capture_output=True)
    (wheel,) = folder.glob("volatile_rse_session-*.whl")
    return wheel
