"""The examples of docs/batch.md are what a reader applies and runs."""

from __future__ import annotations

import subprocess
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
