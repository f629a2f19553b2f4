"""The paths of outputs: globs as bash has them with ``globstar`` and ``dotglob``, for operator and agent alike.

A pattern takes what ``find`` would list below the words that bash makes of it: a directory that it names takes all that
is below it. What a shell would read otherwise than as a glob is a fault, and never a pattern that silently takes
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

__all__ = ["Reach", "fault_of_pattern", "leads_below", "leaves_outbox", "reach_of"]

_PATTERNS = 128
"""That the braces of one may stand for."""
_NAMES = 1024
"""Parts between slashes that all of these may have together: with them the work for one file is bounded."""

_Part = str | re.Pattern[str] | None
"""Of a pattern, between two slashes: a plain name, a name with wildcards, or any number of directories."""

_SHELL = re.compile(r"[\"'`$;|&<>()]")
_EDGES = re.compile(r"^\s|(?<!\\)\s$")
_SEVERAL = re.compile(r"[*?\]][^\s,]*[\s,]+[^\s,]*[*?\[]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_ENDS = re.compile(r"[\x00\n\r]")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})|([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])", re.ASCII)
_POSIX = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": r" \t", "digit": "0-9", "lower": "a-z", "upper": "A-Z",
    "punct": r"!-/:-@\[-`{-~", "space": r"\s", "word": r"a-zA-Z0-9_", "xdigit": "0-9a-fA-F",
}  # fmt: skip


class Reach(IntEnum):
    """How a pattern takes a file."""

    NO = 0
    BELOW = 1
    """By wildcards that match a directory above it: it is taken if no pattern means it more plainly."""
    WHOLE = 2
    """It matches the file, or names a directory above it."""


class _PatternError(ValueError):
    """It is no pattern."""


class _LeavesError(_PatternError):
    """It would leave the outbox."""


@dataclass(frozen=True, slots=True)
class _Branch:
    """A pattern without braces."""

    parts: tuple[_Part, ...]
    folder: bool
    """It stands for what is below alone: ``h/`` and ``h/**``."""

    @property
    def is_named(self) -> bool:
        """Tell whether its end names one thing, which may be a directory."""
        return self.folder or not self.parts or isinstance(self.parts[-1], str)


def fault_of_pattern(pattern: str) -> str:
    """Say why a text is no pattern, and what to write instead; empty: it is one, or it would leave the outbox."""
    try:
        _branches(pattern)
    except _LeavesError:
        return ""
    except _PatternError as error:
        return str(error)
    return ""


def leaves_outbox(pattern: str) -> bool:
    """Tell whether a pattern is not one of paths below the outbox: absolute, a URL, or with ``..`` among its parts."""
    try:
        _branches(pattern)
    except _LeavesError:
        return True
    except _PatternError:
        return False
    return False


def reach_of(pattern: str, path: str) -> Reach:
    """Compare a file's path, below the outbox, with a pattern; what is no pattern takes nothing.

    All places that a pattern can have reached are followed at once, and names are compared without going back: no
    pattern, whoever wrote it, takes more than a few steps for each part of the path.
    """
    names = path.split("/")
    reach = Reach.NO
    for branch in _known_branches(pattern):
        *_, ends = _reached(branch, names)
        above = any(end < len(names) for end in ends)
        if (above and branch.is_named) or (len(names) in ends and not branch.folder):
            return Reach.WHOLE
        reach = Reach.BELOW if above else reach
    return reach


def leads_below(pattern: str, folder: str) -> bool:
    """Tell whether a pattern may take something below a directory; the outbox itself is the empty text."""
    names = folder.split("/") if folder else []
    for branch in _known_branches(pattern):
        *_, ends = reached = list(_reached(branch, names))
        if ends or any(len(names) in places for places in reached):
            return True
    return False


def _reached(branch: _Branch, names: Sequence[str]) -> Iterator[set[int]]:
    """Give the numbers of names that a pattern can stand for, part by part; the last is that of all of it."""
    reached = {0}
    yield reached
    for part in branch.parts:
        if part is None and reached:
            reached = set(range(min(reached), len(names) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(names) and _is(part, names[at])}
        yield reached


def _is(part: _Part, name: str) -> bool:
    if isinstance(part, re.Pattern):
        return part.fullmatch(name) is not None
    return part == name


@lru_cache(maxsize=256)
def _known_branches(pattern: str) -> tuple[_Branch, ...]:
    try:
        return _branches(pattern)
    except _PatternError:
        return ()


def _branches(pattern: str) -> tuple[_Branch, ...]:
    _refuse_shell(pattern)
    texts, end = _words(pattern, 0, "")
    if end < len(pattern):
        message = "has a '}' without its '{': write \\} for the character itself"
        raise _PatternError(message)
    # A shell makes no word of nothing.
    found = tuple(_branch(text) for text in dict.fromkeys(texts) if text)
    if not found:
        message = "stands for nothing"
        raise _PatternError(message)
    if sum(len(branch.parts) for branch in found) > _NAMES:
        message = f"stands for more than {_NAMES} names in all: write * or ** for some of its braces"
        raise _PatternError(message)
    return found


def _refuse_shell(pattern: str) -> None:
    """Refuse what a shell gives a meaning that a path cannot have."""
    plain = _ESCAPED.sub("", pattern)
    wrong = ""
    if _EDGES.search(pattern):
        wrong = "begins or ends with a blank, which a shell leaves out: write it without, or \\ before the blank"
    elif _ENDS.search(pattern):
        wrong = "has a line break or a NUL: write one path on one line, ? for a line break in a name"
    elif found := _SHELL.search(plain):
        wrong = (
            f"has {found[0]!r}, which means something else in a shell, and nothing here: write the path below the "
            f"outbox as it is, or \\{found[0]} for the character itself"
        )
    elif pattern.startswith("~"):
        wrong = "begins with '~', and there is no home here: write the path below the outbox, or \\~"
    elif pattern.startswith("!"):
        wrong = "begins with '!', and no path excludes files: write what is to be kept, or \\!"
    if wrong:
        raise _PatternError(wrong)
    if pattern.startswith("/") or "://" in pattern:
        message = "is not relative"
        raise _LeavesError(message)


def _words(text: str, at: int, ends: str) -> tuple[list[str], int]:
    """Expand braces up to one of some characters, as bash does: before all else."""
    words = [""]
    while at < len(text) and text[at] not in f"{ends}}}":
        if text[at] == "{":
            more, at = _alternatives(text, at + 1)
        else:
            width = 2 if text[at] == "\\" else 1
            more, at = [text[at : at + width]], at + width
        if len(words) * len(more) > _PATTERNS:
            message = f"has braces that stand for more than {_PATTERNS} patterns: write * for some of them"
            raise _PatternError(message)
        words = [begin + end for begin in words for end in more]
    return words, at


def _alternatives(text: str, begin: int) -> tuple[list[str], int]:
    """Expand what follows a ``{``; give the place after its ``}``."""
    found: list[str] = []
    at = begin - 1
    while at < begin or text[at] == ",":
        more, at = _words(text, at + 1, ",")
        found += more
        if at >= len(text):
            message = "has a '{' that is not closed: write \\{ for the character itself"
            raise _PatternError(message)
    inside = text[begin:at]
    return (_range(inside) if found == [inside] else found), at + 1


def _range(inside: str) -> list[str]:
    """Expand ``1..5`` and ``a..e``, the only meaning of braces without a comma."""
    found = _RANGE.fullmatch(inside)
    if found is None:
        message = f"has {{{inside}}}, which is no choice: write {{a,b}}, {{1..5}}, or \\{{ for the character itself"
        raise _PatternError(message)
    first, last = (end for end in found.groups() if end is not None)
    low, high = (int(first), int(last)) if found[1] else (ord(first), ord(last))
    if abs(high - low) >= _PATTERNS:
        message = f"has braces that stand for more than {_PATTERNS} patterns: write * for some of them"
        raise _PatternError(message)
    numbers = range(low, high + 1) if low <= high else range(low, high - 1, -1)
    if not found[1]:
        return [chr(number) for number in numbers]
    padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}}" for number in numbers]


def _branch(text: str) -> _Branch:
    if text.startswith("/"):
        message = "is not relative"
        raise _LeavesError(message)
    if _SEVERAL.search(_ESCAPED.sub("", text)):
        message = (
            "looks like several patterns: write one with braces, {*.root,*.h5}, or an output for each; \\ before a "
            "blank or a comma is the character itself"
        )
        raise _PatternError(message)
    texts = text.split("/")
    parts: list[_Part] = []
    for part in (_part(text) for text in texts):
        if part == "..":
            message = "leaves the outbox"
            raise _LeavesError(message)
        # "a//b" and "a/./b" are "a/b"; directories that follow each other are any number of them already.
        if part not in {"", "."} and not (part is None and parts and parts[-1] is None):
            parts.append(part)
    folder = texts[-1] in {"", ".", "**"}
    if parts and parts[-1] is None:
        parts.pop()
        folder = True
    return _Branch(tuple(parts), folder)


def _part(text: str) -> _Part:
    """Read what stands between two slashes."""
    if text == "**":
        return None
    runs: list[list[str]] = [[]]
    plain: list[str] | None = []
    at = 0
    while at < len(text):
        kind, found, at = _token(text, at)
        if kind == "star":
            runs.append([])
        else:
            runs[-1].append(re.escape(found) if kind == "plain" else found)
        plain = [*plain, found] if plain is not None and kind == "plain" else None
    if plain is not None:
        return "".join(plain)
    first, *others = ("".join(run) for run in runs)
    if not others:
        return re.compile(first, re.DOTALL)
    *between, last = others
    # The first place is right for each run but the last: nothing is tried twice.
    return re.compile("".join([first, *(f"(?>.*?{run})" for run in between), ".*", last]), re.DOTALL)


def _token(text: str, at: int) -> tuple[str, str, int]:
    """Read one character, wildcard or class: its kind, what it is, and where the next one begins."""
    character = text[at]
    if character == "\\":
        return "plain", _escaped(text, at), at + 2
    if character == "[":
        return _class(text, at + 1)
    if character == "?":
        return "one", ".", at + 1
    if character != "*":
        return "plain", character, at + 1
    if text[at + 1 : at + 2] == "*":
        message = (
            "has '**' beside other characters, and it stands for directories only between slashes: write **/*.root for "
            "files of all directories, *.root for those of one"
        )
        raise _PatternError(message)
    return "star", "", at + 1


