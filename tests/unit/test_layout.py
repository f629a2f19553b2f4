from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_folder_that_is_a_script_s_own_shadows_the_standard_library() -> None:
    # A script's folder comes first on sys.path: a module named as one of the standard library's breaks it at its start.
    for folder in (ROOT / "testbed", ROOT / "operator"):
        names = {path.stem for path in folder.iterdir()}
        assert not names & sys.stdlib_module_names
    assert not (ROOT / "operator" / "__init__.py").exists()
