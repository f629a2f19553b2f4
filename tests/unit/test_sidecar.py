"""The sidecar's script, run by a shell of this machine in folders like those that the kubelet mounts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from volatile_rse.api.injection import CONFIG, FILES, MOUNTS, PROGRAM, RUN, TOKEN

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "images" / "sidecar" / "keep"
SHELLS = [[path, *words] for name, words in (("busybox", ["sh"]), ("sh", [])) if (path := shutil.which(name))]


class Mounted:
    """A folder as the kubelet mounts a Secret or a ConfigMap: what is new comes all at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()

    def put(self, **files: str) -> None:
        self._number += 1
        made = self.folder / f"..{self._number}"
        made.mkdir()
        for name, text in files.items():
            (made / name.replace("_", ".")).write_text(text)
        link = self.folder / "..new"
        link.symlink_to(made.name)
        link.rename(self.folder / "..data")
        for old in self.folder.glob("[!.]*"):
            old.unlink()
        for name in files:
            (self.folder / name.replace("_", ".")).symlink_to(f"..data/{name.replace('_', '.')}")


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


class Sidecar:
    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.token, self.config, self.run = Mounted(folder / "token"), Mounted(folder / "config"), folder / "run"
        self.run.mkdir(mode=0o777)
        text = SCRIPT.read_text()
        for place, instead in (
            (MOUNTS[TOKEN], self.token.folder),
            (MOUNTS[CONFIG], self.config.folder),
            (MOUNTS[RUN], self.run),
        ):
            assert f"={place}" in text
            text = text.replace(f"={place} ", f"={instead} ").replace(f"={place}\n", f"={instead}\n")
        script = folder / "keep"
        script.write_text(text.replace("sleep 5", "sleep 0.1"))
        self.process = subprocess.Popen([*shell, script])

    def given(self, name: str) -> Path:
        return self.run / Path(FILES[name]).relative_to(MOUNTS[RUN])

    def read(self) -> tuple[str, dict[str, str]]:
        token, folder = self.given("BEARER_TOKEN_FILE"), self.given("X509_CERT_DIR")
        return token.read_text() if token.exists() else "", {each.name: each.read_text() for each in folder.glob("*.?")}


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def sidecar(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sidecar]:
    made = Sidecar(tmp_path, request.param)
    yield made
    made.process.kill()
    made.process.wait()


def test_it_makes_copies_that_clients_of_xrootd_take_and_follows_what_changes(sidecar: Sidecar) -> None:
    sidecar.token.put(token="one")
    time.sleep(0.3)
    assert sidecar.read() == ("", {}), "a token without authorities is of no use"
    sidecar.config.put(abcd_0="authority", abcd_1="of a site", ca_crt="authority", VRSE_RSE="x")
    until(lambda: sidecar.read()[0] == "one")
    assert sidecar.read() == ("one", {"abcd.0": "authority", "abcd.1": "of a site"})
    token, folder = sidecar.given("BEARER_TOKEN_FILE"), sidecar.given("X509_CERT_DIR")
    assert (token.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o755)
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o644}
    assert not [path for path in (token, *folder.iterdir()) if path.is_symlink()]
    sidecar.token.put(token="two")
    until(lambda: sidecar.read()[0] == "two")
    sidecar.config.put(abcd_0="another")
    until(lambda: sidecar.read() == ("two", {"abcd.0": "another"}))


def test_what_it_has_made_stays_when_the_session_is_over(sidecar: Sidecar) -> None:
    sidecar.token.put(token="one")
    sidecar.config.put(abcd_0="authority")
    until(lambda: sidecar.read()[0] == "one")
    sidecar.token.put()
    sidecar.config.put()
    time.sleep(0.5)
    assert sidecar.read() == ("one", {"abcd.0": "authority"})


def test_it_ends_at_once_when_it_is_told(sidecar: Sidecar) -> None:
    time.sleep(0.3)
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.process.wait(2) == 0


def test_its_image_has_what_the_pods_run() -> None:
    """The command, by the paths of its Dockerfile; no other user than nobody."""
    made = (SCRIPT.parent / "Dockerfile").read_text()
    for program in PROGRAM[::2]:
        assert f" {program}\n" in made
    assert "\nUSER 65532:65532\n" in made
    assert os.access(SCRIPT, os.R_OK)
