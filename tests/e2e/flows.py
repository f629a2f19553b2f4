"""What the end-to-end tests of whole sessions share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from testbed import asking, cluster, installation
from testbed.sessions import Session, wait_for

NANO = {"name": "nano", "did": "user.alice:nano_dimuon"}
WRITE = """
seq 1 1000 > /tmp/one.txt
head -c 2000000 /dev/urandom > /tmp/two.bin
xrdcp /tmp/one.txt $ROOT_URL/$OUTBOX/kept/one.txt
xrdcp /tmp/two.bin $ROOT_URL/$OUTBOX/kept/deep/two.bin
xrdcp /tmp/one.txt $ROOT_URL/$OUTBOX/scratch.txt
xrdadler32 /tmp/one.txt /tmp/two.bin
"""


def new_session(namespace: str) -> Iterator[Session]:
    """Give a session in a namespace of its own, with a class that grants it alice's account; clean up after it."""
    installation.enable(namespace)
    grants = [{"namespaces": [namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    installation.apply([installation.class_of(namespace, grants)])
    made = Session(namespace, "run", namespace)
    yield made
    if made.body() is not None:
        made.delete()
    if made.record():
        made.wait_closed()
    cluster.kubectl("delete", "volatilerseclasses", namespace, "--ignore-not-found")


def output(dataset: str, **destination: object) -> dict[str, Any]:
    return {
        "name": "kept",
        "path": "kept/**",
        "scope": "user.alice",
        "dataset": dataset,
        "destination": {"rseExpression": "SITE-B", "lifetime": "1d", **destination},
    }


def new_dataset() -> str:
    return f"out.{uuid.uuid4().hex[:10]}"


def assert_kept(dataset: str, record: dict[str, Any], sizes: list[int]) -> None:
    """Rucio and SITE-B themselves say that the outputs are there, held by a rule."""
    files = asking.kept("user.alice", dataset, "SITE-B")
    assert sorted(file.bytes for file in files) == sizes
    for file in files:
        assert file.states == {"SITE-B": "AVAILABLE"}
        assert (file.site_bytes, file.site_adler32) == (file.bytes, file.adler32)
    rules = asking.rules("user.alice", dataset)
    assert [(rule["account"], rule["state"], rule["rse_expression"]) for rule in rules] == [("alice", "OK", "SITE-B")]
    assert rules[0]["locks_ok_cnt"] == len(sizes)
    assert record["status"]["outcome"]["files"] == len(sizes)


def assert_nothing_left(record: dict[str, Any]) -> None:
    # Kubernetes takes a volume away a moment after its claim.
    wait_for("every trace to go", lambda: not asking.remains(record), 60)
