"""The site of these pages: ``make docs`` writes it to dist/docs/, and a warning is an error."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pygments.lexers.python import PythonLexer
from sphinx.application import Sphinx

_PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

project = _PROJECT["name"]
release = version = _PROJECT["version"]

extensions = ["myst_parser", "sphinxcontrib.mermaid"]
root_doc = "index"
nitpicky = True

# Links are written for who reads the files: a path, with the anchors that GitHub makes of titles.
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}


def _folders(_: Sphinx, _page: str, source: list[str]) -> None:
    """Have a link to a folder, ``decisions/``, lead to the page that lists what is in it."""
    source[0] = re.sub(r"\]\((\w+)/\)", r"](\1.md)", source[0])


def setup(app: Sphinx) -> None:
    """Add what these pages need beyond the extensions."""
    app.connect("source-read", _folders)
    app.add_lexer("ipython", PythonLexer)
