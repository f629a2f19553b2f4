"""The page of a session at each point of its way, from the operator's own status; ``GOLDENS=write`` writes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.builders.session import store_path
from volatile_rse.domain.catalogue import Did

PAGES = Path(__file__).parent / "pages"
TEARDOWN = {"deadline": "5s"}
NANO = [{"name": "in", "did": "user.alice:in"}]


def untouched(small: Small) -> None:
    small.request()


def unknown_class(small: Small) -> None:
    small.request(className="fast")
    small.step()


def refused_twice(small: Small) -> None:
    outputs = [
        {
            "name": name,
            "path": path,
            "scope": "user.alice",
            "dataset": "out",
            "destination": {"rseExpression": "SITE-B"},
        }
        for name, path in (("up", "../x"), ("kept", "kept/**"))
    ]
    small.request(capacity="1Pi", outputs=outputs)
    small.step()


def staging(small: Small) -> None:
    small.unreadable = {store_path(Did("user.alice", "in.0")): "HTTP 503"}
    small.request()
    small.until(lambda: small.condition("InputsStaged").get("reason") == "StagingFailed")


def usable(small: Small) -> None:
    small.request()
    small.until(small.has_session)
    small.step()


def writing(small: Small) -> None:
    small.begin()
    small.write("kept/a", "kept/b", "elsewhere/c")
    for _ in range(3):
        small.step()


def keeping(small: Small) -> None:
    writing(small)
    small.fail_copies(1000)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")
    for _ in range(5):
        small.step()


def quarantined(small: Small) -> None:
    small.request(teardown=TEARDOWN)
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.fail_copies(1000)
    small.end_pod()
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "Quarantined")


def safe(small: Small) -> None:
    writing(small)
    small.end_pod()
    small.until(small.is_closed)


def late(small: Small) -> None:
    small.catalogue.down = True
    small.request(inputs=[{**NANO[0], "onDeadline": "Fail", "deadline": "3s"}])
    small.until(lambda: small.condition("Ready").get("reason") == "InputsLate")


WAYS: list[Callable[[Small], None]] = [
    untouched, unknown_class, refused_twice, staging, usable, writing, keeping, quarantined, safe, late,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_session_is_told(way: Callable[[Small], None], small: Small, vrse: Vrse) -> None:
    way(small)
    done = vrse("status", REQUEST.name)
    assert (done.code, done.err) == (0, "")
    # A record is another one each time.
    told = done.out.replace(small.record_id.upper(), "RECORD").replace(small.record_id, "record")
    golden = PAGES / f"{way.__name__}.txt"
    if os.environ.get("GOLDENS") == "write":
        golden.write_text(told)
    assert told == golden.read_text()


def test_every_page_is_of_a_test() -> None:
    assert {path.stem for path in PAGES.iterdir()} == {way.__name__ for way in WAYS}
