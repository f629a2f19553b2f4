"""What a session calls its files keeps nothing from being said."""

from __future__ import annotations

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.agent import Failure


def test_names_that_are_too_long_to_be_told_do_not_keep_a_status_back() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    # As the agent shows names that are no UTF-8: four characters for a byte.
    names = [f"{number}/" + "\\xff" * 4000 for number in range(20)]
    small.write(*names)
    small.until(lambda: small.condition("SessionActive").get("reason") == "UnmatchedFiles")
    said = small.condition("SessionActive")["message"]
    assert "No output takes 20 files" in said
    assert "19/" in said, "the others are named, too"
    assert len(said) < 8192
    small.end_pod()
    small.until(small.is_closed, 120)
    assert (small.cluster.get(REQUEST) or {})["status"]["phase"] == "Completed"


def test_errors_that_are_too_long_are_cut() -> None:
    small = Small()
    small.request()
    small.until(lambda: small.condition("StorageReady").get("status") == "True")
    honest = small.buffer.report
    failures = [Failure(what="x" * 2048, error="y" * 20_000) for _ in range(3)]

    def report() -> object:
        told = honest()
        inputs = [total.model_copy(update={"failed": 1, "staged": 1}) for total in told.inputs]
        return told.model_copy(update={"failures": failures, "inputs": inputs})

    small.buffer.report = report  # type: ignore[method-assign,assignment]
    small.until(lambda: "yy…" in small.condition("InputsStaged").get("message", ""))
