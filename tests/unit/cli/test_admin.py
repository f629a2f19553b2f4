"""What only the operator can do: its own code is run where it runs, and what becomes of that is passed on."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import volatile_rse.__main__ as operator
from tests.unit.cli.api_server import ApiServer, exited, operator_pod, refusal
from tests.unit.cli.conftest import Done, Vrse
from volatile_rse.cli import operators

DOCS = Path(__file__).resolve().parents[3] / "docs"
DEPLOYMENTS = "/apis/apps/v1/deployments"
WITHIN = "/apis/apps/v1/namespaces/volatile-rse/deployments"
PODS = "/api/v1/namespaces/volatile-rse/pods"
POD = f"{PODS}/volatile-rse-uninstall-x"
ORPHANS = ("admin", "orphans")
ADOPT = ("admin", "adopt", "--instance", "old.uid", "--class", "standard", "VRSE-A", "VRSE-B")
FORBIDDEN = refusal(403, "Forbidden", 'User "alice" cannot get resource')


@pytest.fixture
def ran(server: ApiServer) -> list[list[str]]:
    """Give the programs that were run; each says its name, and something on its standard error."""
    found: list[list[str]] = []

    def execute(argv: list[str]) -> tuple[bytes, bytes, bytes]:
        found.append(argv)
        return f"{argv[3]} \x1b[2J{'é' * 80}\n".encode(), b"not complete\n", exited(0)

    server.execute = execute
    return found


# What is run, and where.


@pytest.mark.parametrize(
    ("said", "run"),
    [
        (ORPHANS, ["orphans"]),
        ((*ORPHANS, "--instance", "old.uid"), ["orphans", "--instance=old.uid"]),
        (ADOPT, ["adopt", "--instance=old.uid", "--class=standard", "--", "VRSE-A", "VRSE-B"]),
        (("admin", "accounting"), ["accounting"]),
        (("admin", "accounting", "--since", "2026-11-01"), ["accounting", "--since=2026-11-01"]),
        (("admin", "accounting", "--until", "2026-11-01T08:00:00Z"), ["accounting", "--until=2026-11-01T08:00:00Z"]),
    ],
)
def test_the_operator_runs_what_was_asked_for(
    said: tuple[str, ...], run: list[str], ran: list[list[str]], vrse: Vrse, server: ApiServer
) -> None:
    done = vrse(*said)
    assert done == Done(0, f"{run[0]} \\x1b[2J{'é' * 80}\n", "not complete\n")
    assert ran == [["python3", "-m", "volatile_rse", *run]]
    assert f"{PODS}/pod-1/exec?container=operator&" in server.asked[-1][1]
    # The operator of this version takes it.
    assert operator.command_line().parse_args(run).command == run[0]


@pytest.mark.parametrize("command", ["orphans", "accounting"])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_lists_are_given_as_objects(command: str, form: str, server: ApiServer, vrse: Vrse) -> None:
    server.execute = lambda argv: (json.dumps([argv[4:]]).encode(), b"", exited(1))
    done = vrse("admin", command, "-o", form)
    assert (done.code, yaml.safe_load(done.out)) == (1, {command: [["--form=json"]]})
    assert operator.command_line().parse_args([command, "--form=json"]).form == "json"
    # An older one writes no such thing.
    server.execute = lambda _argv: (b"lunch", b"", exited(0))
    done = vrse("admin", command, "-o", form)
    assert done.code == 1
    assert "has written is no JSON: 'lunch'. ADMIN must act: install the same version" in done.err


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_that_of_the_operators_command(code: int, server: ApiServer, vrse: Vrse) -> None:
    server.execute = lambda _argv: (b"a\nb", b"c", exited(code))
    assert vrse(*ORPHANS) == Done(code, "a\nb\n", "c\n")


@pytest.mark.parametrize(
    ("end", "code", "why"),
    [
        (exited(137), 5, "was ended with the exit code 137, before it had done its work. ADMIN must act: repeat"),
        (b"", 5, "The connection to `python3 -m volatile_rse orphans` in Pod volatile-rse/pod-1 ended too early: "),
        (json.dumps({"status": "Failure", "message": "no python3."}).encode(), 1, "did not run: no python3. ADMIN"),
    ],
)
def test_a_command_that_has_no_end_of_its_own_is_told(
    end: bytes, code: int, why: str, server: ApiServer, vrse: Vrse
) -> None:
    server.execute = lambda _argv: (b"half\n", b"", end)
    done = vrse(*ORPHANS)
    assert (done.code, done.out) == (code, "half\n")
    assert why in done.err


# Which operator, and which pod of it.


def _deployment(server: ApiServer) -> dict[str, Any]:
    found: dict[str, Any] = server.others[DEPLOYMENTS]["items"][0]
    return found


def _none(server: ApiServer) -> None:
    server.others[DEPLOYMENTS] = {"items": [{"metadata": {"name": "other"}, "spec": {}}]}


def _two(server: ApiServer) -> None:
    other = {**_deployment(server), "metadata": {"name": "second", "namespace": "b"}}
    server.others[DEPLOYMENTS]["items"] = [_deployment(server), other]


def _no_right_to_list(server: ApiServer) -> None:
    server.answers[f"GET {DEPLOYMENTS}"] = server.answers[f"GET {WITHIN}"] = FORBIDDEN


def _no_pod(server: ApiServer) -> None:
    gone = operator_pod("gone")
    gone["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    server.others[PODS] = {"items": [operator_pod("new", "waiting"), gone, {"metadata": {"name": "x"}}]}


def _no_right_to_pods(server: ApiServer) -> None:
    server.answers[f"GET {PODS}"] = FORBIDDEN


def _no_right_to_run(server: ApiServer) -> None:
    server.answers[f"GET {PODS}/pod-1/exec"] = FORBIDDEN


def _no_such_pod(server: ApiServer) -> None:
    server.answers[f"GET {PODS}/pod-1/exec"] = refusal(404, "NotFound", "pods pod-1 not found", name="pod-1")


@pytest.mark.parametrize(
    ("happens", "code", "why"),
    [
        (_none, 1, "There is no operator in the cluster. ADMIN must act: install it"),
        (_two, 1, "There are 2 operators: b/second, volatile-rse/volatile-rse. USER must act: name the namespace"),
        (_no_right_to_list, 1, "You may not list Deployments of namespace volatile-rse, where the operator is. ADMIN"),
        (_no_pod, 5, "Deployment volatile-rse/volatile-rse has no pod that runs. ADMIN must act: see `kubectl"),
        (
            _no_right_to_pods,
            1,
            "You may not list Pods of namespace volatile-rse. ADMIN must act: bind a role with list",
        ),
        (_no_right_to_run, 1, "ADMIN must act: bind a role with get and create on pods/exec in the operator's"),
        (_no_such_pod, 1, "There is no `python3 -m volatile_rse orphans` in Pod volatile-rse/pod-1."),
    ],
)
def test_what_keeps_it_from_running_is_said(  # noqa: PLR0913, PLR0917 (a table)
    happens: Callable[[ApiServer], None], code: int, why: str, ran: list[list[str]], server: ApiServer, vrse: Vrse
) -> None:
    happens(server)
    done = vrse(*ORPHANS)
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert not ran


def test_who_sees_one_namespace_only_finds_the_operator_there(
    server: ApiServer, ran: list[list[str]], vrse: Vrse
) -> None:
    server.answers[f"GET {DEPLOYMENTS}"] = FORBIDDEN
    assert vrse(*ORPHANS).code == 0
    _two(server)
    server.answers.clear()
    assert vrse(*ORPHANS, "--operator-namespace", "volatile-rse").code == 0
    assert len(ran) == 2
    server.others["/apis/apps/v1/namespaces/elsewhere/deployments"] = {"items": []}
    done = vrse(*ORPHANS, "--operator-namespace", "elsewhere")
    assert "There is no operator in namespace elsewhere." in done.err


def test_a_pod_that_is_ready_is_chosen(server: ApiServer, ran: list[list[str]], vrse: Vrse) -> None:
    pods = [operator_pod("a", "waiting"), operator_pod("b", ready=False), operator_pod("c")]
    server.others[PODS] = {"items": pods}
    assert vrse(*ORPHANS).code == 0
    assert f"{PODS}/c/exec" in server.asked[-1][1]
    assert len(ran) == 1


# What ends the operator's process has a pod of its own.


def _pod(code: int | None, **status: object) -> dict[str, Any]:
    state = (
        {"waiting": {"reason": "ErrImagePull", "message": "no"}} if code is None else {"terminated": {"exitCode": code}}
    )
    return {"metadata": {}, "status": {"containerStatuses": [{"name": "uninstall", "state": state}], **status}}


@pytest.fixture
def uninstall(server: ApiServer, vrse: Vrse, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run it; the pod ends so, and has written this."""
    monkeypatch.setattr(operators, "_BEGINS", 0.0)

    def run(pod: dict[str, Any], log: bytes = b"a buffer\n", *said: str) -> Done:
        server.answers[f"POST {PODS}"] = 201, {"metadata": {"name": POD.rpartition("/")[2]}}
        server.answers[f"GET {POD}/log"] = 200, log
        server.answers[f"GET {POD}"] = 200, pod
        server.answers[f"DELETE {POD}"] = 200, {}
        return vrse("admin", "uninstall", *said)

    return run


