"""Seed one bug after the other, and tell how many the tests catch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.mutants.seeded import AGENT, MUTANTS
from tests.mutants.seeding import NAME

ROOT = Path(__file__).parents[2]
_LONGEST = {"test_kill_matrix.py", "test_deletion_matrix.py"}
_UNIT = ROOT / "tests" / "unit"
_FAILED = 1
"""pytest's status where tests ran and failed; anything else is no catch."""


def suites(name: str) -> list[str]:
    """Give the files that may catch a bug; what takes long comes last."""
    folders = ("agent",) if name in AGENT else ("domain", "reconcile", "telemetry", "fuzz")
    files = [path for folder in folders for path in (_UNIT / folder).glob("test_*.py")]
    ordered = sorted(files, key=lambda path: (path.parent.name == "fuzz", path.name in _LONGEST, path))
    return [str(path) for path in ordered]


def seed(name: str) -> tuple[str, int, float, str]:
    began = time.monotonic()
    environment = {**os.environ, NAME: name, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "tests.mutants.seeding"]
    done = subprocess.run(
        [*pytest, "-p", "no:cacheprovider", "-m", "not slow", *suites(name)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"^(?:FAILED|ERROR) \S*/(\S+)", done.stdout, re.MULTILINE)
    by = found.group(1) if found else (done.stdout + done.stderr)[-200:].strip().replace("\n", " ")
    return name, done.returncode, time.monotonic() - began, by


def main() -> int:
    """Print a table; every bug must be caught.

    Returns
    -------
    int
        The exit status.
    """
    names = sys.argv[1:] or list(MUTANTS)
    caught = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in as_completed([pool.submit(seed, name) for name in names]):
            name, status, seconds, by = done.result()
            caught += status == _FAILED
            verdict = {0: "NOT CAUGHT", _FAILED: "caught"}.get(status, "BROKEN")
            print(f"{verdict:<11} {name:<42} {seconds:5.1f} s  {by if status else ''}", flush=True)  # noqa: T201
    print(f"{caught} of {len(names)} seeded bugs are caught")  # noqa: T201
    return 0 if caught == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
