"""A hub's admin does what docs/first-hub.md says with the real chart of Zero to JupyterHub, and a user works there."""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from testbed import asking, cluster, golang, helm, hub, installation, rendering, z2jh
from testbed.layout import CLIENT
from testbed.sessions import Session, wait_for
from tests import pages
from tests.e2e.flows import NANO, end_of, new_dataset
from tests.e2e.hub_browser import browser
from volatile_rse.api.names import lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]

PAGE = "first-hub.md"
(NOTEBOOK,) = pages.fences((pages.DOCS / "first-notebook.md").read_text(), "python")
RUCIO = f"docker exec {CLIENT} /opt/client/bin/rucio"
USER = "kubectl -n $HUB get vrse -o wide"
"""Begin of the first command after a user's server has started."""
STOPPED = "kubectl -n $HUB wait vrse"
"""The same, after it was stopped."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Who has the page before them, and a shell."""

    namespace: str
    commands: str
    folder: Path

    def until(self, begin: str) -> None:
        """Run what stands before a command."""
        before, found, _ = self.commands.partition(begin)
        assert found, f"{PAGE} has no command {begin}"
        self._run(before)

    def after(self, begin: str, end: str = "") -> str:
        """Run what stands from a command on, with the variables of the beginning."""
        before, found, rest = self.commands.partition(begin)
        exports = "\n".join(line for line in before.splitlines() if line.startswith("export "))
        wanted = (found + rest).partition(end)[0] if end else found + rest
        return self._run(f"{exports}\n{wanted}")

    def aside(self, begin: str) -> str:
        """Run a command that stands within a sentence."""
        (command,) = re.findall(rf"`({begin} [^`]+)`", (pages.DOCS / PAGE).read_text())
        return self._run(command.replace("-n jupyter", f"-n {self.namespace}"))

    def _run(self, commands: str) -> str:
        programs = {"helm": shlex.quote(str(golang.installed(*rendering.HELM)))}
        return pages.run(f"trap 'rm -f sessions.yaml' EXIT\n{commands}", self.folder, programs, 400)


@pytest.fixture(name="admin")
def _admin(tmp_path: Path) -> Iterator[Admin]:
    """Give an admin of a cluster that has the operator by Helm, and a class that grants nothing to a hub yet."""
    try:
        chart = z2jh.chart()
    except z2jh.NotHadError as error:
        pytest.skip(str(error))
    installation.up()
    helm.install()
    name = f"hub-{uuid.uuid4().hex[:8]}"
    grant = {"namespaces": ["nobody"], "accounts": ["alice"], "scopes": ["user.alice"]}
    installation.apply([installation.class_of(name, [grant])])
    (shown,) = pages.fences((pages.DOCS / PAGE).read_text(), "yaml")
    config = yaml.safe_load(shown)["hub"]["config"] | {"DummyAuthenticator": {"password": hub.PASSWORD}}
    own = z2jh.values(tmp_path, config)
    commands = pages.script(PAGE, HUB=name, CLASS=name, DESTINATION="SITE-B", CHART=str(chart), OWN=str(own))
    yield Admin(name, commands, tmp_path)
    for session in sessions(name):
        end_of(session)
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found")
    cluster.kubectl("delete", "volatilerseclasses", name, "--ignore-not-found")
    helm.forget()
    installation.up()


def sessions(namespace: str) -> list[Session]:
    found = json.loads(cluster.kubectl("-n", namespace, "get", "volatilerses", "-o", "json"))["items"]
    return [Session(namespace, body["metadata"]["name"], namespace) for body in found]


def bodies(namespace: str, kind: str) -> dict[str, Any]:
    found = json.loads(cluster.kubectl("-n", namespace, "get", kind, "-o", "json"))["items"]
    return {body["metadata"]["name"]: body for body in found}


@pytest.mark.timeout(900)
def test_one_file_of_values_gives_the_users_of_a_hub_their_data(admin: Admin) -> None:
    dataset = new_dataset()
    admin.until(USER)
    # The chart's own policies are there, with a way to the buffers.
    egress = bodies(admin.namespace, "networkpolicies")["singleuser"]["spec"]["egress"]
    selected = {"matchLabels": {"kubernetes.io/metadata.name": installation.BUFFERS}}
    (way,) = (rule for rule in egress if {"namespaceSelector": selected} in rule.get("to", []))
    assert [port["port"] for port in way["ports"]] == [1094, 8443]
    with browser(hub.reached(admin.namespace, "proxy-public"), "alice") as alice:
        alice.page.wait_for_selector("#vrse-form")
        alice.page.fill("#vrse-inputs", NANO["did"])
        alice.page.fill("#vrse-dataset", dataset)
        alice.start()
        said = alice.watch()
        assert any(line.startswith("The data are there, on VRSE-") for line in said), said
        seen = admin.after(USER, STOPPED)
        (session,) = sessions(admin.namespace)
        assert session.name in seen
        assert "events 200000" in alice.run(f"{NOTEBOOK}\nprint('events', events.Count().GetValue(), 'DONE')\n")
        assert session.is_true("SessionActive")
        # What the page says for who is in trouble.
        assert "vrse_destinations" in admin.aside("helm get values hub")
        assert f"namespace: {admin.namespace}" in admin.aside("helm get values volatile-rse")
        assert "Loading extra config: 00-volatile-rse" in admin.aside("kubectl -n jupyter logs")
        alice.stop()
    wait_for("the session has ended", lambda: (session.body() or {}).get("spec", {}).get("endRequested"))
    assert "condition met" in admin.after(STOPPED)
    record = session.wait_closed()
    (kept,) = asking.kept("user.alice", dataset, "SITE-B")
    assert kept.name == lfn_name(dataset, record["spec"]["recordId"], b"pairs.root")
    assert kept.states == {"SITE-B": "AVAILABLE"}
    # Alice finds it herself.
    found = pages.script("first-notebook.md", DATASET=f"user.alice:{dataset}")
    assert kept.name in pages.run(found, admin.folder, {"rucio": RUCIO}, 60)
