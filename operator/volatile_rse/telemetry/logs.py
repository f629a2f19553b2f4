"""The log: lines for people, or JSON for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from volatile_rse.api.text import VisibleFormatter

__all__ = ["JsonFormatter", "configure"]

_FIELDS = ("record", "effect", "reason")
"""What a call of the logger may name in ``extra``."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: str(getattr(record, name)) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(level: str, form: str) -> None:
    """Set the process's log up.

    Raises
    ------
    ValueError
        There is no such form.
    """
    if form not in {"text", "json"}:
        message = f"VOLATILE_RSE_LOG_FORMAT is {form!r}; the admin must set it to text or json."
        raise ValueError(message)
    handler = logging.StreamHandler()
    text = VisibleFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=level, handlers=[handler])
