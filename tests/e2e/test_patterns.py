"""The ways in which analysis programs write, each twice in one process, judged at the destination."""

from __future__ import annotations

import json

import pytest

from testbed import session as physicist
from testbed.sessions import Session
from tests.e2e.flows import assert_kept_as, assert_nothing_left, new_dataset, output

pytestmark = [pytest.mark.cluster, pytest.mark.grid, pytest.mark.slow]

ROOT_PATTERNS = """
import os, ROOT
base = os.environ["BASE"]
def keys(path):
    file = ROOT.TFile.Open(path)
    names = sorted({key.GetName() for key in file.GetListOfKeys()})
    file.Close()
    return names
def write(path, option, name):
    file = ROOT.TFile.Open(path, option)
    assert file and not file.IsZombie(), (path, option)
    histogram = ROOT.TH1F(name, "pt", 10, 0., 100.)
    histogram.Write()
    file.Close()
for turn in (1, 2):
    write(f"{base}/root/recreated.root", "RECREATE", f"h{turn}")
    assert keys(f"{base}/root/recreated.root") == [f"h{turn}"]
    if turn == 1:
        write(f"{base}/root/updated.root", "NEW", "h0")
    write(f"{base}/root/updated.root", "UPDATE", f"h{turn}")
    assert keys(f"{base}/root/updated.root") == [f"h{n}" for n in range(turn + 1)]
    write(f"{base}/root/new{turn}.root", "NEW", "h")
    write(f"{base}/root/sub/of/sub{turn}/created.root", "CREATE", "h")
    frame = ROOT.RDataFrame(100 * turn).Define("x", "double(rdfentry_)")
    assert frame.Snapshot("tree", f"{base}/root/snapshot.root", ["x"]).Count().GetValue() == 100 * turn
    print("turn", turn)
"""
UPROOT_PATTERNS = """
import json, os, zlib, fsspec, numpy, uproot
base = os.environ["BASE"]
server, folder = base.split("//outbox", 1)[0], "/outbox" + base.split("//outbox", 1)[1]
files = fsspec.filesystem("root", hostid=server.removeprefix("root://"))
for turn in (1, 2):
    with uproot.recreate(f"{base}/up/recreated.root") as file:
        file["tree"] = {"x": numpy.arange(100 // turn)}
    assert uproot.open(f"{base}/up/recreated.root")["tree"].num_entries == 100 // turn
    if turn == 1:
        with uproot.recreate(f"{base}/up/updated.root") as file:
            file["tree0"] = {"x": numpy.arange(10)}
    with uproot.update(f"{base}/up/updated.root") as file:
        file[f"tree{turn}"] = {"x": numpy.arange(10)}
    assert len(uproot.open(f"{base}/up/updated.root").keys()) == turn + 1
    with fsspec.open(f"{base}/up/bytes.bin", "wb") as stream:
        stream.write(b"%d" % turn * 1000)
    with fsspec.open(f"{base}/up/goes.bin", "wb") as stream:
        stream.write(b"gone")
    with fsspec.open(f"{base}/up/moves.bin", "wb") as stream:
        stream.write(b"moved %d" % turn)
    files.mv(f"{folder}/up/moves.bin", f"{folder}/up/sub{turn}/moved.bin")
    files.rm(f"{folder}/up/goes.bin")
    names = {os.path.basename(entry["name"].rstrip("/")) for entry in files.ls(f"{folder}/up", detail=True)}
    assert {"bytes.bin", "recreated.root", "updated.root", f"sub{turn}"} <= names, names
    assert not {"goes.bin", "moves.bin"} & names, names
    print("turn", turn)
left = {}
def look(where):
    for entry in files.ls(where, detail=True):
        path = entry["name"].rstrip("/")
        if entry["type"] == "directory":
            look(path)
        else:
            with fsspec.open(f"{server}/{path}", "rb") as stream:
                left[path.split("/kept/", 1)[1]] = f"{zlib.adler32(stream.read()):08x}"
look(folder)
print("left", json.dumps(left))
"""


def python(program: str, script: str) -> str:
    return f"{program} - <<'END'\n{script}\nEND\n"


def test_every_pattern_of_the_analysis_programs_works_twice_and_is_kept(session: Session) -> None:
    dataset = new_dataset()
    session.request(outputs=[output(dataset)])
    script = f"export BASE=$ROOT_URL/$OUTBOX/kept\n{python(physicist.ROOT_PYTHON, ROOT_PATTERNS)}"
    session.job(script + python(physicist.UPROOT_PYTHON, UPROOT_PATTERNS), image=physicist.image())
    record = session.wait_closed()
    log = session.log()
    assert session.succeeded(), log
    sums = json.loads(log.rsplit("left ", 1)[1].splitlines()[0])
    assert len(sums) == 12, sums
    assert_kept_as(dataset, record, sums)
    assert record["status"]["outcome"]["exceptions"] == []
    assert_nothing_left(record)
