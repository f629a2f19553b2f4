"""A person opens the hub's page, chooses inputs, works, stops the server, and finds the output in Rucio."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from testbed import asking, cluster, grid, hub, installation
from testbed.layout import CHECKOUT
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, end_of, fresh_dataset, new_dataset
from tests.e2e.hub_browser import Browser, browser
from volatile_rse.api.names import lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

PAGE = (CHECKOUT / "docs" / "jupyterhub.md").read_text()
NOTEBOOK = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "vrse.current()" in block)
CELL = f"{NOTEBOOK}\nprint('events', events.Count().GetValue(), 'DONE')\n"
SET = "import os; print(*(os.environ.get(name) for name in ('BEARER_TOKEN_FILE', 'X509_CERT_DIR', 'VRSE_RSE')))\n"
"""What the server has by its label, before any of it is imported."""


@pytest.fixture(params=["", pytest.param("5.5", marks=pytest.mark.people)], ids=["6.1", "5.5"])
def started(session: Session, request: pytest.FixtureRequest) -> Iterator[hub.Hub]:
    """Give a hub of whose users one is granted an account."""
    name = session.namespace
    installation.enable(name, injected=True)
    grant = {"namespaces": [name], "onBehalfOf": ["alice"], "accounts": ["alice"], "scopes": ["user.alice"]}
    installation.apply([installation.class_of(name, [grant])])
    settings = {
        "vrse_class": session.class_name,
        "vrse_destinations": ["SITE-B"],
        "vrse_capacities": ["1Gi", "2Gi"],
        "vrse_on_behalf_of": True,
        "vrse_rucio": {
            "rucio_base_url": grid.grid().inside,
            "rucio_ca_cert": "/etc/grid-ca/ca.crt",
            "default_auth_type": "userpass",
        },
    }
    yield hub.up(name, settings, hub.CHECK, hub.rucio_files(), request.param)
    for body in sessions_of(session.namespace):
        end_of(replace(session, name=body["metadata"]["name"]))


def sessions_of(namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, object]] = json.loads(cluster.kubectl("-n", namespace, "get", "volatilerses", "-o", "json"))[
        "items"
    ]
    return found


def opened_by_extension(alice: Browser) -> list[str]:
    """Give the paths that the Rucio extension of JupyterLab puts into a notebook."""
    login = {"username": "alice", "account": "alice", "password": grid.grid().passwords["alice"]}
    alice.asked("rucio-jupyterlab/auth", "PUT", {"namespace": "vrse", "type": "userpass", "params": login})
    did = f"rucio-jupyterlab/did?namespace=vrse&did={NANO['did']}"

    def paths() -> list[str]:
        answer = alice.asked(did)
        print(answer)  # noqa: T201 (shown if it does not come)
        # The first answer is that it is being asked for; one that is no list is an error of Rucio's.
        files = answer if isinstance(answer, list) else []
        return [str(file["path"]) for file in files if file["status"] == "OK"]

    return list(wait_for("the extension has asked Rucio", paths, 60))


def answer_for_other_data(alice: Browser, did: str) -> str:
    """Have the extension make available what is not on the session's RSE; give what the page says."""
    page = alice.page
    page.click(".lm-TabBar-tab[data-id='rucio-jupyterlab:panel']")
    panel = page.locator("[id='rucio-jupyterlab:panel']")
    panel.locator("input").first.fill(did)
    panel.locator("input").first.press("Enter")
    panel.get_by_text(did, exact=True).first.click()
    panel.get_by_text("Make Available").click()
    said = page.locator(".jp-Dialog").inner_text()
    alice.picture("other-data")
    page.click(".jp-Dialog button")
    return str(said)


def test_a_form_progress_a_cell_a_stop_and_the_output_is_safe(session: Session, started: hub.Hub) -> None:
    dataset = new_dataset()
    with browser(started, "alice") as alice:
        alice.page.wait_for_selector("#vrse-form")
        alice.page.fill("#vrse-inputs", "user.alice:none")
        alice.page.wait_for_selector("#vrse-check .text-danger:has-text('does not exist in Rucio')")
        alice.page.fill("#vrse-inputs", NANO["did"])
        alice.page.wait_for_selector("#vrse-check .text-success:has-text('dataset, 4 files')")
        alice.page.fill("#vrse-dataset", dataset)
        alice.picture("form")
        alice.start()
        said = alice.watch()
        assert any(line.startswith("The data are there, on VRSE-") for line in said), said
        printed = alice.run(SET + CELL)
        assert "events 200000" in printed
        alice.picture("notebook")
        paths = opened_by_extension(alice)
        (body,) = sessions_of(session.namespace)
        own = replace(session, name=str(body["metadata"]["name"]))
        with fresh_dataset("other", 1, 1000) as (other, _):
            assert f"vrse add {own.name} --input other={other}" in answer_for_other_data(alice, other)
        assert own.is_true("SessionActive")
        assert f"/run/vrse/token /run/vrse/ca {own.status()['rse']}" in printed
        (root,) = (entry["url"] for entry in own.status()["endpoints"] if entry["protocol"] == "root")
        assert len(paths) == 4
        assert all(path.startswith(f"{root}//store/") for path in paths)
        alice.stop()
    wait_for("the session has ended", lambda: (own.body() or {}).get("spec", {}).get("endRequested"))
    record = own.wait_closed()
    assert own.is_true("OutputsSafe")
    (kept,) = asking.kept("user.alice", dataset, "SITE-B")
    assert kept.name == lfn_name(dataset, record["spec"]["recordId"], b"pairs.root")
    assert kept.states == {"SITE-B": "AVAILABLE"}
