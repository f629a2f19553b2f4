"""What a token tells of itself, to whoever holds it; nothing of it is verified here."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime

__all__ = ["end_of_token"]

_JWT = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


def end_of_token(token: str) -> datetime | None:
    """Tell when a token ends by its own word; None: it says nothing of that, as one that is no JWT."""
    found = _JWT.fullmatch(token)
    if found is None:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4)))
        end = claims.get("exp") if isinstance(claims, dict) else None
        if not isinstance(end, int | float) or isinstance(end, bool):
            return None
        return datetime.fromtimestamp(end, UTC)
    except (ValueError, OverflowError, OSError, RecursionError):
        return None
