from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep what thousands of cases log to themselves; what is no fault is no news here."""
    log = logging.getLogger("volatile_rse.reconcile")
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    yield
    log.level, log.propagate = before
