"""Symbolic links below the directories that XRootD serves: it follows each, and removes what is behind it as well.

No request makes one, and XRootD has no setting against them: whoever made one has the volume, and not by a session.
"""

from __future__ import annotations

import logging
import stat
from pathlib import Path

from volatile_rse.agent.outbox import Found, below, reached, shown, walk
from volatile_rse.agent.places import Places

__all__ = ["REMOVED", "is_link", "remove", "remove_all"]

_log = logging.getLogger(__name__)
REMOVED = (
    "it was a symbolic link, which no session makes, and was removed: ADMIN must find out who has access to the volume"
)
_SERVED = ("store", "outbox", "publish", "lease")


def is_link(found: Found) -> bool:
    """Tell what XRootD would follow."""
    return stat.S_ISLNK(found.status.st_mode)


def remove(path: Path) -> bool:
    """Remove a link, and nothing else; tell whether it is gone."""
    try:
        with reached(path) as near:
            near.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("a symbolic link stays: %s", error)
        return False
    return True


def remove_all(places: Places) -> int:
    """Remove every link before XRootD serves; give their number."""
    removed = 0
    for area in _SERVED:
        root = places.namespace / area
        for found in walk(root, _passed_over):
            if is_link(found) and remove(below(root, found.path)):
                removed += 1
                _log.warning("/%s/%s: %s", area, shown(found.path), REMOVED)
    return removed


def _passed_over(path: bytes, error: OSError) -> None:
    _log.warning("%s is not looked at for symbolic links: %s", shown(path), error)
