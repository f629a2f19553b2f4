from __future__ import annotations

import json
import logging

import pytest

from tests.unit.reconcile.small_world import Small
from volatile_rse.telemetry.logs import JsonFormatter, configure


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records]


def test_effects_are_logged_with_their_record(caplog: pytest.LogCaptureFixture) -> None:
    small = Small(inputs=0)
    small.request()
    with caplog.at_level(logging.INFO):
        small.step()
    effects = {line["effect"]: line["record"] for line in lines(caplog) if "effect" in line}
    assert effects["CreateRecord"] == effects["EnsureLedger"] == small.record_id


def test_a_failure_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    small = Small(inputs=0)
    small.request()
    small.cluster.down = True
    small.catalogue.down = True
    with caplog.at_level(logging.INFO), pytest.raises(Exception, match="did not answer"):
        small.step()
    assert {"record": small.record_id, "reason": "ClusterUnreachable"}.items() <= lines(caplog)[-1].items()


def test_a_traceback_is_part_of_its_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        int("x")
    except ValueError:
        logging.getLogger("test").exception("odd\nthing")
    line = lines(caplog)[-1]
    assert line["message"] == "odd\nthing"
    assert "ValueError" in line["exception"]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="VOLATILE_RSE_LOG_FORMAT"):
        configure("INFO", "xml")
