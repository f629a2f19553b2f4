"""The table of what accounts have used, as an admin asks for it."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest

import volatile_rse.__main__ as operator
from tests.unit.reconcile.small_world import Small
from volatile_rse.adapters.clock import SystemClock
from volatile_rse.adapters.kubernetes import KubernetesCluster
from volatile_rse.builders.objects import record_name
from volatile_rse.ports.cluster import Ref


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    """Give a world with a buffer that was closed, to which the command leads."""
    small = Small()
    small.request()
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.end_pod()
    small.until(small.is_closed)
    monkeypatch.setattr(KubernetesCluster, "connect", lambda: small.cluster)
    monkeypatch.setattr(SystemClock, "now", lambda _self: small.clock.now())
    return small


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["volatile_rse", "accounting", *argv])
    status = operator.main()
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_table_has_what_a_buffer_took_in_and_gave_out(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = told(monkeypatch, capsys)
    assert (status, err) == (0, "")
    (row,) = csv.DictReader(io.StringIO(out))
    claim = small.record["spec"]["claims"][0]
    assert (row["namespace"], row["account"]) == (claim["namespace"], claim["account"])
    assert row["class_name"] == small.record["spec"]["className"]
    assert row["buffers"] == "1"
    assert int(row["byte_hours"]) > 0
    assert int(row["bytes_in"]) == sum(entry["bytes"] for entry in small.truth["inputs"]) > 0
    assert int(row["bytes_out"]) == small.truth["outcome"]["bytes"] > 0
    assert json.loads(told(monkeypatch, capsys, "--form", "json")[1]) == [
        {key: int(value) if value.isdecimal() else value for key, value in row.items()}
    ]


def test_a_span_before_all_of_it_is_empty(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del small
    status, out, _ = told(monkeypatch, capsys, "--since", "2001-01-01", "--until", "2001-02-01T00:00:00+01:00")
    assert (status, out.count("\n")) == (0, 1)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "9999-12-31T23:59:59-23:00"])
def test_what_is_no_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        told(monkeypatch, capsys, f"--since={text}")
    assert refused.value.code == 2
    assert "is no time such as" in capsys.readouterr().err


def test_a_span_that_ends_before_it_begins_is_refused(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del small
    status, out, err = told(monkeypatch, capsys, "--since", "2026-01-02", "--until", "2026-01-01")
    assert (status, out) == (2, "")
    assert "is not before --until 2026-01-01T00:00:00+00:00" in err


def test_a_record_that_cannot_be_read_is_told(
    small: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = Ref("RSERecord", None, record_name(small.record_id))
    with small.cluster.unchecked(ref) as body:
        body["spec"]["claims"] = 7
    status, out, err = told(monkeypatch, capsys)
    assert (status, out.count("\n")) == (1, 1)
    assert err.startswith(f"The table is not complete: RSERecord {ref.name} cannot be read")
