"""A whole session under each preset of names, on the real Rucio."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from testbed import asking, cluster, grid, installation
from testbed.sessions import Session
from tests.e2e.flows import finish, let_go, new_dataset, running

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


NAMES = {
    "generic": ("VRSE-{}", "vrse-{}.ledger", "{dataset}.{}.kept--"),
    "cms": ("T3_XX_VRSE_{}", "/vrse/alice-{}/USER#{}", "/store/user/rucio/alice/{}/kept/kept--"),
}
"""Preset -> RSE, ledger, and the beginning of the files' names."""


@pytest.mark.parametrize("preset", NAMES)
def test_a_session_goes_the_whole_way(session: Session, preset: str) -> None:
    rse, ledger, files = NAMES[preset]
    grants = [{"namespaces": [session.namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    installation.apply([installation.class_of(session.namespace, grants, naming={"preset": preset})])
    dataset = new_dataset() if preset == "generic" else f"/vrse/{new_dataset()}/USER#r1"
    running(session, dataset=dataset)
    spec = session.record()["spec"]
    id_, root = spec["recordId"], grid.client("root")
    assert spec["rseName"] == rse.format(id_.upper())
    assert spec["ledger"].split(":")[1] == ledger.format(id_, id_)
    assert root.list_rse_attributes(spec["rseName"]).get("lfn2pfn_algorithm") == {"cms": "identity"}.get(preset, "hash")
    # Where Rucio sends its users is where the session finds the bytes.
    nano = [{"scope": "user.alice", "name": "nano_dimuon"}]
    pfns = [pfn for entry in root.list_replicas(nano) for pfn in entry["rses"].get(spec["rseName"], ())]
    shown = {re.sub("/+", "/", urlsplit(pfn).path) for pfn in pfns}
    listed = cluster.kubectl("-n", session.namespace, "exec", *session.pods(), "--", "cat", "/etc/vrse/inputs.jsonl")
    assert shown
    assert shown == {re.sub("/+", "/", urlsplit(url).path) for url in re.findall(r'"url": "([^"]+)"', listed)}
    let_go(session)
    finish(session, dataset)
    start = files.format(id_, dataset=dataset)
    names = {file.name for file in asking.kept("user.alice", dataset, "SITE-B")}
    assert names == {f"{start}one.txt", f"{start}deep--two.bin"}
