"""Input of the demo and the tests: real ROOT files of PyPI's ROOT, and generated muon pairs."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testbed import dimuon, grid
from testbed.dimuon import Dimuon
from testbed.layout import CHECKOUT, CLIENT, SAMPLES
from testbed.progress import Log, StepError, step

__all__ = ["DIMUON", "SAMPLES", "SCOPE", "TUTORIALS", "generate", "publish", "tutorials", "up"]

SCOPE = f"user.{grid.ALICE}"
TUTORIALS = "root_tutorials"
"""Dataset of the real files."""

_RSE = "SITE-A"
_REQUIREMENTS = CHECKOUT / "images" / "session" / "requirements-root.txt"
_DATA = ("machine_learning/data/Higgs_data.root", "machine_learning/data/tmva_reg_example.root", "hsimple.root")


DIMUON = Dimuon()


def up() -> None:
    """Make sure that both samples are on SITE-A, as alice's datasets."""
    alice = grid.client(grid.ALICE)
    if not _is_there(alice, TUTORIALS, len(_DATA)):
        publish(TUTORIALS, tutorials())
    if not _is_there(alice, DIMUON.dataset, DIMUON.files):
        publish(DIMUON.dataset, generate(DIMUON))


def tutorials() -> list[Path]:
    """Give the real ROOT files, taken out of the wheel of PyPI's ROOT once."""
    requirement = _root_requirement()
    folder = SAMPLES / f"{TUTORIALS}-{hashlib.sha256((requirement + repr(_DATA)).encode()).hexdigest()[:16]}"
    if not folder.exists():
        with step("Real ROOT files from PyPI's ROOT") as log, _staging() as staging:
            (staging / "requirement.txt").write_text(requirement)
            # The data is the same in the wheel of every machine.
            log.run(
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", staging,
                "--only-binary", ":all:", "--python-version", "3.13", "--platform", "manylinux_2_28_x86_64",
                "-r", staging / "requirement.txt",
            )  # fmt: skip
            _unpack(next(staging.glob("*.whl")), staging / "files")
            (staging / "files").rename(folder)
    return sorted(folder.iterdir())


def generate(sample: Dimuon) -> list[Path]:
    """Generate the files of a sample once.

    ROOT files hold the time and an identifier of their making, so a sample made again has other checksums.
    """
    key = hashlib.sha256((json.dumps(asdict(sample)) + Path(dimuon.__file__).read_text()).encode()).hexdigest()[:16]
    folder = SAMPLES / f"{sample.dataset}-{key}"
    if not folder.exists():
        with step(f"Generated sample {sample.dataset}"), _staging() as staging:
            (staging / "files").mkdir()
            for number in range(sample.files):
                dimuon.write(staging / "files" / f"{sample.dataset}_{number:03}.root", sample, number)
            (staging / "files").rename(folder)
    return sorted(folder.iterdir())


def publish(dataset: str, files: Sequence[Path]) -> None:
    """Upload files with the stock client, as alice, into a dataset on SITE-A; what is there already is left out.

    Raises
    ------
    StepError
        The client failed, or a file lies outside of the folder of samples.
    """
    with step(f"Upload {SCOPE}:{dataset}") as log:
        if any(not path.is_relative_to(SAMPLES) for path in files):
            message = f"{CLIENT} sees only files below {SAMPLES}: put those of {dataset} there"
            raise StepError(message)
        paths = [f"/samples/{path.relative_to(SAMPLES)}" for path in files]
        _upload(log, dataset, paths)
        alice = grid.client(grid.ALICE)
        # The stock client leaves out of the dataset what an earlier, broken-off upload had brought.
        dids = [{"scope": SCOPE, "name": path.name} for path in files]
        attachment = {"scope": SCOPE, "name": dataset, "dids": dids}
        # Imported late: the library looks for its configuration, which the client's maker provides, as it is imported.
        from rucio.common.exception import RucioException  # noqa: PLC0415

        try:
            alice.attach_dids_to_dids([attachment], ignore_duplicate=True)
            complete = _is_there(alice, dataset, len(files))
        except RucioException as error:
            message = f"{SCOPE}:{dataset} cannot be completed: {error} (see {log.path}); `make down up` starts anew"
            raise StepError(message) from error
        if not complete:
            message = f"{SCOPE}:{dataset} is not complete on {_RSE} after its upload (see {log.path})"
            raise StepError(message)


def _upload(log: Log, dataset: str, paths: Sequence[str]) -> None:
    log.run(
        "docker", "exec", CLIENT, "rucio", "upload", "--rse", _RSE, "--scope", SCOPE, f"{SCOPE}:{dataset}", *paths,
        # Files that an earlier, broken-off upload brought are no reason to stop: what counts is asked afterwards.
        check=False,
    )  # fmt: skip


def _is_there(alice: Any, dataset: str, files: int) -> bool:  # noqa: ANN401
    replicas = alice.list_dataset_replicas(SCOPE, dataset, deep=True)
    return any(one["rse"] == _RSE and one["available_length"] == one["length"] == files for one in replicas)


def _root_requirement() -> str:
    """Give the one requirement with its hashes that the session's image has for ROOT."""
    lines = _REQUIREMENTS.read_text().replace("\\\n", " ").splitlines()
    return next(line for line in lines if line.startswith("root=="))


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in _DATA:
            with archive.open(f"ROOT/tutorials/{name}") as source, (folder / Path(name).name).open("wb") as target:
                shutil.copyfileobj(source, target)


@contextmanager
def _staging() -> Iterator[Path]:
    """Give a folder whose content becomes a sample by renaming, so that a sample is whole or absent."""
    SAMPLES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=SAMPLES) as folder:
        yield Path(folder)
