"""An input and an output are added to a session that runs, read, written, and kept; an input is removed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping

import pytest

from testbed import asking, cluster
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left, fresh_dataset, let_go, new_dataset, output, patch
from volatile_rse.api.names import hash_path

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

SCOPE = "user.alice"
PAGE = (CHECKOUT / "docs" / "user.md").read_text().split("## More while it runs\n", 1)[1].split("\n## ", 1)[0]
ADD, TELL = re.findall(r"^    (kubectl .*)$", PAGE, re.MULTILINE)
SCRIPT = """
echo kept > /tmp/kept.txt
xrdcp -s /tmp/kept.txt $ROOT_URL/$OUTBOX/kept/kept.txt
xrdcp -s /tmp/kept.txt $ROOT_URL/$OUTBOX/stray.txt
echo begun
until xrdcp -s -f $ROOT_URL//store/{path} /tmp/more.bin 2> /dev/null; do sleep 0.5; done
xrdcp -s /tmp/more.bin $ROOT_URL/$OUTBOX/later/more.bin
echo "copied $(xrdadler32 /tmp/more.bin | cut -d' ' -f1)"
until tr -d '\n' < /tmp/status.json 2> /dev/null | grep '"name": "later",  *"files": 1'; do
  sleep 0.5
  xrdcp -s -f $ROOT_URL/$(cat /etc/vrse/VRSE_STATUS) /tmp/status.json
done
while [ ! -e /tmp/go ]; do sleep 0.2; done
"""


def said(session: Session, command: str) -> str:
    """Run a command of the page for this session."""
    _, *arguments = shlex.split(command.replace("vrse NAME", f"vrse {session.name}"))
    return cluster.kubectl("-n", session.namespace, *arguments)


def assert_status_file(session: Session) -> None:
    """The session reads of the buffer itself what has come of the added entries, with no right in Kubernetes."""
    wait_for("the status file tells of what was written", lambda: "later" in session.log(), 60)
    (line,) = (line for line in session.log().splitlines() if line.startswith("{"))
    told = json.loads(line)
    inputs = {entry["name"]: (entry["files"], entry["staged"], entry["bytes"]) for entry in told["inputs"]}
    assert inputs["more"] == (2, 2, 600_000)
    assert inputs.keys() == {"nano", "more"}
    outputs = {entry["name"]: (entry["files"], entry["bytes"], entry["safe"]) for entry in told["outputs"]}
    assert outputs == {"kept": (1, len("kept\n"), 0), "later": (1, 300_000, 0)}
    assert told["unmatched"]["paths"] == ["stray.txt"]
    assert told["usable"] is True


def assert_receipt(session: Session, datasets: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    """The VolatileRSE tells, when nothing else is left, what was kept where, by which rule, and what was not."""
    told = {entry["name"]: entry for entry in session.status()["outputs"]}
    assert told.keys() == datasets.keys()
    for name, dataset in datasets.items():
        (rule,) = asking.rules(SCOPE, dataset)
        assert told[name] == {
            "name": name,
            "files": 1,
            "open": 0,
            "sealed": 1,
            "registered": 1,
            "safe": 1,
            "bytes": sizes[name],
            "bytesAtRisk": 0,
            "dataset": f"{SCOPE}:{dataset}",
            "rses": ["SITE-B"],
            "rule": rule["id"],
            "ruleState": "OK",
        }
    (exception,) = session.status()["exceptions"]
    assert exception.startswith("unmatched: stray.txt")


def test_entries_are_added_to_a_session_that_runs(session: Session) -> None:
    request = ["-n", session.namespace, "vrse", session.name]
    first, later = output(new_dataset()), output(new_dataset()) | {"name": "later", "path": "later/**"}

    def entries() -> dict[tuple[str, str], str]:
        found = session.status().get("entries") or ()
        return {(entry["name"], entry["state"]): entry["reason"] for entry in found}

    with fresh_dataset("more", 2, 300_000) as (more, files):
        session.request(inputs=[NANO], outputs=[first])
        name = files[0].rpartition("/")[2]
        session.job(SCRIPT.format(path=hash_path(SCOPE, name)))
        wait_for("the session runs", lambda: "begun" in session.log())
        changes: list[tuple[dict[str, object], str]] = [
            ({"inputs": [NANO | {"did": more}]}, "an input is never changed"),
            ({"outputs": []}, "none is removed"),
            ({"outputs": [first | {"path": "**"}]}, "an output is never changed"),
        ]
        for wrong, told in changes:
            with pytest.raises(StepError, match=told):
                patch(request, wrong)
        said(session, ADD.replace(f"{SCOPE}:more", more))
        added = [{"name": "more", "did": more}, {"name": "no", "did": f"{SCOPE}:nothing"}]
        patch(request, {"inputs": [NANO, *added], "outputs": [first, later]})
        known = {
            ("more", "Accepted"): "Succeeded",
            ("later", "Accepted"): "Succeeded",
            ("no", "Refused"): "DIDNotFound",
        }
        wait_for("they are judged", lambda: entries() == known, 60)
        assert "Input more: Accepted Succeeded 2 files, 600000 bytes." in said(session, TELL)
        assert session.is_true("Ready")
        assert session.is_true("Usable")
        assert not session.is_true("Stalled")
        wait_for("it is read", lambda: "copied" in session.log(), 60)
        assert_status_file(session)
        patch(request, {"inputs": added})
        wait_for("it is removed", lambda: ("nano", "Removed") in entries(), 60)
        with pytest.raises(StepError, match="is not used again"):
            patch(request, {"inputs": [NANO, *added]})
        let_go(session)
        record = session.wait_closed()
    assert session.is_true("OutputsSafe")
    adler32 = session.log().split("copied ", 1)[1].split()[0].rjust(8, "0")
    (kept,), (copied,) = (asking.kept(SCOPE, each["dataset"], "SITE-B") for each in (first, later))
    assert (kept.bytes, copied.bytes) == (len("kept\n"), 300_000)
    assert (copied.adler32, copied.site_adler32) == (adler32, adler32)
    assert copied.states == {"SITE-B": "AVAILABLE"}
    assert_receipt(
        session,
        {"kept": first["dataset"], "later": later["dataset"]},
        {"kept": kept.bytes, "later": copied.bytes},
    )
    assert_nothing_left(record)
