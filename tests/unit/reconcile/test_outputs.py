from __future__ import annotations

from typing import Any

import pytest

from tests.unit.reconcile.small_world import OUT, REQUEST, Small
from volatile_rse.api.agent import OutputState


def _status(small: Small) -> dict[str, object]:
    return dict((small.cluster.get(REQUEST) or {}).get("status") or {})


def _listed(small: Small, key: str) -> list[Any]:
    found: Any = _status(small)[key]
    return list(found)


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


def _output(name: str, path: str) -> dict[str, object]:
    return {
        "name": name, "path": path, "scope": OUT.scope, "dataset": OUT.name, "destination": {"rseExpression": "SITE-B"},
    }  # fmt: skip


def test_an_output_that_takes_nothing_while_files_are_left_is_told_before_and_after_the_end() -> None:
    small = Small()
    small.request(outputs=[_output("hists", "hist/*.root")])
    small.until(small.has_session)
    small.start_pod()
    small.write("hists/a.root", "hists/b.root")
    small.until(lambda: small.condition("SessionActive").get("reason") == "UnmatchedFiles")
    assert "spec.outputs[hists].path 'hist/*.root'" in small.condition("SessionActive")["message"]
    small.end_pod()
    small.until(small.is_closed)
    first, *others = small.truth["outcome"]["exceptions"]
    assert first == (
        "empty: spec.outputs[hists].path 'hist/*.root' took nothing, and 2 files (24 bytes) of no output were left, "
        "such as hists/a.root"
    )
    assert [text.split(":")[0] for text in others] == ["unmatched"] * 2
    assert (small.truth["outcome"]["empty"], small.truth["outcome"]["unmatched"]) == (["hists"], 2)
    told = small.condition("OutputsSafe")
    assert (told["status"], told["reason"]) == ("False", "OutputEmpty"), "nothing was kept, and it looks as if all were"
    assert "'hist/*.root'" in told["message"]
    assert "USER must act" in told["message"]
    assert "'hist/*.root'" in small.condition("Ready")["message"]
    assert [event.type_ for event in small.cluster.events if event.reason == "OutputEmpty"] == ["Warning"]


def test_what_other_outputs_have_is_safe_beside_one_that_took_nothing() -> None:
    small = Small()
    small.request(outputs=[_output("kept", "kept"), _output("hists", "hist")])
    small.until(small.has_session)
    small.start_pod()
    small.write("kept/a", "hists/a.root")
    small.until(lambda: small.condition("SessionActive").get("reason") == "UnmatchedFiles")
    assert "spec.outputs[kept]" not in small.condition("SessionActive")["message"]
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a")
    told = small.condition("OutputsSafe")
    assert (told["status"], told["reason"]) == ("True", "OutputEmpty")
    assert small.truth["outcome"]["empty"] == ["hists"]


def test_an_output_that_takes_nothing_is_not_told_of_where_nothing_was_left_but_what_others_take() -> None:
    small = Small()
    small.request(outputs=[_output("kept", "kept"), _output("hists", "hist")])
    small.until(small.has_session)
    small.start_pod()
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    assert small.condition("OutputsSafe")["reason"] == "Succeeded"
    assert small.truth["outcome"]["exceptions"] == []


@pytest.mark.parametrize("path", [" kept", "**.root", "{kept", "$VRSE_OUTBOX/kept"])
def test_a_path_that_is_no_glob_is_refused_before_anything_is_made(path: str) -> None:
    small = Small()
    small.request(outputs=[_output("kept", path)])
    small.until(lambda: small.condition("Stalled").get("status") == "True")
    told = small.condition("Stalled")
    assert told["reason"] == "PathInvalid"
    assert f"spec.outputs[kept].path {path!r}" in told["message"]
    assert "USER must act" in told["message"]
    assert not small.record


@pytest.mark.parametrize("path", ["./kept/**", "kept/", "kept", "k{ept,itsch}", "[a-k]*/", "kept//**", "k*"])
def test_a_path_takes_what_a_shell_user_means(path: str) -> None:
    small = Small()
    small.request(outputs=[_output("kept", path)])
    small.until(small.has_session)
    small.start_pod()
    small.write("kept/a", "kept/b/c")
    small.end_pod()
    small.until(small.is_closed)
    assert small.is_kept("kept/a", "kept/b/c")


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


def test_the_status_is_the_receipt_datasets_rules_files_and_what_was_left() -> None:
    small = _running(Small())
    small.write("kept/a", "kept/b", "left")
    small.end_pod()
    small.until(small.is_closed)
    (rule,) = small.catalogue.rules(OUT)
    (told,) = _listed(small, "outputs")
    assert told == {
        "name": "kept",
        "files": 2,
        "open": 0,
        "sealed": 2,
        "registered": 2,
        "safe": 2,
        "bytes": len("kept/a") + len("kept/b"),
        "bytesAtRisk": 0,
        "dataset": str(OUT),
        "rses": ["SITE-B"],
        "rule": rule,
        "ruleState": "OK",
    }
    (exception,) = _listed(small, "exceptions")
    assert str(exception).startswith("unmatched: left")


def test_of_many_exceptions_the_status_has_some_and_says_where_the_others_are() -> None:
    small = _running(Small())
    small.write("kept/a", *(f"left/{number:02}" for number in range(30)))
    small.end_pod()
    small.until(small.is_closed)
    told = _listed(small, "exceptions")
    assert len(told) == 20
    assert told[-1] == f"11 more entries: RSERecord vrse-{small.record_id} has them"


def test_a_rule_that_does_not_hold_everything_yet_is_told_as_rucio_has_it() -> None:
    small = Small()
    both = {"rseExpression": "SITE-A|SITE-B", "copies": 2}
    small.request(outputs=[{**_output("kept", "kept/**"), "destination": both}])
    small.until(small.has_session)
    (told,) = _listed(small, "outputs")
    assert (told["dataset"], sorted(told["rses"])) == (str(OUT), ["SITE-A", "SITE-B"])
    assert "rule" not in told
