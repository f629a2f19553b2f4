from __future__ import annotations

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.api.agent import OutputState


def _status(small: Small) -> dict[str, object]:
    return dict((small.cluster.get(REQUEST) or {}).get("status") or {})


def _running(small: Small) -> Small:
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.condition("SessionActive").get("reason") == "SessionRunning")
    return small


def test_files_are_counted_while_the_session_runs() -> None:
    small = _running(Small())
    small.write("kept/a", "kept/b")
    small.buffer.write(small.uid, "kept/c", b"begun", torn=True)
    seen = {"files": 3, "open": 1, "bytesAtRisk": 17}
    small.until(lambda: seen.items() <= _status(small)["outputs"][0].items())  # type: ignore[index]
    assert _status(small)["unmatched"] == {"files": 0, "bytes": 0}
    assert small.condition("SessionActive")["reason"] == "SessionRunning"


def test_a_session_is_warned_once_of_files_that_no_output_takes() -> None:
    small = _running(Small())
    small.write("notes/a.txt")
    small.until(lambda: small.condition("SessionActive").get("reason") == "UnmatchedFiles")
    said = small.condition("SessionActive")
    assert said["status"] == "True"
    assert "1 files" in said["message"]
    assert "notes/a.txt" in said["message"]
    assert "USER must act" in said["message"]
    small.write("notes/b.txt", "kept/a")
    small.until(lambda: _status(small)["unmatched"] == {"files": 2, "bytes": 22})
    assert [event.type_ for event in small.cluster.events if event.reason == "UnmatchedFiles"] == ["Warning"]
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    assert [text.split(":")[0] for text in small.truth["outcome"]["exceptions"]] == ["unmatched"] * 2


def test_what_is_missed_most_is_listed_first_and_nothing_is_cut_silently() -> None:
    small = _running(Small())
    honest, states = small.buffer.outputs, ["excluded"] * 120 + ["skipped", "unmatched", "failed", "torn"]

    def outputs(after: int = 0) -> object:
        page = honest(after)
        left = [
            OutputState(version=1, claim=small.uid, path=str(number), state=state, bytes=1)
            for number, state in enumerate(states)
        ]
        return page.model_copy(update={"items": [*left, *page.items]})

    small.buffer.outputs = outputs  # type: ignore[method-assign,assignment]
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    said = [text.split(":")[0] for text in small.truth["outcome"]["exceptions"]]
    assert said == ["torn", "failed", "unmatched", "skipped", *["excluded"] * 94, "and 26 more"]


def test_an_agent_of_an_older_version_is_sent_nothing_new() -> None:
    small = Small()
    small.buffer.knows = []
    _running(small)
    assert small.buffer.rules == []
    small.write("kept/a", "notes/b")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_what_was_safe_while_the_session_ran_is_asked_anew_at_its_end() -> None:
    small = Small()
    small.publish_and_keep("kept/a")
    for _ in range(5):
        small.step()
    (file,) = small.catalogue.resolve(OUT)
    small.catalogue.lose("SITE-B", file.did)
    small.end_pod()
    small.until(lambda: small.truth.get("safeAt"))
    assert small.is_kept("kept/a"), "it is said to be safe, and is not"
    small.until(small.is_closed)
    assert small.is_kept("kept/a")


def test_what_is_wrong_is_an_event_also_when_something_else_changes_with_it() -> None:
    small = _running(Small())
    small.end_pod()
    small.buffer.down = True
    small.until(lambda: small.condition("SessionActive")["status"] == "False")
    told = [(event.type_, event.reason) for event in small.cluster.events]
    assert ("Warning", "BufferUnreachable") in told, told


def test_an_output_that_somebody_has_declared_lost_stays_and_keeps_no_other_back() -> None:
    """Rucio takes such a name into no dataset any more; its bytes are on the buffer."""
    small = _running(Small())
    small.fail_copies(30)
    small.write("kept/a", "kept/b")
    small.end_pod()
    small.until(lambda: len(small.catalogue.registered(small.ledger)) == 4)
    lost = next(did for did in small.catalogue.registered(small.ledger) if "kept--a" in did.name)
    small.catalogue.declare_bad(small.rse, lost)
    small.until(lambda: small.is_kept("kept/b"))
    for _ in range(20):
        small.step()
    said = small.condition("OutputsSafe")
    assert (said["status"], said["reason"]) == ("False", "CatalogueRefused")
    assert f"LOST: {lost}" in said["message"]
    assert "ADMIN must act" in said["message"]
    assert _status(small)["outputs"][0]["bytesAtRisk"] == len("kept/a")  # type: ignore[index]
    assert small.truth["phase"] == "Keeping"
    assert small.kept_volumes() == 1
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": "alice"}})
    small.until(small.is_closed, 120)
    assert small.discarded == {lost}
    assert small.is_kept("kept/b")


def test_a_published_file_that_is_refused_does_not_keep_the_session_from_its_end() -> None:
    small = Small()
    kept = {"name": "kept", "path": "kept/**", "scope": OUT.scope, "dataset": OUT.name, "register": "Continuous"}
    small.request(outputs=[kept | {"destination": {"rseExpression": "SITE-B"}}])
    small.until(small.has_session)
    small.start_pod()
    small.fail_copies(10)
    small.buffer.publish(small.uid, "kept/a", b"kept/a")
    small.until(lambda: len(small.catalogue.registered(small.ledger)) == 3)
    lost = next(did for did in small.catalogue.registered(small.ledger) if "kept--a" in did.name)
    small.catalogue.declare_bad(small.rse, lost)
    small.until(lambda: small.condition("OutputsSafe").get("reason") == "CatalogueRefused")
    assert f"LOST: {lost}" in small.condition("OutputsSafe")["message"]
    small.write("kept/b")
    small.end_pod()
    small.until(lambda: small.truth["session"].get("endedAt"))
    assert small.truth["session"]["endReason"] == "PodsGone"
    small.until(lambda: small.is_kept("kept/b"))
    assert small.truth["phase"] == "Keeping"
    assert f"LOST: {lost}" in small.condition("OutputsSafe")["message"]
