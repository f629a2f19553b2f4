"""The log of the storage pod's programs."""

from __future__ import annotations

import logging
import sys

from volatile_rse.api.text import VisibleFormatter

__all__ = ["configure"]


def configure() -> None:
    """Write lines for people, each of which is one line whatever a session calls its files."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
