"""A plugin of pytest that seeds the bug which the environment names, before any test is read."""

from __future__ import annotations

import os

from tests.mutants.seeded import MUTANTS

NAME = "SEEDED_BUG"


def pytest_configure() -> None:
    MUTANTS[os.environ[NAME]]()
