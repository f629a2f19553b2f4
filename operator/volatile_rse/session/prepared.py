"""Token and authorities in the form that clients of XRootD insist on, and the variables that lead there."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import ssl
import stat
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

from volatile_rse.session.errors import SessionError
from volatile_rse.session.mounted import Mounted

__all__ = ["Prepared", "announce", "make_private", "prepare", "private_folder", "put"]

_SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where distributions keep their list of authorities."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITING = stat.S_IWGRP | stat.S_IWOTH
_TOLD = (
    "VRSE_ROOT_URL",
    "VRSE_DAVS_URL",
    "VRSE_OUTBOX",
    "VRSE_PUBLISH",
    "VRSE_RSE",
    "VRSE_INPUTS_URL",
    "VRSE_LEASE",
    "VRSE_STATUS",
)
"""Keys of the ConfigMap that are variables, too."""


class Prepared(NamedTuple):
    """What the variables name."""

    token: Path
    authorities: Path
    trusted: Path
    """One file of the buffer's authority and of all that Python's libraries trust otherwise."""

    def is_whole(self, mounted: Mounted) -> bool:
        """Tell whether all of it is still there: what is temporary may be tidied up."""
        authorities = [self.authorities / path.name for path in mounted.authorities()]
        return _is_private(self.token) and all(path.is_file() for path in (self.trusted, *authorities))


def private_folder(mounted: Mounted) -> Path:
    """Name the folder of this user and this session."""
    # On a machine that is shared two sessions of one user may have one folder for what is temporary.
    about = "\0".join((str(mounted.secret), str(mounted.config), mounted.value("VRSE_OUTBOX")))
    digest = hashlib.sha256(about.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"vrse-{os.getuid()}-{digest}"


def make_private(folder: Path) -> None:
    """Make a folder that nobody else may enter, where it is not there.

    Raises
    ------
    SessionError
        One of its name is another's, or open to others.
    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        message = f"{folder} cannot be made ({error.strerror}): set TMPDIR to a folder that this user may write to."
        raise SessionError(message) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & _OTHERS:
        message = (
            f"{folder} is not private to user {os.getuid()}, so that no token is put there: remove it, or set "
            "TMPDIR to a folder of your own."
        )
        raise SessionError(message)


def prepare(mounted: Mounted, folder: Path) -> Prepared:
    """Copy what cannot be used as it is mounted, and give what can be used.

    Parameters
    ----------
    folder
        Private to this user; what is there is replaced, a file at a time and never in part.
    """
    token = mounted.token_file
    if not _is_private(token):
        token = folder / "token"
        put(token, mounted.token().encode(), 0o600)
    trusted = folder / "trusted.pem"
    lists = [*map(_file, _usual_lists()), mounted.authority().encode()]
    put(trusted, b"".join(text.rstrip() + b"\n" for text in lists if text), 0o644)
    return Prepared(token, _authorities(mounted, folder), trusted)


def announce(mounted: Mounted, prepared: Prepared) -> None:
    """Set the variables that ROOT, XRootD and Python's libraries look at, where nobody has set them."""
    # A client tries the token itself first, and never the file after it.
    if "BEARER_TOKEN" not in os.environ:
        _set("BEARER_TOKEN_FILE", str(prepared.token))
        _warn_of_token(Path(os.environ["BEARER_TOKEN_FILE"]))
    _set("X509_CERT_DIR", str(prepared.authorities))
    _set("SSL_CERT_FILE", str(prepared.trusted))
    if "CURL_CA_BUNDLE" not in os.environ:
        _set("REQUESTS_CA_BUNDLE", str(prepared.trusted))
    for key in _TOLD:
        value = mounted.optional(key)
        if value is not None:
            _set(key, value)


_SET: dict[str, str] = {}
"""Variables that were set here: another session in the same pod may change them."""


def _set(name: str, value: str) -> None:
    if os.environ.get(name) in (None, _SET.get(name)):
        os.environ[name] = _SET[name] = value


def _warn_of_token(path: Path) -> None:
    if _is_private(path):
        return
    message = (
        f"BEARER_TOKEN_FILE was set to {path}, which is no file of user {os.getuid()} with mode 0600: clients of "
        "XRootD will refuse it. Unset it before current(), or write the token there: install -m 600."
    )
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _authorities(mounted: Mounted, folder: Path) -> Path:
    files = mounted.authorities()
    usable = all(stat.S_ISREG(path.lstat().st_mode) for path in files) and not mounted.config.stat().st_mode & _WRITING
    if files and usable:
        return mounted.config
    made = folder / "authorities"
    made.mkdir(mode=0o755, exist_ok=True)
    # Whatever the umask is.
    made.chmod(0o755)
    for path in files:
        put(made / path.name, path.read_bytes(), 0o644)
    for old in set(made.glob("*.[0-9]")) - {made / path.name for path in files}:
        old.unlink(missing_ok=True)
    return made


def _is_private(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & _OTHERS


def put(target: Path, content: bytes, mode: int) -> None:
    """Replace a file: who reads it has the old one or the new one, and no moment shows it to others."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _usual_lists() -> list[str]:
    """Name the lists of authorities of Python, the system and the library requests; nothing of it is imported."""
    try:
        found = importlib.util.find_spec("certifi")
    except (ImportError, ValueError):
        found = None
    folders = (found.submodule_search_locations if found is not None else None) or []
    system = next((name for name in (ssl.get_default_verify_paths().openssl_cafile, *_SYSTEM) if _file(name)), None)
    return [*([system] if system else []), *(f"{folder}/cacert.pem" for folder in folders)]


def _file(name: str) -> bytes | None:
    try:
        return Path(name).read_bytes()
    except OSError:
        return None
