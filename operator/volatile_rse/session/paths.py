"""Which paths of an outbox can be written and named."""

from __future__ import annotations

from pathlib import PurePosixPath

from volatile_rse.session.errors import SessionError

__all__ = ["below"]


def below(folder: str, relative: str) -> str:
    """Give the path of a file below a folder of the buffer.

    Raises
    ------
    SessionError
        It is none, leads out of it, or has what URLs of XRootD cannot name.
    """
    if fault := _fault(relative):
        message = f"{relative!r} is no path below {folder}: it {fault}. Give one as in histograms/mass.root."
        raise SessionError(message)
    return f"{folder}/{PurePosixPath(relative)}"


def _fault(relative: str) -> str:
    if relative.startswith("/"):
        return "begins with /"
    if not relative or relative.endswith("/") or PurePosixPath(relative).name in ("", "."):
        return "names no file"
    if ".." in PurePosixPath(relative).parts:
        return "has .. in it"
    if "?" in relative:
        return "has ? in it, after which nothing of a URL is a path"
    if not relative.isprintable():
        return "has characters that cannot be printed"
    return ""
