from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.unit.fuzz.readings import PEEPED

_PASSED = os.environ.get("VRSE_FUZZ_PASSED")
"""A file of the tests that have passed, beside one of those that failed; who runs it again goes on with the others."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep what thousands of cases log to themselves; what is no fault is no news here."""
    log = logging.getLogger("volatile_rse.reconcile")
    before = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    yield
    log.level, log.propagate = before


@pytest.fixture(autouse=True)
def unpeeped() -> Iterator[None]:
    """Have nobody look into what is read by its model alone: cases are taken for the same because of that."""
    PEEPED.clear()
    yield
    assert not PEEPED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _PASSED and Path(_PASSED).exists():
        # The same in every process: none of them begins before all have looked.
        passed = {line.rpartition("\t")[2] for line in Path(_PASSED).read_text().splitlines()}
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
        items[:] = [item for item in items if item.nodeid not in passed]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    began = time.process_time()
    try:
        yield
    except BaseException:
        _note(f"{_PASSED}.failed", item, began)
        raise
    _note(f"{_PASSED}", item, began)


def _note(file: str, item: pytest.Item, began: float) -> None:
    if _PASSED:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with Path(file).open("a") as passed:
            passed.write(f"{now}\t{time.process_time() - began:.1f} s\t{item.nodeid}\n")
