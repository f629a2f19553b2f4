"""What sessions write, by the programs that write it, judged at the destination."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import subprocess
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from testbed import asking, cluster, grid
from testbed.layout import SITES
from testbed.sessions import Session, wait_for
from tests.e2e.flows import ALICE, assert_kept_as, assert_nothing_left, discard, end_of, new_dataset, output, patch
from volatile_rse.api.names import lfn_name

_log = logging.getLogger(__name__)

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


def touch(session: Session, path: str) -> None:
    for pod in session.pods():
        cluster.kubectl("-n", session.namespace, "exec", pod, "--", "touch", path)


ODD = """
BASE=$ROOT_URL/$OUTBOX
mkdir -p /tmp/tree/kept/ds.parquet/x=1 /tmp/tree/kept/small /tmp/tree/kept/.ipynb_checkpoints
cd /tmp/tree/kept
for n in $(seq 40); do echo $n > small/$n.txt; done
: > empty
echo spaced > 'a b.txt'
echo umlaut > ünï.txt
echo part > ds.parquet/x=1/part-0.parquet
: > ds.parquet/_SUCCESS
echo once > rewritten.txt
echo name > before.txt
echo gone > deleted.txt
echo lying > .ipynb_checkpoints/n.txt
cd /tmp/tree
xrdcp -s -r /tmp/tree/kept $BASE/
echo twice > kept/rewritten.txt
xrdcp -s -f kept/rewritten.txt $BASE/kept/rewritten.txt
xrdfs $ROOT_URL mv $OUTBOX/kept/before.txt $OUTBOX/kept/after.txt
mv kept/before.txt kept/after.txt
xrdfs $ROOT_URL rm $OUTBOX/kept/deleted.txt
rm -r kept/deleted.txt kept/.ipynb_checkpoints
echo nobody > /tmp/notes.txt
xrdcp -s /tmp/notes.txt $BASE/notes.txt
cd kept
find . -type f -printf '%P\\n' | while read -r file; do
  echo "$(xrdadler32 "$file" | cut -d' ' -f1) $file"
done > /tmp/left
echo "left $(base64 -w0 /tmp/left)"
(head -c 1000000 /dev/zero; sleep 600) | xrdcp -s - $BASE/kept/torn.bin &
echo written
sleep 600
"""


def test_odd_trees_are_told_while_the_session_runs_and_kept_at_its_end(session: Session) -> None:
    dataset = new_dataset()
    session.request(outputs=[output(dataset)])
    session.job(ODD)
    wait_for("the Job has written", lambda: "written" in session.log(), 240)

    def told() -> bool:
        [kept] = session.status().get("outputs") or [{}]
        return (kept.get("files"), kept.get("open")) == (48, 1)

    wait_for("the files are counted", told, 90)
    assert session.status()["unmatched"] == {"files": 1, "bytes": 7}
    warned = session.condition("SessionActive")
    assert (warned["status"], warned["reason"]) == ("True", "UnmatchedFiles")
    assert "notes.txt" in warned["message"]
    lines = base64.b64decode(session.log().split("left ", 1)[1].split()[0]).decode().splitlines()
    sums = {path: adler32.rjust(8, "0") for adler32, _, path in (line.partition(" ") for line in lines)}
    # While the upload is under way: of one that is broken off earlier, XRootD leaves nothing.
    end = '{"spec": {"endRequested": true}}'
    cluster.kubectl("-n", session.namespace, "patch", "volatilerse", session.name, "--type=merge", "-p", end)
    record = session.wait_closed()
    assert len(sums) == 47
    assert_kept_as(dataset, record, sums)
    exceptions = sorted(text.split(" (")[0] for text in record["status"]["outcome"]["exceptions"])
    assert exceptions == ["excluded: kept/.ipynb_checkpoints/n.txt", "torn: kept/torn.bin", "unmatched: notes.txt"]
    assert_nothing_left(record)


PUBLISH = """
PUBLISH=$(cat /etc/vrse/VRSE_PUBLISH)
for name in first second; do
  echo $name > /tmp/$name.txt
  xrdcp -s /tmp/$name.txt $ROOT_URL/$OUTBOX/kept/deep/$name.txt
