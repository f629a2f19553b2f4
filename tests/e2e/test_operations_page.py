"""The single commands of docs/operations.md, docs/user.md, docs/reasons.md and others are taken by cluster and Rucio.

Which they are is in tests/commands.txt, under the name of this module. Each is executed once for a session that runs,
in the order in which they stand there, with the names of that session in place of those of the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from testbed import asking, cluster, grid, installation
from testbed.layout import CHECKOUT, CLIENT, NODE
from testbed.sessions import Session, wait_for
from tests import commands, pages
from tests.e2e.flows import NANO, new_dataset, output

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.people]

ME = "tests/e2e/test_operations_page.py"
TEXTS = {each.name: each.text for page in commands.pages() for each in commands.shown(page)}
OF_THE_CLUSTER = re.compile(
    r"kubectl (?:-n volatile-rse-buffers |-n volatile-rse )?"
    r"(?:taint|delete (?:node|pv|pvc|-f)|create (?:-f|secret|clusterrolebinding)|apply )"
)
"""What changes more than this session: the API server judges it all the same, and does not do it."""


def prepared(text: str, names: dict[str, str]) -> str:
    """Put the names of a session in place of those of a page; have the API server only judge what is of the cluster."""
    for word, name in names.items():
        # A word in capitals may be a part of another one.
        pattern = rf"(?<![\w$-]){word}(?!\w)" if re.fullmatch("[A-Z]+", word) else re.escape(word)
        text = re.sub(pattern, name.replace("\\", "\\\\"), text)
    return f"{text.strip()} --dry-run=server" if OF_THE_CLUSTER.match(text.strip()) else text


def names_for(session: Session, class_name: str) -> dict[str, str]:
    record, rule = session.record()["spec"], asking.rules("user.alice", "nano_dimuon")[0]["id"]
    pod = session.pods()[0].removeprefix("pod/")
    user = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    return {
        "vrse NAME": f"vrse {session.name}", "vrse/NAME": f"vrse/{session.name}", "hello": session.name,
        "volatilerse NAME -n NAMESPACE": f"volatilerse {session.name} -n {session.namespace}",
        "session=NAME": f"session={session.name}", "label pod POD": f"label --overwrite pod {pod}",
        "rucioconnection NAME": f"rucioconnection {installation.CONNECTION}",
        "volatilerseclass NAME": f"volatilerseclass {class_name}", "vrseclass NAME": f"vrseclass {class_name}",
        "vrseclass standard": f"vrseclass {class_name}",
        "-n alice": f"-n {session.namespace}", "namespace alice": f"namespace {session.namespace}",
        "namespace $NAMESPACE": f"namespace {session.namespace} --overwrite",
        "-n NAMESPACE label pod -l KEY=VALUE": f"-n {session.namespace} label pod -l job-name={session.name}",
        '"requestedBy":"alice"': f'"requestedBy":"{user}"', '"requestedBy":"admin"': f'"requestedBy":"{user}"',
        "vrse-…": f"vrse-{record['recordId']}", "VRSE-…": record["rseName"], "<id>": record["recordId"],
        "$ID": record["recordId"], "ksy7bgijk4": record["recordId"], "VRSE-KSY7BGIJK4": record["rseName"],
        "NODE": NODE, "DID": NANO["did"], "SCOPE:*": "'user.alice:nano*'", "ACCOUNT": "alice", "EXPRESSION": "SITE-A",
        "RSE": "SITE-A", "ID": rule, "=reading": "=README.md", "=writing": "=README.md",
    }  # fmt: skip


IN_A_POD = ("curl ", "install ", "xrdcp ", "xrdfs ")
HELD = """
echo written
while [ ! -e /tmp/go ]; do sleep 0.2; done
"""


def in_a_pod(texts: list[str]) -> str:
    """Give the script of a pod that does these, with the variables that a label would have given it."""
    keys = ("VRSE_ROOT_URL", "VRSE_DAVS_URL", "VRSE_OUTBOX", "VRSE_PUBLISH", "VRSE_INPUTS_URL", "VRSE_STATUS")
    known = "".join(f"export {key}=$(cat /etc/vrse/{key})\n" for key in keys)
    write = "echo a > a.root\nxrdcp -s a.root $VRSE_ROOT_URL/$VRSE_OUTBOX/histograms/a.root\n"
    shown = "\n".join(f"echo\n{text.replace(' URL', ' $VRSE_DAVS_URL$VRSE_STATUS')}" for text in sorted(texts))
    return f"set -x\ncd /tmp\n{known}{write}{shown}\ngrep -c did inputs.jsonl\n{HELD}"


@pytest.mark.timeout(900)
def test_each_of_them_is_taken(session: Session, tmp_path: Path) -> None:
    texts = {name: TEXTS[name] for module, name in commands.listed() if module == ME}
    inside = [text for text in texts.values() if text.startswith(IN_A_POD)]
    assert {text.split()[0] for text in inside} == {"curl", "install", "xrdcp", "xrdfs"}
    kept = output(new_dataset()) | {"path": "histograms/**", "register": "Continuous"}
    session.request(inputs=[NANO], outputs=[kept])
    session.job(in_a_pod(inside))
    log = wait_for("the pod has done its part", lambda: (log := session.log()) and "\nwritten" in log and log)
    assert log.count('"updated":') == 2, "the status file, by each of the two commands that show it"

    where = ("-l", f"volatilerse.io/record={session.record()['spec']['recordId']}", "-o", "name")
    volume = cluster.kubectl("get", "pv", *where).strip().removeprefix("persistentvolume/")
    names = {**names_for(session, session.class_name), "PV": volume}
    login = f"--account root --auth-strategy userpass --user root --password {grid.grid().passwords['root']}"
    programs = {
        "rucio": f"docker exec {CLIENT} /opt/client/bin/rucio {login}",
        "vrse": f"env PYTHONPATH={CHECKOUT / 'operator'} {sys.executable} -m volatile_rse.cli",
    }
    there = f"kubectl config set-context --current --namespace={session.namespace}\n"
    refused = {}
    for name, text in texts.items():
        if text not in inside:
            done = pages.tried(there + prepared(text, names), tmp_path, programs, 120)
            if done.returncode != 0 and "previous terminated container" not in done.stderr:
                refused[name] = f"{done.stdout[-500:]}{done.stderr[-1500:]}"
    assert not refused
    assert session.body() is None, "the last one deletes it"
    session.wait_closed(240)
