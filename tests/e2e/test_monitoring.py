"""A real Prometheus reads the operator's metrics, takes the rules of the chart, and asks what the dashboard asks."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from testbed import cluster, containers, installation, loading
from testbed.layout import CHECKOUT
from testbed.sessions import Session, wait_for
from tests.e2e.flows import vrse

pytestmark = [pytest.mark.cluster, pytest.mark.grid]

FILES = CHECKOUT / "charts" / "volatile-rse" / "files"
PAGE = (CHECKOUT / "docs" / "alerts.md").read_text()
SCRAPES = textwrap.dedent("".join(re.findall(r"^    .*\n", PAGE[PAGE.index("    scrape_configs:") :], re.MULTILINE)))
HURRY = "global: {scrape_interval: 2s, evaluation_interval: 2s}\nrule_files: [/etc/prometheus/alerts.yaml]\n"
RARE = ("volatile_rse_faults_total", "volatile_rse_safe_seconds_bucket", "volatile_rse_ready_seconds_bucket")
"""What there is only once something has happened."""


def image() -> str:
    tag = containers.build("prometheus", CHECKOUT / "testbed" / "images" / "prometheus")
    loading.to_cluster(tag)
    return tag


def promtool(*argv: str, folder: Path) -> str:
    tag = containers.build("prometheus", CHECKOUT / "testbed" / "images" / "prometheus")
    mounts = ["-v", f"{FILES}:/files:ro", "-v", f"{folder}:/tests:ro"]
    command = ["docker", "run", "--rm", "--network", "none", *mounts, tag, "promtool", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_fire_when_they_should_and_only_then() -> None:
    folder = CHECKOUT / "tests" / "e2e" / "rules"
    said = promtool("check", "rules", "/files/alerts.yaml", folder=folder)
    assert "SUCCESS: 13 rules found" in said
    assert "SUCCESS" in promtool("test", "rules", "/tests/alerts_test.yaml", folder=folder)


@pytest.fixture
def prometheus(session: Session) -> Iterator[str]:
    """Run a Prometheus beside a session, by the configuration that the page has; give its pod."""
    settings = {"prometheus.yaml": HURRY + SCRAPES, "alerts.yaml": (FILES / "alerts.yaml").read_text()}
    closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    command = ["prometheus", "--config.file=/etc/prometheus/prometheus.yaml", "--storage.tsdb.path=/data"]
    container = {
        "name": "prometheus",
        "image": image(),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "securityContext": closed,
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "volumeMounts": [{"name": "etc", "mountPath": "/etc/prometheus"}, {"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10960,
            "fsGroup": 10960,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "etc", "configMap": {"name": "prometheus"}}, {"name": "data", "emptyDir": {}}],
    }
    where = {"name": "prometheus", "namespace": session.namespace}
    installation.apply(
        [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "data": settings},
            {"apiVersion": "v1", "kind": "Pod", "metadata": where, "spec": spec},
        ]
    )
    cluster.kubectl("-n", session.namespace, "wait", "pod/prometheus", "--for=condition=Ready", "--timeout=120s")
    yield f"/api/v1/namespaces/{session.namespace}/pods/prometheus:9090/proxy/api/v1"
    cluster.kubectl("-n", session.namespace, "delete", "pod,configmap", "prometheus", "--wait=false")


def asked(prometheus: str, expression: str) -> list[dict[str, Any]]:
    said = json.loads(cluster.kubectl("get", "--raw", f"{prometheus}/query?query={quote(expression)}"))
    assert said["status"] == "success", said
    return list(said["data"]["result"])


def accounted(namespace: str) -> dict[str, str]:
    """Ask for the table as the page says, of the month that includes now; give the row of a namespace."""
    page = (CHECKOUT / "docs" / "operations.md").read_text()
    (command,) = re.findall(r"^    vrse (.* accounting) --since \S+ --until \S+$", page, re.MULTILINE)
    done = vrse(*command.split())
    assert done.returncode == 0, done.stderr
    rows = csv.DictReader(io.StringIO(done.stdout))
    (row,) = (row for row in rows if row["namespace"] == namespace)
    return row


def test_a_real_prometheus_has_what_alerts_and_dashboard_ask_for(session: Session, prometheus: str) -> None:
    session.request()
    wait_for("Usable", lambda: session.is_true("Usable"))
    assert wait_for("the operator is read", lambda: asked(prometheus, 'up{job="volatile-rse"} == 1'), 60)

    groups = json.loads(cluster.kubectl("get", "--raw", f"{prometheus}/rules"))["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == 13
    whose = f'namespace="{session.namespace}",account="alice",class="{session.class_name}"'
    (held,) = wait_for("the sweep", lambda: asked(prometheus, f"volatile_rse_capacity_bytes{{{whose}}}"), 90)
    assert int(held["value"][1]) == 1 << 30
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$class", ".*")
            if " > 0" in expression or any(name in expression for name in RARE):
                asked(prometheus, expression)
                continue
            # A scrape in the middle of a sweep finds gauges that are counted anew.
            wait_for(expression, lambda expression=expression: asked(prometheus, expression), 60)  # type: ignore[misc]
    assert all(rule["health"] in {"ok", "unknown"} for rule in rules), rules
    row = accounted(session.namespace)
    assert (row["account"], row["class_name"], row["buffers"]) == ("alice", session.class_name, "1")
    assert int(row["byte_hours"]) > 0
    names = {entry["metric"]["__name__"] for entry in asked(prometheus, '{__name__=~"volatile_rse_.+"}')}
    told = {"sweep_timestamp_seconds", "buffers", "at_risk_bytes", "class_ready"}
    assert {f"volatile_rse_{name}" for name in told} <= names
