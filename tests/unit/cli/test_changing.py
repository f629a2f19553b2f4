"""What changes a session that lives: a later end, more inputs and outputs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.cli.api_server import ApiServer, refusal
from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.cli import commands

PATCH = "/apis/volatilerse.io/v1alpha1/namespaces/alice/volatilerses/run"
PLOTS = "plots=plots/**,to=user.alice:plots,at=SITE-B"


def body_of(small: Small) -> dict[str, Any]:
    return dict(small.cluster.get(REQUEST) or {})


def patches(server: ApiServer) -> list[dict[str, Any]]:
    return [body for method, _, body in server.asked if method == "PATCH"]


def test_an_end_is_later_by_so_much_than_it_is_now(small: Small, vrse: Vrse) -> None:
    small.begin()
    small.step()
    before = body_of(small)["status"]["expires"]
    done = vrse("extend", "run", "--by", "4h")
    assert (done.code, done.err) == (0, "")
    small.step()
    small.step()
    after = body_of(small)["status"]["expires"]
    assert after == body_of(small)["spec"]["session"]["extendUntil"]
    assert after[11:13] == f"{int(before[11:13]) + 4:02}"


def test_an_end_is_at_a_time(small: Small, vrse: Vrse) -> None:
    small.begin()
    assert vrse("extend", "run", "--until", "2030-01-02T01:00:00+01:00").code == 0
    assert body_of(small)["spec"]["session"]["extendUntil"] == "2030-01-02T00:00:00Z"


def test_what_it_has_already_is_not_written(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.begin()
    small.step()
    done = vrse("extend", "run", "--until", "2030-01-01T01:00:00Z")
    assert (done.code, patches(server)) == (0, [])
    assert "may live until" in done.out
    assert vrse("extend", "run", "--until", "2030-01-03T00:00:00Z").code == 0
    # Not counted yet, and never lowered.
    assert vrse("extend", "run", "--until", "2030-01-02T00:00:00Z").out.startswith("run may live until 2030-01-03")
    assert len(patches(server)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "either --by"),
        (("--by", "1h", "--until", "2030-01-02T00:00:00Z"), 2, "either --by"),
        (("--until", "tomorrow"), 2, "is no time"),
        (("--until", "2030-01-02T00:00:00"), 2, "is no time with its zone"),
        (("--by", "soon"), 2, "is not a duration"),
        (("--by", "1h"), 1, "is not known before it is usable. USER must act"),
    ],
)
def test_what_is_no_end_is_refused(arguments: tuple[str, ...], code: int, words: str, small: Small, vrse: Vrse) -> None:
    small.request()
    done = vrse("extend", "run", *arguments)
    assert done.code == code
    assert words in done.err


@pytest.mark.parametrize("command", [("extend", "run", "--by", "1h"), ("add", "run", "--output", PLOTS)])
def test_nothing_is_asked_of_a_session_that_is_over(
    command: tuple[str, ...], small: Small, server: ApiServer, vrse: Vrse
) -> None:
    small.begin()
    small.end_pod()
    small.until(small.is_closed)
    done = vrse(*command)
    assert (done.code, patches(server)) == (4, [])
    assert "is over" in done.err


def test_entries_are_added_to_those_that_are_there(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.begin()
    version = body_of(small)["metadata"]["resourceVersion"]
    done = vrse("add", "run", "--output", PLOTS, "--input", "more=user.alice:more")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("more, plots is asked of run.")
    (patch,) = patches(server)
    assert patch["metadata"] == {"uid": small.uid, "resourceVersion": version}
    assert [entry["name"] for entry in patch["spec"]["inputs"]] == ["in", "more"]
    assert [entry["name"] for entry in patch["spec"]["outputs"]] == ["kept", "plots"]
    assert patch["spec"]["outputs"][0] == body_of(small)["spec"]["outputs"][0]


def test_only_what_was_named_is_sent(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.begin()
    vrse("add", "run", "--input", "more=user.alice:more")
    (patch,) = patches(server)
    assert set(patch["spec"]) == {"inputs"}


REFUSED: tuple[tuple[tuple[str, ...], int, str], ...] = (
    ((), 2, "say what to add"),
    (("--input", "more"), 2, "is not NAME=SCOPE:NAME"),
    (("--input", "in=user.alice:other"), 1, "has in among its inputs"),
    (("--output", PLOTS, "--output", PLOTS), 1, "has plots among its outputs"),
)


def test_what_cannot_be_added_is_refused_before_anything_is_asked(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.begin()
    for arguments, code, words in REFUSED:
        done = vrse("add", "run", *arguments)
        assert (done.code, patches(server)) == (code, [])
        assert words in done.err


def test_who_comes_in_between_is_told_to_repeat_it(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.begin()
    server.answers[f"PATCH {PATCH}"] = refusal(409, "Conflict", "the object has been modified")
    done = vrse("add", "run", "--output", PLOTS)
    assert done.code == 5
    assert "was changed meanwhile" in done.err


def test_an_extension_is_read_by_the_operator_as_a_time(small: Small, vrse: Vrse) -> None:
    small.begin()
    small.step()
    vrse("extend", "run", "--by", "90m")
    small.clock.turn(timedelta(minutes=1))
    small.step()
    told = vrse("status", "run").out
    assert "time left: 9h2" in told, told


def test_what_is_not_taken_yet_or_refused_is_told(small: Small, vrse: Vrse) -> None:
    small.begin()
    small.step()
    refused = "Rucio has no user.alice:gone. USER must act: Correct it."
    entries = [
        {"kind": "Input", "name": "more", "state": "Pending", "reason": "CatalogueUnreachable", "message": "Silence."},
        {"kind": "Input", "name": "gone", "state": "Refused", "reason": "DIDNotFound", "message": refused},
        {"kind": "Output", "name": "plots", "state": "Accepted"},
        {"kind": "Output", "name": "new", "state": "Pending"},
    ]
    small.cluster.merge(REQUEST, {"status": {"entries": entries}}, subresource="status")
    told = vrse("status", "run").out
    assert "  input gone: DIDNotFound\n    Rucio has no user.alice:gone. USER must act: Correct it.\n" in told, told
    assert "  input more: CatalogueUnreachable\n    Silence.\n" in told
    assert "  output new: Pending\n" in told
    assert "output plots" not in told


def test_in_a_terminal_what_is_awaited_is_drawn(small: Small, vrse: Vrse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_is_terminal", lambda _stream: True)
    small.request()
    done = vrse("wait", "run", "--for", "usable")
    assert (done.code, done.out) == (0, "run is usable.\n")
    assert "alice/run" in done.err
    assert "Inputs" in done.err
    assert "0 of 2 files staged" in done.err
    assert not re.search(r"^\d\d:\d\d:\d\d ", done.err, re.MULTILINE), "lines are for files and pipes"
