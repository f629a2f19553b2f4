"""Text from outside, as people may read it: no sign of it moves a cursor, hides another one or turns a line round."""

from __future__ import annotations

import logging
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

__all__ = ["CONDITION", "EVENT", "MESSAGE", "WORDS", "VisibleFormatter", "Words", "is_token", "shown_within", "visible"]

WORDS = 512
"""Characters of what went wrong with one file."""
CONDITION = 8192
"""Characters of what a condition says."""
MESSAGE = 4096
"""Characters of what a record says."""
EVENT = 1024
"""Characters of what an Event says, and of a connection's word."""
_SHORT, _LONG = 0xFF, 0xFFFF
_BROKEN = re.compile(r"\\(?:x[0-9a-f]?|u[0-9a-f]{0,3}|U[0-9a-f]{0,7})?\Z")
_MORE = "…"
_BEGIN, _END = 160, 80
_LONG_WORD = re.compile(r"\S{257,}")
"""Longer than any name of an object, a path's part or a host."""
_LOOKED_AT = 16
"""Times what there is room for."""
_TOKEN = re.compile(r"[!-~]+")


def visible(text: str, longest: int | None = None, keep: str = "") -> str:
    r"""Write what is not printed as ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``.

    That is every control character, line end, sequence for a terminal, change of direction and sign without width. What
    is visible already stays as it is, so that it may be written twice.

    Parameters
    ----------
    longest
        Characters that there is room for: more are cut off, never within an escape, and ``…`` tells so. Long words are
        cut first: what is the matter stands behind the name that takes all the room.
    keep
        What is left as it is.
    """
    if longest is not None:
        if len(text) > longest:
            # A megabyte need not be looked at.
            text = _LONG_WORD.sub(_shortened, text[: _LOOKED_AT * longest])
        # What an escape makes of it is longer: no more is needed.
        text = text[: longest + 1]
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() or sign in keep else _escaped(sign) for sign in text)
    if longest is None or len(text) <= longest:
        return text
    return _BROKEN.sub("", text[: longest - len(_MORE)]) + _MORE


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:_BEGIN]}{_MORE}{word[0][-_END:]}"


def _escaped(sign: str) -> str:
    code = ord(sign)
    if code <= _SHORT:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _LONG else f"\\U{code:08x}"


def is_token(text: str) -> bool:
    """Tell whether a text can be a token: one word of ASCII. In a header anything else could be more than one."""
    return _TOKEN.fullmatch(text) is not None


def shown_within(longest: int) -> BeforeValidator:
    """Make a field's text visible, and cut it: that it is too long or odd is no reason not to be told."""
    return BeforeValidator(lambda value: visible(value, longest) if isinstance(value, str) else value)


Words = Annotated[str, Field(max_length=WORDS), shown_within(WORDS)]
"""What went wrong with one file."""


class VisibleFormatter(logging.Formatter):
    """Lines of a log of which each is one: no text from outside begins another, or speaks to a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (as its base)
        """Make the line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 (as its base)
        """Make the lines of a traceback."""
        return visible(super().formatException(ei), keep="\n")