def test_uninstall_runs_as_the_operator_in_a_pod_that_goes(server: ApiServer, uninstall: Callable[..., Done]) -> None:
    done = uninstall(_pod(0))
    assert (done.code, done.out) == (0, "a buffer\n")
    assert "`kubectl -n volatile-rse delete deployment volatile-rse`" in done.err
    made = next(body for method, _, body in server.asked if method == "POST")
    (container,) = made["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "volatile_rse", "uninstall"]
    assert container["image"] == "operator:1"
    assert {entry["name"] for entry in container["env"]} == {"VOLATILE_RSE_NAME", "VOLATILE_RSE_BUFFERS"}
    assert "livenessProbe" not in container
    assert (made["spec"]["serviceAccountName"], made["spec"]["restartPolicy"]) == ("op", "Never")
    assert "labels" not in made["metadata"]
    assert server.asked[-1][:2] == ("DELETE", POD)
    uninstall(_pod(0), b"", "--leave")
    made = [body for method, _, body in server.asked if method == "POST"][-1]
    assert made["spec"]["containers"][0]["command"][3:] == ["uninstall", "--leave"]


@pytest.mark.parametrize(
    ("pod", "code", "why"),
    [
        (_pod(1), 1, "a buffer\n"),
        (_pod(3), 5, "was ended with the exit code 3, before it had done its work."),
        (_pod(None, phase="Pending"), 5, "has not begun within 0 s: ErrImagePull: no. ADMIN must act"),
        ({"metadata": {}, "status": {"phase": "Failed", "message": "evicted"}}, 5, "was ended: evicted. ADMIN must"),
    ],
)
def test_an_uninstall_that_does_not_succeed_says_so(
    pod: dict[str, Any], code: int, why: str, server: ApiServer, uninstall: Callable[..., Done]
) -> None:
    done = uninstall(pod)
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert "delete deployment" not in done.err
    assert server.asked[-1][:2] == ("DELETE", POD)


def test_who_may_not_make_the_pod_is_told(server: ApiServer, vrse: Vrse) -> None:
    server.answers[f"POST {PODS}"] = refusal(403, "Forbidden", 'User "alice" cannot create resource "pods"')
    done = vrse("admin", "uninstall")
    assert done.code == 1
    assert "You may not create Pod volatile-rse/volatile-rse-uninstall: " in done.err
    assert "ADMIN must act: bind a role with get, create and delete on pods" in done.err


# What is wrong asks nobody.


@pytest.mark.parametrize(
    "arguments",
    [
        ("adopt", "VRSE-A"), ("adopt", "--instance", "x", "--class", "standard"), ("accounting", "--since", "lunch"),
        ("adopt", "--instance", "x", "--class", "Not_One", "VRSE-A"), ("orphans", "-o", "xml"), ("orphans", "VRSE-A"),
        ("uninstall", "now"), ("orphans", "--operator-namespace", "../x"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_asks_nothing(arguments: tuple[str, ...], server: ApiServer, vrse: Vrse) -> None:
    done = vrse("admin", *arguments)
    assert done.code == 2
    assert server.asked == []


def _shown() -> list[str]:
    """Give the commands for admins that the page shows."""
    return sorted(set(re.findall(r"^\s+(vrse admin .+)$", (DOCS / "operations.md").read_text(), re.MULTILINE)))


def test_the_page_shows_each() -> None:
    assert {line.split()[2] for line in _shown()} == {"orphans", "adopt", "accounting", "uninstall"}


@pytest.mark.parametrize("line", _shown())
def test_what_the_page_shows_is_run(
    line: str, ran: list[list[str]], uninstall: Callable[..., Done], vrse: Vrse
) -> None:
    uninstall(_pod(0))
    words = shlex.split(line)
    done = vrse(*words[1:])
    assert done.code == 0, done.err
    for argv in ran:
        assert operator.command_line().parse_args(argv[3:]).command == words[2]
