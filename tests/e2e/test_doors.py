"""RSEs that are not one door to one disk: several doors, another algorithm of paths."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from testbed import asking, grid
from testbed.layout import SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, SIZES, WRITE, assert_nothing_left, let_go, new_dataset, output
from volatile_rse.api.names import identity_path

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
