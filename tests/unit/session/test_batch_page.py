"""What docs/batch.md shows of Python does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.session.small_buffer import LEASES, SmallBuffer

PAGE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text()
(LINES,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.usefixtures("objects")
def test_a_lease_is_held_for_as_long_as_it_takes(small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    script = f"{LEASES}/slurm-7"
    small_buffer.files[script] = b"30m"
    held: list[str] = []
    inside = LINES.replace("    ...", "    look()")
    assert inside != LINES
    exec(inside, {"look": lambda: held.extend(small_buffer.files)})  # noqa: S102 - the page's own lines
    (own,) = {path for path in held if path.startswith(f"{LEASES}/slurm-7")} - {script}
    assert own not in small_buffer.files
    assert script in small_buffer.files, "what job.sh has taken holds on"
