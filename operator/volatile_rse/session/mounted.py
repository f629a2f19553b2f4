"""The Secret and the ConfigMap of the session, as they are mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from volatile_rse.session.errors import SessionError

__all__ = ["CONFIG", "SECRET", "Mounted", "mounted"]

SECRET, CONFIG = "VRSE_SECRET", "VRSE_CONFIG"
"""Variables that name the folders."""
_USUAL = {SECRET: "/etc/vrse-secret", CONFIG: "/etc/vrse"}
"""The folders where they are not set."""

_NEEDED = ("VRSE_ROOT_URL", "VRSE_DAVS_URL", "VRSE_OUTBOX", "VRSE_RSE", "ca.crt")
"""Of the ConfigMap, of every session."""

_ADDRESS = "VRSE_ADDRESS"
"""Variable: ``public`` for who is outside the cluster."""
_PUBLIC = {"VRSE_ROOT_URL": "VRSE_PUBLIC_ROOT_URL", "VRSE_DAVS_URL": "VRSE_PUBLIC_DAVS_URL"}
_LISTING = "VRSE_INPUTS_URL"


class Mounted(NamedTuple):
    """The two folders."""

    secret: Path
    config: Path

    @property
    def token_file(self) -> Path:
        """The token, as it is mounted."""
        return self.secret / "token"

    @property
    def authority_file(self) -> Path:
        """The certificates to trust, in one file."""
        return self.config / "ca.crt"

    def authorities(self) -> list[Path]:
        """Give them named as clients look for them in a folder: ``<hash>.<number>``."""
        return sorted(path for path in self.config.glob("*.[0-9]") if path.is_file())

    def token(self) -> str:
        """Read the token as it is now.

        Raises
        ------
        SessionError
            It is gone, or this user may not read it.
        """
        return _read(self.token_file)

    def authority(self) -> str:
        """Read the certificates to trust.

        Raises
        ------
        SessionError
            As above.
        """
        return _read(self.authority_file)

    def value(self, key: str) -> str:
        """Read a key of the ConfigMap: of addresses, the one by which the buffer is reached from here.

        Raises
        ------
        SessionError
            It is gone, or this user may not read it.
        """
        if not _is_outside():
            return _read(self.config / key)
        if key == _LISTING:
            path = _read(self.config / key).partition("://")[2].partition("/")[2]
            return f"{self.value('VRSE_ROOT_URL')}/{path}"
        return _read(self.config / _PUBLIC.get(key, key))

    def optional(self, key: str) -> str | None:
        """Read a key of the ConfigMap that not every session has."""
        return self.value(key) if (self.config / key).is_file() else None

    def names(self) -> list[str]:
        """Give the keys of the ConfigMap."""
        # Kubernetes keeps what it has turned aside under names that begin with dots.
        return sorted(path.name for path in self.config.iterdir() if path.is_file() and path.name[:1] != ".")

    def stamp(self) -> tuple[object, ...]:
        """Give what changes when something of it is written anew."""
        return tuple(map(self.stamp_of, (self.token_file, self.authority_file, *self.authorities())))

    @staticmethod
    def stamp_of(path: Path) -> tuple[object, ...]:
        """Give what changes when one file of it is written anew."""
        return _stamp(path)

    def check(self) -> None:
        """See that all is there.

        Raises
        ------
        SessionError
            Something is not; the words say what to do.
        """
        wanted = [self.token_file, *(self.config / key for key in _NEEDED)]
        if missing := {str(path if path.parent.is_dir() else path.parent) for path in wanted if not path.is_file()}:
            message = (
                f"There is no session here, it is not usable yet, or it is over: no {', no '.join(sorted(missing))}. "
                "Wait for it: kubectl wait --for=condition=Usable vrse/NAME. This pod needs the label "
                "volatilerse.io/session: NAME, and the Secret and the ConfigMap NAME-vrse mounted at "
                f"{_USUAL[SECRET]} and {_USUAL[CONFIG]}; where they are elsewhere, set {SECRET} and {CONFIG} to these "
                "folders. If the session is over, create another VolatileRSE."
            )
            raise SessionError(message)


def mounted() -> Mounted:
    """Find the two folders.

    Raises
    ------
    SessionError
        There are none; the words say what to do.
    """
    found = Mounted(*(Path(os.environ.get(name) or usual) for name, usual in _USUAL.items()))
    found.check()
    return found


def _is_outside() -> bool:
    said = os.environ.get(_ADDRESS) or "cluster"
    if said not in ("cluster", "public"):
        message = (
            f"{_ADDRESS} is {said!r}: set it to public outside the cluster, and not at all, or to cluster, inside."
        )
        raise SessionError(message)
    return said == "public"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError as error:
        message = (
            f"{path} cannot be read by user {os.getuid()}: whoever wrote this pod sets fsGroup in its securityContext, "
            "or defaultMode 0444 in its volume."
        )
        raise SessionError(message) from error
    except OSError as error:
        message = f"{path} is gone ({error.strerror}): the session is over, or its objects were removed."
        raise SessionError(message) from error


def _stamp(path: Path) -> tuple[object, ...]:
    try:
        found = path.stat()
    except OSError:
        return (path.name,)
    # Kubernetes writes new files and turns a link to them; others replace one file.
    return (path.name, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
