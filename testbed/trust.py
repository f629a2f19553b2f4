"""The authorities that the grid's own programs believe: a bundle and an OpenSSL directory of a running testbed."""

from __future__ import annotations

import os
from pathlib import Path

from testbed import pki
from testbed.layout import STATE
from testbed.progress import Log

__all__ = ["BUNDLE", "CERTIFICATES", "TRUST", "add", "ensure", "remove"]

TRUST = STATE / "trust"
"""Mounted as ``/trust`` into the catalogue's daemons and client; read anew at each connection."""

BUNDLE = TRUST / "bundle.pem"
CERTIFICATES = TRUST / "certificates"


def ensure(image: str, log: Log) -> None:
    """Believe the testbed's own authority."""
    add("testbed", pki.CA.read_text(), image, log)


def add(name: str, pem: str, image: str, log: Log) -> None:
    """Believe one more authority, at once and on a running grid, too.

    Parameters
    ----------
    name
        Names the file; the same name replaces the authority of before.
    image
        Any image with OpenSSL, which alone can tell the file names that it looks up.
    """
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    path = CERTIFICATES / f"{name}.pem"
    if path.exists() and path.read_text() == pem and BUNDLE.exists():
        return
    _replace(path, pem)
    _index(image, log)


def remove(name: str, image: str, log: Log) -> None:
    """Believe an authority no longer."""
    (CERTIFICATES / f"{name}.pem").unlink(missing_ok=True)
    _index(image, log)


def _index(image: str, log: Log) -> None:
    """Write the links that OpenSSL looks up, and the bundle."""
    owner = f"{os.getuid()}:{os.getgid()}"
    log.run(
        "docker", "run", "--rm", "--user", owner, "-v", f"{CERTIFICATES}:/certificates", image,
        "openssl", "rehash", "/certificates",
    )  # fmt: skip
    _replace(BUNDLE, "".join(path.read_text() for path in sorted(CERTIFICATES.glob("*.pem"))))


def _replace(path: Path, text: str) -> None:
    """Write as a whole: a reader never sees half a bundle."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
