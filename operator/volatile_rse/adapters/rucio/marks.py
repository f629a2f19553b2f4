"""What operators write into Rucio to know their own things again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["COMMENT", "MAKER", "MARK", "OWNER", "RECORD", "is_operators"]

MARK = "vrse_instance"
RECORD = "vrse_record"
MAKER = "vrse_maker"
COMMENT = "outputs of a session"
"""Of every rule that an operator makes: no other one is changed."""
OWNER = "ISP"
"""The one free text that is given in the very call that creates an RSE: no crash leaves one that is nobody's."""
_INSTANCE = re.compile(r"\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""How every operator's instance ends: the UID of its cluster. A site's own provider is told from it."""


def is_operators(attributes: Mapping[str, Any]) -> bool:
    """Tell from an RSE's attributes whether an operator, any one, has made it."""
    return MARK in attributes or _INSTANCE.search(str(attributes.get(OWNER))) is not None
