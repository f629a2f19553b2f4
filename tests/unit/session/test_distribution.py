"""What a session imports is a distribution of its own: the standard library alone, Python 3.9 and newer."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.unit.session.small_buffer import OUTBOX, PUBLISH, Objects, SmallBuffer

ROOT = Path(__file__).parents[3]
SOURCES = sorted((ROOT / "operator" / "volatile_rse" / "session").rglob("*.py"))
OLDEST = (3, 9)
PLUG_INS = {"fsspec.py": {"aiohttp", "fsspec"}, "dask.py": {"distributed"}}
"""What a library imports that has all this itself."""
IMPORT = "import volatile_rse.session as vrse; assert vrse.current; print(vrse.__file__)"


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_is_written_in_python_3_9_and_imports_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=OLDEST)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports of this code name all"
            found.add(str(node.module))
    foreign = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    others = {name.partition(".")[0] for name in foreign if name.split(".")[:2] != ["volatile_rse", "session"]}
    assert others == PLUG_INS.get(path.name, set())
    plug_ins = {f"volatile_rse.session.{name.removesuffix('.py')}" for name in PLUG_INS}
    assert not found & plug_ins, "nothing imports a plug-in but its library"


def vermin(path: Path) -> subprocess.CompletedProcess[str]:
    """Look for what came into the language or the standard library after the oldest version."""
    program = Path(sysconfig.get_path("scripts")) / "vermin"
    argv = [str(program), "--no-config-file", "--quiet", "--target=3.9-", "--violations", "-vv", str(path)]
    return subprocess.run(argv, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_it_calls_nothing_that_came_after_python_3_9(path: Path) -> None:
    done = vermin(path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "newer",
    [
        "from itertools import pairwise", "zip([1], [2], strict=True)", "import datetime; datetime.UTC",
        "(5).bit_count()", "import tomllib", "match 1:\n    case _: pass",
    ],
)  # fmt: skip
def test_what_came_after_python_3_9_is_noticed(newer: str, tmp_path: Path) -> None:
    (tmp_path / "newer.py").write_text(f"from __future__ import annotations\n{newer}\n")
    assert vermin(tmp_path / "newer.py").returncode == 1


def test_the_wheel_holds_it_and_nothing_else_and_needs_nothing(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        said = message_from_bytes(archive.read(metadata))
    assert said["Name"] == "volatile-rse-session"
    assert said["Requires-Python"] == f">={OLDEST[0]}.{OLDEST[1]}"
    assert all(" extra == " in line for line in said.get_all("Requires-Dist") or [])
    code = {f"volatile_rse/session/{path.name}" for path in SOURCES}
    assert {name for name in names(wheel) if ".dist-info/" not in name} == code


def test_no_file_belongs_to_both_distributions(wheel: Path, operators: Path) -> None:
    assert "volatile_rse/__init__.py" in names(operators)
    assert not names(wheel) & names(operators)
    assert not [name for name in names(operators) if "/session/" in name]


def test_both_distributions_have_one_version() -> None:
    versions = {
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in (ROOT, ROOT / "distributions" / "session")
    }
    assert len(versions) == 1


def test_it_is_imported_where_nothing_else_is_installed(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python3")
    ask = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    done = subprocess.run([python, "-I", "-c", IMPORT], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert Path(done.stdout.strip()) == packages / "volatile_rse" / "session" / "__init__.py"


@pytest.mark.parametrize("order", [("session", "operator"), ("operator", "session")], ids=" before ".join)
def test_both_are_imported_from_two_folders(
    wheel: Path, operators: Path, tmp_path: Path, order: tuple[str, str]
) -> None:
    for name, source in (("session", wheel), ("operator", operators)):
        with zipfile.ZipFile(source) as archive:
            archive.extractall(tmp_path / name)
    code = (
        f"import sys; sys.path[:0] = {[str(tmp_path / name) for name in order]}; import volatile_rse.api.text; {IMPORT}"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "session")


def python_3_9() -> str | None:
    """Find one that runs, wherever versions of Python are kept."""
    home = Path.home()
    kept = [
        *sorted(home.glob(".pyenv/versions/3.9.*/bin/python3.9")),
        *sorted(home.glob(".local/share/uv/python/cpython-3.9.*/bin/python3.9")),
    ]
    for name in ("python3.9", *map(str, kept)):
        try:
            subprocess.run([name, "-c", ""], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return name
    return None


def test_the_oldest_python_itself_runs_it(
    wheel: Path, tmp_path: Path, objects: Objects, small_buffer: SmallBuffer
) -> None:
    if (python := python_3_9()) is None:
        pytest.skip(
            "no Python 3.9 on this machine (`uv python install 3.9`): what it calls is checked all the same, above"
        )
    assert objects
    small_buffer.files[f"{OUTBOX}/a"] = b"12345"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "packages")
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(tmp_path / "packages")!r})
        {IMPORT}
        import {", ".join(f"volatile_rse.session.{path.stem}" for path in SOURCES if path.name not in PLUG_INS)}
        s = vrse.current()
        s.publish("a")
        with s.lease(hold="30m"):
            pass
        print(s.files("dimuon"), s.outputs, s.fileset(), s.https_options(), s._repr_html_(), repr(s))
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([python, "-I", "-c", code], check=False, capture_output=True, text=True, env=environment)
    assert "input dimuon     2 of 2 files staged" in done.stdout, done.stderr
    assert f"{PUBLISH}/a" in small_buffer.files
