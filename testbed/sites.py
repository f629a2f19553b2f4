"""The permanent sites beside the cluster: servers of XRootD and of Apache that outlive every buffer."""

from __future__ import annotations

import requests

from testbed import containers, pki, xrootd
from testbed.layout import ALL_SITES, CHECKOUT, DAV_SITES, PKI
from testbed.progress import step

__all__ = ["davs_port", "image", "start", "up"]

_IMAGES = CHECKOUT / "testbed" / "images"
_DAVS = 8443


def up() -> None:
    """Make sure that every site runs and answers; what it stores stays, in a volume of its own."""
    pki.ensure()
    images = {False: image(), True: containers.build("dav", _IMAGES / "dav")}
    for rse, host in ALL_SITES.items():
        start(rse, host, images[rse in DAV_SITES])


def start(rse: str, host: str, built: str) -> None:
    """Make sure that one site runs, of an image."""
    pki.server_certificate(host)
    with step(f"Site {rse}") as log:
        containers.ensure(host, built, _options(host), log=log)
        # An answer of any kind: without a token nothing but a refusal can be had.
        containers.settle(host, log, lambda: _ask(host))


def image(source: str | None = None) -> str:
    """Give the image of a site with XRootD.

    Parameters
    ----------
    source
        Where its XRootD comes from, if not from where that of buffers does: ``debian``, for an older one.
    """
    return containers.build("site", _IMAGES / "site", XROOTD=source or xrootd.source())


def davs_port(host: str) -> int:
    """Give the port of this machine's loopback address that leads to a site's davs."""
    return containers.port(host, _DAVS)


def _options(host: str) -> list[str]:
    """Give a site its data, its own key pair and what it checks tokens with, and no other secret of the testbed."""
    files = ("ca.pem", "jwks.json", f"{host}.pem", f"{host}.key")
    mounts = [word for name in files for word in ("-v", f"{PKI / name}:/pki/{name}:ro")]
    environment = {"SITE": host, "ISSUER": pki.ISSUER, "AUDIENCE": pki.audience(host)}
    settings = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    return ["-v", f"{containers.volume(host)}:/data", *mounts, *settings, "-p", f"127.0.0.1::{_DAVS}"]


def _ask(host: str) -> None:
    requests.get(f"https://localhost:{davs_port(host)}/", verify=str(pki.CA), timeout=5)
