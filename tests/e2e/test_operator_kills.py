"""The operator is killed at moments of a session, and its successor brings it to the same end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.sessions import Session, kill_operator, wait_for
from tests.e2e.flows import NANO, WRITE, assert_kept, assert_nothing_left, fresh_dataset, new_dataset, output

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


@pytest.fixture(scope="module")
def bulk() -> Iterator[dict[str, str]]:
    """An input that takes a while to come."""
    with fresh_dataset("bulk", files=4, size=150_000_000) as (did, _):
        yield {"name": "bulk", "did": did}


BIG = """
head -c 300000000 /dev/urandom > /tmp/big
xrdcp /tmp/big $ROOT_URL/$OUTBOX/kept/big
"""


def is_staging(session: Session) -> bool:
    status = session.status()
    staged = [entry["staged"] < entry["files"] for entry in status.get("inputs") or ()]
    return status.get("phase") == "Staging" and staged == [True]


@pytest.mark.parametrize("moment", ["staging", "copying", "draining"])
def test_the_operator_is_killed_and_the_end_is_the_same(session: Session, moment: str, bulk: dict[str, str]) -> None:
    dataset = new_dataset()
    session.request(inputs=[bulk if moment == "staging" else NANO], outputs=[output(dataset)], capacity="2Gi")
    session.job(BIG if moment == "copying" else WRITE)
    looks = {
        "staging": lambda: is_staging(session),
        "copying": lambda: session.phase() == "Keeping",
        "draining": lambda: session.phase() == "Draining",
    }
    wait_for(moment, looks[moment], pause=0.02)
    kill_operator()
    record = session.wait_closed()
    assert session.is_true("InputsStaged")
    assert_kept(dataset, record, [300000000] if moment == "copying" else [3893, 2000000])
    assert_nothing_left(record)
