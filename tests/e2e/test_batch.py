"""Jobs of a real Slurm that reach the buffer by its public address alone: as docs/batch.md says it, line by line."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uproot
import yaml

from testbed import asking, batch, cluster
from testbed import session as session_image
from testbed.layout import CHECKOUT, CLIENT, NETWORK, NODE, RUCIO, SITES
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import assert_nothing_left, docker, end_of, new_dataset
from volatile_rse.api.names import lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

PAGE = (CHECKOUT / "docs" / "batch.md").read_text()
COMMANDS = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE)
TAKE, RELEASE, APPLY, FETCH, COPY, SUBMIT, ANALYSE = COMMANDS
(BY_PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
LISTED = 'print(*vrse.current().files("dimuon"), sep="\\n")'
EXAMPLE, OFFLOADED = CHECKOUT / "examples" / "slurm", CHECKOUT / "examples" / "interlink"
ENVIRONMENT = "folder=$PWD/dimuon-batch; . dimuon-batch/environment.sh"


@pytest.fixture
def slurm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a batch system; a test may say that ROOT is to be there."""
    batch.start(session_image.image() if getattr(request, "param", None) == "ROOT" else "")
    yield
    batch.remove()


@pytest.fixture
def admin(tmp_path: Path, session: Session, dataset: str) -> Path:
    """Give the folder of somebody who has kubectl, the example, and a class and a dataset of this test."""
    folder = tmp_path / "examples" / "slurm"
    shutil.copytree(EXAMPLE, folder)
    request = yaml.safe_load((folder / "volatilerse.yaml").read_text())
    request["spec"] |= {"className": session.class_name, "session": request["spec"]["session"] | {"endGrace": "2s"}}
    request["spec"]["outputs"][0] |= {"dataset": dataset}
    (folder / "volatilerse.yaml").write_text(yaml.safe_dump(request))
    return tmp_path


@pytest.fixture
def dataset() -> str:
    return new_dataset()


def run(command: str, folder: Path, session: Session) -> None:
    """Run a line of the page where kubectl is, in the namespace of this test."""
    (folder / "bin").mkdir(exist_ok=True)
    words = " ".join(map(shlex.quote, cluster._kubectl()))
    (folder / "bin" / "kubectl").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (folder / "bin" / "kubectl").chmod(0o755)
    there = command.replace("alice", session.namespace)
    environment = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", there], check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def shell(command: str) -> str:
    return batch.asked("sh", "-ec", command)


def look(session: Session) -> None:
    """Have the operator look now, which it does within a minute by itself."""
    said = f"looked={datetime.now(UTC).timestamp()}"
    cluster.kubectl("-n", session.namespace, "annotate", "volatilerse", session.name, said, "--overwrite")


def read(kind: str, name: str, session: Session) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(cluster.kubectl("-n", session.namespace, "get", kind, name, "-o", "json"))
    return body


def state_of(job: str) -> str:
    [state] = re.findall(r"JobState=(\S+)", batch.asked("scontrol", "show", "job", job))
    return str(state)


def begun(session: Session, admin: Path) -> Path:
    """Have a usable session, and what its jobs need where they are submitted; give the folder that was fetched."""
    run(APPLY, admin, session)
    run(FETCH, admin, session)
    fetched = admin / "dimuon-batch"
    words = COPY.split()
    assert words[:2] + words[-1:] == ["scp", "-pr", "LOGIN:"]
    for folder in words[2:-1]:
        batch.put(fetched if folder == fetched.name else CHECKOUT / folder)
    return fetched


def done(session: Session, job: str) -> dict[str, Any]:
    """Await the end of a job that ends well, and of the session after it; give its record."""
    wait_for("the job has ended", lambda: state_of(job) not in {"PENDING", "RUNNING", "COMPLETING"}, 300)
    assert state_of(job) == "COMPLETED", shell(f"cat slurm-{job}.out")
    look(session)
    wait_for("the session is over", lambda: session.record()["status"]["session"].get("endedAt"), 90)
    record = session.wait_closed(240)
    assert record["status"]["session"]["endReason"] == "PodsGone"
    assert_nothing_left(record)
    return record


