"""The command line against the real API server, by a user who has no right but to edit a namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import cluster
from testbed.layout import CHECKOUT, NODE, SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, WRITE, assert_kept, docker, new_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.grid]

USER = "analyst"
ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
CURL = 'curl -sSf --cacert "$VRSE_CA_BUNDLE" -H "@$VRSE_SECRET/header"'
PROGRAM = f"""#!{sys.executable}
import os
import socket
import sys
sys.path.insert(0, {str(CHECKOUT / "operator")!r})
# As the site's name server would: the node has a name among containers only.
known = socket.getaddrinfo
socket.getaddrinfo = lambda host, *args, **named: known(
    os.environ["NODE_ADDRESS"] if host == {NODE!r} else host, *args, **named
)
from volatile_rse.cli.entry import main
sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Shell:
    """A user's: their kubeconfig, and the programs on their PATH."""

    environment: dict[str, str]

    def __call__(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
            stdin=subprocess.DEVNULL,
        )

    @contextmanager
    def beside(self, *argv: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(argv, env=self.environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def shell(session: Session, tmp_path: Path) -> Shell:
    where = ("-n", session.namespace)
    cluster.kubectl(*where, "create", "serviceaccount", USER)
    account = f"--serviceaccount={session.namespace}:{USER}"
    cluster.kubectl(*where, "create", "rolebinding", USER, "--clusterrole=edit", account)
    token = cluster.kubectl(*where, "create", "token", USER, "--duration=1h").strip()
    config: dict[str, Any] = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"] = [{"name": USER, "user": {"token": token}}]
    config["contexts"][0]["context"] |= {"user": USER, "namespace": session.namespace}
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    for name in ("vrse", "kubectl-volatile_rse"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(PROGRAM)
        program.chmod(0o755)
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.symlink_to(cluster._kubectl()[0])
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    address = docker("inspect", "-f", ADDRESS, NODE).strip()
    return Shell({**os.environ, "PATH": path, "KUBECONFIG": str(tmp_path / "config"), "NODE_ADDRESS": address})


def create(session: Session, dataset: str, *more: str) -> tuple[str, ...]:
    return (
        "vrse", "create", session.name, "--class", session.class_name, "--account", "alice", "--capacity", "1Gi",
        "--input", f"nano={NANO['did']}", "--output", f"kept=kept/**,to=user.alice:{dataset},at=SITE-B,lifetime=1d",
        "--ttl", "30m", "--end-grace", "2s", *more,
    )  # fmt: skip


def assert_shell_reads(shell: Shell, printed: str, files: int) -> None:
    """What `lease take` prints is all that a shell outside the cluster needs."""
    address = shell.environment["NODE_ADDRESS"]
    status = f'{CURL} --connect-to "::{address}:" "$VRSE_DAVS_URL$VRSE_STATUS"'
    done = shell("sh", "-euc", f'{printed}{status}; cat "$VRSE_INPUTS"; echo $VRSE_ROOT_URL')
    assert done.returncode == 0, done.stderr
    told, end = json.JSONDecoder().raw_decode(done.stdout)
    assert told["inputs"][0]["staged"] == files
    *lines, public = done.stdout[end:].splitlines()
    assert public.startswith(f"root://{NODE}:")
    listed = [json.loads(line)["url"] for line in lines if line]
    assert [url.startswith(f"{public}//store/") for url in listed] == [True] * files


def test_a_session_is_created_watched_awaited_and_ended(session: Session, shell: Shell, tmp_path: Path) -> None:
    dataset = new_dataset()
    tried = shell(*create(session, dataset, "--dry-run"))
    assert tried.returncode == 0, tried.stderr
    assert tried.stderr.startswith("Nothing was created. The operator would take the request now:\n")
    assert f" from {SITES['SITE-A']}" in tried.stderr
    assert "  kept: at SITE-B; " in tried.stderr
    assert session.body() is None
    absent = shell(*create(session, dataset, "--input", "gone=user.alice:nothing.of.that.name", "--dry-run"))
    assert absent.returncode == 1, absent.stderr
    assert "user.alice:nothing.of.that.name" in absent.stderr
    assert not json.loads(shell("vrse", "list", "-o", "json").stdout)["items"]
    made = shell(*create(session, dataset))
    assert (made.returncode, made.stderr) == (0, "")
    with shell.beside("vrse", "status", session.name, "--watch") as watching:
        usable = shell("vrse", "wait", session.name, "--for", "usable", "--timeout", "3m")
        assert (usable.returncode, usable.stdout) == (0, f"{session.name} is usable.\n"), usable.stderr
        page = shell("kubectl", "volatile-rse", "status", session.name)
        assert page.returncode == 0, page.stderr
        assert page.stdout.startswith(f"{session.namespace}/{session.name}: Ready\n")
        assert "SessionActive: WaitingForSession" in page.stdout
        files = session.status()["inputs"][0]["files"]
        assert f"{files} of {files} file" in page.stdout
        before = session.status()["expires"]
        assert shell("vrse", "extend", session.name, "--by", "1h").returncode == 0
        wait_for("the end is later", lambda: session.status()["expires"] > before)
        taken = shell("vrse", "lease", "take", session.name, "--for", "10m", "--folder", str(tmp_path / "lease"))
        assert taken.returncode == 0, taken.stderr
        assert f"export BEARER_TOKEN_FILE={tmp_path}/lease/secret/token\n" in taken.stdout
        assert_shell_reads(shell, taken.stdout, files)
        assert shell("vrse", "lease", "renew", session.name).returncode == 0
        wait_for("the lease is seen", lambda: session.is_true("SessionActive"))
        session.job(WRITE)
        wait_for("the Job has succeeded", session.succeeded)
        # Held by its lease, it goes on without a pod until it is asked to end.
        assert shell("vrse", "lease", "release", session.name).returncode == 0
        assert shell("vrse", "end", session.name).returncode == 0
        safe = shell("vrse", "wait", session.name, "--for", "safe", "--timeout", "3m")
        assert (safe.returncode, safe.stdout) == (0, f"{session.name} is safe.\n"), safe.stderr
        told, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert f"{session.name}: Completed; {files} of {files} files staged; 2 written, 2 safe" in told.splitlines()[-1]
    listed = shell("vrse", "list").stdout.splitlines()[1].split()
    assert listed[:2] + listed[3:6] == [session.name, "Completed", f"{files}/{files}", "2", "2"]
    assert shell("vrse", "wait", session.name, "--for", "usable").returncode == 4
    assert_kept(dataset, session.wait_closed(), [3893, 2000000])


@pytest.mark.usefixtures("refused")
def test_what_cannot_become_safe_is_fetched_and_given_up_under_the_own_name(
    session: Session, shell: Shell, tmp_path: Path
) -> None:
    assert shell(*create(session, new_dataset())).returncode == 0
    assert shell("vrse", "wait", session.name, "--for", "usable", "--timeout", "3m").returncode == 0
    session.job(WRITE)
    wait_for("the Job has succeeded", session.succeeded)
    assert shell("vrse", "end", session.name).returncode == 0
    late = shell("vrse", "wait", session.name, "--for", "safe", "--timeout", "5s")
    assert late.returncode == 3, late.stderr
    # Until it is given up, it can be fetched: what no site takes is on the buffer.
    fetched = shell("vrse", "fetch", session.name, "--to", str(tmp_path / "fetched"))
    assert fetched.returncode == 0, fetched.stderr
    sizes = sorted(path.stat().st_size for path in (tmp_path / "fetched").rglob("*") if path.is_file())
    assert sizes == [3893, 2000000]
    assert shell("vrse", "discard", session.name).returncode == 2
    assert shell("vrse", "discard", session.name, "--rse", "VRSE-OTHER").returncode == 1
    assert shell("vrse", "discard", session.name, "--rse", session.status()["rse"]).returncode == 0
    never = shell("vrse", "wait", session.name, "--for", "safe", "--timeout", "3m")
    assert never.returncode == 4, never.stderr
    assert "were discarded" in never.stderr
    asked_by = session.wait_closed()["status"]["discarded"]["requestedBy"]
    assert asked_by == f"system:serviceaccount:{session.namespace}:{USER}"


def test_what_the_api_server_refuses_is_said_in_words(session: Session, shell: Shell, tmp_path: Path) -> None:
    body = yaml.safe_load(shell(*create(session, "x", "--dry-run", "-o", "yaml")).stdout)
    odd = tmp_path / "odd.yaml"
    odd.write_text(yaml.safe_dump({**body, "spec": {**body["spec"], "lunch": True}}))
    for argv, code, why in (
        (create(session, "x", "--account", "ALICE"), 1, "spec.account"),
        (create(session, "x", "--ttl", "9999d"), 1, "a duration is at most 3650d"),
        (create(session, "x", "--output", "o=$(x),to=user.alice:y,at=SITE-B"), 1, "a path is a glob"),
        (create(session, "x", "--output", "o=../y,to=user.alice:y,at=SITE-B"), 1, "leaves the session's outbox"),
        (("vrse", "create", "-f", str(odd)), 1, 'unknown field "spec.lunch"'),
        (("vrse", "status", "nothing"), 1, "There is no VolatileRSE"),
        (("vrse", "list", "-n", "kube-system"), 1, "You may not list VolatileRSEs of namespace kube-system"),
        (create(session, "x", "-n", "kube-system"), 1, "You may not create VolatileRSE kube-system/"),
    ):
        done = shell(*argv)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert why in done.stderr
        assert " must act: " in done.stderr
        assert "Traceback" not in done.stderr
    assert session.body() is None


def test_an_api_server_that_is_away_is_another_exit_code(shell: Shell, tmp_path: Path) -> None:
    config = yaml.safe_load((tmp_path / "config").read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "away").write_text(yaml.safe_dump(config))
    done = shell("vrse", "list", "--kubeconfig", str(tmp_path / "away"))
    assert done.returncode == 5
    assert "https://127.0.0.1:9 does not answer" in done.stderr
