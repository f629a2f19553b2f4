"""The table that a session is shown as."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import timedelta

__all__ = ["as_html", "as_text", "duration", "size"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_THOUSAND = 1000

Rows = Sequence[tuple[str, str]]


def as_text(rows: Rows) -> str:
    """Write it with blanks."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def as_html(rows: Rows) -> str:
    """Write it as HTML; what is written is shown as it is."""
    left = 'style="text-align:left"'
    lines = [
        f"<tr><th {left}>{html.escape(name)}</th><td {left}>{html.escape(value)}</td></tr>" for name, value in rows
    ]
    return f"<table>{''.join(lines)}</table>"


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
