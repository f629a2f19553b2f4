"""The catalogue is a real one: stock commands move files, daemons do their work, alien authorities can be believed."""

from __future__ import annotations

import subprocess
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from testbed import grid, rucio
from testbed.layout import CLIENT, DAEMONS, DATABASE, SITES

pytestmark = pytest.mark.grid

SCOPE = "user.alice"


def shell(script: str, *, container: str = CLIENT) -> str:
    done = subprocess.run(
        ["docker", "exec", container, "sh", "-euc", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def eventually(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def alice() -> Any:
    return grid.client(grid.ALICE)


@pytest.fixture(scope="module")
def operator() -> Any:
    return grid.client(grid.OPERATOR)


@pytest.fixture
def name() -> Iterator[str]:
    """Give a file that alice has just uploaded to SITE-A."""
    name = f"upload-{uuid.uuid4().hex}.bin"
    shell(f"head -c 250000 /dev/urandom >{name}; rucio upload --rse SITE-A --scope {SCOPE} {name}")
    yield name
    shell(f"rm -f {name}")


def states(client: Any, name: str) -> dict[str, str]:
    found = list(client.list_replicas([{"scope": SCOPE, "name": name}], all_states=True))
    return found[0]["states"] if found else {}


def test_what_alice_uploads_she_downloads(alice: Any, name: str) -> None:
    assert states(alice, name) == {"SITE-A": "AVAILABLE"}
    shell(f"rucio download --dir down {SCOPE}:{name}; cmp {name} down/{SCOPE}/{name}")
    local = shell(f"cat {name} | sha256sum")
    (replica,) = alice.list_replicas([{"scope": SCOPE, "name": name}], schemes=["root"])
    assert [pfn.split("//")[1] for pfn in replica["pfns"]] == [f"{SITES['SITE-A']}:1094"]
    path = "/" + next(iter(replica["pfns"])).split("//", 2)[2]
    assert shell(f"sha256sum </data{path}", container=SITES["SITE-A"]) == local


def test_an_ended_rule_and_an_epoch_tombstone_take_a_file_away(alice: Any, operator: Any, name: str) -> None:
    (rule,) = alice.list_did_rules(SCOPE, name)
    operator.update_replication_rule(rule["id"], {"lifetime": 0})
    eventually("judge-cleaner removes the rule", lambda: not list(alice.list_did_rules(SCOPE, name)))
    # What is counted up late must not hide what is counted off.
    eventually("abacus-rse has counted the upload", lambda: not uncounted())
    used = usage(operator)
    operator.set_tombstone([{"scope": SCOPE, "name": name, "rse": "SITE-A"}])
    eventually("the reaper removes the replica", lambda: not states(alice, name))
    shell(f'test -z "$(find /data/store -name {name})"', container=SITES["SITE-A"])
    eventually("abacus-rse counts it off", lambda: usage(operator) < used)


def uncounted() -> int:
    """Give the number of changes of RSEs that no daemon has counted yet."""
    query = "select count(*) from dev.updated_rse_counters"
    psql = f'PGPASSWORD="$PASSWORD" /opt/postgresql/psql -h {DATABASE} -U rucio postgres -At'
    return int(shell(f"{psql} -c '{query}'", container=DATABASE))


def usage(client: Any) -> int:
    return next((int(one["used"]) for one in client.get_rse_usage("SITE-A") if one["source"] == "rucio"), 0)


def test_a_rule_on_what_is_there_holds_at_once_and_a_later_file_is_judged(alice: Any, name: str) -> None:
    dataset = f"judged-{uuid.uuid4().hex}"
    alice.add_dataset(SCOPE, dataset)
    (rule,) = alice.add_replication_rule([{"scope": SCOPE, "name": dataset}], 1, "SITE-A")
    alice.attach_dids(SCOPE, dataset, [{"scope": SCOPE, "name": name}])
    eventually("judge-evaluator locks the file", lambda: alice.get_replication_rule(rule)["locks_ok_cnt"] == 1)


def test_an_expired_dataset_is_undertaken(operator: Any) -> None:
    dataset = f"expired-{uuid.uuid4().hex}"
    operator.add_dataset(grid.LEDGER_SCOPE, dataset)
    operator.set_metadata(grid.LEDGER_SCOPE, dataset, "lifetime", 0)

    def is_gone() -> bool:
        return not list(operator.list_dids(grid.LEDGER_SCOPE, {"name": dataset}, did_type="dataset"))

    eventually("the undertaker removes the dataset", is_gone)


def test_alice_uploads_only_where_she_has_quota(alice: Any, operator: Any) -> None:
    from rucio.common.exception import AccessDenied  # noqa: PLC0415

    rse = f"CLOSED-{uuid.uuid4().hex[:8].upper()}"
    operator.add_rse(rse)
    file = {"scope": SCOPE, "name": rse, "bytes": 1, "adler32": f"{zlib.adler32(b'x'):08x}"}
    try:
        with pytest.raises(AccessDenied):
            alice.add_replicas(rse, [file])
    finally:
        operator.delete_rse(rse)


def test_a_daemon_that_ends_starts_again() -> None:
    def running() -> list[str]:
        return shell("pgrep -f rucio-undertaker || true", container=DAEMONS).split()

    before = running()
    shell(f"kill {before[0]}", container=DAEMONS)
    eventually("the undertaker runs again", lambda: bool(running()) and running() != before)


def test_an_authority_is_believed_by_running_containers() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another authority")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    now = datetime.now(UTC)
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    verify = f"printf '%s' '{pem}' | openssl verify -CApath /trust/certificates"
    rucio.add_authority("test", pem)
    try:
        shell(verify, container=DAEMONS)
        shell("test $(grep -c BEGIN /trust/bundle.pem) -ge 2")
    finally:
        rucio.remove_authority("test")
    with pytest.raises(AssertionError, match="self-signed certificate"):
        shell(verify, container=DAEMONS)
