"""What docs/user.md shows of Python does what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import fsspec
import pytest
import requests
import uproot

from tests.unit.session.small_buffer import FILES, OUTBOX, PUBLISH, Objects, SmallBuffer, root_urls
from volatile_rse import session as vrse
from volatile_rse.agent.status import status_text
from volatile_rse.api.agent import GateState, InputTotals, Report, SessionWords, ToldOutput, Warned, status_path
from volatile_rse.builders.session import store_path
from volatile_rse.session.fsspec import BufferFileSystem

PAGE = (Path(__file__).parents[3] / "docs" / "user.md").read_text()
CHAPTER = PAGE.split("## From Python\n", 1)[1].split("\n## ", 1)[0]
STANDS = PAGE.split("## How it stands\n", 1)[1].split("\n## ", 1)[0]
READS_AND_WRITES, BY_UPROOT, WRITTEN_BY_UPROOT, *WITH_DASK = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)
"""With Dask: tests/e2e/test_dask.py."""
OPEN = GateState(mode="open", generation=0)
(NOTEBOOK,) = re.findall(r"```ipython\n(.*?)```", CHAPTER, re.DOTALL)
(UNPACKED,) = re.findall(r"\n\n((?:    .+\n)+)\n", CHAPTER)


class Frame:
    """The least of ROOT's: what it reads, and that it writes."""

    def __init__(self, buffer: SmallBuffer, tree: str, urls: list[str]) -> None:
        assert tree == "Events"
        self.buffer, self.urls = buffer, urls

    def Filter(self, _cut: str) -> Self:  # noqa: N802 - ROOT's
        return self

    def Snapshot(self, _tree: str, url: str, _columns: list[str]) -> None:  # noqa: N802 - ROOT's
        path = url.partition(":1094/")[2]
        headers = {"Authorization": f"Bearer {self.buffer.token}"}
        assert requests.put(f"{self.buffer.url}{path}", b"pairs", headers=headers, timeout=10).status_code == 201


def test_an_input_is_read_an_output_written_and_kept(
    objects: Objects, small_buffer: SmallBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert objects
    frames: list[Frame] = []

    def frame(tree: str, urls: list[str]) -> Frame:
        frames.append(Frame(small_buffer, tree, urls))
        return frames[-1]

    root: Any = ModuleType("ROOT")
    root.RDataFrame = frame
    monkeypatch.setitem(sys.modules, "ROOT", root)
    exec(READS_AND_WRITES, {})  # noqa: S102 - the page's own lines
    assert sorted(frames[0].urls) == sorted(root_urls(FILES))
    assert small_buffer.files[f"{PUBLISH}/histograms/pairs.root"] == b"pairs"
    assert not [path for path in small_buffer.files if path.startswith(OUTBOX)]


@pytest.fixture
def plugged_in() -> Iterator[None]:
    """Have fsspec use the plug-in, as it does where the wheel is installed."""
    known = fsspec.get_filesystem_class("https")
    fsspec.register_implementation("https", BufferFileSystem, clobber=True)
    yield
    fsspec.register_implementation("https", known, clobber=True)


@pytest.mark.usefixtures("objects", "plugged_in")
def test_uproot_reads_by_https_and_what_it_writes_is_uploaded(
    small_buffer: SmallBuffer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, file in enumerate(FILES):
        with uproot.recreate(tmp_path / "some.root") as made:
            made["Events"] = {"run": list(range(number + 3))}
        small_buffer.files[store_path(file.did)] = (tmp_path / "some.root").read_bytes()
    exec(BY_UPROOT, {"s": vrse.current()})  # noqa: S102 - the page's own lines
    assert sorted(capsys.readouterr().out.split()) == ["3", "4"]
    exec(WRITTEN_BY_UPROOT.replace("/tmp", str(tmp_path)), {"s": vrse.current(), "uproot": uproot})  # noqa: S102, S108 - as above
    (tmp_path / "back.root").write_bytes(small_buffer.files[f"{OUTBOX}/histograms/entries.root"])
    with uproot.open(tmp_path / "back.root") as file:
        assert sorted(file["entries"]["entries"].array().tolist()) == [3, 4]


@pytest.mark.usefixtures("objects")
def test_a_notebook_shows_the_session() -> None:
    magics: dict[str, Callable[[str], object]] = {}

    class Shell:
        def register_magic_function(self, func: Callable[[str], object], magic_kind: str, magic_name: str) -> None:
            magics[f"%{magic_name}"] = func
            assert magic_kind == "line"

    load, show = NOTEBOOK.split("\n", 1)
    assert load.startswith("%load_ext ")
    sys.modules[load.removeprefix("%load_ext ")].load_ipython_extension(Shell())
    assert isinstance(magics[show.strip()](""), vrse.Session)


def test_the_wheel_is_unpacked_where_pip_is_not_to_be_had(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / wheel.name).symlink_to(wheel)
    script = f"{UNPACKED}\npython3 -c 'import volatile_rse.session as vrse; print(vrse.__file__)'"
    done = subprocess.run(["bash", "-ec", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "lib" / "volatile_rse" / "session" / "__init__.py")


def test_how_a_session_stands_is_asked_by_one_line(
    objects: Objects, small_buffer: SmallBuffer, nothing_mounted: Path
) -> None:
    assert objects
    small_buffer.files[status_path("u-1")] = b'{"usable": true}'
    (line,) = re.findall(r"    (curl .*)\n", STANDS)
    asked = line.replace("/etc/vrse", str(nothing_mounted / "vrse"))
    done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == '{"usable": true}'


def test_every_field_of_the_status_file_is_on_the_page() -> None:
    report = Report.model_validate(
        {
            "version": 1, "volume": "0" * 32, "desired": OPEN, "actual": OPEN, "failures": [], "stagingRate": 1,
            "inputs": [InputTotals(name="dimuon")], "outputs": [], "copies": {},
            "space": {"bytes": 9, "bytesFree": 8, "inodes": 7, "inodesFree": 6},
        }
    )  # fmt: skip
    words = SessionWords(
        digest="1" * 64, claim="u-1", rse="X", expires="x", ended_at="x", inputs=["dimuon"],
        outputs=[ToldOutput(name="kept")], warnings=[Warned(reason="X", message="y")],
    )  # fmt: skip
    told = json.loads(status_text(words, report, datetime.now(UTC)))
    parts = (told, told["unmatched"], *told["inputs"], *told["outputs"], *told["warnings"])
    assert {key for part in parts for key in part} <= set(re.findall(r"`(\w+)(?:\[\])?`", STANDS))


def test_every_call_of_the_page_is_one() -> None:
    called = set(re.findall(r"`s\.(\w+)", CHAPTER))
    public = {name for name in vars(vrse.Session) if not name.startswith("_")}
    assert called == public - {"rse", "token_file"}
