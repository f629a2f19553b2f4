from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Give a process for each core; forked, so that they have the bugs that were seeded in this one.

    Beside tests of the testbed there is one, and it stands back.
    """
    beside = "PYTEST_XDIST_WORKER" in os.environ
    niceness = 10 if beside else 0
    with ProcessPoolExecutor(1 if beside else None, get_context("fork"), os.nice, (niceness,)) as pool:
        yield pool
