"""The dimuon mass spectrum of the staged files: histogram, picture and selected pairs, written beside the data.

An ordinary RDataFrame analysis. All it knows of the buffer is where its list of inputs is and where to write.
"""

# ruff: noqa: INP001, T201 (a physicist's script: no package, and it prints)

import json
import os
from pathlib import Path

import ROOT

INPUTS = Path(os.environ.get("VRSE_INPUTS", "/etc/vrse/inputs.jsonl"))
OUTPUT = f"{os.environ['VRSE_ROOT_URL']}/{os.environ['VRSE_OUTBOX']}/histograms"
PICTURE = Path(os.environ.get("TMPDIR", "/tmp")) / "dimuon_mass.png"  # noqa: S108


def main() -> None:
    """Read every staged file once and write three outputs."""
    ROOT.gROOT.SetBatch(True)
    urls = [json.loads(line)["url"] for line in INPUTS.read_text().splitlines()]
    events = ROOT.RDataFrame("Events", urls)
    pairs = (
        events.Filter("nMuon >= 2 && Muon_charge[0] != Muon_charge[1]", "two leading muons of opposite charge")
        .Filter("Muon_pt[1] > 5 && abs(Muon_eta[0]) < 2.4 && abs(Muon_eta[1]) < 2.4", "in the detector")
        .Define(
            "mass",
            "(ROOT::Math::PtEtaPhiMVector(Muon_pt[0], Muon_eta[0], Muon_phi[0], Muon_mass[0])"
            " + ROOT::Math::PtEtaPhiMVector(Muon_pt[1], Muon_eta[1], Muon_phi[1], Muon_mass[1])).M()",
        )
        .Define("leading_pt", "Muon_pt[0]")
    )
    title = "Opposite-charge muon pairs;m_{#mu#mu} [GeV];pairs / GeV"
    spectrum = pairs.Histo1D(("dimuon_mass", title, 105, 15, 120), "mass")
    lazy = ROOT.RDF.RSnapshotOptions()
    lazy.fLazy = True
    selected = pairs.Filter("mass > 60 && mass < 120", "near the Z boson")
    kept = selected.Snapshot("Pairs", f"{OUTPUT}/z_pairs.root", ["run", "event", "mass", "leading_pt"], lazy)
    report = events.Report()
    print(f"{kept.Count().GetValue()} pairs near the Z boson in {len(urls)} files")
    report.Print()
    histogram = spectrum.GetValue()
    fit = histogram.Fit("gaus", "QS0", "", 88, 94)
    print(f"peak at {fit.Parameter(1):.2f} GeV")
    save(histogram)


def save(histogram: "ROOT.TH1D") -> None:
    """Write the histogram, and a picture of it."""
    with ROOT.TFile.Open(f"{OUTPUT}/dimuon_mass.root", "RECREATE") as file:
        file.WriteObject(histogram, histogram.GetName())
    canvas = ROOT.TCanvas("canvas", "", 900, 600)
    canvas.SetLogy()
    ROOT.gStyle.SetOptStat(0)
    histogram.Draw()
    canvas.SaveAs(str(PICTURE))
    if not ROOT.TFile.Cp(f"{PICTURE}?filetype=raw", f"{OUTPUT}/{PICTURE.name}", False):
        message = f"{PICTURE.name} could not be written to {OUTPUT}"
        raise OSError(message)


if __name__ == "__main__":
    main()
