"""What the end-to-end tests of whole sessions share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from testbed import asking, cluster, grid, installation, samples
from testbed.layout import CHECKOUT, KUBECONFIG
from testbed.sessions import Session, wait_for
from volatile_rse.api.names import lfn_name

NANO = {"name": "nano", "did": "user.alice:nano_dimuon"}
WRITE = """
seq 1 1000 > /tmp/one.txt
head -c 2000000 /dev/urandom > /tmp/two.bin
xrdcp -f /tmp/one.txt $ROOT_URL/$OUTBOX/kept/one.txt
xrdcp -f /tmp/two.bin $ROOT_URL/$OUTBOX/kept/deep/two.bin
xrdcp -f /tmp/one.txt $ROOT_URL/$OUTBOX/scratch.txt
xrdadler32 /tmp/one.txt /tmp/two.bin
"""
PUBLISH = """
echo published > /tmp/one.txt
xrdcp -s /tmp/one.txt $ROOT_URL/$OUTBOX/kept/one.txt
xrdfs $ROOT_URL mv $OUTBOX/kept/one.txt $(cat /etc/vrse/VRSE_PUBLISH)/kept/one.txt
echo written
while [ ! -e /tmp/go ]; do sleep 0.2; done
"""
"""Publishes a file, and then waits as long as it may."""
ALICE, BOB = (f"--as={name} --as-group=system:masters".split() for name in ("alice", "bob"))
"""Arguments of kubectl, for what people do by their own names."""
SIZES = [3893, 2000000]
"""Of the files that are kept of what WRITE writes."""


@contextmanager
def fresh_namespace() -> Iterator[str]:
    cluster.guard()
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@contextmanager
def fresh_dataset(kind: str, files: int, size: int) -> Iterator[tuple[str, list[str]]]:
    """Publish a dataset at the first site; give its name, and the paths of its files in the client's container."""
    dataset = f"{kind}_{uuid.uuid4().hex[:10]}"
    folder = samples.SAMPLES / dataset
    folder.mkdir(parents=True)
    try:
        paths = [folder / f"{dataset}_{number}" for number in range(files)]
        for path in paths:
            path.write_bytes(os.urandom(size))
        samples.publish(dataset, paths)
        yield f"{samples.SCOPE}:{dataset}", [f"/samples/{dataset}/{path.name}" for path in paths]
    finally:
        shutil.rmtree(folder)


def new_session(namespace: str) -> Iterator[Session]:
    """Give a session in a namespace of its own, with a class that grants it alice's account; clean up after it."""
    installation.enable(namespace)
    grants = [{"namespaces": [namespace], "accounts": ["alice"], "scopes": ["user.alice"]}]
    installation.apply([installation.class_of(namespace, grants)])
    made = Session(namespace, "run", namespace)
    yield made
    end_of(made)
    cluster.kubectl("delete", "volatilerseclasses", namespace, "--ignore-not-found")


def end_of(session: Session) -> None:
    """Have nothing left of a session but its record."""
    if session.body() is not None:
        session.delete()
    if session.record():
        session.wait_closed()


def output(dataset: str, **destination: object) -> dict[str, Any]:
    return {
        "name": "kept",
        "path": "kept/**",
        "scope": "user.alice",
        "dataset": dataset,
        "destination": {"rseExpression": "SITE-B", "lifetime": "1d", **destination},
    }


def new_dataset() -> str:
    return f"out.{uuid.uuid4().hex[:10]}"


def assert_kept(dataset: str, record: dict[str, Any], sizes: Sequence[int]) -> None:
    """Rucio and SITE-B themselves say that the outputs are there, held by a rule."""
    files = asking.kept("user.alice", dataset, "SITE-B")
    assert sorted(file.bytes for file in files) == sorted(sizes)
    for file in files:
        assert file.states == {"SITE-B": "AVAILABLE"}
        assert (file.site_bytes, file.site_adler32) == (file.bytes, file.adler32)
    rules = asking.rules("user.alice", dataset)
    assert [(rule["account"], rule["state"], rule["rse_expression"]) for rule in rules] == [("alice", "OK", "SITE-B")]
    assert rules[0]["locks_ok_cnt"] == len(sizes)
    assert record["status"]["outcome"]["files"] == len(sizes)


def assert_kept_as(dataset: str, record: dict[str, Any], sums: Mapping[str, str]) -> None:
    """Rucio and the site itself have these paths with these checksums, and no others."""
    record_id = record["spec"]["recordId"]
    expected = {lfn_name(dataset, record_id, f"kept/{path}".encode()): adler32 for path, adler32 in sums.items()}
    files = asking.kept("user.alice", dataset, "SITE-B")
    assert {file.name: file.site_adler32 for file in files} == expected
    assert {file.name: file.adler32 for file in files} == expected
    assert all(file.states == {"SITE-B": "AVAILABLE"} for file in files)


def assert_nothing_left(record: dict[str, Any]) -> None:
    # Kubernetes takes a volume away a moment after its claim.
    wait_for("every trace to go", lambda: not asking.remains(record), 60)


def patch(what: list[str], spec: dict[str, object], *who: str) -> None:
    cluster.kubectl(*who, "patch", *what, "--type=merge", "-p", json.dumps({"spec": spec}))


def discard(rse: str, name: str) -> dict[str, object]:
    return {"discard": {"rse": rse, "requestedBy": name}}


def docker(*argv: object) -> str:
    done = subprocess.run(["docker", *map(str, argv)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def running(
    session: Session,
    script: str = WRITE,
    *,
    retries: int = 0,
    dataset: str = "",
    times: dict[str, Any] | None = None,
) -> str:
    """Bring a session to the point at which it has written and still runs; give its dataset."""
    dataset = dataset or new_dataset()
    session.request(inputs=[NANO], outputs=[output(dataset)], **({} if times is None else {"session": times}))
    session.job(f"{script}\necho written\nwhile [ ! -e /tmp/go ]; do sleep 0.2; done\n", retries=retries)
    wait_for("the Job has written", lambda: session.is_true("Usable") and "written" in session.log())
    return dataset


def let_go(session: Session) -> None:
    """Let a running session end by itself."""
    for pod in session.pods():
        cluster.kubectl("-n", session.namespace, "exec", pod, "--", "touch", "/tmp/go")  # noqa: S108


def finish(session: Session, dataset: str, seconds: float = 240) -> dict[str, Any]:
    """Await the end; all that was written is kept, and nothing remains."""
    record = session.wait_closed(seconds)
    assert_kept(dataset, record, SIZES)
    assert_nothing_left(record)
    return record


def headers(method: str, token: str | None) -> dict[str, str]:
    """Give the headers of a request to XRootD, which asks for the checksum where there is one."""
    found = {} if token is None else {"Authorization": f"Bearer {token}"}
    return found | ({"Want-Digest": "adler32"} if method in {"GET", "HEAD"} else {})


def states(rse: str, name: str) -> dict[str, str]:
    """Say what Rucio says of the replicas of each file of a DID on an RSE."""
    entries = grid.client("root").list_replicas([{"scope": "user.alice", "name": name}], all_states=True)
    return {entry["name"]: entry["states"][rse] for entry in entries if rse in entry["states"]}


def vrse(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of this clone, as an admin of the cluster."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "operator"), "KUBECONFIG": str(KUBECONFIG)}
    argv = (sys.executable, "-m", "volatile_rse.cli", *argv)
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=200)
