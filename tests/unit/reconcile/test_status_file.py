"""What the status file of a session says: the operator's part of it, kept by the agent."""

from __future__ import annotations

from typing import Any

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.agent import SessionWords, status_path
from volatile_rse.api.conditions import Reason
from volatile_rse.builders.objects import session_name
from volatile_rse.domain import effects as do
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError


def words(small: Small) -> SessionWords:
    assert small.buffer.words is not None
    return small.buffer.words


def warned(small: Small) -> list[str]:
    return [warning.reason for warning in words(small).warnings]


def config(small: Small) -> dict[str, str]:
    found: Any = small.cluster.get(Ref("ConfigMap", "alice", session_name(REQUEST.name)))
    return dict(found["data"])


def begin(small: Small) -> Small:
    small.begin()
    small.until(lambda: words(small).usable)
    return small


def test_it_follows_the_session_from_its_begin_to_what_is_safe() -> None:
    small = begin(Small())
    assert config(small)["VRSE_STATUS"] == status_path(small.uid)
    told: Any = small.cluster.get(REQUEST)
    assert (words(small).rse, words(small).expires) == (small.rse, told["status"]["expires"])
    assert [(output.name, output.safe) for output in words(small).outputs] == [("kept", 0)]
    assert warned(small) == []
    small.write("kept/a", "kept/b", "other")
    small.until(lambda: warned(small) == ["UnmatchedFiles"])
    assert "USER must act" in words(small).warnings[0].message
    small.end_pod()
    small.until(small.is_closed)
    assert words(small).ended_at == small.truth["session"]["endedAt"]
    assert not words(small).usable
    assert [(output.name, output.safe) for output in words(small).outputs] == [("kept", 2)]


def test_what_is_published_is_told_as_safe_while_the_session_runs() -> None:
    small = Small()
    destination = {"rseExpression": "SITE-B"}
    kept = {"name": "kept", "path": "kept/**", "scope": "user.alice", "dataset": "out", "destination": destination}
    small.request(outputs=[kept | {"register": "Continuous"}])
    small.until(small.has_session)
    small.start_pod()
    small.buffer.publish(small.uid, "kept/a", b"one")
    small.until(lambda: words(small).outputs[0].safe == 1)
    assert words(small).ended_at is None


def test_it_is_said_once_and_again_to_an_agent_that_has_forgotten_it() -> None:
    small = begin(Small())
    for _ in range(3):
        small.step()
    small.applied.clear()
    for _ in range(5):
        small.step()
    assert not small.applied, "nothing has changed"
    small.buffer.restart()
    small.step()
    small.step()
    assert [effect for effect in small.applied if isinstance(effect, do.TellSession)]
    assert small.buffer.report().told == words(small).digest


def test_an_older_agent_is_told_nothing() -> None:
    small = Small()
    small.buffer.knows = [known for known in small.buffer.knows if known != "status"]
    small.begin()
    small.end_pod()
    small.until(small.is_closed)
    assert small.buffer.words is None
    assert "session" not in small.buffer.journal


def test_an_agent_that_refuses_it_keeps_nothing_else_back() -> None:
    small = Small()
    small.request()
    small.until(lambda: small.buffer.report().manifest)

    def refuse(words: SessionWords) -> None:
        raise RefusedError(Reason.BUFFER_REFUSED, f"not {words.digest}")

    small.buffer.tell_session = refuse  # type: ignore[method-assign]
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
