"""What a class offers is tried by the operator on the real cluster, Rucio and sites, and told by `vrse doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import cluster, grid, installation
from testbed.layout import CHECKOUT, NODE, SITES
from testbed.sessions import wait_for
from volatile_rse.domain.naming import drain_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid]

GRANTS = [{"namespaces": ["alice"], "accounts": ["alice"], "scopes": ["user.alice"]}]
NOWHERE = "nowhere.invalid"


@pytest.fixture(autouse=True, scope="module")
def operator() -> None:
    installation.up()


@pytest.fixture
def name() -> Iterator[str]:
    made = f"class-{uuid.uuid4().hex[:8]}"
    yield made
    cluster.kubectl("delete", "vrseclass", made, "--ignore-not-found")
    cluster.kubectl("-n", installation.NAMESPACE, "delete", "secret", made, "--ignore-not-found")
    drain = drain_name(NOWHERE)
    cluster.kubectl(
        "-n", installation.BUFFERS, "delete", "deployment,service,secret,configmap", "--ignore-not-found", drain
    )


def conditions(name: str) -> dict[str, dict[str, Any]]:
    body = json.loads(cluster.kubectl("get", "vrseclass", name, "-o", "json"))
    return {entry["type"]: entry for entry in body.get("status", {}).get("conditions", ())}


def failing(name: str) -> dict[str, str]:
    return {type_: entry["reason"] for type_, entry in conditions(name).items() if entry["status"] == "False"}


def doctor(tmp_path: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Run it as an admin."""
    config = tmp_path / "admin"
    config.write_text(cluster.kubectl("config", "view", "--raw", "--minify"))
    environment = {**os.environ, "KUBECONFIG": str(config), "PYTHONPATH": str(CHECKOUT / "operator")}
    command = [sys.executable, "-m", "volatile_rse.cli", "doctor", "-n", "alice", "-o", "yaml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert not done.stderr, done.stderr
    return done.returncode, {check["what"]: check for check in yaml.safe_load(done.stdout)["checks"]}


def test_the_class_of_the_testbed_is_ready_and_the_doctor_agrees(tmp_path: Path) -> None:
    cluster.kubectl("wait", "--for=condition=Ready", f"vrseclass/{installation.CLASS}", "--timeout=90s")
    _, found = doctor(tmp_path)
    ours = {what: check for what, check in found.items() if installation.CLASS in what or not what.startswith("class ")}
    # Other tests have namespaces of their own; the host's way to a node of kind is its own as well.
    wrong = {what: check["message"] for what, check in ours.items() if check["state"] != "ok"}
    assert set(wrong) <= {"namespace alice", "grants of alice", f"public host {NODE}, from here"}, wrong
    assert "SITE" not in str(wrong)
    assert all(site in found[f"class {installation.CLASS}: SitesUsable"]["message"] for site in SITES.values())


def test_what_is_wrong_with_a_class_is_told_and_mended_by_its_change(name: str, tmp_path: Path) -> None:
    tokens = {SITES["SITE-A"]: "garbage", SITES["SITE-B"]: grid.grid().tokens[grid.OPERATOR]}
    wrong = {"exposure": {"publicHost": NOWHERE}, "siteCredentials": {"secretName": name, "caConfigMap": "grid-ca"}}
    installation.apply([installation.site_tokens(name, tokens), installation.class_of(name, GRANTS, **wrong)])
    expected = {"SitesUsable": "SiteRefused", "ExposureUsable": "PublicHostUnreachable"}
    wait_for("the class tells what is wrong", lambda: failing(name).items() >= expected.items(), 90)
    told = conditions(name)
    assert told["CatalogueUsable"]["status"] == told["ConfigurationValid"]["status"] == "True"
    assert SITES["SITE-A"] in told["SitesUsable"]["message"]
    assert SITES["SITE-B"] not in told["SitesUsable"]["message"]
    assert NOWHERE in told["ExposureUsable"]["message"]
    assert told["Ready"]["status"] == "False"
    code, found = doctor(tmp_path)
    assert code == 1
    assert "ADMIN must act: Put another token into the Secret" in found[f"class {name}: SitesUsable"]["message"]
    installation.apply([installation.class_of(name, GRANTS)])
    cluster.kubectl("wait", "--for=condition=Ready", f"vrseclass/{name}", "--timeout=60s")