done
xrdfs $ROOT_URL mv $OUTBOX/kept/deep/first.txt $PUBLISH/kept/deep/first.txt
echo published
while [ ! -e /tmp/again ]; do sleep 0.2; done
xrdfs $ROOT_URL mv $OUTBOX/kept/deep/second.txt $PUBLISH/kept/deep/first.txt
echo twice
while [ ! -e /tmp/go ]; do sleep 0.2; done
xrdfs $ROOT_URL mv $PUBLISH/kept/deep/first.txt $PUBLISH/kept/deep/second.txt
"""


def test_what_is_published_is_in_the_dataset_while_the_session_runs(session: Session) -> None:
    dataset = new_dataset()
    session.request(outputs=[output(dataset) | {"register": "Continuous"}])
    session.job(PUBLISH)
    wait_for("it is published", lambda: "published" in session.log())

    def kept() -> list[str]:
        if not (session.status().get("outputs") or [{}])[0].get("safe"):
            return []
        return [file.name for file in asking.kept("user.alice", dataset, "SITE-B") if file.bytes == file.site_bytes]

    [first] = wait_for("it is kept", kept, 90)
    assert first == lfn_name(dataset, session.record()["spec"]["recordId"], b"kept/deep/first.txt")
    assert session.condition("SessionActive")["status"] == "True"
    [rule] = asking.rules("user.alice", dataset)
    assert (rule["state"], rule["rse_expression"]) == ("OK", "SITE-B")
    touch(session, "/tmp/again")  # noqa: S108
    refused = wait_for(
        "the second version is refused",
        lambda: (said := session.condition("SessionActive")).get("reason") == "NotPublished" and said,
    )
    assert "USER must give it another name" in refused["message"]
    touch(session, "/tmp/go")  # noqa: S108
    record = session.wait_closed()
    assert session.is_true("OutputsSafe")
    assert_kept_as(dataset, record, {"deep/first.txt": "088a0233", "deep/second.txt": "0b510287"})
    assert len(asking.rules("user.alice", dataset)) == 1
    assert_nothing_left(record)


def writing(**files: str) -> str:
    return "".join(
        f"echo {text} > /tmp/x; xrdcp -s /tmp/x $ROOT_URL/$OUTBOX/kept/{name}\n" for name, text in files.items()
    )


@pytest.mark.long
def test_a_dataset_that_is_written_to_twice_has_one_version_of_each_path(session: Session) -> None:
    dataset, second = new_dataset(), dataclasses.replace(session, name="second")

    def content() -> dict[str, int]:
        files = asking.kept("user.alice", dataset, "SITE-B")
        assert all(file.states == {"SITE-B": "AVAILABLE"} for file in files)
        return {file.name: file.site_bytes or 0 for file in files}

    session.request(outputs=[output(dataset)])
    session.job(writing(same="one", changed="one"))
    first = session.wait_closed()["spec"]["recordId"]
    try:
        second.request(outputs=[output(dataset)])
        second.job(writing(same="one", changed="another", new="new"))
        refused = wait_for(
            "the other version is told",
            lambda: (said := second.condition("OutputsSafe")).get("reason") == "VersionExists" and said,
            240,
        )
        assert f"kept/changed (as user.alice:{dataset}.{first}.kept--changed)" in refused["message"]
        assert "USER must act" in refused["message"]
        patch(
            ["-n", second.namespace, "vrse", second.name],
            {"teardown": discard(second.status()["rse"], "alice")},
            *ALICE,
        )
        record = second.wait_closed()
    finally:
        end_of(second)
    names = {lfn_name(dataset, first, f"kept/{name}".encode()): 4 for name in ("same", "changed")}
    assert content() == names | {lfn_name(dataset, record["spec"]["recordId"], b"kept/new"): 4}
    assert (record["status"]["outcome"]["files"], record["status"]["discarded"]["files"]) == (2, 1)
    assert len(asking.rules("user.alice", dataset)) == 1


SMALL, GREAT = 5000, 3 << 30
MANY = f"""
mkdir -p /tmp/tree/kept/small
cd /tmp/tree/kept
for n in $(seq {SMALL}); do echo result $n > small/$n.txt; done
truncate -s {GREAT} great.bin
printf begin | dd of=great.bin conv=notrunc status=none
printf end >> great.bin
cd /tmp/tree
xrdcp -s -r --parallel 4 kept $ROOT_URL/$OUTBOX/
echo written
"""
"""The great file is sparse here only: what is sent, summed, copied and kept has all its bytes."""
SUMS = """
import json, sys, zlib
found = {}
for path in json.load(sys.stdin):
    size, value = 0, 1
    try:
        with open("/data" + path, "rb") as stream:
            while data := stream.read(1 << 22):
                size, value = size + len(data), zlib.adler32(data, value)
    except FileNotFoundError:
        continue
    found[path] = [size, f"{value:08x}"]
