"""What a session costs the catalogue: hardly more for many files than for few."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from testbed import cluster, installation
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_kept, new_dataset, new_session, output

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

FILES = 300
MANY = f"""
mkdir -p /tmp/many/kept/deep
for i in $(seq {FILES}); do printf '%05d' $i > /tmp/many/kept/deep/$i; done
xrdcp --silent --recursive --parallel 4 /tmp/many/kept $ROOT_URL/$OUTBOX/
"""


@pytest.fixture(scope="module", autouse=True)
def _operator() -> None:
    installation.up()


@pytest.fixture
def session(namespace: str) -> Iterator[Session]:
    yield from new_session(namespace)


def requests() -> Counter[str]:
    """Read from the operator how often it has called each method of Rucio's client."""
    where = f"/api/v1/namespaces/{installation.NAMESPACE}/pods"
    listed = ("-n", installation.NAMESPACE, "get", "pods", "-l", "app.kubernetes.io/name=volatile-rse", "-o", "name")
    pod = cluster.kubectl(*listed).strip().removeprefix("pod/")
    text = cluster.kubectl("get", "--raw", f"{where}/{pod}:8081/proxy/metrics")
    found = re.findall(r'^volatile_rse_catalogue_requests_total\{method="(\w+)"\} ([\d.e+]+)$', text, re.MULTILINE)
    return Counter({method: int(float(count)) for method, count in found})


def test_many_files_cost_the_catalogue_hardly_more_than_few(
    session: Session, record_property: Callable[[str, object], None]
) -> None:
    dataset, before = new_dataset(), requests()
    session.request(inputs=[NANO], outputs=[output(dataset)])
    session.job(MANY)
    wait_for("it is safe", lambda: session.is_true("OutputsSafe"), 120)
    asked = requests() - before
    record = session.wait_closed()
    drained = requests() - before - asked
    record_property("requests", dict(asked))
    record_property("requests_of_the_drain", dict(drained))
    assert_kept(dataset, record, [5] * FILES)
    assert asked.total() <= 40 + FILES / 100, asked
    assert drained.total() <= 40 + FILES / 100, drained
