"""A page for a terminal: colours and bars."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from volatile_rse.api.text import visible
from volatile_rse.cli.pages import Bar, Note, Page

__all__ = ["rendered"]

_WIDTH = 24
"""Of a bar."""
_COLOURS = {
    "Ready": "green",
    "Active": "green",
    "Completed": "green",
    "Stalled": "red",
    "Failed": "red",
    "Quarantined": "red",
}
_OTHERS = "yellow"


def rendered(page: Page) -> RenderableType:
    """Make what a terminal shows of a page."""
    return Group(*_parts(page))


def _parts(page: Page) -> Iterator[RenderableType]:
    colour = _COLOURS.get(page.phase, _OTHERS)
    yield Text.assemble((visible(page.name), "bold"), "  ", (visible(page.phase), f"bold {colour}"))
    for line in page.about:
        yield _indented(Text(visible(line), "dim"))
    if page.left:
        yield _indented(Text(f"time left: {visible(page.left)}"))
    if page.inputs:
        yield Text("Inputs", "bold")
        yield _indented(_bars(page.inputs))
    if page.outputs:
        yield Text("Outputs", "bold")
        yield _indented(_bars(page.outputs))
    if page.unmatched:
        yield _indented(Text(visible(page.unmatched), "yellow"))
    if page.endpoints:
        yield Text("Endpoints", "bold")
        # What a narrow terminal has no room for goes on in the next line: nothing is cut off.
        yield from (_indented(Text(visible(url), overflow="fold")) for url in page.endpoints)
    if page.notes:
        yield Text("Now", "bold")
        yield from (_indented(_told(note)) for note in page.notes)


def _indented(what: RenderableType) -> Padding:
    return Padding(what, (0, 0, 0, 2))


def _bars(bars: tuple[Bar, ...]) -> Table:
    table = Table.grid(padding=(0, 1))
    for bar in bars:
        style = "red" if bar.wrong else "green"
        drawn = ProgressBar(
            max(bar.total, 1), bar.done, width=_WIDTH, complete_style=style, finished_style=style, style="bright_black"
        )
        table.add_row(Text(visible(bar.name)), drawn, Text(visible(bar.said)))
    return table


def _told(note: Note) -> Text:
    head = ": ".join(part for part in (", ".join(note.types), note.reason) if part)
    text = Text(visible(head), "red" if note.action else "")
    if note.message:
        text.append(f"\n  {visible(note.message)}", "default")
    if note.action:
        text.append(f"\n  {visible(note.action)}", "bold default")
    return text