print(json.dumps(found))
"""
THERE = """
import json, os, sys
print(json.dumps({path: [0, ""] for path in json.load(sys.stdin) if os.path.exists("/data" + path)}))
"""


def on_disk(rse: str, paths: list[str], look: str = SUMS) -> dict[str, tuple[int, str]]:
    """Look for files on a site's own disk: sizes and checksums of those that are there."""
    argv = ["docker", "exec", "-i", SITES[rse], "python3", "-c", look]
    done = subprocess.run(argv, input=json.dumps(paths), capture_output=True, text=True, check=True, timeout=120)
    return {path: (size, adler32) for path, (size, adler32) in json.loads(done.stdout).items()}


def expected() -> dict[str, tuple[int, str]]:
    """Give path, size and checksum of each file that MANY writes."""
    files = {f"small/{n}.txt": f"result {n}\n".encode() for n in range(1, SMALL + 1)}
    value, block, size = zlib.adler32(b"begin"), bytes(1 << 22), GREAT + len(b"end")
    for at in range(len(b"begin"), GREAT, len(block)):
        value = zlib.adler32(block[: GREAT - at], value)
    great = {"great.bin": (size, f"{zlib.adler32(b'end', value):08x}")}
    return {path: (len(data), f"{zlib.adler32(data):08x}") for path, data in files.items()} | great


@pytest.fixture
def short_lived() -> Iterator[str]:
    """Give the name of a dataset whose files are taken off the site at the end: they are great."""
    name = new_dataset()
    yield name
    client = grid.client("root")
    paths = [urlsplit(entry["rses"]["SITE-B"][0]).path for entry in replicas(name) if "SITE-B" in entry["rses"]]
    for rule in asking.rules("user.alice", name):
        # A rule that is deleted stays for an hour.
        client.update_replication_rule(rule["id"], {"lifetime": 0, "purge_replicas": True})
    wait_for("the site has room again", lambda: not on_disk("SITE-B", paths, THERE), 300, 5)


def replicas(dataset: str) -> list[dict[str, Any]]:
    return list(grid.client(grid.ALICE).list_replicas([{"scope": "user.alice", "name": dataset}], all_states=True))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_thousands_of_outputs_and_a_great_one_come_to_safety(session: Session, short_lived: str) -> None:
    session.request(capacity="8Gi", outputs=[output(short_lived)])
    session.job(MANY)
    wait_for("the Job has written", lambda: "written" in session.log(), 600, 1)
    written = time.monotonic()
    wait_for("the outputs are safe", lambda: session.is_true("OutputsSafe"), 900, 1)
    _log.info(
        "%d files, one of %d bytes: safe %.0f s after they were written", SMALL + 1, GREAT, time.monotonic() - written
    )
    record_id = session.record()["spec"]["recordId"]
    files = {lfn_name(short_lived, record_id, f"kept/{path}".encode()): facts for path, facts in expected().items()}
    entries = replicas(short_lived)
    assert {entry["name"]: (entry["bytes"], entry["adler32"]) for entry in entries} == files
    assert all(entry["states"].get("SITE-B") == "AVAILABLE" for entry in entries)
    [rule] = asking.rules("user.alice", short_lived)
    assert (rule["state"], rule["rse_expression"], rule["locks_ok_cnt"]) == ("OK", "SITE-B", SMALL + 1)
    names = {urlsplit(entry["rses"]["SITE-B"][0]).path: entry["name"] for entry in entries}
    there = on_disk("SITE-B", list(names))
    assert {names[path]: facts for path, facts in there.items()} == files
    record = session.wait_closed(900)
    _log.info("nothing is left of the buffer %.0f s after they were written", time.monotonic() - written)
    assert record["status"]["outcome"]["files"] == SMALL + 1
    assert record["status"]["outcome"]["exceptions"] == []
    assert_nothing_left(record)
