"""A session that is carried to another process: to workers that have nothing of it mounted."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from volatile_rse.session.errors import SessionError
from volatile_rse.session.mounted import CONFIG, SECRET, Mounted, mounted
from volatile_rse.session.prepared import make_private, put

__all__ = ["Carried", "pack", "unpack"]


class Carried:
    """What the two folders hold.

    Parameters
    ----------
    token
        Who has it may read and write as the session.
    config
        Keys of the ConfigMap.
    """

    def __init__(self, token: str, config: Mapping[str, str]) -> None:
        self.token = token
        self.config = dict(config)

    def __repr__(self) -> str:
        # Not the token.
        return f"Carried({self.config.get('VRSE_RSE')})"


def pack(found: Mounted) -> Carried:
    """Take along what is mounted.

    Raises
    ------
    SessionError
        It is gone.
    """
    return Carried(found.token(), {key: found.value(key) for key in found.names()})


def unpack(carried: Carried) -> None:
    """Have this process find that session: where it is mounted, or else in files that are written here.

    Raises
    ------
    SessionError
        Nothing can be written here.
    """
    outbox = carried.config["VRSE_OUTBOX"]
    try:
        found = mounted()
        # What is mounted is renewed, what is carried is not.
        if not found.secret.is_relative_to(_folder(outbox)) and found.value("VRSE_OUTBOX") == outbox:
            return
    except SessionError:
        pass
    folder = _folder(outbox)
    make_private(folder)
    secret, config = folder / "secret", folder / "config"
    try:
        for made in (secret, config):
            made.mkdir(mode=0o755, exist_ok=True)
            made.chmod(0o755)
        put(secret / "token", carried.token.encode(), 0o600)
        for key, text in carried.config.items():
            put(config / key, text.encode(), 0o644)
    except OSError as error:
        message = f"The session cannot be written to {folder} ({error.strerror}): set TMPDIR to a folder with room."
        raise SessionError(message) from error
    os.environ[SECRET], os.environ[CONFIG] = str(secret), str(config)


def _folder(outbox: str) -> Path:
    digest = hashlib.sha256(outbox.encode()).hexdigest()[:12]
    # Two workers on one machine may have one folder for what is temporary: they write the same.
    return Path(tempfile.gettempdir()) / f"vrse-carried-{os.getuid()}-{digest}"
