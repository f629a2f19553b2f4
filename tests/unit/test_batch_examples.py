"""The examples of docs/batch.md are what a reader applies and runs."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from volatile_rse.api.leases import LONGEST_LEASE
from volatile_rse.api.schema import parse_duration
from volatile_rse.api.volatilerse import SESSION_LABEL, VolatileRSESpec
from volatile_rse.builders.objects import session_name
from volatile_rse.reconcile.session_pods import of_session

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted((EXAMPLES / "slurm").glob("*.sh"))


def read(path: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load((EXAMPLES / path).read_text())
    return body


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_plain_shell_reads_it(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)
    assert "--oauth2-bearer" not in script.read_text()
    assert "Bearer $" not in script.read_text(), "a token would be told to whoever lists processes"


def listed(folder: Path, curl: str) -> subprocess.CompletedProcess[str]:
    """Tell what a job finds in its list of inputs, where ``curl`` does this."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "curl").write_text(f"#!/bin/sh\n{curl}\n")
    (folder / "bin" / "curl").chmod(0o755)
    lines = f'set -eu; folder={folder}; . {EXAMPLES}/slurm/environment.sh; cat "$VRSE_INPUTS"'
    paths = f"{folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", lines], env={"PATH": paths}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """Give what fetch.sh has made of a session with a very long list."""
    (tmp_path / "config").mkdir()
    for key, value in {
        "VRSE_ROOT_URL": "root://b:1094", "VRSE_PUBLIC_ROOT_URL": "root://pub:1", "VRSE_PUBLIC_DAVS_URL": "https://pub:2",
        "VRSE_OUTBOX": "/outbox/x", "VRSE_LEASE": "/lease/x", "VRSE_INPUTS_URL": "root://b:1094//list",
    }.items():  # fmt: skip
        (tmp_path / "config" / key).write_text(value)
    return tmp_path


WRITES = """while [ "$1" != -o ]; do shift; done; echo '{{"url": "root://b:1094//{}"}}' > "$2"; exit"""


def test_a_list_that_cannot_be_had_fails_the_job_and_is_asked_for_again(fetched: Path) -> None:
    assert listed(fetched, "exit 22").returncode != 0
    assert listed(fetched, WRITES.format("a")).stdout == '{"url": "root://pub:1//a"}\n'
    assert sorted(path.name for path in fetched.iterdir()) == ["bin", "config", "inputs.jsonl"]


def test_a_folder_that_is_fetched_anew_has_the_new_list(fetched: Path) -> None:
    # Written by a machine whose clock is ahead.
    ahead = time.time() + 10_000
    os.utime(fetched / "config" / "VRSE_INPUTS_URL", (ahead, ahead))
    listed(fetched, WRITES.format("a"))
    assert "//a" in listed(fetched, "exit 22").stdout, "what is there is not asked for again"
    os.utime(fetched / "config" / "VRSE_INPUTS_URL", (ahead + 1, ahead + 1))
    assert "//b" in listed(fetched, WRITES.format("b")).stdout


KUBECTL = """case $* in
*wait*) ;;
*range*) ls "$GIVEN" | tr '\\n' ' ' ;;
*base64decode*) printf token ;;
*) key=${7#*\\"}; cat "$GIVEN/${key%\\"*}" ;;
esac"""
"""It has a ConfigMap, whose keys are files."""


def test_a_folder_that_is_fetched_anew_has_nothing_of_before(tmp_path: Path) -> None:
    given, folder, kubectl = tmp_path / "given", tmp_path / "folder", tmp_path / "bin" / "kubectl"
    given.mkdir()
    kubectl.parent.mkdir()
    kubectl.write_text(f"#!/bin/sh\n{KUBECTL}\n")
    kubectl.chmod(0o755)
    environment = {"PATH": f"{kubectl.parent}:{os.environ['PATH']}", "GIVEN": str(given)}
    command = ["sh", str(EXAMPLES / "slurm" / "fetch.sh"), "alice", "run", str(folder)]
    for keys in (
        {"VRSE_LEASE": "/a", "VRSE_PUBLISH": "/p", "inputs.jsonl": "{}\n", "VRSE_INPUTS_URL": "u", "0123abcd.0": "A"},
        {"VRSE_LEASE": "/b", "4567cdef.0": "B"},
    ):
        for path in given.iterdir():
            path.unlink()
        for key, value in keys.items():
            (given / key).write_text(value)
        subprocess.run(command, env=environment, check=True, timeout=60)
        assert {path.name: path.read_text() for path in (folder / "config").iterdir()} == keys
        assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["environment.sh"]
        # As a job makes it.
        (folder / "inputs.jsonl").write_text("{}\n")


@pytest.mark.parametrize("folder", ["slurm", "interlink"])
def test_its_request_has_time_for_a_queue(folder: str) -> None:
    session = VolatileRSESpec.model_validate(read(f"{folder}/volatilerse.yaml")["spec"]).session
    assert parse_duration(session.start_timeout).total_seconds() >= 3600
    assert parse_duration(session.ttl) <= LONGEST_LEASE


def test_a_pod_that_is_offloaded_has_what_a_virtual_node_knows() -> None:
    name, job = read("interlink/volatilerse.yaml")["metadata"]["name"], read("interlink/job.yaml")
    template = job["spec"]["template"]
    assert template["metadata"]["labels"][SESSION_LABEL] == name
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert {kind for volume in volumes.values() for kind in volume} == {"name", "secret", "configMap", "emptyDir"}
    assert volumes["vrse-secret"]["secret"]["secretName"] == volumes["vrse"]["configMap"]["name"] == session_name(name)
    assert all(set(entry) == {"name", "value"} for entry in template["spec"]["containers"][0]["env"])
    assert "initContainers" not in template["spec"]


def test_it_is_a_session_until_its_virtual_node_tells_its_end() -> None:
    template = read("interlink/job.yaml")["spec"]["template"]
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    pod = {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Running"}}
    assert of_session([pod], None, datetime(2026, 1, 2, tzinfo=UTC))
    other = {**pod, "spec": {**template["spec"], "tolerations": []}}
    assert not of_session([other], None, datetime(2026, 1, 2, tzinfo=UTC))
