"""RSEs that are not one door to one disk: several doors, another algorithm of paths, tape."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from testbed import asking, grid
from testbed.layout import SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, SIZES, WRITE, assert_nothing_left, let_go, new_dataset, output
from volatile_rse.api.names import hash_path, identity_path

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

SCOPE = "user.alice"


def add_rse(doors: dict[str, int | None], **columns: object) -> str:
    """Make an RSE; doors are hosts with the priority that they have for all that is done from outside."""
    client, rse = grid.client("root"), f"DOORS-{uuid.uuid4().hex[:8].upper()}"
    client.add_rse(rse, **{"deterministic": True, "volatile": False, "rse_type": "DISK", **columns})
    for host, priority in doors.items():
        wan = dict.fromkeys(("read", "write", "delete", "third_party_copy_read", "third_party_copy_write"), priority)
        door = {
            "scheme": "davs", "hostname": host, "port": 8443, "prefix": "/store/",
            "impl": "rucio.rse.protocols.gfal.Default", "domains": {"wan": wan},
        }  # fmt: skip
        client.add_protocol(rse, door)
    return rse


@pytest.fixture
def two_doors() -> Iterator[str]:
    client = grid.client("root")
    rse = add_rse({SITES["SITE-A"]: 1, SITES["SITE-B"]: 0})
    client.add_rse_attribute(rse, "lfn2pfn_algorithm", "identity")
    client.set_local_account_limit(grid.ALICE, rse, 10**12)
    yield rse
    # What it has stays, and nobody else shall choose it.
    client.set_local_account_limit(grid.ALICE, rse, 0)
    client.update_rse(rse, {"availability_write": False})


def test_outputs_are_where_rucio_sends_readers(session: Session, two_doors: str) -> None:
    dataset = new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset, rseExpression=two_doors)])
    session.job(f"{WRITE}\necho written\nwhile [ ! -e /tmp/go ]; do sleep 0.2; done\n")
    wait_for("the Job has written", lambda: session.is_true("Usable") and "written" in session.log())
    let_go(session)
    record = session.wait_closed(240)
    files = asking.kept(SCOPE, dataset, two_doors)
    assert sorted(file.bytes for file in files) == sorted(SIZES)
    for file in files:
        assert urlsplit(file.pfn).hostname == SITES["SITE-B"]
        assert urlsplit(file.pfn).path == f"/store/{identity_path(SCOPE, file.name)}"
        assert (file.site_bytes, file.site_adler32) == (file.bytes, file.adler32)
    assert_nothing_left(record)


def test_what_is_on_tape_only_is_awaited_until_it_is_on_disk(session: Session) -> None:
    client, facts, name = grid.client("root"), grid.grid(), f"tape.{uuid.uuid4().hex[:10]}"
    data = name.encode() * 1000
    file: dict[str, Any] = {"scope": SCOPE, "name": f"{name}.0", "bytes": len(data)}
    file["adler32"] = f"{zlib.adler32(data):08x}"
    tape = add_rse({SITES["SITE-A"]: 1}, rse_type="TAPE")
    client.add_dataset(SCOPE, name, lifetime=86400)
    client.add_replicas(tape, [file])
    client.attach_dids(SCOPE, name, [file])
    session.request(inputs=[{"name": "in", "did": f"{SCOPE}:{name}"}])
    wait_for("it is told", lambda: session.condition("Stalled").get("reason") == "OnTape", 90)
    said = session.condition("Stalled")["message"]
    assert f"1 of 1 files are on tape only, for example {SCOPE}:{name}.0 at {tape}" in said
    assert "rucio rule add" in said
    # As a rule would do it.
    url = f"{facts.davs_outside['SITE-B']}/store/{hash_path(SCOPE, file['name'])}"
    token = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
    requests.put(url, data=data, headers=token, verify=facts.bundle, timeout=60).raise_for_status()
    client.add_replicas("SITE-B", [file])
    wait_for("Usable", lambda: session.is_true("Usable"), 180)
    session.delete()
    assert_nothing_left(session.wait_closed())
