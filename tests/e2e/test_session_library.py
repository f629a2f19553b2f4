"""A pod with Secret, ConfigMap and a stock image imports what docs/user.md says: no shell prepares anything."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path

import pytest
import uproot

from testbed import asking, installation, wheels
from testbed import session as session_image
from testbed.layout import CHECKOUT
from testbed.sessions import Session, wait_for
from tests.e2e.flows import NANO, assert_nothing_left, new_dataset, output
from volatile_rse.api.names import lfn_name

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

CHAPTER = (CHECKOUT / "docs" / "user.md").read_text().split("## From Python\n", 1)[1].split("\n## ", 1)[0]
FIVE_LINES = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)[0]
UNPACK = re.findall(r"    (python3 -m zipfile .*)\n", CHAPTER)[0]
ODD = "histograms/two words %20 #1 \N{GREEK SMALL LETTER MU}.txt"
"""XRootD decodes the path of a request, and not that of a destination."""
BY_HTTPS = f"""
import json
import urllib.request
import volatile_rse.session as vrse

s = vrse.current()
headers, context = s.https_options().values()
for number, url in enumerate(s.files("dimuon", https=True)):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context) as answer:
        print("read", number, answer.read(4))
written = urllib.request.Request(s.path({ODD!r}, https=True), b"odd", headers, method="PUT")
urllib.request.urlopen(written, context=context)
print("outputs", s.outputs)
s.publish({ODD!r})
print("outputs", s.outputs)
print(s)
print("told", json.dumps(s.status()))
"""
BY_ROOT_WITH_UPROOT = """
import uproot
import volatile_rse.session as vrse

for url in vrse.current().files("dimuon"):
    print("entries", uproot.open({url: "Events"}).num_entries)
"""
TUTORIAL = CHECKOUT / "docs" / "tutorials" / "dimuon.ipynb"
EXECUTED = """
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read("/files/dimuon.ipynb", 4)
NotebookClient(notebook, timeout=240).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        print(f"<{cell['id']}>", output.get("text") or output["data"]["text/plain"])
"""
SCRIPT = f"""
cd /tmp
cp /files/*.whl .
{UNPACK}
export PYTHONPATH=$PWD/lib
/opt/root/bin/python /files/five.py
python3 /files/https.py
/opt/uproot/bin/python /files/by_root.py
/opt/root/bin/python /files/executed.py
"""


def files_of(name: str, namespace: str, folder: Path) -> dict[str, object]:
    """Give the ConfigMap of the wheel, as `make wheels` builds it, and of the programs."""
    wheel = wheels.session(folder)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {
            "five.py": FIVE_LINES,
            "https.py": BY_HTTPS,
            "by_root.py": BY_ROOT_WITH_UPROOT,
            "executed.py": EXECUTED,
            "dimuon.ipynb": TUTORIAL.read_text(),
        },
        "binaryData": {wheel.name: b64encode(wheel.read_bytes()).decode()},
    }


def test_five_lines_read_write_and_publish(session: Session, tmp_path: Path) -> None:
    dataset = new_dataset()
    kept = output(dataset) | {"path": "histograms/**", "register": "Continuous"}
    installation.apply([files_of("programs", session.namespace, tmp_path / "wheel")])
    session.request(inputs=[NANO | {"name": "dimuon"}], outputs=[kept])
    session.job(SCRIPT, image=session_image.image(), unprepared="programs")
    wait_for("the Job has succeeded", session.succeeded, 300)
    log = session.log()
    assert re.findall(r"read (\d) (.*)", log) == [(str(number), "b'root'") for number in range(4)]
    assert re.findall(r"entries (\d+)", log) == ["50000"] * 4
    # What was written by ROOT is taken already, or about to be: it is in the outbox no more.
    assert re.findall(r"outputs (.*)", log) == [f"[Written(path={ODD!r}, bytes=3)]", "[]"]
    assert re.search(r"^input dimuon +4 of 4 files staged", log, re.MULTILINE)
    assert re.search(r"^written +0 files, 0 B in /outbox/", log, re.MULTILINE)
    assert re.search(r"^output \w+ +\d+ files", log, re.MULTILINE)
    assert re.search(r"^time left +\d+ min, until .* UTC at the latest", log, re.MULTILINE)
    told = json.loads(re.findall(r"^told (.*)$", log, re.MULTILINE)[0])
    assert told["usable"]
    assert [(entry["name"], entry["staged"]) for entry in told["inputs"]] == [("dimuon", 4)]
    assert told["expires"] > told["updated"]
    # The tutorial: ROOT and uproot in one kernel, and IPython itself that shows the session.
    assert re.search(r"^<wait> .*\n.*input dimuon +4 of 4 files staged", log, re.MULTILINE)
    (peak,) = re.findall(r"^<root> .* pairs, most of them at (.*) GeV", log, re.MULTILINE)
    assert 90 < float(peak) < 93
    (near,) = re.findall(r"^<uproot> (\d+) pairs between 60 and 120 GeV", log, re.MULTILINE)
    record = session.wait_closed(240)
    assert session.is_true("OutputsSafe")
    files = {file.name: file for file in asking.kept("user.alice", dataset, "SITE-B")}
    record_id = record["spec"]["recordId"]
    pairs, odd = (lfn_name(dataset, record_id, path.encode()) for path in ("histograms/pairs.root", ODD))
    z, mass = (lfn_name(dataset, record_id, f"histograms/{name}.root".encode()) for name in ("z", "mass"))
    assert set(files) == {pairs, odd, z, mass}
    assert all(file.states == {"SITE-B": "AVAILABLE"} for file in files.values())
    assert files[odd].site_bytes == len(b"odd")
    with uproot.open({asking.download(files[pairs], tmp_path): "Events"}) as tree:
        assert set(tree.keys()) == {"run", "event"}
        # 85 of 100 events have a pair.
        assert 160_000 < tree.num_entries < 190_000
    assert_nothing_left(record)
    with uproot.open({asking.download(files[z], tmp_path): "Pairs"}) as tree:
        assert tree.num_entries == int(near) > 50_000
    with uproot.open({asking.download(files[mass], tmp_path): "mass"}) as histogram:
        assert histogram.values().sum() == int(near)
