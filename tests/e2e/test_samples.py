"""The input is real ROOT data in the catalogue, and generated events look as a physicist expects."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import awkward
import numpy as np
import pytest
import requests
import uproot

from testbed import dimuon, grid, pki, samples

pytestmark = pytest.mark.grid


def fetch(name: str, folder: Path) -> Path:
    """Read a file's replica on SITE-A from this machine, as alice."""
    (replica,) = grid.client(grid.ALICE).list_replicas([{"scope": samples.SCOPE, "name": name}], schemes=["davs"])
    facts = grid.grid()
    # A buffer of another test may have it, too.
    pfn = next(pfn for pfn, entry in replica["pfns"].items() if entry["rse"] == "SITE-A")
    url = pfn.replace("davs:", "https:").replace(facts.davs["SITE-A"], facts.davs_outside["SITE-A"])
    headers = {"Authorization": f"Bearer {facts.tokens[grid.ALICE]}"}
    answer = requests.get(url, headers=headers, verify=str(pki.CA), timeout=30)
    answer.raise_for_status()
    path = folder / name
    path.write_bytes(answer.content)
    assert len(answer.content) == replica["bytes"]
    return path


def masses(path: Path) -> np.ndarray:
    with uproot.open(path) as file:
        assert "generated" in file["label"]
        muons = file["Events"].arrays(filter_name="Muon_*")
    pairs = muons[awkward.num(muons.Muon_pt) == 2]
    pt, eta, phi = (awkward.to_numpy(pairs[f"Muon_{name}"]).astype(float) for name in ("pt", "eta", "phi"))
    mass = 2 * pt[:, 0] * pt[:, 1] * (np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1]))
    found: np.ndarray = np.sqrt(mass)
    return found


def test_the_generated_dataset_is_on_site_a_and_shows_the_z(tmp_path: Path) -> None:
    names = sorted(one["name"] for one in grid.client(grid.ALICE).list_files(samples.SCOPE, samples.DIMUON.dataset))
    assert len(names) == samples.DIMUON.files
    counts, edges = np.histogram(masses(fetch(names[0], tmp_path)), bins=np.arange(20, 125, 5))
    assert edges[counts.argmax()] == 90
    falling = counts[:10]
    assert (np.diff(falling) < 0).all()


def test_the_real_files_are_on_site_a(tmp_path: Path) -> None:
    with uproot.open(fetch("Higgs_data.root", tmp_path)) as file:
        assert {"sig_tree", "bkg_tree"} <= {key.split(";")[0] for key in file}
        assert file["sig_tree"].num_entries == 10000


def test_what_is_published_stays(capsys: pytest.CaptureFixture[str]) -> None:
    samples.up()
    assert "Upload" not in capsys.readouterr().err


def test_an_upload_that_broke_off_is_completed() -> None:
    sample = dimuon.Dimuon(dataset=f"broken-{uuid.uuid4().hex[:8]}", files=2, events=100)
    files = samples.generate(sample)
    try:
        samples.publish(f"{sample.dataset}-first", files[:1])
        samples.publish(sample.dataset, files)
    finally:
        shutil.rmtree(files[0].parent)
    listed = grid.client(grid.ALICE).list_files(samples.SCOPE, sample.dataset)
    assert {one["name"] for one in listed} == {path.name for path in files}


def test_a_seed_gives_the_same_events(tmp_path: Path) -> None:
    for name in ("one", "two"):
        dimuon.write(tmp_path / name, dimuon.Dimuon(events=2000), 0)
    dimuon.write(tmp_path / "next", dimuon.Dimuon(events=2000), 1)
    one, two, following = (masses(tmp_path / name) for name in ("one", "two", "next"))
    assert (one == two).all()
    assert len(one) != len(following) or (one != following).any()
