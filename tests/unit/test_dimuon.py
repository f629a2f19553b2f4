"""The generated sample has the layout that coffea's NanoAODSchema wants."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import uproot

from testbed import dimuon
from volatile_rse import session as vrse

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "dimuon.ipynb"


def test_events_blocks_and_runs_belong_together(tmp_path: Path) -> None:
    sample = dimuon.Dimuon(events=2500)
    for number in range(2):
        dimuon.write(tmp_path / f"{number}.root", sample, number)
    trees = ("Events", "LuminosityBlocks", "Runs")
    with uproot.open(tmp_path / "0.root") as first, uproot.open(tmp_path / "1.root") as second:
        events, blocks, runs = (second[name].arrays(library="np") for name in trees)
        before = first["Events"]["event"].array(library="np")
    assert {"run", "luminosityBlock", "event", "nMuon", "Muon_pt", "Muon_charge"} <= set(events)
    assert set(events["luminosityBlock"]) == set(blocks["luminosityBlock"]) == {3, 4, 5}
    assert set(events["run"]) == set(blocks["run"]) == set(runs["run"]) == {1}
    assert runs["genEventCount"].tolist() == [2500]
    assert not np.intersect1d(before, events["event"]).size
    assert all(counts == len(pt) for counts, pt in zip(events["nMuon"], events["Muon_pt"], strict=True))


def test_the_tutorial_comes_without_results_and_calls_what_there_is() -> None:
    cells = json.loads(TUTORIAL.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]]
    called = set(re.findall(r"\bs\.(\w+)", "\n".join("".join(cell["source"]) for cell in code)))
    assert called
    assert called <= set(vars(vrse.Session))
