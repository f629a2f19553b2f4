"""Addresses that secrets are sent to: each in one form, and none where two programs could read two hosts in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

__all__ = [
    "FOLDER",
    "FOLDERS",
    "FOLDER_LENGTH",
    "SERVER",
    "Place",
    "folders_of",
    "host_of",
    "is_below",
    "place_of",
    "plain_place_of",
    "server_url",
]

_HOST = r"([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(:[0-9]{1,5})?"
SERVER = rf"^https://{_HOST}{_PORT}(/[-A-Za-z0-9._~/]*)?$"
"""A server's URL: no user, no query, no escape."""
FOLDER = r"^(:[0-9]{1,5})?/[-A-Za-z0-9._~/+=,@:]*$"
"""A folder of a site, with its port in front if it is that port's alone."""
FOLDERS, FOLDER_LENGTH = 256, 1024
_FILE, _PLAIN = (
    re.compile(
        rf"(?:{schemes})://(?P<host>{_HOST}\.?)(?P<port>{_PORT})(?P<path>/[^?#]*)(\?[^#]*)?", re.IGNORECASE | re.ASCII
    )
    for schemes in ("davs|https", "http")
)
_HTTP, _HTTPS = 80, 443
_DOTS = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is."""

    host: str
    """In the form of ``host_of``."""
    port: int
    path: str
    """As it stands in the URL."""


def host_of(text: str) -> str:
    """Give the one form of a host's name, by which two are compared: small letters, without a dot at its end."""
    return text.lower().removesuffix(".")


def server_url(text: str) -> str | None:
    """Give the one form of a server's URL, by which two are compared; None: it is none."""
    found = re.fullmatch(SERVER, text, re.IGNORECASE | re.ASCII)
    if found is None:
        return None
    port = _port(found[3])
    return f"https://{host_of(found[1])}{'' if port == _HTTPS else f':{port}'}{(found[4] or '').rstrip('/')}"


def place_of(url: str) -> Place | None:
    """Read the URL of a file; None: it is none that every program reads in the same way."""
    found = _FILE.fullmatch(url)
    return None if found is None else Place(host_of(found["host"]), _port(found["port"]), found["path"])


def plain_place_of(url: str) -> Place | None:
    """Read the URL of a file that is fetched without TLS; None: it is none that every program reads in the same way."""
    found = _PLAIN.fullmatch(url)
    return None if found is None else Place(host_of(found["host"]), _port(found["port"], _HTTP), found["path"])


def folders_of(text: str) -> tuple[str, ...]:
    """Read a list of folders, with blanks or line breaks between them.

    Raises
    ------
    ValueError
        One is none, or there is none at all.
    """
    folders = tuple(text.split())
    if not 0 < len(folders) <= FOLDERS or not all(map(_is_folder, folders)):
        # Its text is not repeated: it may be a token in the wrong place.
        message = "no list of folders"
        raise ValueError(message)
    return folders


def _is_folder(text: str) -> bool:
    is_one = re.fullmatch(FOLDER, text) is not None and len(text) <= FOLDER_LENGTH
    return is_one and not _DOTS & set(text.split("/"))


def is_below(place: Place, folders: Iterable[str]) -> bool:
    """Tell whether a file is in one of the folders; one whose path leads up again is in none."""
    path, decoded = place.path, unquote(place.path)
    parts = _parts(decoded)
    while path != decoded:
        if _DOTS & set(decoded.split("/")):
            return False
        path, decoded = decoded, unquote(decoded)
    if _DOTS & set(decoded.split("/")):
        return False
    return any(_holds(folder, place.port, parts) for folder in folders)


def _holds(folder: str, port: int, parts: list[str]) -> bool:
    only, _, path = folder.partition("/")
    wanted = _parts(path)
    return parts[: len(wanted)] == wanted and (not only or int(only[1:]) == port)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _port(text: str | None, default: int = _HTTPS) -> int:
    return int(text[1:]) if text else default
