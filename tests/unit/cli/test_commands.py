"""What each command does, with an API server in which the operator works."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from rich.console import Console

from tests.unit.cli.api_server import ME, Answer, ApiServer, kubeconfig, refusal
from tests.unit.cli.conftest import Vrse
from tests.unit.reconcile.small_world import REQUEST, Small
from volatile_rse.api.conditions import MEANINGS, REMEDIES, ConditionType, Reason
from volatile_rse.cli import commands, entry, trying
from volatile_rse.cli.explaining import explained
from volatile_rse.cli.pages import Page, page_of
from volatile_rse.cli.server import Server
from volatile_rse.cli.terminal import rendered
from volatile_rse.domain.identity import identify
from volatile_rse.ports.cluster import Ref

WHAT = "/apis/volatilerse.io/v1alpha1/namespaces/alice/volatilerses"
CREATE = (
    "create", "run", "--class", "standard", "--account", "alice", "--capacity", "1Gi", "--durability", "Pod",
    "--input", "in=user.alice:in", "--output", "kept=kept/**,to=user.alice:out,at=SITE-B", "--end-grace", "1s",
)  # fmt: skip


def spec_of(small: Small) -> dict[str, Any]:
    body = small.cluster.get(REQUEST)
    assert body is not None
    return dict(body["spec"])


def written(server: ApiServer) -> list[str]:
    return [f"{method} {path}" for method, path, _ in server.asked if method != "GET" and "dryRun" not in path]


# The whole way.


def test_a_session_is_created_awaited_ended_and_safe(small: Small, server: ApiServer, vrse: Vrse) -> None:
    made = vrse(*CREATE)
    assert (made.code, made.err) == (0, "")
    assert spec_of(small)["outputs"][0]["destination"]["rseExpression"] == "SITE-B"
    small.uid = small.cluster.get(REQUEST)["metadata"]["uid"]  # type: ignore[index]
    small.record_id = ""
    adopt_record(small)
    usable = vrse("wait", "run", "--for", "usable")
    assert (usable.code, usable.out) == (0, "run is usable.\n")
    assert "0 of 2 files staged" in usable.err or "Pending" in usable.err
    small.start_pod()
    small.step()
    small.write("kept/a")
    ended = vrse("end", "run")
    assert ended.code == 0
    assert spec_of(small)["endRequested"] is True
    assert server.asked[-1][2]["metadata"] == {"uid": small.uid}, "of another one of that name the end is not wanted"
    assert vrse("end", "run").out == "The end of run was requested already.\n"
    safe = vrse("wait", "run", "--for", "safe")
    assert (safe.code, safe.out) == (0, "run is safe.\n")
    assert small.is_kept("kept/a")
    assert vrse("end", "run").out == "The session of run is over already.\n"
    assert len(written(server)) == 2


def adopt_record(small: Small) -> None:
    """Have the world know the buffer that a command has asked for."""
    small.record_id = identify(small.settings.instance, small.uid).record_id


# status and list


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_status_gives_the_object_itself(form: str, small: Small, vrse: Vrse) -> None:
    small.begin()
    body = yaml.safe_load(vrse("status", "run", "-o", form).out)
    assert body == small.cluster.get(REQUEST)


def test_status_goes_on_until_the_session_is_over(small: Small, vrse: Vrse) -> None:
    small.begin()
    small.write("kept/a")
    small.end_pod()
    done = vrse("status", "run", "--watch")
    assert done.code == 0
    told = [line.split(" ", 1)[1] for line in done.out.splitlines()]
    assert told[0].startswith("run: ")
    assert told[-1].startswith("run: Completed; 2 of 2 files staged; 1 written, 1 safe")
    assert len(told) == len(set(told)) > 2


def test_status_of_what_goes_meanwhile_ends(small: Small, vrse: Vrse) -> None:
    small.request()
    small.step()
    small.delete()
    done = vrse("status", "run", "-w", "-o", "json")
    assert (done.code, done.err) == (0, "VolatileRSE alice/run is gone.\n")
    assert {json.loads(line)["metadata"]["name"] for line in done.out.splitlines()} == {"run"}


def test_list_has_a_line_for_each(small: Small, server: ApiServer, vrse: Vrse) -> None:
    assert vrse("list").err == "There are no VolatileRSEs in namespace alice.\n"
    small.begin()
    small.step()
    head, line = vrse("list").out.splitlines()
    assert head.split() == ["NAME", "PHASE", "CLASS", "STAGED", "WRITTEN", "SAFE", "LEFT", "RSE"]
    assert line.split() == ["run", "Active", "standard", "2/2", "0", "0", "7h59m", small.rse]
    assert vrse("list", "-A").out.splitlines()[1].split()[:2] == ["alice", "run"]
    assert server.asked[-1][1].startswith("/apis/volatilerse.io/v1alpha1/volatilerses")
    items = yaml.safe_load(vrse("list", "-o", "yaml").out)["items"]
    assert [item["metadata"]["name"] for item in items] == ["run"]


def test_a_long_list_is_read_to_its_end(server: ApiServer, vrse: Vrse) -> None:
    items = [{"metadata": {"namespace": "alice", "name": name}, "spec": {"className": "c"}} for name in "ab"]
    server.answers[f"GET {WHAT}?limit=500&continue=next"] = 200, {"items": items[1:], "metadata": {}}
    server.answers[f"GET {WHAT}?limit=500"] = 200, {"items": items[:1], "metadata": {"continue": "next"}}
    assert [line.split()[0] for line in vrse("list").out.splitlines()] == ["NAME", "a", "b"]


def test_a_terminal_gets_bars_and_whole_addresses(small: Small) -> None:
    small.begin()
    small.write("kept/a\x1b[31m", "kept/b")
    small.step()
    page = page_of(small.cluster.get(REQUEST) or {}, small.clock.now())
    assert "━" * 20 in shown(page, 80)
    assert "2 of 2 files staged" in shown(page, 80)
    assert f"https://vrse-{small.record_id}.bufs.svc:8443" in "".join(shown(page, 32).split())


def shown(page: Page, width: int) -> str:
    console = Console(force_terminal=True, width=width, record=True, legacy_windows=False, file=io.StringIO())
    console.print(rendered(page))
    return console.export_text()


def test_what_others_wrote_cannot_speak_to_the_terminal(server: ApiServer, vrse: Vrse) -> None:
    odd = {"type": "Stalled", "status": "True", "reason": "NoReplica", "message": "x\x1b]0;y\x07 \u202e"}
    body = {
        "metadata": {"namespace": "alice", "name": "run", "generation": 1},
        "spec": {"className": "c", "inputs": [{"name": "in", "did": "a:\x1b[2J"}]},
        "status": {"observedGeneration": 1, "conditions": [odd]},
    }
    server.answers[f"GET {WHAT}/run"] = 200, body
    done = vrse("status", "run")
    assert done.out.replace("\n", "").isprintable()
    assert "x\\x1b]0;y\\x07 \\u202e" in done.out
    assert REMEDIES[Reason.NO_REPLICA].action in done.out


# wait


def test_wait_that_takes_too_long_says_what_is_awaited(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.request(className="fast")
    server.steps = 1
    done = vrse("wait", "run", "--for", "usable", "--timeout", "1s")
    assert done.code == 3
    assert done.err.splitlines()[-1].startswith("Error: VolatileRSE alice/run was not usable within 1s: run: Stalled;")
    assert "'fast' does not exist" in done.err


def ended(small: Small) -> None:
    small.begin()
    small.end_pod()
    small.until(lambda: small.condition("Usable").get("reason") == "SessionEnded")


def given_up(small: Small) -> None:
    small.catalogue.down = True
    small.request(inputs=[{"name": "in", "did": "user.alice:in", "onDeadline": "Fail", "deadline": "3s"}])


def discarded(small: Small) -> None:
    small.request(teardown={"deadline": "5s"})
    small.until(small.has_session)
    small.start_pod()
    small.step()
    small.write("kept/a")
    small.fail_copies(1000)
    small.end_pod()
    small.patch(REQUEST, teardown={"discard": {"rse": small.rse, "requestedBy": ME}})


def deleted(small: Small) -> None:
    small.request()
    small.step()
    small.delete()


@pytest.mark.parametrize(
    ("way", "goal", "why"),
    [
        (ended, "usable", "The session ended at"),
        (given_up, "usable", "onDeadline is Fail"),
        (given_up, "safe", "onDeadline is Fail"),
        (discarded, "safe", "were discarded"),
        (deleted, "usable", "It is being deleted."),
    ],
)
def test_wait_ends_where_nothing_can_come(  # noqa: PLR0913, PLR0917 (a table)
    way: Callable[[Small], None], goal: str, why: str, small: Small, server: ApiServer, vrse: Vrse
) -> None:
    way(small)
    server.steps = 200
    done = vrse("wait", "run", "--for", goal)
    assert done.code == 4, done.err
    assert f"cannot become {goal} any more" in done.err
    assert why in done.err


def test_wait_for_what_goes_says_so(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.request(className="fast")
    server.meanwhile = small.delete
    done = vrse("wait", "run", "--for", "safe")
    assert done.code == 4
    assert "went before it was safe" in done.err


def test_a_watch_that_breaks_is_begun_again(small: Small, server: ApiServer, vrse: Vrse) -> None:
    small.request()
    server.steps = 2
    assert vrse("wait", "run", "--for", "usable").code == 0
    assert sum("watch=true" in path for _, path, _ in server.asked) > 1


def test_one_that_was_made_anew_is_not_waited_for(small: Small, server: ApiServer, vrse: Vrse) -> None:
    """It goes between two watches, of which none tells."""
    small.request(className="fast")
    server.steps = 1

    def replaced() -> None:
        with small.cluster.unchecked(REQUEST) as body:
            body["metadata"]["uid"] = "another"

    server.meanwhile = replaced
    done = vrse("wait", "run", "--for", "safe")
    assert done.code == 4
    assert "went before it was safe" in done.err


@pytest.mark.parametrize(("field", "said"), [("namespace:", ""), ("name: [a]", "metadata.name is ['a']")])
def test_metadata_that_is_empty_or_no_text(field: str, said: str, tmp_path: Path, vrse: Vrse) -> None:
    path, key = tmp_path / "run.yaml", field.partition(":")[0]
    lines = vrse(*CREATE, "--dry-run", "-o", "yaml").out.splitlines()
    path.write_text("\n".join(f"  {field}" if line.startswith(f"  {key}:") else line for line in lines))
    done = vrse("create", "run", "-f", str(path))
    assert done.code == (2 if said else 0), done.err
    assert said in done.err


# create


def test_a_file_is_a_request_too(small: Small, tmp_path: Path, vrse: Vrse) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(vrse(*CREATE, "--dry-run", "-o", "yaml").out)
    assert small.cluster.get(REQUEST) is None
    assert vrse("create", "-f", str(path)).code == 0
    assert spec_of(small)["account"] == "alice"


def test_a_namespace_of_the_file_comes_before_that_of_the_context(
    tmp_path: Path, server: ApiServer, vrse: Vrse
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(vrse(*CREATE, "--dry-run", "-o", "yaml").out.replace("namespace: alice", "namespace: bob"))
    assert "There is no namespace bob." in vrse("create", "-f", str(path)).err
    assert "/namespaces/bob/" in server.asked[-1][1]


def test_a_dry_run_is_judged_by_the_operator_and_leaves_nothing(small: Small, server: ApiServer, vrse: Vrse) -> None:
    done = vrse(*CREATE, "--dry-run")
    assert (done.code, done.out) == (0, ""), done.err
    assert done.err.startswith("Nothing was created. The operator would take the request now:\n")
    assert "  in: 2 files, 201 B, from site-a.example.org (2)\n" in done.err
    assert "  kept: at SITE-B; quota for all that it may write\n" in done.err
    assert small.cluster.list("VolatileRSE") == ()
    made, deleted = written(server)
    assert made.startswith(f"POST {WHAT}")
    assert deleted.startswith(f"DELETE {WHAT}/run-try-")


def test_what_the_operator_would_refuse_is_an_error(small: Small, vrse: Vrse) -> None:
    small.catalogue.quota["alice", "SITE-B"] = 0
    done = vrse(*CREATE, "--dry-run")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: nothing was created. ")
    assert " must act: " in done.err
    assert "in: 2 files, 201 B" in done.err
    assert small.cluster.list("VolatileRSE") == ()


def test_a_dry_run_that_nobody_judges_says_so_and_goes(
    small: Small, server: ApiServer, vrse: Vrse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "_SECONDS", 0.5)
    monkeypatch.setattr(server, "_judge", lambda _body: None)
    done = vrse(*CREATE, "--dry-run")
    assert (done.code, done.out) == (5, "")
    assert done.err.startswith("Nothing was created. The API server takes the request")
    assert "Not judged: Rucio" in done.err
    assert "the operator has not answered within" in done.err
    assert small.cluster.list("VolatileRSE") == ()


def test_a_dry_run_has_a_name_that_pods_can_have_as_a_label(server: ApiServer, vrse: Vrse) -> None:
    name = "a" * 60 + ".bc"
    assert vrse(*CREATE[:1], name, *CREATE[2:], "--dry-run").code == 0
    tried = next(
        body["metadata"]["name"] for method, path, body in server.asked if method == "POST" and "dryRun" not in path
    )
    assert len(tried) <= 63
    assert vrse(*CREATE[:1], name, *CREATE[2:], "--dry-run", "-o", "yaml").out.count("dryRun: true") == 0


FORBIDDEN = refusal(403, "Forbidden", 'User "alice" cannot get resource')
CLASSES = "GET /apis/volatilerse.io/v1alpha1/volatilerseclasses/"


def test_what_nobody_may_read_is_not_judged_and_no_reason_to_refuse(server: ApiServer, vrse: Vrse) -> None:
    server.answers[CLASSES] = FORBIDDEN
    # What this user may not read, the operator does.
    done = vrse(*CREATE, "--dry-run")
    assert done.code == 0, done.err
    assert vrse(*CREATE, "--output", "up=../x,to=user.alice:o,at=B").code == 1


def test_without_the_labels_of_the_namespace_no_grant_is_missed(small: Small, server: ApiServer, vrse: Vrse) -> None:
    grant = {"namespaceSelector": {"matchLabels": {"a": "b"}}, "accounts": ["alice"], "scopes": ["user.alice"]}
    small.cluster.merge(Ref("VolatileRSEClass", None, "standard"), {"spec": {"tenancy": {"grants": [grant]}}})
    assert "NamespaceNotGranted" not in (done := vrse(*CREATE)).err
    assert done.code == 1
    assert "wants label a=b" in done.err
    server.answers["GET /api/v1/namespaces/alice"] = FORBIDDEN
    done = vrse(*CREATE)
    assert done.code == 0
    assert "wants label a=b" in vrse(*CREATE[:1], "other", *CREATE[2:], "--dry-run").err


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (("--class", "fast"), "VolatileRSEClass 'fast' does not exist. USER must act: Name a class"),
        (("--account", "bob"), "does not grant account 'bob'"),
        (("--input", "b=user.bob:x"), "does not grant scope 'user.bob'"),
        (("--output", "up=../x,to=user.alice:o,at=B"), "leaves the session's outbox"),
        (("--output", "o=[,to=user.alice:o,at=B"), "spec.outputs[o].path '['"),
        (("--output", "again=x,to=user.alice:out,at=SITE-A"), "differ, and both outputs go to user.alice:out"),
        (("--durability", "Network"), "spec.minimumDurability is Network"),
        (("--account", "Bob"), "The API server refuses to create VolatileRSE alice/run: spec.account"),
    ],
)
def test_what_the_operator_or_the_api_server_would_refuse_is_not_created(
    changed: tuple[str, str], why: str, small: Small, vrse: Vrse
) -> None:
    done = vrse(*CREATE, *changed)
    assert done.code == 1
    assert why in done.err
    assert "must act: " in done.err
    assert small.cluster.get(REQUEST) is None


def test_a_name_that_no_label_can_have_is_refused(small: Small, vrse: Vrse) -> None:
    done = vrse(CREATE[0], "r" * 64, *CREATE[2:])
    assert done.code == 1
    assert "no pod can have the label" in done.err
    assert not small.cluster.list("VolatileRSE")


def test_what_exists_is_left_alone(small: Small, vrse: Vrse) -> None:
    small.request()
    before = spec_of(small)
    done = vrse(*CREATE[:6], "--capacity", "2Gi", "--durability", "Pod")
    assert done.code == 1
    assert "VolatileRSE alice/run exists already. USER must act: " in done.err
    assert spec_of(small) == before


def test_an_output_may_have_commas_where_they_mean_themselves(small: Small, vrse: Vrse) -> None:
    text = "o=run{1,2}/**,to=user.alice:d,at=tier=2&(a,b),copies=2,lifetime=90d,register=Continuous,if-exists=Fail"
    assert vrse(*CREATE[:10], "--output", text, "--ttl", "2h").code == 0
    (output,) = spec_of(small)["outputs"]
    assert output["path"] == "run{1,2}/**"
    assert output["destination"] == {"rseExpression": "tier=2&(a,b)", "copies": 2, "lifetime": "90d"}
    assert (output["register"], output["ifExists"]) == ("Continuous", "Fail")
    assert spec_of(small)["session"]["ttl"] == "2h"


# discard


def unsafe(small: Small) -> None:
    small.begin()
    small.write("kept/a")
    small.fail_copies(1000)
    small.end_pod()
    small.until(lambda: small.truth.get("phase") == "Keeping")


def test_a_discard_is_under_the_own_name_and_for_this_rse(small: Small, vrse: Vrse) -> None:
    unsafe(small)
    done = vrse("discard", "run", "--rse", small.rse)
    assert (done.code, done.err) == (0, "")
    assert spec_of(small)["teardown"]["discard"] == {"rse": small.rse, "requestedBy": ME}
    assert vrse("discard", "run", "--rse", small.rse).out.endswith("are given up already.\n")


@pytest.mark.parametrize(("typed", "code"), [("right", 0), ("VRSE-OTHER", 1), ("y", 1), ("", 1)])
def test_a_person_is_asked_for_the_name_of_the_rse(
    typed: str, code: int, small: Small, vrse: Vrse, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsafe(small)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "prompt", lambda *_, **__: small.rse if typed == "right" else typed)
    done = vrse("discard", "run")
    assert done.code == code
    assert "6 B not safe yet" in done.out
    assert ("discard" in spec_of(small).get("teardown", {})) is (code == 0)


def test_nobody_discards_by_mistake(small: Small, server: ApiServer, vrse: Vrse) -> None:
    unsafe(small)
    assert vrse("discard", "run").code == 2, "without a terminal nobody can be asked"
    assert "you have named 'VRSE-OTHER'" in vrse("discard", "run", "--rse", "VRSE-OTHER").err
    small.fail_copies(0)
    small.until(lambda: small.condition("OutputsSafe").get("status") == "True")
    done = vrse("discard", "run", "--rse", small.rse)
    assert done.code == 1
    assert "are safe: nothing is given up" in done.err
    assert written(server) == []


def test_what_has_no_rse_has_nothing_to_discard(small: Small, vrse: Vrse) -> None:
    small.request(className="fast")
    small.step()
    done = vrse("discard", "run", "--rse", "X")
    assert (done.code, "has no RSE" in done.err) == (1, True)


# explain and completion


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason) -> None:
    assert MEANINGS[reason].endswith(".")
    text = explained(reason.value.upper()) or ""
    assert MEANINGS[reason] in text
    remedy = REMEDIES.get(reason)
    assert ("Nobody must act." if remedy is None else f"{remedy.actor.value} must act: {remedy.action}") in text


@pytest.mark.parametrize("type_", ConditionType)
def test_every_condition_is_explained(type_: ConditionType, vrse: Vrse) -> None:
    assert vrse("explain", type_.value).out.startswith(f"Condition {type_.value} of a VolatileRSE\n  ")


def test_a_word_that_means_nothing_is_met_with_those_that_do(vrse: Vrse) -> None:
    done = vrse("explain", "norepica")
    assert done.code == 2
    assert "Did you mean NoReplica" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str, vrse: Vrse) -> None:
    done = vrse("completion", shell)
    assert done.code == 0
    assert "_VRSE_COMPLETE" in done.out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("vrse sta", ["status"]),
        ("vrse status r", ["run"]),
        ("vrse status x", []),
        ("vrse explain noRep", ["NoReplica"]),
    ],
)
def test_names_are_completed(  # noqa: PLR0913, PLR0917 (a table)
    words: str,
    offered: list[str],
    small: Small,
    server: ApiServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small.request()
    monkeypatch.setenv("_VRSE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    server.steps = 0
    with pytest.raises(SystemExit):
        commands.run((), "vrse")
    assert [line.partition(",")[2] for line in capsys.readouterr().out.split()] == offered


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sta",), ["status\tShow how far a VolatileRSE is, what is...", ":4"]),
        (("status", "r"), ["run", ":4"]),
        (("explain", "noRep"), ["NoReplica", ":4"]),
        (("create", "-f", ""), [":0"]),
        (("completion", ""), ["bash", "zsh", "fish", ":4"]),
    ],
)
@pytest.mark.usefixtures("server")
def test_kubectl_is_offered_the_same(
    words: tuple[str, ...],
    told: list[str],
    small: Small,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small.request()
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-volatile_rse", *words])
    assert entry.complete() == 0
    assert capsys.readouterr().out.splitlines() == told


# What goes wrong.

ABSENT: Answer = (404, b"404 page not found\n")


@pytest.mark.parametrize(
    ("answer", "code", "why"),
    [
        (refusal(401, "Unauthorized", "Unauthorized"), 1, "does not know you: Unauthorized. USER must act: log in"),
        (FORBIDDEN, 1, 'You may not read VolatileRSE alice/run: User "alice" cannot get resource. ADMIN must act: '),
        (refusal(403, "Forbidden", "exceeded quota"), 1, "refuses to read VolatileRSE alice/run: exceeded quota. USER"),
        (refusal(404, "NotFound", "x", name="run"), 1, "There is no VolatileRSE alice/run. USER must act: see"),
        (ABSENT, 1, "does not have the kind VolatileRSE (404 page not found). ADMIN must act: install"),
        (refusal(409, "Conflict", "x"), 5, "was changed meanwhile: x. USER must act: repeat"),
        (refusal(429, "TooManyRequests", "later"), 5, "cannot read VolatileRSE alice/run now: 429 later. USER"),
        ((500, b"boom"), 5, "now: 500 boom."),
        ((503, b"<html>\x1b[2J"), 5, "now: 503 <html>\\x1b[2J."),
        ((200, b"<html>welcome</html>"), 1, "is no API server of Kubernetes: <html>welcome</html>. USER"),
        ((200, b'{"kind": "Hello"}'), 1, "is no API server of Kubernetes: HTTP status 200"),
        ((200, b"[]"), 1, "is no API server of Kubernetes: []"),
    ],
)
def test_each_refusal_says_who_must_act(answer: Answer, code: int, why: str, server: ApiServer, vrse: Vrse) -> None:
    server.answers[f"GET {WHAT}/run"] = answer
    done = vrse("status", "run")
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "command", [("status", "no"), ("wait", "no", "--for", "safe"), ("end", "no"), ("discard", "no")]
)
def test_what_is_not_there_is_said_by_each_command(command: tuple[str, ...], vrse: Vrse) -> None:
    done = vrse(*command)
    assert (done.code, done.out) == (1, "")
    assert "There is no VolatileRSE alice/no. USER must act: see `vrse list`" in done.err


def test_a_namespace_that_is_not_there_is_named(vrse: Vrse) -> None:
    done = vrse(*CREATE, "-n", "nowhere")
    assert (done.code, "There is no namespace nowhere. USER" in done.err) == (1, True)


def test_an_api_server_that_is_away_is_said(vrse: Vrse, server: ApiServer) -> None:
    server.close()
    for command in (("list",), ("wait", "run", "--for", "usable"), CREATE):
        done = vrse(*command)
        assert done.code == 5
        assert f"The API server {server.url} does not answer: " in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "content", [None, "", "a: [", "contexts: 7", "apiVersion: v1\nkind: Config\ncurrent-context: x", "\x00"]
)
def test_a_kubeconfig_that_leads_nowhere_is_named(
    content: str | None, tmp_path: Path, vrse: Vrse, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broken"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    done = vrse("list")
    assert done.code == 1
    assert f"The kubeconfig {path} cannot be used: " in done.err
    assert vrse("list", "--kubeconfig", str(path)).code == 1


def test_an_unknown_context_is_named(vrse: Vrse) -> None:
    done = vrse("list", "--context", "other")
    assert (done.code, "cannot be used" in done.err) == (1, True)


def test_who_acts_as_another_is_told_that_this_command_does_not(tmp_path: Path, server: ApiServer, vrse: Vrse) -> None:
    path = kubeconfig(tmp_path / "as", server.url, **{"as": "admin"})
    done = vrse("list", "--kubeconfig", str(path))
    assert (done.code, "acts as another one" in done.err) == (1, True)
    assert server.asked == []


@pytest.mark.parametrize(
    ("said", "asked"), [((), "default"), (("-n", "bob"), "bob"), (("-n", "kube-system"), "kube-system")]
)
def test_the_namespace_is_that_of_the_flag_or_of_the_context(
    said: tuple[str, ...], asked: str, tmp_path: Path, server: ApiServer, vrse: Vrse
) -> None:
    path = kubeconfig(tmp_path / "plain", server.url, namespace=None)
    vrse("list", "--kubeconfig", str(path), *said)
    assert f"/namespaces/{asked}/" in server.asked[-1][1]


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("nothing",), ("status",), ("status", "Not_A_Name"), ("status", "../x"), ("list", "-n", "a/b"),
        ("wait", "run"), ("wait", "run", "--for", "lunch"), ("wait", "run", "--for", "safe", "--timeout", "soon"),
        ("create",), ("create", "run"), ("create", "run", "--class", "c", "--account", "a"),
        (*CREATE, "--capacity", "much"), (*CREATE, "--input", "nano"), (*CREATE, "--output", "o=x"),
        (*CREATE, "--output", "o=x,to=a:b,at=S,copies=few"), (*CREATE, "--ttl", "1y"), (*CREATE, "-f", "/dev/null"),
        ("create", "-f", "/nowhere"), ("create", "-f", "/dev/null"), ("completion", "tcsh"), ("explain", "lunch"),
        ("status", "run", "-o", "xml"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_asks_nothing(arguments: tuple[str, ...], server: ApiServer, vrse: Vrse) -> None:
    done = vrse(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err or done.out
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a: [", "is no YAML"), ("kind: Job", "it has Job"), ("- 1", "it has no object"),
        ("kind: VolatileRSE\n---\nkind: VolatileRSE", "VolatileRSE, VolatileRSE"),
        ("kind: VolatileRSE\napiVersion: v2", "apiVersion is 'v2'"),
        ("{kind: VolatileRSE, apiVersion: volatilerse.io/v1alpha1, metadata: 7}", "metadata is no object"),
        ("{kind: VolatileRSE, apiVersion: volatilerse.io/v1alpha1}", "no metadata.name"),
        ("{kind: VolatileRSE, apiVersion: volatilerse.io/v1alpha1, metadata: {name: A/B}}", "'A/B' is no name"),
        ("{kind: VolatileRSE, apiVersion: volatilerse.io/v1alpha1, metadata: {name: x, namespace: bob}}", "'bob'"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_request_is_named(
    content: str, why: str, tmp_path: Path, server: ApiServer, vrse: Vrse
) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    done = vrse("create", "-n", "alice", "-f", str(path))
    assert (done.code, why in done.err) == (2, True), done.err
    assert server.asked == []


def test_a_file_without_a_spec_is_for_the_api_server_to_judge(tmp_path: Path, server: ApiServer, vrse: Vrse) -> None:
    path = tmp_path / "file"
    path.write_text("{kind: VolatileRSE, apiVersion: volatilerse.io/v1alpha1, metadata: {name: x}}")
    server.answers[f"POST {WHAT}"] = refusal(422, "Invalid", "spec: Required value")
    done = vrse("create", "-f", str(path))
    assert (done.code, "spec: Required value. USER must act" in done.err) == (1, True)


def test_the_keyboard_ends_it(small: Small, vrse: Vrse, monkeypatch: pytest.MonkeyPatch) -> None:
    small.request()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "watch", interrupted)
    done = vrse("wait", "run", "--for", "safe")
    assert (done.code, done.err.strip()) == (130, "Interrupted.")


# Where it begins.


def test_it_is_a_program() -> None:
    argv = [sys.executable, "-m", "volatile_rse.cli", "explain", "NoReplica"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "USER must act: Choose another sourceRSEExpression" in done.stdout


def test_without_its_libraries_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['rich'] = None; from volatile_rse.cli.entry import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "'rich" in done.stderr
    assert "pipx install 'volatile-rse[cli]'" in done.stderr
    assert "Traceback" not in done.stderr
