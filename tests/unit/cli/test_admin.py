"""What only the operator can do: its own code is run where it runs, and what becomes of that is passed on."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

import volatile_rse.__main__ as operator
from tests.unit.cli.api_server import Answer, ApiServer, exited, operator_pod, refusal
from tests.unit.cli.conftest import Done, Vrse
from volatile_rse.cli import commands, operators
from volatile_rse.cli import server as connections

DOCS = Path(__file__).resolve().parents[3] / "docs"
DEPLOYMENTS = "/apis/apps/v1/deployments"
WITHIN = "/apis/apps/v1/namespaces/volatile-rse/deployments"
PODS = "/api/v1/namespaces/volatile-rse/pods"
POD = f"{PODS}/volatile-rse-uninstall-x"
ORPHANS = ("admin", "orphans")
ADOPT = ("admin", "adopt", "--instance", "old.uid", "--class", "standard", "VRSE-A", "VRSE-B")
FORBIDDEN = refusal(403, "Forbidden", 'User "alice" cannot get resource')
BUSY = refusal(429, "TooManyRequests", "too many requests")
BROKEN = refusal(503, "ServiceUnavailable", "etcd is away")
LEFT = "Pod volatile-rse/volatile-rse-uninstall-x is left ("
ITS_LOG = "Read `kubectl -n volatile-rse logs volatile-rse-uninstall-x -c uninstall`; then delete it: `kubectl"


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


def test_output_that_cannot_be_written_is_no_broken_connection(
    server: ApiServer, vrse: Vrse, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.execute = lambda _argv: (b"a\n", b"", exited(0))
    full = Path("/dev/full").open("w")  # noqa: SIM115 (it cannot be closed without an error)
    monkeypatch.setattr("sys.stdout", full)
    done = vrse(*ORPHANS)
    with suppress(OSError):
        full.close()
    assert done.code == 1
    assert "What the operator says cannot be written: No space left on device. USER must act: see to" in done.err


@pytest.fixture
def short_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_LOOK": 0.02, "_PING": 0.1, "_DEAF": 1.0}.items():
        monkeypatch.setattr(connections, name, value)


@pytest.mark.usefixtures("short_of_patience")
def test_a_connection_at_the_end_of_which_nobody_is_has_an_end(
    server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = threading.Event()

    def execute(_argv: list[str]) -> tuple[bytes, bytes, bytes]:
        # The program ends only when nobody waits for it any more.
        seen.wait(20)
        return b"", b"", exited(0)

    server.execute, server.pinged = execute, lambda: False
    code = commands.run(ORPHANS, "vrse")
    seen.set()
    server.settle()
    assert code == 5
    assert "ended too early: whether it has done its work nobody knows" in capsys.readouterr().err


@pytest.mark.usefixtures("short_of_patience")
def test_a_program_that_is_silent_for_long_is_awaited(server: ApiServer, vrse: Vrse) -> None:
    pings = threading.Semaphore(0)

    def pinged() -> bool:
        pings.release()
        return True

    def execute(_argv: list[str]) -> tuple[bytes, bytes, bytes]:
        # Longer than an answer may take.
        heard = [pings.acquire(timeout=10) for _ in range(15)]
        return str(all(heard)).encode(), b"", exited(0)

    server.execute, server.pinged = execute, pinged
    assert vrse(*ORPHANS) == Done(0, "True\n", "")


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
        answers: dict[str, Answer] = {
            f"POST {PODS}": (201, {"metadata": {"name": POD.rpartition("/")[2]}}),
            f"GET {POD}/log": (200, log),
            f"GET {POD}": (200, pod),
            f"DELETE {POD}": (200, {}),
        }
        for asked, answer in answers.items():
            server.answers.setdefault(asked, answer)
        return vrse("admin", "uninstall", *said)

    return run


def test_uninstall_runs_as_the_operator_in_a_pod_that_goes(server: ApiServer, uninstall: Callable[..., Done]) -> None:
    done = uninstall(_pod(0))
    assert (done.code, done.out) == (0, "a buffer\n")
    assert "`kubectl -n volatile-rse delete deployment volatile-rse`" in done.err
    made = next(body for method, path, body in server.asked if (method, path) == ("POST", PODS))
    (container,) = made["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "volatile_rse", "uninstall"]
    assert container["image"] == "operator:1"
    assert {entry["name"] for entry in container["env"]} == {"VOLATILE_RSE_NAME", "VOLATILE_RSE_BUFFERS"}
    assert "livenessProbe" not in container
    assert (made["spec"]["serviceAccountName"], made["spec"]["restartPolicy"]) == ("op", "Never")
    assert "labels" not in made["metadata"]
    assert server.asked[-1][:2] == ("DELETE", POD)
    uninstall(_pod(0), b"", "--leave")
    made = [body for method, path, body in server.asked if (method, path) == ("POST", PODS)][-1]
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


def _containers(**states: dict[str, Any]) -> dict[str, Any]:
    """Give a pod of which at least one container runs, or has run."""
    found = [{"name": name, "state": state} for name, state in states.items()]
    return {"metadata": {"resourceVersion": "1"}, "status": {"phase": "Running", "containerStatuses": found}}


WORKS = _containers(uninstall={"running": {}})
ENDED = _containers(uninstall={"terminated": {"exitCode": 0}})
RUNNING: Answer = (200, WORKS)
DENIED = refusal(403, "Forbidden", 'User "alice" cannot delete resource "pods"')


def _deleted(server: ApiServer) -> list[dict[str, Any]]:
    return [body for method, _, body in server.asked if method == "DELETE"]


def test_an_api_server_that_is_busy_for_a_while_ends_no_uninstall(
    server: ApiServer, uninstall: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "_PAUSE", 0.0)
    server.answers[f"GET {POD}/log"] = [BROKEN, (200, b"a buffer\n")]
    server.answers[f"GET {POD}"] = [BUSY, RUNNING, BROKEN, BROKEN, (200, ENDED)]
    done = uninstall({})
    assert (done.code, done.out) == (0, "a buffer\n")
    assert "is left" not in done.err
    assert len(_deleted(server)) == 1


@pytest.mark.parametrize(
    ("answers", "code", "why"),
    [
        ([BROKEN], 5, "cannot read Pod volatile-rse/volatile-rse-uninstall-x now: 503 etcd is away."),
        ([RUNNING, BUSY], 5, "cannot read Pod volatile-rse/volatile-rse-uninstall-x now: 429"),
        ([RUNNING, FORBIDDEN], 1, "You may not read Pod volatile-rse/volatile-rse-uninstall-x. ADMIN must act: bind"),
        ([RUNNING, refusal(401, "Unauthorized", "expired")], 1, "does not know you: expired. USER must act: log in"),
    ],
)
def test_a_pod_that_may_still_work_is_left_and_named(  # noqa: PLR0913, PLR0917 (a table)
    answers: list[Answer],
    code: int,
    why: str,
    server: ApiServer,
    uninstall: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "_SILENT", 0.0)
    monkeypatch.setattr(operators, "_PAUSE", 0.0)
    server.answers[f"GET {POD}/log"] = 200, b""
    server.answers[f"GET {POD}"] = answers
    done = uninstall({})
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert f"{LEFT}it may still work). {ITS_LOG}" in done.err
    assert not _deleted(server)


def test_who_interrupts_it_learns_what_goes_on(
    server: ApiServer, uninstall: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    done = uninstall(WORKS)
    assert done.code == 130
    assert f"{LEFT}it may still work). {ITS_LOG}" in done.err
    assert not _deleted(server)


@pytest.mark.parametrize(
    ("answer", "left"),
    [((200, {}), False), (refusal(404, "NotFound", "gone"), False), (refusal(409, "Conflict", "changed"), True)],
)
def test_a_pod_that_has_begun_meanwhile_stays(
    answer: Answer, *, left: bool, server: ApiServer, uninstall: Callable[..., Done]
) -> None:
    server.answers[f"DELETE {POD}"] = answer
    done = uninstall({"metadata": {"resourceVersion": "7"}, "status": {"phase": "Pending"}})
    assert (done.code, LEFT in done.err) == (5, left)
    assert _deleted(server) == [{"preconditions": {"resourceVersion": "7"}}]


@pytest.mark.parametrize(
    ("asked", "answer", "out", "why"),
    [
        (f"DELETE {POD}", DENIED, "a buffer\n", f"{LEFT}You may not delete Pod volatile-rse/volatile-rse-uninstall-x:"),
        (f"DELETE {POD}", BROKEN, "a buffer\n", f"{LEFT}The API server http"),
        (f"GET {POD}/log", FORBIDDEN, "", f"{LEFT}its log has not been read). {ITS_LOG}"),
        (f"GET {POD}/log", FORBIDDEN, "", "has ended with the exit code 0; its log is not here: You may not read Pod"),
    ],
)
def test_what_fails_after_it_has_succeeded_is_said_beside(  # noqa: PLR0913, PLR0917 (a table)
    asked: str, answer: Answer, out: str, why: str, server: ApiServer, uninstall: Callable[..., Done]
) -> None:
    server.answers[asked] = answer
    done = uninstall(ENDED)
    assert (done.code, done.out) == (0, out)
    assert why in done.err
    assert "Nothing is held any more." in done.err


@pytest.mark.parametrize(("verb", "kind"), [("get", "pods"), ("get", "pods/log"), ("delete", "pods")])
def test_who_may_not_follow_the_pod_is_told_before_it_is_made(
    verb: str, kind: str, server: ApiServer, uninstall: Callable[..., Done]
) -> None:
    server.denied.add((verb, kind))
    done = uninstall(_pod(0))
    assert (done.code, done.out) == (1, "")
    assert (
        f"You may not {verb} {kind} in namespace volatile-rse: Pod volatile-rse/volatile-rse-uninstall is" in done.err
    )
    assert "ADMIN must act: bind a role with get, create and delete on pods, and get on pods/log," in done.err
    assert not [path for method, path, _ in server.asked if method == "POST" and path == PODS]


@pytest.mark.parametrize(
    "states",
    [
        [{"mesh": {"terminated": {"exitCode": 7}}, "uninstall": {"running": {}}}],
        [{"mesh": {"running": {}}, "uninstall": {"waiting": {"reason": "ContainerCreating"}}}],
        [],
    ],
)
def test_what_a_mesh_puts_into_the_pod_is_not_judged(
    states: list[dict[str, Any]],
    server: ApiServer,
    uninstall: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "_PAUSE", 0.0)
    template = _deployment(server)["spec"]["template"]
    template["metadata"]["annotations"] = {"mesh.example.org/inject": "false"}
    last = _containers(mesh={"running": {}}, uninstall={"terminated": {"exitCode": 0}})
    server.answers[f"GET {POD}/log"] = 200, b"a buffer\n"
    server.answers[f"GET {POD}"] = [*((200, _containers(**each)) for each in states), (200, last)]
    monkeypatch.setattr(operators, "_BEGINS", 60.0)
    done = uninstall({})
    assert (done.code, done.out) == (0, "a buffer\n")
    assert f"{POD}/log?container=uninstall" in {path for _, path, _ in server.asked}
    made = next(body for method, path, body in server.asked if (method, path) == ("POST", PODS))
    assert made["metadata"]["annotations"] == {"mesh.example.org/inject": "false"}


def test_a_pod_of_which_only_the_mesh_runs_has_not_begun(server: ApiServer, uninstall: Callable[..., Done]) -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no"}}
    done = uninstall(_containers(mesh={"running": {}}, uninstall=waiting))
    assert done.code == 5
    assert "has not begun within 0 s: ErrImagePull: no." in done.err
    assert len(_deleted(server)) == 1


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
