"""A buffer that the operator cannot end is removed by hand, as the page for admins says, while the operator is down."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed import cluster, installation
from testbed.layout import CHECKOUT
from testbed.progress import StepError
from testbed.sessions import Session, wait_for
from tests.e2e.flows import assert_nothing_left, patch

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]


def documented(start: str) -> str:
    """Give the commands of the page for admins, from the one that begins so to the end of their block."""
    page = (CHECKOUT / "docs" / "operations.md").read_text().split("## Changing a record by hand\n")[1]
    lines = page[page.index(f"    {start}") :].splitlines()
    return "\n".join(itertools.takewhile(lambda line: not line or line.startswith("    "), lines))


def shell(commands: str, folder: Path, **names: str) -> str:
    """Run commands as an admin does, with the names of a buffer of the testbed in place of those of the page."""
    known = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in names.items())
    script = "\n".join(line for line in commands.splitlines() if not line.strip().startswith("export ") or "$(" in line)
    wrapped = f'kubectl() {{ {shlex.join(map(str, cluster._kubectl()))} "$@"; }}\n{known}\n{script}'
    done = subprocess.run(["bash", "-euxc", wrapped], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_buffer_is_removed_by_hand_as_the_page_for_admins_says(session: Session, tmp_path: Path) -> None:
    """Its request and its record hold what no API server takes any more; the operator still writes on them."""
    session.request()
    wait_for("Usable", lambda: session.is_true("Usable"))
    record = session.record()
    spec = record["spec"]
    shutil.copytree(CHECKOUT / "crds", tmp_path / "crds")
    claim = {**spec["claims"][0]}
    claim["request"]["session"]["ttl"] = "9999999d"
    names = {
        "ID": spec["recordId"],
        "NAMESPACE": session.namespace,
        "NAME": session.name,
        "OPERATOR": installation.OPERATOR,
    }
    loosen = documented("export KIND=")
    shell(loosen, tmp_path, KIND="rserecords", PATCH=json.dumps({"spec": {"claims": [claim]}}), **names)
    assert session.record()["spec"]["claims"][0]["request"]["session"]["ttl"] == "9999999d"
    claim["request"]["session"]["ttl"] = "9999998d"
    with pytest.raises(StepError, match="a duration is at most 3650d"):
        patch(["rser", record["metadata"]["name"]], {"claims": [claim]}, f"--as={installation.OPERATOR}")
    # What the policies keep from everybody else.
    mend = documented("export ID=ksy7bgijk4 PATCH=")
    shell(mend, tmp_path, PATCH='{"metadata":{"labels":{"volatilerse.io/mended":"true"}}}', **names)
    assert session.record()["metadata"]["labels"]["volatilerse.io/mended"] == "true"
    cluster.kubectl("-n", installation.NAMESPACE, "rollout", "status", "deployment/volatile-rse", "--timeout=120s")
    session.job("sleep 300")
    wait_for("its start is written down", lambda: session.record()["status"]["session"].get("startedAt"), 60)

    shell(documented("export ID=ksy7bgijk4 NAMESPACE="), tmp_path, **names)
    assert session.body() is None
    assert not session.record()
    volume = json.loads(cluster.kubectl("get", "pv", "-l", f"volatilerse.io/record={spec['recordId']}", "-o", "json"))
    assert [entry["spec"]["persistentVolumeReclaimPolicy"] for entry in volume["items"]] == ["Retain"]
    rse = {"INSTANCE": spec["instance"], "CLASS": spec["className"], "RSE": spec["rseName"]}
    said = shell(documented("kubectl -n volatile-rse exec"), tmp_path, **rse)
    assert f"{spec['rseName']} is adopted" in said
    closed = session.wait_closed(240)
    cluster.kubectl("delete", "pv", volume["items"][0]["metadata"]["name"])
    assert_nothing_left(closed)