@pytest.fixture
def mine(session: Session) -> Iterator[Session]:
    """Give the session of the example."""
    made = Session(session.namespace, "dimuon-batch", session.class_name)
    yield made
    end_of(made)


@pytest.mark.usefixtures("slurm")
def test_a_job_waits_in_a_queue_reads_writes_and_is_kept(mine: Session, admin: Path, dataset: str) -> None:
    fetched = begun(mine, admin)
    assert {path.stat().st_mode & 0o077 for path in fetched.rglob("*")} == {0}
    sizes = [json.loads(line)["bytes"] for line in (fetched / "config" / "inputs.jsonl").read_text().splitlines()]
    inside = (fetched / "config" / "VRSE_ROOT_URL").read_text()
    assert shell(f"getent hosts {inside.split('/')[2].partition(':')[0]} || echo unknown").strip() == "unknown"
    # Nor is there a way to the API server, to a site or to the catalogue.
    for host, port in ((NODE, 6443), (SITES["SITE-A"], 1094), (RUCIO, 8443)):
        reach = ("bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}")
        docker("exec", CLIENT, *reach)
        with pytest.raises(StepError, match="Connection refused"):
            batch.asked(*reach)

    # The queue stands still, and the session lives by the lease of the job that waits there.
    batch.administer("scontrol", "update", "PartitionName=batch", "State=DOWN")
    job = shell(SUBMIT).strip()
    look(mine)
    active = wait_for("the lease is seen", lambda: mine.is_true("SessionActive") and mine.condition("SessionActive"))
    assert "a lease holds it at least until" in active["message"]
    left = datetime.fromisoformat(mine.record()["status"]["session"]["leasedUntil"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert state_of(job) == "PENDING"
    shell(f"{ENVIRONMENT}; {TAKE}; {RELEASE}")
    # The library finds all of it by its public address.
    shutil.copytree(CHECKOUT / "operator" / "volatile_rse" / "session", admin / "lib" / "volatile_rse" / "session")
    batch.put(admin / "lib")
    program = shlex.quote(BY_PYTHON.replace("    ...", "    print(vrse.current().outputs)") + LISTED)
    said = shell(f"{ENVIRONMENT}; PYTHONPATH=lib python3 -c {program}").split("\n")
    public = (fetched / "config" / "VRSE_PUBLIC_ROOT_URL").read_text()
    assert said[0] == "[]"
    assert [url.startswith(f"{public}//store/") for url in said[1:-1]] == [True] * len(sizes)

    batch.administer("scontrol", "update", "PartitionName=batch", "State=UP")
    record = done(mine, job)
    with pytest.raises(StepError, match=r"curl: \(\d+\)"):
        shell(f"{ENVIRONMENT}; {TAKE}")
    [file] = asking.kept("user.alice", dataset, "SITE-B")
    assert file.name == lfn_name(dataset, record["spec"]["recordId"], b"histograms/sizes.txt")
    assert file.states == {"SITE-B": "AVAILABLE"}
    assert [int(size) for size in asking.download(file, admin).read_text().split()] == sizes


@pytest.mark.people
@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("slurm", ["ROOT"], indirect=True)
def test_rdataframe_reads_and_writes_in_a_job(mine: Session, admin: Path, dataset: str) -> None:
    begun(mine, admin)
    job = shell(ANALYSE).strip()
    record = done(mine, job)
    names = {file.name: file for file in asking.kept("user.alice", dataset, "SITE-B")}
    written = [f"histograms/{name}".encode() for name in ("dimuon_mass.root", "dimuon_mass.png", "z_pairs.root")]
    assert set(names) == {lfn_name(dataset, record["spec"]["recordId"], path) for path in written}
    with uproot.open(asking.download(names[lfn_name(dataset, record["spec"]["recordId"], written[0])], admin)) as file:
        assert file["dimuon_mass"].to_numpy()[0].sum() > 1000


@pytest.mark.people
@pytest.mark.usefixtures("slurm")
def test_a_job_that_is_lost_ends_its_session_after_its_lease(mine: Session, admin: Path, dataset: str) -> None:
    begun(mine, admin)
    # It has a shorter lease than the example's half hour, and lives until its node is lost.
    shorter = "lease slurm-$SLURM_JOB_ID 20s; echo wrote > wrote; sleep 3000"
    command = f"sh slurm/copy.sh; . dimuon-batch/environment.sh; {shorter}"
    job = shell(f"folder=dimuon-batch {SUBMIT.partition(' sh slurm/copy')[0]} sh -ec {shlex.quote(command)}").strip()
    wait_for("it has written", lambda: "wrote" in shell("cat wrote 2>/dev/null || true"), 180)
    batch.administer("scancel", "--full", "--signal=KILL", job)
    wait_for("it is lost", lambda: state_of(job) not in {"PENDING", "RUNNING", "COMPLETING"}, 60)
    assert state_of(job) != "COMPLETED"
    look(mine)
    wait_for("the session is over", lambda: mine.record()["status"]["session"].get("endedAt"), 180)
    assert mine.wait_closed(240)["status"]["session"]["endReason"] == "PodsGone"
    assert [file.states for file in asking.kept("user.alice", dataset, "SITE-B")] == [{"SITE-B": "AVAILABLE"}]


@pytest.mark.people
def test_an_offloaded_pod_needs_secret_configmap_and_emptydir_alone(
    session: Session, dataset: str, tmp_path: Path
) -> None:
    """A container beside the cluster gets exactly what interLink copies for a pod."""
    mine = Session(session.namespace, "dimuon-offloaded", session.class_name)
    request = yaml.safe_load((OFFLOADED / "volatilerse.yaml").read_text())["spec"]
    request["outputs"][0]["dataset"] = dataset
    mine.request(**{key: request[key] for key in ("inputs", "outputs")})
    wait_for("it is usable", lambda: mine.is_true("Usable"), 180)
    pod = yaml.safe_load((OFFLOADED / "job.yaml").read_text())["spec"]["template"]["spec"]
    scripts = {"data": {"analysis.py": (CHECKOUT / "examples" / "dimuon" / "analysis.py").read_text()}}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    options = ["--network", NETWORK]
    for volume in pod["volumes"]:
        [kind] = set(volume) - {"name"}
        assert kind in {"configMap", "secret", "emptyDir"}
        folder = tmp_path / volume["name"]
        folder.mkdir()
        folder.chmod(0o777)
        if kind == "emptyDir":
            options += ["-v", f"{folder}:{mounts[volume['name']]}"]
            continue
        name = volume[kind].get("name") or volume[kind]["secretName"]
        body = scripts if name == "dimuon-analysis" else read(kind, name, mine)
        for key, value in body["data"].items():
            (folder / key).write_bytes(b64decode(value) if kind == "secret" else value.encode())
        options += ["-v", f"{folder}:{mounts[volume['name']]}:ro"]
    container = pod["containers"][0]
    for entry in container["env"]:
        options += ["-e", f"{entry['name']}={entry['value']}"]
    command = ["--entrypoint", container["command"][0], session_image.image(), *container["command"][1:]]
    cli = ["docker", "run", "--rm", *options, *command, *container["args"]]
    ran = subprocess.run(cli, check=False, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    mine.delete()
    record = mine.wait_closed(240)
    names = {file.name for file in asking.kept("user.alice", dataset, "SITE-B")}
    assert lfn_name(dataset, record["spec"]["recordId"], b"histograms/z_pairs.root") in names
    assert_nothing_left(record)
