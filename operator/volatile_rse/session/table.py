"""The table that a session is shown as."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

__all__ = ["Row", "Table", "as_html", "as_text", "duration", "size"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND = 1000

_WIDTH = 20
"""Characters of a bar."""


class Row(NamedTuple):
    """One line."""

    name: str
    value: str
    share: float | None = None
    """Of what is still going on: how much of it is done, between 0 and 1."""
    known: bool = True


class Table(NamedTuple):
    """What is shown of a session at one moment."""

    rows: tuple[Row, ...]
    arriving: bool | None
    """Whether files of its inputs are still to come; None where that cannot be found out."""

    @property
    def text(self) -> str:
        """For a terminal."""
        return as_text(self.rows)

    @property
    def html(self) -> str:
        """For a notebook."""
        return as_html(self.rows)


def as_text(rows: Sequence[Row]) -> str:
    """Write it with blanks."""
    width = max((len(row.name) for row in rows), default=0)
    return "\n".join(f"{row.name:<{width}}  {_bar(row.share)}{row.value}" for row in rows)


def as_html(rows: Sequence[Row]) -> str:
    """Write it as HTML; what is written is shown as it is."""
    left = 'style="text-align:left"'
    lines = [
        f"<tr><th {left}>{html.escape(row.name)}</th><td {left}>{_element(row.share)}{html.escape(row.value)}</td></tr>"
        for row in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    done = int(share * _WIDTH)
    return f"[{'#' * done}{'.' * (_WIDTH - done)}] "


def _element(share: float | None) -> str:
    return "" if share is None else f'<progress max="1" value="{share:.3f}"></progress> '


def size(number: float) -> str:
    """Write bytes as people read them."""
    unit = 0
    while number >= _THOUSAND and unit < len(_UNITS) - 1:
        number, unit = number / _THOUSAND, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def duration(time: timedelta) -> str:
    """Write how long something lasts."""
    minutes, seconds = divmod(max(0, int(time.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"
