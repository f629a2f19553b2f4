"""What comes from outside is escaped wherever people read: in conditions, records, connections, Events and the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.agent import Failure
from volatile_rse.api.conditions import Reason
from volatile_rse.api.text import VisibleFormatter, visible
from volatile_rse.ports.cluster import Ref
from volatile_rse.ports.errors import RefusedError, UnreachableError
from volatile_rse.telemetry.logs import JsonFormatter

ODD = "a\x1b[2J\x9b\u202eb\r\nfake: all is well\u2028\x00\U000e0041"
SEEN = visible(ODD)


def texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, part in value.items():
                yield from texts(key)
                yield from texts(part)
        case list() | tuple():
            for part in value:
                yield from texts(part)


def said(small: Small) -> list[str]:
    """Give all that people read of this world."""
    kinds = ("VolatileRSE", "RSERecord", "RucioConnection")
    found = [text for kind in kinds for body in small.cluster.list(kind) for text in texts(body.get("status") or {})]
    return [*found, *(event.message for event in small.cluster.events)]


def only_visible(small: Small) -> None:
    for text in said(small):
        assert text.isprintable(), text


def test_a_condition_repeats_no_sequence_of_a_file_that_cannot_be_staged() -> None:
    small = Small()
    small.request()
    small.until(lambda: small.condition("StorageReady").get("status") == "True")
    honest = small.buffer.report
    # As an agent could that is none of ours.
    failures = [Failure.model_construct(what=ODD, error=ODD)]

    def report() -> object:
        told = honest()
        inputs = [total.model_copy(update={"failed": 1, "staged": 1}) for total in told.inputs]
        return told.model_copy(update={"failures": failures, "inputs": inputs})

    small.buffer.report = report  # type: ignore[method-assign,assignment]
    small.until(lambda: SEEN in small.condition("InputsStaged").get("message", ""))
    only_visible(small)


def test_files_that_no_output_takes_are_told_visibly_in_events_too() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.until(lambda: small.truth["session"].get("startedAt"))
    small.write(ODD)
    small.until(lambda: small.condition("SessionActive").get("reason") == "UnmatchedFiles")
    assert SEEN in small.condition("SessionActive")["message"]
    assert any(SEEN in event.message for event in small.cluster.events)
    small.end_pod()
    small.until(small.is_closed, 120)
    only_visible(small)
    assert any(SEEN in text for text in said(small)), "the record's outcome names it"


@pytest.mark.parametrize("error", [UnreachableError, RefusedError])
def test_what_rucio_answers_is_told_visibly(error: type[UnreachableError]) -> None:
    small = Small()

    def resolve(*_: object) -> object:
        raise error(Reason.CATALOGUE_REFUSED, f"Rucio said {ODD}.")

    small.catalogue.resolve = resolve  # type: ignore[method-assign,assignment]
    small.request()
    small.until(lambda: SEEN in (small.condition("Ready").get("message") or ""))
    only_visible(small)
    assert SEEN in small.message


def test_a_record_s_word_is_told_visibly_and_cut() -> None:
    small = Small()

    def resolve(*_: object) -> object:
        raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, ODD * 9000)

    small.catalogue.resolve = resolve  # type: ignore[method-assign,assignment]
    small.request()
    small.until(lambda: small.message.endswith("…"))
    only_visible(small)
    assert len(small.message) <= 4096
    assert all(len(event.message) <= 1024 for event in small.cluster.events)


def test_a_pod_s_word_is_told_visibly() -> None:
    small = Small(inputs=0)
    small.request()
    small.until(lambda: small.cluster.list("Pod"))
    [pod] = small.cluster.list("Pod")
    status = {"phase": "Pending", "conditions": [], "containerStatuses": [{
        "name": "agent", "ready": False, "state": {"waiting": {"reason": ODD, "message": ODD}},
    }]}  # fmt: skip
    ref = Ref("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
    small.cluster.merge(ref, {"status": status}, subresource="status")
    small.step()
    only_visible(small)
    assert small.cluster.get(REQUEST) is not None


def record_of(message: str, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("name", logging.WARNING, "path", 1, message, (ODD,), None)
    vars(made).update(more)
    return made


def test_a_line_of_the_log_is_one_line() -> None:
    line = VisibleFormatter("%(message)s").format(record_of("odd: %s"))
    assert line == f"odd: {SEEN}"
    line = JsonFormatter().format(record_of("odd: %s", record=ODD))
    assert (line.isascii(), line.isprintable(), json.loads(line)["message"]) == (True, True, f"odd: {ODD}")


def test_a_traceback_keeps_its_lines_and_no_other_sign() -> None:
    try:
        int(ODD)
    except ValueError as error:
        record = record_of("odd: %s", exc_info=(type(error), error, error.__traceback__))
    lines = VisibleFormatter("%(message)s").format(record).split("\n")
    assert lines[0] == f"odd: {SEEN}"
    assert all(line.isprintable() for line in lines)