def _escaped(text: str, at: int) -> str:
    character = text[at + 1 : at + 2]
    if not character or character.isalnum():
        message = (
            f"has '\\{character}', which stands for nothing: directories are divided by '/', and '\\' stands before a "
            "character that is to mean itself"
        )
        raise _PatternError(message)
    return character


def _class(text: str, begin: int) -> tuple[str, str, int]:
    """Read what follows a ``[``."""
    negated = text[begin : begin + 1] in {"!", "^"} and text[begin : begin + 1] != ""
    at = first = begin + negated
    items: list[str] = []
    while text[at : at + 1] != "]" or at == first:
        if at >= len(text):
            message = "has a '[' that is not closed before the next '/': write \\[ for the character itself"
            raise _PatternError(message)
        item, at = _item(text, at)
        items.append(item)
    return "class", f"[{'^' if negated else ''}{''.join(items)}]", at + 1


def _item(text: str, at: int) -> tuple[str, int]:
    """Read one character of a class, or a range of them."""
    if text[at : at + 1] == "[" and text[at + 1 : at + 2] in {":", ".", "="}:
        end = text.find(":]", at + 2)
        name = text[at + 2 : max(end, at + 2)]
        if text[at + 1] != ":" or name not in _POSIX:
            message = f"has a class in a class that is none of {', '.join(f'[:{name}:]' for name in _POSIX)}"
            raise _PatternError(message)
        return _POSIX[name], end + 2
    low, at = _member(text, at)
    if text[at : at + 1] != "-" or text[at + 1 : at + 2] in {"]", ""}:
        return re.escape(low), at
    high, at = _member(text, at + 1)
    if high < low:
        message = f"has the range {low}-{high} in a class, which holds nothing: write {high}-{low}"
        raise _PatternError(message)
    return f"{re.escape(low)}-{re.escape(high)}", at


def _member(text: str, at: int) -> tuple[str, int]:
    return (_escaped(text, at), at + 2) if text[at] == "\\" else (text[at], at + 1)
