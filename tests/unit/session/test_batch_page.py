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
    held: list[bytes] = []
    inside = LINES.replace("    ...", "    look()")
    assert inside != LINES
    exec(inside, {"look": lambda: held.append(small_buffer.files[f"{LEASES}/slurm-7"])})  # noqa: S102 - the page's own lines
    assert held == [b"30m"]
    assert f"{LEASES}/slurm-7" not in small_buffer.files
