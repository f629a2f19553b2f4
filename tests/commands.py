"""The commands that the pages show, and what commands.txt says of each: which test executes it, or why none does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

from testbed.layout import CHECKOUT

__all__ = ["NOT_EXECUTED", "Shown", "listed", "pages", "shown"]

NOT_EXECUTED = "not executed: "
"""Begins a reason of commands.txt."""

_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:argocd|curl|docker|eval|flux|git|helm|kubectl|make|nc|openssl|pip|pipx|pytest|python3?|rucio"
    r"|scp|sh|uv|uvx|vrse|xrdcp|xrdfs|\.venv/bin/\S+) \S"
)
_SHELLS = {"", "sh", "bash", "shell", "console"}
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, slots=True)
class Shown:
    """A block of commands of a page, or a command within a sentence of it."""

    page: str
    section: str
    text: str
    is_block: bool

    @property
    def name(self) -> str:
        """Say how commands.txt names it."""
        if not self.is_block:
            return self.text
        return next(line for line in self.text.splitlines() if line.strip()).strip()


def pages() -> list[Path]:
    """Give all pages that somebody reads; not the decisions, which tell of what was."""
    found = [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")]
    for folder in ("charts", "distributions", "examples", "gitops", "images"):
        found += CHECKOUT.glob(f"{folder}/**/*.md")
    return sorted(path for path in found if path.parent.name != "decisions" and path.name != "CHANGELOG.md")


def shown(page: Path) -> Iterator[Shown]:
    """Give the commands of a page."""
    section, name = "", str(page.relative_to(CHECKOUT))
    tokens = _PARSER.parse(page.read_text())
    for before, token in pairwise([tokens[0], *tokens]):
        if before.type == "heading_open":
            section = token.content
        if token.type == "code_block" or (token.type == "fence" and token.info in _SHELLS):
            yield Shown(name, section, token.content, is_block=True)
        for child in token.children or ():
            if child.type == "code_inline" and _PROGRAM.match(child.content) and _is_to_copy(child.content):
                yield Shown(name, section, child.content, is_block=False)


def _is_to_copy(text: str) -> bool:
    """Tell a command from the mere name of one."""
    return len(text.split()) > 2 or text.startswith(("make ", "vrse "))


def listed() -> Iterator[tuple[str, str]]:
    """Give each command of commands.txt, after the test that executes it or the reason why none does."""
    heading = ""
    for line in (CHECKOUT / "tests" / "commands.txt").read_text().splitlines():
        if line.startswith("["):
            heading = line.strip("[]")
        elif line and heading:
            yield heading, line
