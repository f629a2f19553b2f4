"""When a session begins and ends, and what comes after; all sessions of this file run at once."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from testbed import cluster, installation
from testbed.progress import StepError
from testbed.sessions import LABEL, Session, wait_for
from tests.e2e.flows import (
    WRITE,
    assert_kept,
    assert_nothing_left,
    end_of,
    fresh_namespace,
    new_dataset,
    new_session,
    output,
)

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

ON = "while [ ! -e /tmp/go ]; do sleep 0.2; done\n"
TIMES: dict[str, dict[str, str]] = {
    "nobody": {"startTimeout": "2s"},
    "expired": {"ttl": "25s"},
    "several": {"endGrace": "2s"},
    "retried": {"endGrace": "30s"},
    "asked": {},
}
RETRIED = """
if ! xrdfs $ROOT_URL stat $OUTBOX/kept/one.txt; then seq 1 1000 | xrdcp - $ROOT_URL/$OUTBOX/kept/one.txt; exit 1; fi
seq 1 2000 | xrdcp - $ROOT_URL/$OUTBOX/kept/two.txt
"""
TRY = """
echo written
export XRD_CONNECTIONWINDOW=2 XRD_STREAMERRORWINDOW=2 XRD_TIMEOUTRESOLUTION=1
until timeout 3 xrdcp -f /tmp/one.txt $ROOT_URL/$OUTBOX/late.txt > /tmp/said 2>&1; grep -q "responded with" /tmp/said
do sleep 0.2; done
echo refused
"""
ODD = base64.b64encode("\N{GREEK SMALL LETTER TAU}oken-of-alice\nsecond line".encode()).decode()
JOBS: dict[str, dict[str, str]] = {
    "expired": {"expired": WRITE + ON},
    # The second one writes when the first is gone for longer than the grace.
    "several": {"first": "true\n", "several": "sleep 8\n" + WRITE},
    "retried": {"retried": RETRIED},
    "asked": {"asked": WRITE + TRY + ON},
}
"""Session -> Job -> script."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A session that was asked for, with the dataset of its outputs."""

    session: Session
    dataset: str

    def ended(self, reason: str) -> dict[str, Any]:
        record = self.session.wait_closed(300)
        assert record["status"]["session"]["endReason"] == reason
        assert (self.session.condition("Ready")["status"], self.session.condition("Ready")["reason"]) == (
            "True",
            "Completed",
        )
        assert_nothing_left(record)
        return record


@pytest.fixture(scope="module")
def asked() -> Iterator[dict[str, Asked]]:
    installation.up()
    with fresh_namespace() as namespace:
        made = {}
        for first in new_session(namespace):
            for name, times in TIMES.items():
                session = dataclasses.replace(first, name=name)
                made[name] = Asked(session, new_dataset())
                all_times = {"endGrace": "2s", "ttl": "30m", **times}
                session.request(outputs=[output(made[name].dataset)], session=all_times)
                for job, script in JOBS.get(name, {}).items():
                    session.job(script, retries=2, name=job)
            yield made
            for one in made.values():
                end_of(one.session)


def test_nobody_came_and_a_late_pod_is_told_and_gets_nothing(asked: dict[str, Asked]) -> None:
    session = asked["nobody"].session
    record = asked["nobody"].ended("NobodyCame")
    session.job("cat /etc/vrse-secret/token\n")
    late = wait_for(
        "the late pod is told", lambda: session.condition("SessionActive").get("reason") == "SessionOver", 30
    )
    assert late
    assert "NobodyCame" in session.condition("SessionActive")["message"]
    phases = cluster.kubectl(
        "-n", session.namespace, "get", "pods", "-l", f"{LABEL}=nobody", "-o", "jsonpath={.items[*].status.phase}"
    )
    assert phases == "Pending"
    again = session.record()
    assert (again["metadata"]["uid"], again["status"]["phase"]) == (record["metadata"]["uid"], "Closed")
    assert_nothing_left(again)


def test_the_longest_life_ends_a_session_that_runs_and_was_warned(asked: dict[str, Asked]) -> None:
    session = asked["expired"].session
    record = asked["expired"].ended("TtlExpired")
    assert_kept(asked["expired"].dataset, record, [3893, 2000000])
    selector = "involvedObject.kind=VolatileRSE,involvedObject.name=expired,reason=SessionEnding"
    warned = cluster.kubectl("-n", session.namespace, "get", "events", "--field-selector", selector, "-o", "name")
    assert len(warned.split()) == 1


def test_an_end_that_was_asked_for_comes_at_once_whatever_its_owner_has_written_into_the_secret(
    asked: dict[str, Asked],
) -> None:
    session = asked["asked"].session
    wait_for("the Job has written", lambda: "written" in session.log())
    secret = ("-n", session.namespace, "patch", "secret", f"{session.name}-vrse", "--type=merge", "-p")
    cluster.kubectl(*secret, json.dumps({"data": {"token": ODD}}))
    # Nobody watches Secrets of users: any event about the session brings the next look.
    cluster.kubectl("-n", session.namespace, "annotate", "volatilerse", session.name, "look=now")
    changed = f"Secret {session.namespace}/{session.name}-vrse was changed by kubectl-patch"
    wait_for("it is told who changed it", lambda: changed in session.condition("Ready").get("message", ""), 30)
    request = ("-n", session.namespace, "patch", "volatilerse", session.name, "--type=merge", "-p")
    cluster.kubectl(*request, '{"spec":{"endRequested":true}}')
    record = asked["asked"].ended("Requested")
    assert session.condition("SessionActive")["reason"] == "SessionOver"
    wait_for("a write is refused", lambda: "refused" in session.log(), 60)
    seen = cluster.kubectl("-n", session.namespace, "get", "events,volatilerse", "-o", "json")
    assert not [text for text in (seen, json.dumps(record)) if "of-alice" in text or "OperatorFault" in text]
    with pytest.raises(StepError, match="cannot be taken back"):
        cluster.kubectl(*request, '{"spec":{"endRequested":false}}')
    assert_kept(asked["asked"].dataset, record, [3893, 2000000])


def test_the_last_of_several_pods_ends_the_session(asked: dict[str, Asked]) -> None:
    record = asked["several"].ended("PodsGone")
    assert_kept(asked["several"].dataset, record, [3893, 2000000])


def test_a_pod_that_returns_within_the_grace_goes_on(asked: dict[str, Asked]) -> None:
    record = asked["retried"].ended("PodsGone")
    assert asked["retried"].session.succeeded()
    assert_kept(asked["retried"].dataset, record, [3893, 8893])
